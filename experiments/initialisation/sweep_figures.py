"""The study's figures from rows alone: the overview, learning curves, differences, learning rates, and depth."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.comparisons import tuned_study
from experiments.analysis.diagnostics import diagnostic, has_diagnostics
from experiments.analysis.figures import MAX_LINES, plot_forest
from experiments.analysis.studies import Cell, Estimate, Study, estimate, paired_difference
from experiments.analysis.style import COLOURS, ORANGE, STYLE, far_off, save_figure, scheme_label, scheme_style
from experiments.initialisation.tables import (
    REFERENCE,
    Studies,
    by_scheme,
)
from experiments.runner.rows import Row
from mlp_lm.activations import activation_named
from mlp_lm.ngram.baselines import Baselines

NORMS = {False: "without batch norm", True: "with batch norm"}
OFFSETS = {False: 0.16, True: -0.16}  # Of the two markers of a row of the overview, so that neither hides the other.
LOSS = "dev loss (nats per token)"
BASELINE_FAMILY = "modified Kneser-Ney"
BASELINE_LINES: Any = ("-", ":")


def write_figures(folder: Path, figures: Iterable[tuple[str, Figure]]) -> None:
    """Write each figure, which is plotted when it is its turn, into `figures/`."""
    with plt.rc_context(STYLE):
        for name, figure in figures:
            save_figure(figure, folder / "figures" / f"{name}.png")


def study_figures(studies: Studies) -> Iterator[tuple[str, Figure]]:
    """The figures and the stems of their file names; those of diagnostics only where these were recorded."""
    schemes, rates, depth = studies.schemes, studies.rates, studies.depth
    yield "overview", plot_overview(schemes, studies.baselines)
    yield "schemes_curves", plot_curves(schemes)
    yield "schemes_forest", plot_scheme_differences(schemes, rates)
    if has_diagnostics(schemes):
        if activation_named(schemes.cells[0].settings["activation"]).saturation:
            yield "schemes_saturation", plot_saturation(schemes)
        yield "schemes_updates", plot_updates(schemes)
    if rates:
        yield "rates_curves", plot_rates(rates)
    if depth:
        yield "depth_scales", plot_depth(depth)


def plot_overview(study: Study, baselines: Baselines) -> Figure:
    """A row a scheme, best on top: dev loss with and without batch norm, means and 95 % intervals over seeds."""
    losses = {scheme: cells[0].estimate("dev_loss") for scheme, cells in by_scheme(study).items() if cells[0].finished}
    limit = far_off([loss.mean for loss in losses.values()])
    # Cells are best first, and so are schemes by the better of their two losses; the best one is plotted last, on top.
    inits = list(dict.fromkeys(init for init, _ in sorted(losses, key=lambda scheme: losses[scheme].mean)))[::-1]
    figure, ax = plt.subplots(figsize=(8, 1.5 + 0.29 * len(inits)))
    for place, init in enumerate(inits):
        beyond = []
        for batch_norm in NORMS:
            loss = losses.get((init, batch_norm))
            if loss and loss.mean <= limit:
                style = scheme_style(init, batch_norm) | {"linestyle": "none", "markersize": 5, "linewidth": 1}
                ax.errorbar(loss.mean, place + OFFSETS[batch_norm], xerr=loss.half or None, capsize=2, **style)
            elif loss:
                beyond.append(f"{loss.mean:.2f}{' with batch norm' if batch_norm else ''}")
        if beyond:
            edge = ax.get_yaxis_transform()
            ax.text(0.995, place, f"{', '.join(beyond)} →", transform=edge, ha="right", va="center", fontsize=8)
    ax.set_yticks(range(len(inits)), inits)
    ax.set(xlabel=LOSS, ylim=(-0.6, len(inits) - 0.4))

    marker: dict[str, Any] = {"color": "#444444", "marker": "o", "linestyle": "none", "markersize": 5}
    handles = [
        Line2D([], [], label="without batch norm", **marker),
        Line2D([], [], label="with batch norm", **marker | {"markerfacecolor": "white"}),
    ]
    # The best count model that sees what the networks see, and the best one with any context.
    alike = (BASELINE_FAMILY, study.cells[0].settings["block_size"])
    models = [row for row in baselines.rows if (row.family, row.context_length) == alike]
    for model, line in zip(dict.fromkeys([*models, baselines.best]), BASELINE_LINES, strict=False):
        ax.axvline(model.dev_loss, color=ORANGE, linewidth=1.3, linestyle=line)
        label = f"{model.family}, {model.context_length} context tokens: {model.dev_loss:.3f}"
        handles.append(Line2D([], [], color=ORANGE, linestyle=line, label=label))
    figure.suptitle(f"Dev loss by initialisation{lengths(study)}: mean and 95 % interval", fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def lengths(study: Study) -> str:
    """How many steps and seeds a study's cells have, for titles."""
    seeds = max(len(cell.finished) for cell in study.cells)
    return f", {study.cells[0].settings['n_steps']:,} steps, {seeds} seed{'s' if seeds > 1 else ''}"


