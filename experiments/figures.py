"""A sweep's figures, from its rows and weights, with matplotlib."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis import Cell, Estimate, Row, Study, describe, estimate
from experiments.store import Store
from experiments.store.atomic import make_folder
from mlp_lm.vocabulary import Vocabulary

# Okabe and Ito's colours, told apart by colour-blind readers; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
LINES = ("-", "--", ":", "-.")
STYLE: Any = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # A token may hold dollar signs.
}
MAX_CURVES = 12
VOWELS = frozenset("aeiou")


def write_figures(store: Store, studies: Sequence[Study], vocabulary: Vocabulary) -> None:
    """Draw what the studies allow into the folder `figures/`."""
    folder = store.root / "figures"
    make_folder(folder)
    with plt.rc_context(STYLE):
        for study in studies:
            if study.axes:
                _save(draw_axes(study), folder / f"{study.name}_axes.png")
            _save(draw_curves(study), folder / f"{study.name}_curves.png")
        row = _best_plane_run(studies)
        if row is not None:
            _save(draw_embedding(store.weights(row)["embedding"], row, vocabulary), folder / "embedding.png")


def draw_axes(study: Study) -> Figure:
    """Dev loss by each axis that varies, averaged over all others within a seed, with intervals over seeds."""
    figure, axes = plt.subplots(
        1, len(study.axes), figsize=(2.6 * len(study.axes) + 1, 3.2), sharey=True, squeeze=False
    )
    for ax, axis in zip(axes[0], study.axes, strict=True):
        effects = main_effects(study, axis)
        _draw_estimates(ax, [_value_name(value) for value in effects], list(effects.values()))
        ax.set_xlabel(axis.replace("_", " "))
    axes[0, 0].set_ylabel("dev loss (nats per token)")
    figure.suptitle(f"{study.name}: dev loss by axis, mean and 95 % interval over seeds", fontsize=10)
    return figure


def main_effects(study: Study, axis: str) -> dict[Any, Estimate]:
    """For each value of an axis: the dev loss averaged over all cells with it, one number a seed."""
    effects = {}
    for value in sorted({cell.settings[axis] for cell in study.cells}):
        rows = [row for cell in study.cells if cell.settings[axis] == value for row in cell.finished]
        seeds = sorted({row["seed"] for row in rows})
        effects[value] = estimate(np.mean([row["dev_loss"] for row in rows if row["seed"] == seed]) for seed in seeds)
    return effects


def draw_curves(study: Study) -> Figure:
    """Dev loss over training: mean over seeds and its interval, the best cells of the study."""
    figure, ax = plt.subplots(figsize=(7, 4.2))
    for i, cell in enumerate([cell for cell in study.cells if cell.finished][:MAX_CURVES]):
        curve = [estimate(losses) for losses in zip(*(row["history_dev_loss"] for row in cell.finished), strict=False)]
        steps = cell.finished[0]["history_step"][: len(curve)]
        colour, line = COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)]
        ax.plot(steps, [point.mean for point in curve], line, color=colour, label=study.label(cell), linewidth=1.3)
        if len(cell.finished) > 1:
            ax.fill_between(
                steps, [p.low for p in curve], [p.high for p in curve], color=colour, alpha=0.15, linewidth=0
            )
    ax.set_ylim(*_zoom(study))
    ax.set_xlabel("training step")
    ax.set_ylabel("dev loss (nats per token)")
    left_out = max(0, len(study.cells) - MAX_CURVES)
    which = f"the {MAX_CURVES} best of {len(study.cells)} cells" if left_out else "all cells"
    figure.suptitle(f"{study.name}: learning curves, {which}, mean and 95 % interval over seeds", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=7)
    return figure


def draw_embedding(table: np.ndarray, row: Row, vocabulary: Vocabulary) -> Figure:
    """The tokens of a two-dimensional embedding at their places; vowels are marked."""
    figure, ax = plt.subplots(figsize=(5.5, 5.5))
    for token, (x, y) in zip(vocabulary.tokens, table[:, :2], strict=True):
        vowel = token in VOWELS
        ax.scatter(x, y, s=170, color=COLOURS[4] if vowel else COLOURS[5], alpha=0.55 if vowel else 0.35, linewidth=0)
        ax.text(x, y, token, ha="center", va="center", fontweight="bold" if vowel else "normal")
    ax.set_xlabel("embedding dimension 1")
    ax.set_ylabel("embedding dimension 2")
    ax.set_title(
        f"Embedding of {describe(row, ('init', 'hidden_size', 'block_size', 'seed'))}; vowels in orange", fontsize=9
    )
    return figure


def _draw_estimates(ax: Axes, names: Sequence[str], estimates: Sequence[Estimate]) -> None:
    places = range(len(names))
    means = [e.mean for e in estimates]
    halves = [(e.high - e.low) / 2 if math.isfinite(e.low) else 0.0 for e in estimates]
    ax.errorbar(places, means, yerr=halves, fmt="o-", color=COLOURS[0], capsize=3, markersize=4, linewidth=1)
    long = max(map(len, names)) > 6
    ax.set_xticks(places, names, rotation=45 if long else 0, ha="right" if long else "center")
    ax.margins(x=0.15)


def _zoom(study: Study) -> tuple[float, float]:
    """Limits that show the end of training, not the height of the first losses."""
    ends = [row["dev_loss"] for cell in study.cells for row in cell.finished]
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), float(np.quantile(ends, 0.95))
    return low - 0.1 * (high - low) - 0.01, high + 1.5 * (high - low) + 0.1


def _best_plane_run(studies: Sequence[Study]) -> Row | None:
    cells: Iterator[Cell] = (cell for study in studies for cell in study.cells if cell.settings["embedding_dim"] == 2)
    rows = [row for cell in cells for row in cell.finished if row["weights_sha256"]]
    return min(rows, key=lambda row: row["dev_loss"], default=None)


def _value_name(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path)
    plt.close(figure)
