"""The study's figures from rows alone: learning curves, differences, rates, depth, saturation and updates over time."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.figures import at_edge
from experiments.analysis.limits import far_off
from experiments.analysis.studies import Cell, Estimate, Study, estimate, paired_difference
from experiments.analysis.style import COLOURS, scheme_label, scheme_style
from experiments.initialisation.tables import REFERENCE, Table, by_scheme

NORMS = {False: "without batch norm", True: "with batch norm"}
LOSS = "dev loss (nats per token)"


def draw_curves(study: Study) -> Figure:
    """Dev loss over training, a panel a norm, a colour a scheme, bands over seeds."""
    ends = [cell.estimate("dev_loss").mean for cell in study.cells if cell.finished]
    low, high = min(ends), max(ends)

    def draw(ax: Axes, cell: Cell) -> None:
        _draw_over_steps(ax, cell, lambda row: row["history_dev_loss"])
        ax.set_ylim(low - 0.02, min(high + 0.15, low + 0.35))

    above = sorted({cell.settings["init"] for cell in study.cells if _mean_loss(cell) > low + 0.35})
    note = f"; above this range: {', '.join(above)}" if above else ""
    return _over_steps(study, draw, LOSS, f"Dev loss while training, mean and 95 % band over seeds{note}")


def draw_saturation(study: Study) -> Figure:
    """Share of saturated activations over training."""

    def draw(ax: Axes, cell: Cell) -> None:
        _draw_over_steps(ax, cell, lambda row: [100 * values[0] for values in row["history_saturated_share"]])

    title = "Saturated activations while training, over all training windows and units; 95 % band over seeds"
    return _over_steps(study, draw, "share of |tanh| > 0.99 (%)", title)


def draw_updates(study: Study) -> Figure:
    """Update-to-weight ratio over training, a panel a matrix, without batch norm above and with it below."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), sharex=True, sharey=True)
    for (norm, name), row in zip(NORMS.items(), axes, strict=True):
        for i, (ax, matrix) in enumerate(zip(row, ("embedding", "hidden weights", "output weights"), strict=True)):
            for cell in (cell for cell in study.cells if cell.settings["batch_norm"] == norm):
                _draw_over_steps(ax, cell, _ratios_of(i))
            ax.axhline(-3, color="#D55E00", linestyle=":", linewidth=1.4)
            ax.set_title(f"{matrix}, {name}")
            ax.set_ylim(-5, 0)
        row[0].set_ylabel("log10 of update std / weight std")
    for ax in axes[1]:
        ax.set_xlabel("training step (thousands)")
    _legend(figure, axes[0, 0])
    figure.suptitle("How far one update moves the weights; dotted: 1/1000, the lecture's rule of thumb", fontsize=10)
    return figure


def lengths(study: Study) -> str:
    """How many steps and seeds a study's cells have, for titles."""
    seeds = max(len(cell.finished) for cell in study.cells)
    return f", {study.cells[0].settings['n_steps']:,} steps, {seeds} seeds"


def draw_forest(studies: Sequence[tuple[str, Study]], rates: Table, rates_title: str) -> Figure:
    """Differences to the reference paired by seed, at one rate and at each scheme's own best one."""
    at_best = _differences(rates)
    n = len(studies) + bool(at_best)
    figure, axes = plt.subplots(1, n, figsize=(4.6 * n + 1.6, 6.0), squeeze=False)
    for ax, (title, study) in zip(axes[0], studies, strict=False):
        cells = {scheme: cells[0] for scheme, cells in by_scheme(study).items()}
        reference = cells[REFERENCE]
        told = {scheme: paired_difference(cell, reference) for scheme, cell in cells.items()}
        _draw_forest(ax, told, title)
    if at_best:
        _draw_forest(axes[0, -1], at_best, rates_title)
    figure.suptitle(
        f"Dev loss minus that of {scheme_label(*REFERENCE)}, paired by seed, 95 % intervals (left is better)",
        fontsize=10,
    )
    return figure


def draw_rates(study: Study) -> Figure:
    """Dev loss against the learning rate, a line a scheme."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    best = min(cell.estimate("dev_loss").mean for cell in study.cells if cell.finished)
    rates = sorted({cell.settings["learning_rate"] for cell in study.cells})
    for ax, (norm, name) in zip(axes, NORMS.items(), strict=True):
        for scheme, cells in by_scheme(study).items():
            if scheme[1] == norm:
                _draw_rates(ax, scheme, sorted(cells, key=lambda cell: cell.settings["learning_rate"]))
        ax.set(title=name, xlabel="learning rate", ylim=(best - 0.02, best + 0.35))
        ax.set_xscale("log")
        ax.set_xticks(rates, [f"{rate:.2g}" for rate in rates], fontsize=8)
        ax.minorticks_off()
    axes[0].set_ylabel(LOSS)
    _legend(figure, axes[0])
    figure.suptitle(f"Dev loss by learning rate{lengths(study)}: mean and 95 % interval", fontsize=10)
    return figure


def draw_depth(study: Study) -> Figure:
    """Dev loss against depth by gain, and the scale of each layer's activations of the deepest models at step 0."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), sharey="row")
    gains = sorted({cell.settings["gain"] for cell in study.cells})
    deepest = max(cell.settings["n_layers"] for cell in study.cells)
    for (norm, name), (above, below) in zip(NORMS.items(), axes.T, strict=True):
        # Markers of three sizes: with batch norm the gains lie on one another at step 0.
        for gain, colour, size in zip(gains, COLOURS, (8, 5.5, 3), strict=False):
            cells = [c for c in study.cells if (c.settings["gain"], c.settings["batch_norm"]) == (gain, norm)]
            cells.sort(key=lambda cell: cell.settings["n_layers"])
            style = {"color": colour, "label": f"gain {gain:.3g}", "marker": "o", "markersize": size, "linewidth": 1.2}
            depths = [cell.settings["n_layers"] for cell in cells]
            _draw_estimates(above, depths, [cell.estimate("dev_loss") for cell in cells], style)
            stds = [_layers(cell, "history_activation_std") for cell in cells if cell.settings["n_layers"] == deepest]
            for told in stds:
                _draw_estimates(below, range(1, len(told) + 1), told, style)
        above.set(title=name, xlabel="hidden layers", xticks=sorted({c.settings["n_layers"] for c in study.cells}))
        below.set(xlabel=f"hidden layer of {deepest}, at step 0", xticks=range(1, deepest + 1))
    axes[0, 0].set_ylabel(LOSS)
    axes[1, 0].set_ylabel("std of the activations")
    _legend(figure, axes[0, 0])
    figure.suptitle(
        "Depth and gain (hidden weights of std gain / sqrt(fan_in)), 95 % intervals over seeds; "
        "with batch norm the gains start alike",
        fontsize=10,
    )
    return figure