def plot_curves(study: Study) -> Figure:
    """Dev loss over training, a panel a norm, a colour a scheme, bands over seeds."""
    ends = [(cell.estimate("dev_loss").mean, cell.settings["init"]) for cell in study.cells if cell.finished]
    (low, _), (high, _) = min(ends), max(ends)
    above = ", ".join(sorted({init for loss, init in ends if loss > low + 0.35}))
    title = "Dev loss while training, mean and 95 % band over seeds" + (f"; above this range: {above}" if above else "")
    figure = plot_histories(study, lambda row: row["history_dev_loss"], LOSS, title)
    figure.axes[0].set_ylim(low - 0.02, min(high + 0.15, low + 0.35))
    return figure


def plot_saturation(study: Study) -> Figure:
    """Share of saturated activations of the first hidden layer over training."""
    activation = study.cells[0].settings["activation"]
    return plot_histories(
        study,
        lambda row: [100 * values[0] for values in row["history_saturated_share"]],
        f"share of |{activation}| > {activation_named(activation).saturation} (%)",
        "Saturated activations while training, over all training windows and units; 95 % band over seeds",
    )


def plot_histories(study: Study, values: Callable[[Row], Sequence[float | None]], ylabel: str, title: str) -> Figure:
    """Some value of each run over training, a panel a norm, a colour a scheme, bands over seeds."""
    groups = scheme_groups(study)
    size = (10, 1.2 + 3.2 * len(groups))
    figure, axes = plt.subplots(len(groups), 2, figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, inits in zip(axes, groups, strict=True):
        for ax, batch_norm in zip(row, NORMS, strict=True):
            for cell in study.cells:
                if cell.settings["batch_norm"] == batch_norm and cell.settings["init"] in inits:
                    _plot_history(ax, cell, values)
        row[0].set_ylabel(ylabel)
        add_legend(row)
    for ax, name in zip(axes[0], NORMS.values(), strict=True):
        ax.set_title(name)
    for ax in axes[-1]:
        ax.set_xlabel("training step (thousands)")
    figure.suptitle(title, fontsize=10)
    return figure


def scheme_groups(study: Study) -> list[list[str]]:
    """The study's schemes, best first, in groups of at most MAX_LINES for a row of panels each."""
    inits = list(dict.fromkeys(init for init, _ in by_scheme(study)))
    n_groups = math.ceil(len(inits) / MAX_LINES)
    return [list(group) for group in np.array_split(np.array(inits, dtype=object), n_groups)]


def plot_updates(study: Study) -> Figure:
    """Update-to-weight ratio over training, a panel a matrix, without batch norm above and with it below."""
    rows = list(itertools.product(NORMS, scheme_groups(study)))
    figure, axes = plt.subplots(len(rows), 3, figsize=(11, 0.6 + 2.6 * len(rows)), sharex=True, sharey=True)
    matrices = ("embedding", "hidden weights", "output weights")
    for row, (batch_norm, inits) in zip(axes, rows, strict=True):
        for i, ax in enumerate(row):

            def ratios(row: Row, matrix: int = i) -> list[float | None]:
                place = row["n_layers"] + 1 if matrices[matrix] == "output weights" else matrix
                return [values[place] for values in row["history_log10_update_to_weight"]]

            for cell in study.cells:
                if cell.settings["batch_norm"] == batch_norm and cell.settings["init"] in inits:
                    _plot_history(ax, cell, ratios)
            ax.axhline(-3, color=ORANGE, linestyle=":", linewidth=1.4)
            ax.set(title=f"{matrices[i]}, {NORMS[batch_norm]}", ylim=(-5, 0))
        row[0].set_ylabel("log10 of update std / weight std")
        add_legend(row)
    for ax in axes[-1]:
        ax.set_xlabel("training step (thousands)")
    figure.suptitle("How far one update moves the weights; dotted: 1/1000, the lecture's rule of thumb", fontsize=10)
    return figure


def _plot_history(ax: Axes, cell: Cell, values: Callable[[Row], Sequence[float | None]]) -> None:
    if not cell.finished:
        return
    by_seed = np.array([values(row) for row in cell.finished], float)  # None becomes NaN.
    estimates = [estimate(column[np.isfinite(column)]) for column in by_seed.T]
    points = [(step / 1000, e) for step, e in zip(cell.finished[0]["history_step"], estimates, strict=True) if e.n]
    if not points:
        return
    steps, means, halves = zip(*((step, e.mean, e.half) for step, e in points), strict=True)
    style = scheme_style(cell.settings["init"]) | {"marker": ""}
    ax.plot(steps, means, linewidth=1.1, label=cell.settings["init"], **style)
    low, high = np.subtract(means, halves), np.add(means, halves)
    ax.fill_between(steps, low, high, color=style["color"], alpha=0.18, linewidth=0)


def plot_scheme_differences(schemes: Study, rates: Study | None) -> Figure:
    """Differences from the reference paired by seed, at one learning rate and at each scheme's own best one."""
    cells = {scheme: cells[0] for scheme, cells in by_scheme(schemes).items() if cells[0].finished}
    differences = {scheme: paired_difference(cell, cells[REFERENCE]) for scheme, cell in cells.items()}
    panels = {f"all at rate {schemes.cells[0].settings['learning_rate']:g}{lengths(schemes)}": differences}
    tuned = by_scheme(tuned_study(rates, ("learning_rate",))) if rates else {}
    if rates and REFERENCE in tuned:
        at_best = {scheme: paired_difference(cell, tuned[REFERENCE][0]) for scheme, (cell,) in tuned.items()}
        panels[f"each at its own best rate{lengths(rates)}"] = at_best
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels) + 1.6, 6.0), squeeze=False)
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        order = sorted((scheme for scheme in panel if panel[scheme].n), key=lambda scheme: panel[scheme].mean)
        names, styles = [scheme_label(*scheme) for scheme in order], [scheme_style(*scheme) for scheme in order]
        plot_forest(ax, [panel[scheme] for scheme in order], names, styles)
        ax.set(xlabel="difference (nats per token)")
        ax.set_title(title, fontsize=9)
    figure.suptitle(
        f"Dev loss minus that of {scheme_label(*REFERENCE)}, paired by seed, 95 % intervals (left is better)",
        fontsize=10,
    )
    return figure


