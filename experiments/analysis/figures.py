"""A sweep's figures: differences, learning curves, effects of axes and of pairs of them, and an embedding."""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.diagnostics import has_diagnostics, plot_diagnostics
from experiments.analysis.effects import (
    Importance,
    Share,
    axis_values,
    curve,
    effects,
    imbalance,
    importance,
    is_ordered,
    main_effects,
    spaced_places,
    value_name,
)
from experiments.analysis.response import plot_contour, plot_marginals, responses
from experiments.analysis.studies import Cell, Estimate, Study, describe, label_cells
from experiments.analysis.style import (
    ASIDE,
    COLOURS,
    LINE_COLOURS,
    MARKERS,
    PANELS_A_ROW,
    STYLE,
    far_off,
    far_off_side_by_side,
    file_stems,
    label_points,
    save_figure,
    scheme_colour,
    scheme_style,
    set_title,
)
from experiments.analysis.tradeoffs import plot_tradeoffs
from experiments.runner.rows import Row
from experiments.store import Store
from experiments.sweeps.text import count, printable
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.schemes import SCHEMES

MAX_LINES = 7  # Of a panel.
MAX_FOREST = 40
LABEL_WIDTH = 44  # Letters in a line of a label: longer ones would leave little of the width to the axes.
NO_BREAK = "\u00a0"  # A space that textwrap leaves alone.
MAX_TOKENS = 100  # More letters than that cover one another.
VOWELS = frozenset("aeiou")
MAX_PAIRS = 3
LETTERS_A_PANEL = 24  # Of all names below it, side by side.
FEWEST_FOR_INTERVAL = 3  # Seeds: the interval of two is twelve standard errors wide, and would hide all curves.

FIGURES = ("differences", "axes", "pairs", "tradeoffs", "marginals", "contour", "curves", "diagnostics")  # Of a study.

Line = dict[Any, Estimate]


def write_figures(store: Store, studies: Sequence[Study], vocabulary: Vocabulary) -> None:
    """Plot what the studies allow into the folder `figures/`."""
    folder = store.root / "figures"
    with plt.rc_context(STYLE):
        for study, stem in zip(studies, file_stems([study.name for study in studies]), strict=True):
            old = set(FIGURES)
            for name, figure in plot_study(study):
                save_figure(figure, folder / f"{stem}_{name}.png")
                old.discard(name)
            for name in old:  # Plotted for an earlier request.
                (folder / f"{stem}_{name}.png").unlink(missing_ok=True)
        row = _best_plane_run(studies)
        if row is not None and len(vocabulary) <= MAX_TOKENS and store.has_weights(row):  # Else an older figure stays.
            save_figure(plot_embedding(store.weights(row)["embedding"], row, vocabulary), folder / "embedding.png")


def plot_study(study: Study) -> Iterator[tuple[str, Figure]]:
    """A study's figures: effects only where every value of an axis met the same values of all others."""
    if study.axes and study.best.finished:
        yield "differences", plot_differences(study)
        if imbalance(study) is None:
            yield "axes", plot_axes(study)
            if len(study.factors) > 1:
                yield "pairs", plot_pairs(study)
    if tradeoffs := plot_tradeoffs(study):
        yield "tradeoffs", tradeoffs
    for response in responses([study]):
        yield "marginals", plot_marginals(response)
        if contour := plot_contour(response):
            yield "contour", contour
    yield "curves", plot_curves(study)
    if has_diagnostics(study):
        yield "diagnostics", plot_diagnostics(study)


def plot_differences(study: Study) -> Figure:
    """Each cell's dev loss minus the best cell's, paired by seed: a forest plot, best on top."""
    cells = [cell for cell in study.cells if cell.finished][:MAX_FOREST]
    labels = label_cells(cells, study.axes)
    texts = [wrapped(text) for text in labels.texts]
    row_height = 0.1 + 0.14 * max((text.count("\n") + 1 for text in texts), default=1)
    figure, ax = plt.subplots(figsize=(7.5, 1.4 + row_height * len(cells)))
    plot_forest(ax, [study.to_best(cell) for cell in cells], texts, [_cell_style(study, cell) for cell in cells])
    ax.text(-0.01, 1, labels.heading, transform=ax.transAxes, ha="right", va="bottom", fontsize=8)
    ax.set_xlabel("dev loss minus the best configuration's (nats per token)", loc="right")  # Beside long names.
    set_title(
        figure,
        f"{study.name}: difference to the best{_out_of(len(cells), study)}",
        "; ".join(filter(None, [f"paired by seed, {study.shown_as}", labels.shared])),
    )
    return figure


