"""A sweep's figures: differences, learning curves, effects of axes and of pairs of them, and an embedding."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    value_name,
)
from experiments.analysis.response import responses
from experiments.analysis.response_figures import draw_contour, draw_marginals
from experiments.analysis.studies import Cell, Estimate, Study, describe
from experiments.analysis.style import (
    COLOURS,
    LINE_COLOURS,
    STYLE,
    far_off,
    far_off_side_by_side,
    save_figure,
    scheme_colour,
    scheme_style,
    set_title,
)
from experiments.analysis.tradeoffs import draw_tradeoffs
from experiments.runner.rows import Row
from experiments.store import Store
from experiments.store.atomic import make_folder
from experiments.sweeps.text import printable
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.schemes import SCHEMES

LINES = ("-", "--", ":", "-.")
BAND = 0.6  # Opacity of all bands together: many would hide their lines.
MAX_CURVES = 12
MAX_STEM = 40  # Characters of four bytes at most; a file name has 255 bytes.
MAX_FOREST = 40
MAX_TOKENS = 100  # More letters than that cover one another.
VOWELS = frozenset("aeiou")
PANELS_A_ROW = 4
MAX_PAIRS = 3
LETTERS_A_PANEL = 24  # Of all names below it, side by side.
ASIDE = 0.07  # How far points of neighbouring lines stand apart, so that intervals do not hide one another.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Line = dict[Any, Estimate]


def write_figures(store: Store, studies: Sequence[Study], vocabulary: Vocabulary) -> None:
    """Draw what the studies allow into the folder `figures/`."""
    folder = store.root / "figures"
    make_folder(folder)
    with plt.rc_context(STYLE):
        for study, stem in zip(studies, file_stems([study.name for study in studies]), strict=True):
            for name, figure in draw_study(study):
                save_figure(figure, folder / f"{stem}_{name}.png")
        row = _best_plane_run(studies)
        if row is not None and len(vocabulary) <= MAX_TOKENS and store.has_weights(row):  # Else an older figure stays.
            save_figure(draw_embedding(store.weights(row)["embedding"], row, vocabulary), folder / "embedding.png")


def file_stems(names: Sequence[str]) -> list[str]:
    """Beginnings of file names, one a study's name, that differ even where a file system ignores case."""
    stems: list[str] = []
    for name in names:
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:MAX_STEM] or "study"
        taken = {known.casefold() for known in stems}
        numbered = itertools.chain([stem], (f"{stem}_{i}" for i in itertools.count(2)))
        stems.append(next(candidate for candidate in numbered if candidate.casefold() not in taken))
    return stems


def draw_study(study: Study) -> Iterator[tuple[str, Figure]]:
    """A study's figures: effects only where every value of an axis met the same values of all others."""
    if study.axes and study.best.finished:
        yield "differences", draw_differences(study)
        if imbalance(study) is None:
            yield "axes", draw_axes(study)
            if len(study.axes) > 1:
                yield "pairs", draw_pairs(study)
    if tradeoffs := draw_tradeoffs(study):
        yield "tradeoffs", tradeoffs
    for response in responses([study]):
        yield "marginals", draw_marginals(response)
        if contour := draw_contour(response):
            yield "contour", contour
    yield "curves", draw_curves(study)


def draw_differences(study: Study) -> Figure:
    """Each cell's dev loss minus the best cell's, paired by seed: a forest plot, best on top."""
    cells = [cell for cell in study.cells if cell.finished][:MAX_FOREST]
    figure, ax = plt.subplots(figsize=(7.5, 1.4 + 0.24 * len(cells)))
    differences = [study.to_best(cell) for cell in cells]
    beyond = far_off([difference.mean for difference in differences])
    for place, (cell, difference) in enumerate(zip(cells, differences, strict=True)):
        if difference.mean > beyond:
            at_edge(ax, place, difference.mean)
            continue
        style = _cell_style(study, cell)
        ax.errorbar(
            difference.mean, place, xerr=difference.half, fmt=style["marker"], color=style["color"],
            markerfacecolor=style["markerfacecolor"], capsize=3, markersize=5, linewidth=1,
        )  # fmt: skip
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(cells)), [printable(study.label(cell)) for cell in cells], fontsize=8)
    ax.set_ylim(len(cells) - 0.4, -0.6)
    ax.set_xlabel("dev loss minus the best configuration's (nats per token)", loc="right")  # Beside long names.
    set_title(
        figure,
        f"{study.name}: difference to the best{_out_of(len(cells), study)}",
        "paired by seed, mean and 95 % interval",
    )
    return figure