def plot_rates(study: Study) -> Figure:
    """Dev loss against the learning rate, a line a scheme."""
    groups = scheme_groups(study)
    size = (10, 1.0 + 3.2 * len(groups))
    figure, axes = plt.subplots(len(groups), 2, figsize=size, sharey=True, squeeze=False)
    best = min(cell.estimate("dev_loss").mean for cell in study.cells if cell.finished)
    rates = sorted({cell.settings["learning_rate"] for cell in study.cells})
    for ax, (inits, (batch_norm, name)) in zip(axes.flat, itertools.product(groups, NORMS.items()), strict=True):
        for (init, norm), cells in by_scheme(study).items():
            if norm == batch_norm and init in inits:
                losses = {cell.settings["learning_rate"]: cell.estimate("dev_loss") for cell in cells}
                style = scheme_style(init, norm) | {"label": init, "markersize": 4, "linewidth": 1.1, "linestyle": "-"}
                _plot_estimates(ax, losses, style)
        ax.set(title=name, xlabel="learning rate", ylim=(best - 0.02, best + 0.35), xscale="log")
        ax.set_xticks(rates, [f"{rate:.2g}" for rate in rates], fontsize=8)
        ax.minorticks_off()
    for row in axes:
        row[0].set_ylabel(LOSS)
        add_legend(row)
    figure.suptitle(f"Dev loss by learning rate{lengths(study)}: mean and 95 % interval", fontsize=10)
    return figure


