"""The lecture's figures of one minibatch: histograms by scheme and by layer, and maps of saturated activations."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.style import scheme_style
from experiments.initialisation.measure import Snapshot
from mlp_lm.diagnostics import SATURATED

BINS = 80
COLUMNS = 4


def draw_preactivations(by_scheme: Mapping[str, Snapshot]) -> Figure:
    """Histograms of the first layer's preactivations, a panel a scheme; tanh is saturated beyond the dashed lines."""
    values = {name: seen.preactivations[:, 0].ravel() for name, seen in by_scheme.items()}
    titles = [f"{name}: std {told.std():.2f}" for name, told in values.items()]
    figure, axes = _draw_first(values, titles, (-20, 20), "preactivation")
    for ax in axes:
        for side in (-1, 1):
            ax.axvline(side * float(np.arctanh(SATURATED)), color="#D55E00", linestyle="--", linewidth=0.8)
    figure.suptitle("Preactivations of a first minibatch; beyond the dashed lines |tanh| > 0.99", fontsize=10)
    return figure


def draw_activations(by_scheme: Mapping[str, Snapshot]) -> Figure:
    """Histograms of the first layer's activations, a panel a scheme."""
    values = {name: seen.activations[:, 0].ravel() for name, seen in by_scheme.items()}
    titles = [f"{name}: {100 * saturated_share(told):.1f} % saturated" for name, told in values.items()]
    figure, _ = _draw_first(values, titles, (-1, 1), "activation")
    figure.suptitle("Activations of a first minibatch; saturated means |tanh| > 0.99", fontsize=10)
    return figure


def _draw_first(
    values: Mapping[str, np.ndarray], titles: Sequence[str], limits: tuple[float, float], what: str
) -> tuple[Figure, list[Axes]]:
    """A histogram a scheme."""
    figure, axes = _grid(len(values), 2.0)
    for ax, (name, told), title in zip(axes, values.items(), titles, strict=True):
        _draw_histogram(ax, told, limits, scheme_style(name)["color"])
        ax.set_title(title, fontsize=8)
        ax.set_xlabel(what)
    _label(axes, "share of values per bin (%)")
    return figure, axes