def wrapped(label: str) -> str:
    """A label in lines that leave most of the figure's width to the axes; a name and its value stay together."""
    together = ", ".join(part.replace(" ", NO_BREAK) for part in printable(label).split(", "))
    return textwrap.fill(together, LABEL_WIDTH).replace(NO_BREAK, " ")


def plot_curves(study: Study) -> Figure:
    """Dev loss over training: the mean over seeds of the best cells of the study, with the interval at the end."""
    figure, ax = plt.subplots(figsize=(9, 4.6))
    ax.set_xlabel("training step")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_ylabel("dev loss (nats per token)")
    best = [cell for cell in study.cells if cell.finished][:MAX_LINES]
    low, high = zoom(best)
    ax.set_ylim(low, high)
    cells = [cell for cell in best if cell.estimate("dev_loss").mean < high]
    n_seeds = min((len(cell.finished) for cell in cells), default=0)
    notes = [f"mean over seeds, and at the end its 95 % interval ({n_seeds} seeds)"]
    if n_seeds < FEWEST_FOR_INTERVAL:
        notes = [f"mean of {count(n_seeds, 'seed')}, too few for an interval"]
    if cells:
        labels = label_cells(cells, study.axes)
        last = max(cell.finished[0]["history_step"][-1] for cell in cells)
        for i, (cell, text) in enumerate(zip(cells, labels.texts, strict=True)):
            points, steps = curve(cell, "history_dev_loss"), cell.finished[0]["history_step"]
            style = _curve_style(study, cell, i)
            means = [point.mean for point in points]
            ax.plot(steps[: len(points)], means, label=wrapped(text), linewidth=1.3, markersize=4, **style)
            if n_seeds >= FEWEST_FOR_INTERVAL:
                aside = last * (1.02 + 0.015 * i)
                ax.errorbar(aside, means[-1], yerr=points[-1].half, fmt="none", color=style["color"], capsize=2)
        ax.legend(title=labels.heading, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, borderaxespad=0)
        notes.append(labels.shared)
    if above := [cell for cell in best if cell not in cells]:
        named = (f"{study.label(cell)} ({cell.estimate('dev_loss').mean:.2f})" for cell in above)
        notes.append(f"above this range: {'; '.join(named)}")
    title = f"{study.name}: learning curves{_out_of(len(best), study)}"
    set_title(figure, title, "; ".join(filter(None, notes)))
    return figure


def plot_embedding(table: np.ndarray, row: Row, vocabulary: Vocabulary) -> Figure:
    """The tokens of a two-dimensional embedding at their places; vowels are marked where tokens are letters."""
    figure, ax = plt.subplots(figsize=(6, 6.2))
    tokens, places = vocabulary.tokens, table[:, :2]
    vowels = VOWELS if set(tokens) >= VOWELS and max(map(len, tokens)) == 1 else ()
    ax.scatter(
        places[:, 0],
        places[:, 1],
        s=16,
        color=[COLOURS[4] if token in vowels else COLOURS[5] for token in tokens],
        linewidth=0,
    )
    ax.set_xlabel("embedding dimension 1")
    ax.set_ylabel("embedding dimension 2")
    which = describe(row, ("init", "hidden_size", "block_size", "batch_size", "seed"))
    marked = " (vowels in orange)" if vowels else ""
    set_title(figure, f"Embedding of the best two-dimensional run{marked}", which)
    figure.canvas.draw()
    label_points(ax, places, [printable(token) for token in tokens], fontsize=8 if vowels else 7)
    return figure


