"""A sweep's figures, from its rows and weights, with matplotlib."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.findings.analysis import Cell, Row, Study, describe, paired_difference
from experiments.findings.effect_figures import draw_axes, draw_pairs
from experiments.findings.effects import curve, imbalance
from experiments.findings.limits import far_off
from experiments.findings.palette import COLOURS, LINE_COLOURS, STYLE, scheme_style
from experiments.findings.picture import save_figure, set_title
from experiments.findings.tables import printable
from experiments.store import Store
from experiments.store.atomic import make_folder
from mlp_lm.vocabulary import Vocabulary

LINES = ("-", "--", ":", "-.")
BAND = 0.6  # Opacity of all bands together: many would hide their lines.
MAX_CURVES = 12
MAX_STEM = 40  # Characters of four bytes at most; a file name has 255 bytes.
MAX_FOREST = 40
MAX_TOKENS = 100  # More letters than that cover one another.
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
    yield "curves", draw_curves(study)


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