def draw_curves(study: Study) -> Figure:
    """Dev loss over training: mean over seeds and its interval, the best cells of the study."""
    cells = [cell for cell in study.cells if cell.finished][:MAX_CURVES]
    figure, ax = plt.subplots(figsize=(9, 4.6))
    for i, cell in enumerate(cells):
        points, steps = curve(cell, "history_dev_loss"), cell.finished[0]["history_step"]
        style = _curve_style(study, cell, i)
        label = printable(study.label(cell))
        ax.plot(steps[: len(points)], [p.mean for p in points], label=label, linewidth=1.3, markersize=4, **style)
        if len(cell.finished) > 1:
            low, high = [p.low for p in points], [p.high for p in points]
            ax.fill_between(
                steps[: len(points)], low, high, color=style["color"], alpha=BAND / max(len(cells), 4), linewidth=0
            )
    ax.set_ylim(*zoom(cells))
    ax.set_xlabel("training step")
    ax.set_ylabel("dev loss (nats per token)")
    set_title(figure, f"{study.name}: learning curves{_out_of(len(cells), study)}", "mean and 95 % interval over seeds")
    if cells:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7, borderaxespad=0)
    return figure


def draw_embedding(table: np.ndarray, row: Row, vocabulary: Vocabulary) -> Figure:
    """The tokens of a two-dimensional embedding at their places; vowels are marked."""
    figure, ax = plt.subplots(figsize=(6, 6.2))
    for token, (x, y) in zip(vocabulary.tokens, table[:, :2], strict=True):
        vowel = token in VOWELS
        ax.scatter(x, y, s=170, color=COLOURS[4] if vowel else COLOURS[5], alpha=0.55 if vowel else 0.35, linewidth=0)
        ax.text(x, y, printable(token), ha="center", va="center", fontweight="bold" if vowel else "normal")
    ax.set_xlabel("embedding dimension 1")
    ax.set_ylabel("embedding dimension 2")
    which = describe(row, ("init", "hidden_size", "block_size", "batch_size", "seed"))
    set_title(figure, "Embedding of the best two-dimensional run (vowels in orange)", which)
    return figure


