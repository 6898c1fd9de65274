"""The figures of causes: dev loss by starting scale, by hidden and output scale, and by learning rate and width."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.analysis.comparisons import tuned_study
from experiments.analysis.studies import Cell, Study
from experiments.analysis.style import LINE_COLOURS, MARKERS, scheme_label, scheme_style
from experiments.initialisation.causes import (
    DEPTHS,
    GAINS,
    LENGTHS,
    PLANE,
    RATES,
    TRANSFER,
    Causes,
    places,
    scale_lines,
    transfer_lines,
)
from experiments.initialisation.sweep_figures import LOSS, NORMS, add_legend, lengths, scheme_groups
from experiments.initialisation.tables import by_scheme, place_on_axes
from mlp_lm.config import Architecture
from mlp_lm.schemes import SCHEMES

OUTPUT_LINES: Any = ("-", "--", ":", "-.")
ABOVE_BEST = 0.075  # Nats per token that the U-curve shows above its lowest point.
ABOVE_BEST_RATE = 0.25  # The same of the learning rates.
LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # Of the contours, above the lowest loss.
SCALE = "standard deviation of the first preactivations at step 0"


def cause_figures(causes: Causes, schemes: Study, vocab_size: int) -> Iterator[tuple[str, Figure]]:
    """The figures that the given studies allow, and the stems of their file names."""
    for study in causes.get(LENGTHS, ())[:1]:
        if any(places(cells)[0] for cells in scale_lines(study).values()):
            yield "u_curve", plot_u_curve(study, schemes)
    for study in causes.get(PLANE, ())[:1]:
        yield "scale_map", plot_map(study, vocab_size)
    if causes.get(RATES):
        yield "tuned_rates", plot_tuned_rates(causes[RATES])
    for study in causes.get(DEPTHS, ())[:1]:
        yield "depth_rates", plot_depth_rates(study)
    for study in causes.get(GAINS, ())[:1]:
        yield "activation_gains", plot_gains(study)
    for study in causes.get(TRANSFER, ())[:1]:
        yield "rate_transfer", plot_transfer(study)


def plot_u_curve(scale: Study, schemes: Study) -> Figure:
    """Dev loss by starting scale: a colour a length, a line style an output scale, a labelled point a scheme."""
    figure, ax = plt.subplots(figsize=(9, 5.4))
    lines = {key: places(cells) for key, cells in scale_lines(scale).items()}
    steps, outputs = sorted({n_steps for n_steps, _ in lines}), sorted({output for _, output in lines})
    points = _scheme_points(schemes)
    for (n_steps, output), (scales, means, halves) in lines.items():
        colour = LINE_COLOURS[steps.index(n_steps) % len(LINE_COLOURS)]
        style = OUTPUT_LINES[outputs.index(output) % len(OUTPUT_LINES)]
        ax.errorbar(scales, means, yerr=halves, color=colour, linestyle=style, linewidth=1.2, capsize=2)
    lowest = min([*(min(means) for _, means, _ in lines.values() if means), *(loss for _, _, loss in points)])
    highest = max(min(means) for _, means, _ in lines.values() if means)
    ax.set(xscale="log", xlabel=SCALE, ylabel=LOSS, ylim=(lowest - 0.006, highest + ABOVE_BEST))
    _name_powers(ax.xaxis)
    _label_points(ax, points, highest + ABOVE_BEST)
    handles = [
        Line2D([], [], color=LINE_COLOURS[i % len(LINE_COLOURS)], label=f"{n:,} steps") for i, n in enumerate(steps)
    ]
    handles += [
        Line2D([], [], color="#444444", linestyle=OUTPUT_LINES[i % len(OUTPUT_LINES)], label=f"output gain {output:g}")
        for i, output in enumerate(outputs)
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=8)
    seeds = max(len(cell.finished) for cell in scale.cells)
    named = f"; points: the schemes{lengths(schemes)}" if points else ""
    figure.suptitle(f"Dev loss by starting scale: mean and 95 % interval over {seeds} seeds{named}", fontsize=10)
    return figure


def _scheme_points(schemes: Study) -> list[tuple[str, float, float]]:
    """Name, starting scale and mean dev loss of each scheme without batch norm, by scale."""
    points = []
    for (init, batch_norm), cells in by_scheme(schemes).items():
        scales, means, _ = places([cell for cell in cells if cell.finished])
        if scales and not batch_norm:
            points.append((init, scales[0], means[0]))
    return sorted(points, key=lambda point: point[1])


def _label_points(ax: Axes, points: Sequence[tuple[str, float, float]], top: float) -> None:
    """Markers, and names side by side above the panel with a line to each marker; what is too high, at the edge."""
    for i, (init, scale, loss) in enumerate(points):
        style = scheme_style(init) | {"linestyle": "none", "markersize": 7, "markeredgecolor": "black"}
        shown = min(loss, top)
        ax.plot([scale], [shown], zorder=3, clip_on=False, **style)
        text = init if loss <= top else f"{init} {loss:.2f} ↑"
        ax.annotate(
            text,
            (scale, shown),
            xytext=((i + 0.5) / len(points), 1.04),
            textcoords="axes fraction",
            rotation=40,
            ha="left",
            va="bottom",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "relpos": (0, 0)},
        )


def _name_powers(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, as plain numbers: the style leaves mathematics unread."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def plot_map(study: Study, vocab_size: int) -> Figure:
    """Contours of the mean dev loss over hidden and output gain, the lowest cell, and the schemes on the map."""
    gains, outputs = (sorted({cell.settings[axis] for cell in study.cells}) for axis in ("gain", "output_gain"))
    losses = np.full((len(outputs), len(gains)), np.nan)
    for cell in study.cells:
        place = outputs.index(cell.settings["output_gain"]), gains.index(cell.settings["gain"])
        losses[place] = cell.estimate("dev_loss").mean
    lowest = float(np.nanmin(losses))
    figure, ax = plt.subplots(figsize=(7.5, 5))
    norm = BoundaryNorm((0, *LEVELS), plt.get_cmap("viridis_r").N, extend="max")  # Steps of colour, not of loss.
    above = losses - lowest
    filled = ax.contourf(gains, outputs, above, levels=(0, *LEVELS), cmap="viridis_r", norm=norm, extend="max")
    lines = ax.contour(gains, outputs, above, levels=LEVELS, colors="white", linewidths=0.6)
    ax.clabel(lines, fmt="%g", fontsize=7)
    best = np.unravel_index(np.nanargmin(losses), losses.shape)
    ax.plot(gains[best[1]], outputs[best[0]], marker="*", markersize=13, color="white", markeredgecolor="black")
    settings = study.cells[0].settings
    for init, gain, output in _on_map(settings, vocab_size):
        if gains[0] <= gain <= gains[-1] and outputs[0] <= output <= outputs[-1]:
            ax.plot(gain, output, label=init, **scheme_style(init) | {"linestyle": "none", "markeredgecolor": "white"})
    ax.set(xscale="log", yscale="log", xlabel="gain of the hidden weights", ylabel="gain of the output weights")
    _name_powers(ax.xaxis)
    _name_powers(ax.yaxis)
    figure.colorbar(filled, ax=ax, label=f"dev loss above the lowest, {lowest:.4f} (star)")
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    base = settings["init"]
    figure.suptitle(f"Dev loss by hidden and output scale, over those of {base}{lengths(study)}", fontsize=10)
    return figure


def _on_map(settings: dict[str, Any], vocab_size: int) -> Iterator[tuple[str, float, float]]:
    """The schemes that differ from the map's own in the scale of weights, and little else: name, gain, output gain.

    Of one embedding, so that the gain alone decides the first preactivations.
    """
    sizes = [settings[name] for name in ("block_size", "embedding_dim", "hidden_size")]
    architecture = Architecture(vocab_size, *sizes)
    own = place_on_axes(settings["init"], architecture)
    for init, scheme in SCHEMES.items():
        if scheme.adjust is None and own["gain"] and own["output_gain"]:
            place = place_on_axes(init, architecture)
            if place["embedding_gain"] == own["embedding_gain"]:
                yield init, place["gain"] / own["gain"], place["output_gain"] / own["output_gain"]


def plot_transfer(study: Study) -> Figure:
    """Dev loss by learning rate: a panel a parametrisation and decay, a line a width, its lowest point marked."""
    lines = transfer_lines(study)
    names, decays = (list(dict.fromkeys(values)) for values in zip(*sorted(lines), strict=True))
    names.sort(key=lambda name: name != "standard")  # What one would do without thinking comes first.
    widths = sorted({width for by_width in lines.values() for width in by_width})
    colours = dict(zip(widths, plt.get_cmap("viridis")(np.linspace(0.92, 0, len(widths))), strict=True))
    size = (3.1 * len(names) + 1.4, 2.9 * len(decays) + 0.6)
    figure, axes = plt.subplots(len(decays), len(names), figsize=size, sharex=True, sharey=True, squeeze=False)
    lowest = min(cell.estimate("dev_loss").mean for cell in study.cells if cell.finished)
    rates = sorted({cell.settings["learning_rate"] for cell in study.cells})
    for line, decay in zip(axes, decays, strict=True):
        for ax, name in zip(line, names, strict=True):
            for width, cells in lines.get((name, decay), {}).items():
                places = [cell.settings["learning_rate"] for cell in cells if not cell.n_diverged]
                losses = [cell.estimate("dev_loss").mean for cell in cells if not cell.n_diverged]
                if losses:
                    ax.plot(places, losses, color=colours[width], linewidth=1.2, label=f"{width:,}")
                    best = int(np.argmin(losses))
                    ax.plot(places[best], losses[best], marker="o", markersize=5, color=colours[width])
            decayed = f", weight decay {decay:g}" if len(decays) > 1 else ""
            ax.set(title=f"{name}{decayed}", xscale="log", ylim=(lowest - 0.01, lowest + ABOVE_BEST_RATE))
            ax.set_xticks(rates, [f"{rate:.2g}" for rate in rates], fontsize=7)
            ax.minorticks_off()
        line[0].set_ylabel(LOSS)
    for ax in axes[-1]:
        ax.set_xlabel("learning rate at the base width")
    handles = [Line2D([], [], color=colours[width], label=f"{width:,}") for width in widths]
    figure.legend(handles=handles, title="hidden units", loc="outside right center", fontsize=8)
    figure.suptitle(f"Dev loss by learning rate and width{lengths(study)}; dots: the lowest of each width", fontsize=10)
    return figure


def plot_tuned_rates(studies: Sequence[Study]) -> Figure:
    """Dev loss by learning rate: a column a study, of one optimiser and length, and a colour a scheme."""
    groups = scheme_groups(max(studies, key=lambda study: len(study.cells)))
    size = (3.6 * len(studies) + 1.6, 0.8 + 2.8 * len(groups))
    figure, axes = plt.subplots(len(groups), len(studies), figsize=size, sharex="col", sharey="col", squeeze=False)
    for column, study in zip(axes.T, studies, strict=True):
        settings = study.cells[0].settings
        rates = sorted({cell.settings["learning_rate"] for cell in study.cells})
        lowest = min(cell.estimate("dev_loss").mean for cell in study.cells if cell.finished)
        for ax, inits in zip(column, groups, strict=True):
            for (init, batch_norm), cells in by_scheme(study).items():
                if init in inits:
                    style = scheme_style(init, batch_norm) | {"markersize": 4}
                    plot_cells(ax, cells, "learning_rate", scheme_label(init, batch_norm), style)
            ax.set(xscale="log", ylim=(lowest - 0.01, lowest + ABOVE_BEST_RATE))
            ax.set_xticks(rates, [f"{rate:.2g}" for rate in rates], fontsize=7)
            ax.minorticks_off()
        column[0].set_title(f"{settings['optimizer']}{lengths(study)}", fontsize=9)
        column[-1].set_xlabel("learning rate")
    for row in axes:
        row[0].set_ylabel(LOSS)
        add_legend(row)
    figure.suptitle("Dev loss by learning rate: mean and 95 % interval over seeds", fontsize=10)
    return figure


def plot_depth_rates(study: Study) -> Figure:
    """Dev loss by gain at each cell's best learning rate: a panel a norm, a line a depth."""
    tuned = tuned_study(study, ("learning_rate",))
    norms = sorted({cell.settings["batch_norm"] for cell in tuned.cells})
    title = f"Dev loss by gain, each at its own best learning rate{lengths(study)}: mean and 95 % interval"
    panels = {NORMS[norm]: [cell for cell in tuned.cells if cell.settings["batch_norm"] == norm] for norm in norms}
    return _plot_by_gain(panels, "n_layers", "hidden layers", title)