def plot_depth(study: Study) -> Figure:
    """Dev loss against depth by gain; where recorded, also the activations' scale in the deepest models at step 0."""
    n_rows = 2 if has_diagnostics(study) else 1
    figure, axes = plt.subplots(n_rows, 2, figsize=(9, 3.2 * n_rows), sharey="row", squeeze=False)
    gains = sorted({cell.settings["gain"] for cell in study.cells})
    depths = sorted({cell.settings["n_layers"] for cell in study.cells})
    for (batch_norm, name), column in zip(NORMS.items(), axes.T, strict=True):
        # Markers of several sizes: with batch norm the gains lie on one another at step 0.
        for gain, colour, size in zip(gains, COLOURS, np.linspace(8, 3, len(gains)), strict=False):
            style = {"color": colour, "label": f"gain {gain:.3g}", "marker": "o", "markersize": size, "linewidth": 1.2}
            cells = {
                cell.settings["n_layers"]: cell
                for cell in study.cells
                if (cell.settings["gain"], cell.settings["batch_norm"]) == (gain, batch_norm)
            }
            _plot_estimates(column[0], {depth: cell.estimate("dev_loss") for depth, cell in cells.items()}, style)
            if n_rows > 1 and depths[-1] in cells:
                deepest = cells[depths[-1]]
                scales = {i + 1: diagnostic(deepest, "activation_std", 0, i) for i in range(depths[-1])}
                _plot_estimates(column[1], scales, style)
        column[0].set(title=name, xlabel="hidden layers", xticks=depths)
        if n_rows > 1:
            column[1].set(xlabel=f"hidden layer of {depths[-1]}, at step 0", xticks=range(1, depths[-1] + 1))
    for ax, label in zip(axes[:, 0], (LOSS, "std of the activations"), strict=False):
        ax.set_ylabel(label)
    add_legend(axes[0])
    note = "; with batch norm, all gains start alike" if n_rows > 1 else ""
    figure.suptitle(f"Depth, and gain of the hidden weights: means and 95 % intervals over seeds{note}", fontsize=10)
    return figure


def _plot_estimates(ax: Axes, estimates: Mapping[Any, Estimate], style: Mapping[str, Any]) -> None:
    places = sorted(place for place, estimate in estimates.items() if estimate.n)
    means, halves = [estimates[place].mean for place in places], [estimates[place].half for place in places]
    ax.errorbar(places, means, yerr=halves, capsize=2, **style)


def add_legend(axes: Sequence[Axes]) -> None:
    """One legend of the labels of a row of panels, in alphabetical order, beside the last of them."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = sorted(handles)
    place: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    axes[-1].legend([handles[label] for label in labels], labels, fontsize=8, **place)
