"""A sweep's figures, from its rows and weights, with matplotlib."""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.findings.analysis import Cell, Estimate, Row, Study, describe, paired_difference
from experiments.findings.effects import curve, imbalance, main_effects, value_name
from experiments.findings.limits import far_off, far_off_side_by_side
from experiments.findings.palette import COLOURS, SCHEME_COLOURS, STYLE, scheme_style
from experiments.findings.picture import save_figure
from experiments.findings.tables import printable
from experiments.store import Store
from experiments.store.atomic import make_folder
from mlp_lm.vocabulary import Vocabulary

LINES = ("-", "--", ":", "-.")
MAX_CURVES = 12
MAX_STEM = 40  # Characters of four bytes at most; a file name has 255 bytes.
MAX_FOREST = 40
MAX_TOKENS = 100  # More letters than that cover one another.
PANELS_A_ROW = 4
LETTERS_AN_INCH = 12  # Of a title.
LETTERS_A_PANEL = 24  # Of all names below it, side by side.
VOWELS = frozenset("aeiou")


def write_figures(store: Store, studies: Sequence[Study], vocabulary: Vocabulary) -> None:
    """Draw what the studies allow into the folder `figures/`."""
    folder = store.root / "figures"
    make_folder(folder)
    with plt.rc_context(STYLE):
        for study, stem in zip(studies, file_stems([study.name for study in studies]), strict=True):
            for name, figure in draw_study(study):
                save_figure(figure, folder / f"{stem}_{name}.png")
        row = _best_plane_run(studies)
        if row is not None and len(vocabulary) <= MAX_TOKENS:
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
    yield "curves", draw_curves(study)


def draw_axes(study: Study) -> Figure:
    """Dev loss by each axis that varies, averaged over all others within a seed, with intervals over seeds."""
    n_columns = min(len(study.axes), PANELS_A_ROW)
    n_rows = math.ceil(len(study.axes) / n_columns)
    size = (max(6.0, 2.6 * n_columns + 1), 3 * n_rows + 0.4)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharey=True, squeeze=False)
    told = {axis: main_effects(study, axis) for axis in study.axes}
    beyond = far_off_side_by_side([[effect.mean for effect in effects.values()] for effects in told.values()])
    for ax, (axis, effects) in zip(axes.flat, told.items(), strict=False):
        _draw_effect(ax, effects, axis, beyond)
    for ax in list(axes.flat)[len(study.axes) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("dev loss (nats per token)")
    _title(figure, f"{study.name}: dev loss by axis", "mean over all other axes, 95 % interval over seeds")
    return figure


def draw_differences(study: Study) -> Figure:
    """Each cell's dev loss minus the best cell's, paired by seed: a forest plot, best on top."""
    cells = [cell for cell in study.cells if cell.finished][:MAX_FOREST]
    figure, ax = plt.subplots(figsize=(7.5, 1.4 + 0.24 * len(cells)))
    told = [paired_difference(cell, study.best) for cell in cells]
    beyond = far_off([difference.mean for difference in told])
    for place, (cell, difference) in enumerate(zip(cells, told, strict=True)):
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
    ax.set_xlabel("dev loss minus the best configuration's (nats per token)")
    _title(
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
            ax.fill_between(steps[: len(points)], low, high, color=style["color"], alpha=0.15, linewidth=0)
    ax.set_ylim(*zoom(cells))
    ax.set_xlabel("training step")
    ax.set_ylabel("dev loss (nats per token)")
    _title(figure, f"{study.name}: learning curves{_out_of(len(cells), study)}", "mean and 95 % interval over seeds")
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
    _title(figure, "Embedding of the best two-dimensional run (vowels in orange)", which)
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


def _draw_effect(ax: Axes, effects: dict[Any, Estimate], axis: str, beyond: float) -> None:
    names = [value_name(value) for value in effects]
    means, halves = [e.mean for e in effects.values()], [e.half for e in effects.values()]
    ordered = all(isinstance(value, int | float) and not isinstance(value, bool) for value in effects)
    colours = [SCHEME_COLOURS[name] for name in names] if axis == "init" else [COLOURS[0]] * len(names)
    if ordered:  # A line between two schemes would tell of values between them.
        ax.plot(range(len(names)), [m if m <= beyond else math.nan for m in means], color=COLOURS[0], linewidth=1)
    for place, (mean, half, colour) in enumerate(zip(means, halves, colours, strict=True)):
        if mean > beyond:
            text = f"{mean:.2f} →"
            ax.text(
                place, 0.98, text, transform=ax.get_xaxis_transform(), ha="center", va="top", rotation=90, fontsize=7
            )
            continue
        ax.errorbar(place, mean, yerr=half, fmt="o", color=colour, capsize=3, markersize=4, linewidth=1)
    long = max(map(len, names)) > 6 or sum(map(len, names)) > LETTERS_A_PANEL
    ax.set_xticks(range(len(names)), names, rotation=35 if long else 0, ha="right" if long else "center")
    ax.margins(x=0.15)
    ax.set_xlabel(axis.replace("_", " "))


def _cell_style(study: Study, cell: Cell) -> dict[str, Any]:
    if "init" in study.axes:
        return scheme_style(cell.settings["init"], cell.settings["batch_norm"])
    return {"color": COLOURS[0], "marker": "o", "markerfacecolor": COLOURS[0]}


def _curve_style(study: Study, cell: Cell, place: int) -> dict[str, Any]:
    if study.compares_schemes:
        return scheme_style(cell.settings["init"], cell.settings["batch_norm"])
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}


def _out_of(shown: int, study: Study) -> str:
    return f", the {shown} best of {len(study.cells)}" if shown < len(study.cells) else ""


def _title(figure: Figure, title: str, subtitle: str) -> None:
    width = int(LETTERS_AN_INCH * figure.get_size_inches()[0])
    # matplotlib's own wrapping reads dollar signs as mathematics.
    lines = [line for text in (title, subtitle) for line in textwrap.wrap(printable(text), width)]
    figure.suptitle("\n".join(lines), fontsize=9.5)


def _best_plane_run(studies: Sequence[Study]) -> Row | None:
    cells: Iterator[Cell] = (cell for study in studies for cell in study.cells if cell.settings["embedding_dim"] == 2)
    rows = [row for cell in cells for row in cell.finished if row["weights_sha256"]]
    return min(rows, key=lambda row: row["dev_loss"], default=None)