def plot_gains(study: Study) -> Figure:
    """Dev loss by gain: a panel a depth, a line an activation."""
    depths = sorted({cell.settings["n_layers"] for cell in study.cells})
    title = f"Dev loss by gain and activation{lengths(study)}: mean and 95 % interval"
    panels = {
        f"{n} hidden layer{'s' * (n > 1)}": [cell for cell in study.cells if cell.settings["n_layers"] == n]
        for n in depths
    }
    return _plot_by_gain(panels, "activation", "", title)


def _plot_by_gain(panels: Mapping[str, Sequence[Cell]], axis: str, heading: str, title: str) -> Figure:
    """A panel for each list of cells, and in it a line for each value of an axis, whose lowest point is in view."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels) + 1.4, 3.8), sharey=True, squeeze=False)
    cells = [cell for panel in panels.values() for cell in panel if cell.finished]
    values = sorted({cell.settings[axis] for cell in cells})
    gains = sorted({cell.settings["gain"] for cell in cells})
    minima = []
    for ax, (name, panel) in zip(axes[0], panels.items(), strict=True):
        for value, colour, marker in zip(values, LINE_COLOURS, MARKERS, strict=False):
            line = [cell for cell in panel if cell.settings[axis] == value and not cell.n_diverged]
            plot_cells(ax, line, "gain", str(value), {"color": colour, "marker": marker, "markersize": 4})
            minima += [min(cell.estimate("dev_loss").mean for cell in line)] if line else []
        ax.set(title=name, xscale="log", xlabel="gain over 1 / sqrt(fan_in)")
        ax.set_xticks(gains, [f"{gain:.3g}" for gain in gains], fontsize=7, rotation=45 if len(gains) > 5 else 0)
        ax.minorticks_off()
    if minima:
        axes[0][0].set_ylim(min(minima) - 0.01, max(minima) + ABOVE_BEST / 2)
    axes[0][0].set_ylabel(LOSS)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title=heading or None, loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_cells(ax: Axes, cells: Sequence[Cell], axis: str, label: str, style: dict[str, Any]) -> None:
    """One line: mean dev loss and interval of cells without diverged runs, by their value of an axis."""
    shown = sorted((cell for cell in cells if not cell.n_diverged), key=lambda cell: cell.settings[axis])
    losses = [cell.estimate("dev_loss") for cell in shown]
    values, means = [cell.settings[axis] for cell in shown], [loss.mean for loss in losses]
    ax.errorbar(values, means, yerr=[loss.half for loss in losses], capsize=2, linewidth=1.1, label=label, **style)