def plot_forest(
    ax: Axes, differences: Sequence[Estimate], names: Sequence[str], styles: Sequence[dict[str, Any]]
) -> None:
    """A forest plot: a row a difference with its interval, the first one on top; what is far off, as a number."""
    limit = far_off([difference.mean for difference in differences])
    for place, (difference, style) in enumerate(zip(differences, styles, strict=True)):
        if difference.mean > limit:
            text, edge = f"{difference.mean:+.3f} →", ax.get_yaxis_transform()
            ax.text(0.99, place, text, transform=edge, ha="right", va="center", fontsize=7)
        else:
            row = style | {"linestyle": "none", "markersize": 5, "linewidth": 1, "capsize": 3}
            ax.errorbar(difference.mean, place, xerr=difference.half, **row)
    near = [difference for difference in differences if difference.mean <= limit]
    left, right = min(one.mean - one.half for one in near), max(one.mean + one.half for one in near)
    margin = 0.08 * max(right - left, 0.01)
    ax.set_xlim(left - margin, right + (3 if len(near) < len(differences) else 1) * margin)  # Room for the numbers.
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)


def zoom(cells: Sequence[Cell]) -> tuple[float, float]:
    """Limits that show the end of training, not the height of the first losses."""
    ends = [row["dev_loss"] for cell in cells for row in cell.finished]
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), float(np.quantile(ends, 0.75))
    return low - 0.1 * (high - low) - 0.01, high + 1.5 * (high - low) + 0.2


def _cell_style(study: Study, cell: Cell) -> dict[str, Any]:
    if "init" in study.axes:
        return scheme_style(cell.settings["init"], cell.settings["batch_norm"])
    return {"color": COLOURS[0], "marker": "o", "markerfacecolor": COLOURS[0]}


def _curve_style(study: Study, cell: Cell, place: int) -> dict[str, Any]:
    if study.compares_schemes:
        return scheme_style(cell.settings["init"], cell.settings["batch_norm"])
    return {"color": LINE_COLOURS[place]}


def _out_of(shown: int, study: Study) -> str:
    return f", the {shown} best of {len(study.cells)}" if shown < len(study.cells) else ""


def _best_plane_run(studies: Sequence[Study]) -> Row | None:
    cells: Iterator[Cell] = (cell for study in studies for cell in study.cells if cell.settings["embedding_dim"] == 2)
    rows = [row for cell in cells for row in cell.finished if row["weights_sha256"]]
    return min(rows, key=lambda row: row["dev_loss"], default=None)