def _over_steps(study: Study, draw: Callable[[Axes, Cell], None], ylabel: str, title: str) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True)
    for ax, (norm, name) in zip(axes, NORMS.items(), strict=True):
        for cell in study.cells:
            if cell.settings["batch_norm"] == norm:
                draw(ax, cell)
        ax.set(title=name, xlabel="training step (thousands)")
    axes[0].set_ylabel(ylabel)
    _legend(figure, axes[0])
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_over_steps(ax: Axes, cell: Cell, values: Callable[[dict[str, Any]], Sequence[float | None]]) -> None:
    if not cell.finished:
        return
    told = np.array([values(row) for row in cell.finished], float)  # None becomes NaN.
    steps = np.array(cell.finished[0]["history_step"]) / 1000
    found = [estimate(column[np.isfinite(column)]) for column in told.T]
    shown = np.array([e.n > 0 for e in found])
    style = scheme_style(cell.settings["init"]) | {"marker": ""}
    mean, low, high = (np.array([getattr(e, k) for e in found])[shown] for k in ("mean", "low", "high"))
    if not shown.any():
        return
    ax.plot(steps[shown], mean, linewidth=1.1, label=cell.settings["init"], **style)
    if np.isfinite(low).all():
        ax.fill_between(steps[shown], low, high, color=style["color"], alpha=0.18, linewidth=0)


def _draw_forest(ax: Axes, told: dict[tuple[str, bool], Estimate], title: str) -> None:
    order = sorted(told, key=lambda scheme: told[scheme].mean, reverse=True)
    beyond = far_off([value.mean for value in told.values()])
    shown = [value for value in told.values() if value.mean <= beyond]
    left, right = min(e.mean - e.half for e in shown), max(e.mean + e.half for e in shown)
    margin = 0.08 * max(right - left, 0.01)
    ax.set_xlim(left - margin, right + (3 if len(shown) < len(told) else 1) * margin)
    for place, scheme in enumerate(order):
        value = told[scheme]
        if value.mean <= beyond:
            ax.errorbar(value.mean, place, xerr=value.half or None, capsize=2, markersize=5, **scheme_style(*scheme))
        else:
            at_edge(ax, place, value.mean)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(order)), [scheme_label(*scheme) for scheme in order], fontsize=8)
    ax.set_title(title, fontsize=9)
    ax.set(xlabel="difference (nats per token)", ylim=(-0.7, len(order) - 0.3))


def _mean_loss(cell: Cell) -> float:
    return cell.estimate("dev_loss").mean if cell.finished else np.nan


def _draw_rates(ax: Axes, scheme: tuple[str, bool], cells: Sequence[Cell]) -> None:
    style = scheme_style(*scheme) | {"label": scheme[0], "markersize": 4, "linewidth": 1.1, "linestyle": "-"}
    rates = [cell.settings["learning_rate"] for cell in cells]
    _draw_estimates(ax, rates, [cell.estimate("dev_loss") for cell in cells], style)


def _draw_estimates(ax: Axes, places: Sequence[float], told: Sequence[Estimate], style: dict[str, Any]) -> None:
    points = [(place, e) for place, e in zip(places, told, strict=True) if e.n]
    ax.errorbar(
        [place for place, _ in points],
        [e.mean for _, e in points],
        yerr=[e.half for _, e in points],
        capsize=2,
        **style,
    )


def _layers(cell: Cell, name: str) -> list[Estimate]:
    rows = [row[name][0] for row in cell.rows if row.get(name)]
    return [estimate(values) for values in zip(*rows, strict=True)]


def _ratios_of(matrix: int) -> Callable[[dict[str, Any]], Sequence[float | None]]:
    return lambda row: [told[matrix] for told in row["history_log10_update_to_weight"]]


def _differences(rates: Table) -> dict[tuple[str, bool], Estimate]:
    name = "difference_at_best_rates"
    told = {}
    for row in rates:
        init, norm = row["scheme"].removesuffix(" + batch norm"), row["scheme"].endswith(" + batch norm")
        told[init, norm] = Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"], 2)
    return {scheme: value for scheme, value in told.items() if np.isfinite(value.mean)}


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i])
    figure.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside right center", fontsize=8)