def draw_saturation_maps(by_scheme: Mapping[str, Snapshot]) -> Figure:
    """White where |tanh| > 0.99: windows of one minibatch against hidden units, the first seed."""
    figure, axes = _grid(len(by_scheme), 1.5)
    for ax, (name, seen) in zip(axes, by_scheme.items(), strict=False):
        saturated = np.abs(seen.activations[0, 0]) > SATURATED
        ax.imshow(saturated, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set_title(f"{name}: {100 * saturated.mean():.1f} %", fontsize=8)
        ax.set_xlabel("hidden unit")
        ax.grid(False)
    _label(axes, "window")
    figure.suptitle("White: |tanh| > 0.99, by window of a first minibatch and hidden unit, one seed", fontsize=10)
    return figure


def draw_layers(columns: Sequence[tuple[str, Sequence[Snapshot]]], steps: Sequence[int], what: str) -> Figure:
    """Histograms of a deep network by layer: a column a configuration, a row a step.

    `what` is `activations`, or `gradients`, whose histograms are on each panel's own scale.
    """
    figure, axes = plt.subplots(
        len(steps), len(columns), figsize=(2.1 * len(columns) + 1, 2.3 * len(steps) + 0.7), squeeze=False
    )
    for j, (name, seen) in enumerate(columns):
        for i, step in enumerate(steps):
            values = getattr(seen[i], what)
            unit = 1.0 if what == "activations" else max(float(values[:, 0].std()), 1e-30)
            _draw_layers(axes[i, j], values / unit, 1.0 if what == "activations" else 4.0)
            axes[i, j].set_title(f"{name}\nstep {step:,}", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("density")
    for ax in axes[-1]:
        ax.set_xlabel(what[:-1] if what == "activations" else "gradient / its std in layer 1")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, title="hidden layer")
    kind = "Activations" if what == "activations" else "Gradients with respect to the activations"
    figure.suptitle(f"{kind} of a deep network by layer", fontsize=10)
    return figure


def draw_deep_updates(traces: Mapping[str, list[dict[str, np.ndarray]]], steps: Sequence[int]) -> Figure:
    """The update-to-weight ratio of each matrix of a deep network over its first steps, a panel a configuration."""
    columns = -(-len(traces) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(2.6 * columns + 1.4, 5.4), sharex=True, sharey=True, squeeze=False)
    for ax, (name, told) in zip(axes.flat, traces.items(), strict=False):
        ratios = np.array([values["log10_update_to_weight"].mean(axis=0) for values in told]).T
        colours = _sequence(len(ratios))
        for i, (ratio, colour) in enumerate(zip(ratios, colours, strict=True)):
            ax.plot(steps, ratio, color=colour, linewidth=1, label=_matrix_name(i, len(ratios)))
        ax.axhline(-3, color="#D55E00", linestyle=":", linewidth=1.4)
        ax.set_title(name, fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("training step")
    for ax in axes[:, 0]:
        ax.set_ylabel("log10 of update std / weight std")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.suptitle("How far one update moves each matrix of a deep network; dotted: 1/1000", fontsize=10)
    return figure


def draw_width(rows: Sequence[dict[str, Any]], statistics: Mapping[str, str], steps: Sequence[int]) -> Figure:
    """The coordinate check: a row a statistic, a column a step, a line a scheme over the width."""
    figure, axes = plt.subplots(
        len(statistics),
        len(steps),
        figsize=(2.5 * len(steps) + 1.8, 2.1 * len(statistics) + 0.7),
        sharex=True,
        sharey="row",
    )
    for line, (name, label) in zip(axes, statistics.items(), strict=True):
        for ax, step in zip(line, steps, strict=True):
            for scheme in dict.fromkeys(row["scheme"] for row in rows):
                _draw_width(ax, [row for row in rows if (row["scheme"], row["step"]) == (scheme, step)], name)
        line[0].set_ylabel(label, fontsize=8)
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"step {step}")
    for ax in axes[-1]:
        ax.set_xlabel("hidden units (log2)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    layers = rows[0]["hidden_layers"]
    figure.suptitle(
        f"Scale against width, {layers} hidden layer{'s' if layers > 1 else ''}; flat lines keep their scale",
        fontsize=10,
    )
    return figure


def saturated_share(values: np.ndarray) -> float:
    """Share of |tanh| > 0.99."""
    return float((np.abs(values) > SATURATED).mean())


def _draw_width(ax: Axes, rows: Sequence[dict[str, Any]], name: str) -> None:
    points = [(np.log2(row["hidden_size"]), row[name], row["scheme"]) for row in rows]
    values = [value if np.isfinite(value) else np.nan for _, value, _ in points]
    if not name.endswith("log10_update_to_weight"):
        values = [np.log10(value) if value > 0 else np.nan for value in values]
    if not np.isfinite(values).any():
        return
    style = scheme_style(points[0][2]) | {"markersize": 3, "linewidth": 1}
    ax.plot([place for place, *_ in points], values, label=points[0][2], **style)


def _draw_histogram(ax: Axes, values: np.ndarray, limits: tuple[float, float], colour: str) -> None:
    shares, edges = np.histogram(np.clip(values, *limits), BINS, limits)
    ax.stairs(100 * shares / values.size, edges, fill=True, color=colour, alpha=0.75)
    ax.set_xlim(*limits)
    ax.set_ylim(bottom=0)


def _draw_layers(ax: Axes, values: np.ndarray, limit: float) -> None:
    for layer, colour in enumerate(_sequence(values.shape[1])):
        density, edges = np.histogram(values[:, layer].ravel(), BINS // 2, (-limit, limit), density=True)
        ax.plot((edges[:-1] + edges[1:]) / 2, density, color=colour, linewidth=1, label=f"{layer + 1}")
    ax.set_xlim(-limit, limit)
    ax.set_ylim(bottom=0)


def _sequence(n: int) -> list[Any]:
    """Colours that run from dark to light with depth."""
    return [plt.get_cmap("viridis")(0.9 * i / max(n - 1, 1)) for i in range(n)]


def _matrix_name(i: int, n: int) -> str:
    return "embedding" if i == 0 else "output" if i == n - 1 else f"hidden {i}"


def _grid(n: int, height: float) -> tuple[Figure, list[Axes]]:
    rows = -(-n // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(2.7 * COLUMNS, height * rows + 0.6), squeeze=False)
    for ax in axes.flat[n:]:
        ax.set_visible(False)
    return figure, list(axes.flat[:n])


def _label(axes: Sequence[Axes], ylabel: str) -> None:
    for ax in axes[::COLUMNS]:
        ax.set_ylabel(ylabel, fontsize=8)