def plot_axes(study: Study) -> Figure:
    """The effect of each axis that varies: dev loss over all others minus the best value's, paired by seed."""
    n_columns = min(len(study.factors), PANELS_A_ROW)
    n_rows = math.ceil(len(study.factors) / n_columns)
    size = (max(6.0, 2.6 * n_columns + 1), 3 * n_rows + 0.4)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharey=True, squeeze=False)
    lines = {axis: main_effects(study, axis) for axis in study.factors}
    beyond = far_off_side_by_side([[effect.mean for effect in line.values()] for line in lines.values()])
    for ax, (axis, line) in zip(axes.flat, lines.items(), strict=False):
        colours = [scheme_colour(str(name)) for name in line] if axis == "init" else [COLOURS[0]] * len(line)
        _plot_line(ax, line, beyond, colours)
        _name_places(ax, axis, line)
    for ax in list(axes.flat)[len(study.factors) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("dev loss minus that of the best\nvalue of the axis (nats per token)")
    subtitle = "; ".join(filter(None, ("mean over all other axes", study.in_step, f"paired by seed, {study.shown_as}")))
    set_title(figure, f"{study.name}: effects of single axes on the dev loss", subtitle)
    return figure


def plot_pairs(study: Study) -> Figure:
    """Effects of the pairs of axes that interact most: one line a value of the axis that has fewer."""
    shares = strongest_pairs(study)
    figure, axes = plt.subplots(1, len(shares), figsize=(max(6.0, 4 * len(shares)), 4.4), sharey=True, squeeze=False)
    pairs = [pair_lines(study, share.axes) for share in shares]
    means = [[effect.mean for line in lines.values() for effect in line.values()] for _, _, lines in pairs]
    beyond = far_off_side_by_side(means)
    for ax, share, (along, between, lines) in zip(axes.flat, shares, pairs, strict=True):
        title = f"{between.replace('_', ' ')} (the interaction: {max(100 * share.value, 0.0):.1f} % of the variance)"
        _plot_pair(ax, title, lines, beyond)
        _name_places(ax, along, next(iter(lines.values())))
    axes[0, 0].set_ylabel("dev loss minus that of the panel's\nbest pair of values (nats per token)")
    subtitle = f"mean over all other axes; paired by seed, {study.shown_as}; lines that are not parallel interact"
    n_pairs = math.comb(len(study.factors), 2)
    which = f", the {len(shares)} of {n_pairs} pairs that interact most" if len(shares) < n_pairs else ""
    set_title(figure, f"{study.name}: effects of two axes at a time{which}", subtitle)
    return figure


def strongest_pairs(study: Study) -> list[Share]:
    """The pairs of axes that explain most of the variance beyond what each explains alone; some pair in any case."""
    decomposition = importance(replace(study, ranges={}))  # A balanced study has a table of them in any case.
    if isinstance(decomposition, Importance):
        return [share for share in decomposition.shares if len(share.axes) == 2][:MAX_PAIRS]
    return [Share(study.factors[:2], 0.0, 0.0, 0.0)]  # All runs have one loss.


def pair_lines(study: Study, pair: Sequence[str]) -> tuple[str, str, dict[Any, Line]]:
    """Which axis goes along, which one tells the lines apart, and a line for each of the latter's values.

    Numbers go along where there are several, beside names; else the axis with more values.
    """

    def rank(axis: str) -> tuple[bool, int]:
        values = axis_values(study, axis)
        return len(values) > 2 and is_ordered(values), len(values)

    between, along = sorted(pair, key=rank)
    means = effects(study, (between, along))
    values = axis_values(study, along)
    lines = {name: {v: means[name, v] for v in values} for name in axis_values(study, between)}
    best = sorted(lines, key=lambda name: min(effect.mean for effect in lines[name].values()))[:MAX_LINES]
    return along, between, {name: line for name, line in lines.items() if name in best}


def _plot_pair(ax: Axes, title: str, lines: dict[Any, Line], beyond: float) -> None:
    for i, (name, line) in enumerate(lines.items()):
        colour = scheme_colour(name) if name in SCHEMES else LINE_COLOURS[i % len(LINE_COLOURS)]
        aside = ASIDE * (i - (len(lines) - 1) / 2)
        marker = MARKERS[i % len(MARKERS)]
        _plot_line(ax, line, beyond, [colour] * len(line), aside, marker, top=0.98 - 0.16 * i)
        width = 1 if is_ordered(line) else 0
        ax.plot([], [], color=colour, marker=marker, markersize=4, linewidth=width, label=value_name(name))
    columns = 4 if is_ordered(lines) else 3
    place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.01), "borderaxespad": 0}
    ax.legend(title=title, ncols=min(len(lines), columns), fontsize=8, columnspacing=1.0, **place)


def _plot_line(
    ax: Axes,
    line: Line,
    beyond: float,
    colours: Sequence[str],
    aside: float = 0.0,
    marker: str = "o",
    top: float = 0.98,
) -> None:
    """Means with intervals; those that are far off, as numbers at the edge, `top` of the way up."""
    places = spaced_places(list(line))
    near = [effect.mean if effect.mean <= beyond else math.nan for effect in line.values()]
    if is_ordered(line):  # A line between two schemes would tell of values between them.
        ax.plot([place + aside for place in places], near, color=colours[0], linewidth=1)
    for place, effect, colour in zip(places, line.values(), colours, strict=True):
        if effect.mean > beyond:
            text, high = f"+{effect.mean:.2f} →", ax.get_xaxis_transform()
            ax.text(place, top, text, transform=high, ha="center", va="top", rotation=90, fontsize=7)
            continue
        style: dict[str, Any] = {"fmt": marker, "color": colour, "capsize": 3, "markersize": 4, "linewidth": 1}
        ax.errorbar(place + aside, effect.mean, yerr=effect.half, **style)


def _name_places(ax: Axes, axis: str, line: Line) -> None:
    names, places = [value_name(value) for value in line], spaced_places(list(line))
    gap = min(after - before for before, after in itertools.pairwise(places)) / len(names)  # Of a panel's width.
    long = max(map(len, names)) > min(6.0, LETTERS_A_PANEL * gap)
    ax.set_xticks(places, names, rotation=35 if long else 0, ha="right" if long else "center")
    margin = 0.15 * (places[-1] - places[0])
    ax.set_xlim(places[0] - margin, places[-1] + margin)  # Also for values that are far off, which nothing plots.
    ax.set_xlabel(axis.replace("_", " "))