def at_edge(ax: Axes, place: float, value: float) -> None:
    """A forest plot's value that is far off, as a number at the edge."""
    text = f"{value:+.3f} →"
    ax.text(0.99, place, text, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7)


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
    return {
        "color": LINE_COLOURS[place % len(LINE_COLOURS)],
        "linestyle": LINES[place // len(LINE_COLOURS) % len(LINES)],
    }


def _out_of(shown: int, study: Study) -> str:
    return f", the {shown} best of {len(study.cells)}" if shown < len(study.cells) else ""


def _best_plane_run(studies: Sequence[Study]) -> Row | None:
    cells: Iterator[Cell] = (cell for study in studies for cell in study.cells if cell.settings["embedding_dim"] == 2)
    rows = [row for cell in cells for row in cell.finished if row["weights_sha256"]]
    return min(rows, key=lambda row: row["dev_loss"], default=None)


def draw_axes(study: Study) -> Figure:
    """Dev loss by each axis that varies, averaged over all others within a seed, with intervals over seeds."""
    n_columns = min(len(study.axes), PANELS_A_ROW)
    n_rows = math.ceil(len(study.axes) / n_columns)
    size = (max(6.0, 2.6 * n_columns + 1), 3 * n_rows + 0.4)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharey=True, squeeze=False)
    lines = {axis: main_effects(study, axis) for axis in study.axes}
    beyond = far_off_side_by_side([[effect.mean for effect in line.values()] for line in lines.values()])
    for ax, (axis, line) in zip(axes.flat, lines.items(), strict=False):
        colours = [scheme_colour(str(name)) for name in line] if axis == "init" else [COLOURS[0]] * len(line)
        _draw_line(ax, line, beyond, colours)
        _name_places(ax, axis, line)
    for ax in list(axes.flat)[len(study.axes) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("dev loss (nats per token)")
    set_title(figure, f"{study.name}: dev loss by axis", "mean over all other axes, 95 % interval over seeds")
    return figure


def draw_pairs(study: Study) -> Figure:
    """Dev loss by the pairs of axes that interact most: one line a value of the axis that has fewer."""
    shares = strongest_pairs(study)
    figure, axes = plt.subplots(1, len(shares), figsize=(max(6.0, 4 * len(shares)), 4.4), sharey=True, squeeze=False)
    pairs = [pair_lines(study, share.axes) for share in shares]
    means = [effect.mean for _, _, lines in pairs for line in lines.values() for effect in line.values()]
    for ax, share, (along, between, lines) in zip(axes.flat, shares, pairs, strict=True):
        title = f"{between.replace('_', ' ')} (the interaction: {max(100 * share.value, 0.0):.1f} % of the variance)"
        _draw_pair(ax, title, lines, far_off(means))
        _name_places(ax, along, next(iter(lines.values())))
    axes[0, 0].set_ylabel("dev loss (nats per token)")
    subtitle = "mean over all other axes, 95 % interval over seeds; lines that are not parallel interact"
    n_pairs = math.comb(len(study.axes), 2)
    which = f", the {len(shares)} of {n_pairs} pairs that interact most" if len(shares) < n_pairs else ""
    set_title(figure, f"{study.name}: dev loss by two axes at a time{which}", subtitle)
    return figure


def strongest_pairs(study: Study) -> list[Share]:
    """The pairs of axes that explain most of the variance beyond what each explains alone; some pair in any case."""
    decomposition = importance(study)
    if isinstance(decomposition, Importance):
        return [share for share in decomposition.shares if len(share.axes) == 2][:MAX_PAIRS]
    return [Share(study.axes[:2], 0.0, 0.0, 0.0)]  # All runs have one loss.


def pair_lines(study: Study, pair: Sequence[str]) -> tuple[str, str, dict[Any, Line]]:
    """Which axis goes along, which one tells the lines apart (it has fewer values), and a line for each value of it."""
    between, along = sorted(pair, key=lambda axis: len(axis_values(study, axis)))
    means = effects(study, (between, along))
    values = axis_values(study, along)
    return along, between, {name: {v: means[name, v] for v in values} for name in axis_values(study, between)}


def _draw_pair(ax: Axes, title: str, lines: dict[Any, Line], beyond: float) -> None:
    for i, (name, line) in enumerate(lines.items()):
        colour = scheme_colour(name) if name in SCHEMES else LINE_COLOURS[i % len(LINE_COLOURS)]
        aside = ASIDE * (i - (len(lines) - 1) / 2)
        marker = MARKERS[i % len(MARKERS)]
        _draw_line(ax, line, beyond, [colour] * len(line), aside, marker, top=0.98 - 0.16 * i)
        width = 1 if is_ordered(line) else 0
        ax.plot([], [], color=colour, marker=marker, markersize=4, linewidth=width, label=value_name(name))
    ax.legend(title=title, loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=min(len(lines), 4), borderaxespad=0)


def _draw_line(
    ax: Axes,
    line: Line,
    beyond: float,
    colours: Sequence[str],
    aside: float = 0.0,
    marker: str = "o",
    top: float = 0.98,
) -> None:
    """Means with intervals; those that are far off, as numbers at the edge, `top` of the way up."""
    places = [i + aside for i in range(len(line))]
    near = [effect.mean if effect.mean <= beyond else math.nan for effect in line.values()]
    if is_ordered(line):  # A line between two schemes would tell of values between them.
        ax.plot(places, near, color=colours[0], linewidth=1)
    for place, effect, colour in zip(places, line.values(), colours, strict=True):
        if effect.mean > beyond:
            text, high = f"{effect.mean:.2f} →", ax.get_xaxis_transform()
            ax.text(round(place), top, text, transform=high, ha="center", va="top", rotation=90, fontsize=7)
            continue
        style: dict[str, Any] = {"fmt": marker, "color": colour, "capsize": 3, "markersize": 4, "linewidth": 1}
        ax.errorbar(place, effect.mean, yerr=effect.half, **style)


def _name_places(ax: Axes, axis: str, line: Line) -> None:
    names = [value_name(value) for value in line]
    long = max(map(len, names)) > 6 or sum(map(len, names)) > LETTERS_A_PANEL
    ax.set_xticks(range(len(names)), names, rotation=35 if long else 0, ha="right" if long else "center")
    ax.margins(x=0.15)
    ax.set_xlabel(axis.replace("_", " "))
