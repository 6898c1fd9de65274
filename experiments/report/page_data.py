"""What the page plots: numbers, curves, diagnostics, embeddings and samples of runs, and cells of studies."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.analysis.effects import (
    best_run,
    curve,
    imbalance,
    interactions,
    is_ordered,
    main_effects,
    spaced_places,
    value_name,
)
from experiments.analysis.studies import Cell, Estimate, Study, paired_difference
from experiments.analysis.style import LINE_COLOURS, scheme_colour
from experiments.analysis.trained_models import Samples
from experiments.runner.rows import DIVERGED, Row
from experiments.store import Store
from mlp_lm.history import DIAGNOSTICS

# The page stays below 1 MB with 500 runs and below 3 with any: past these, in their cells' order, runs lack theirs.
MAX_RUNS = 8_000
MAX_CURVE_NUMBERS = 150_000
MAX_CURVE_POINTS = 60
MAX_DIAGNOSTIC_RUNS = 60
MAX_EMBEDDING_NUMBERS = 60_000
MAX_TOKENS = 400  # In one plane.
MAX_CURVES = len(LINE_COLOURS)
MAX_PAIR_CELLS = 400
BEST, CLOSE, UNDER, OVER, UNKNOWN = "best", "close", "under-fits", "over-fits", "diverged"

EXPLANATION = (
    "Compared with the best configuration, by intervals of differences paired by seed: one that is worse on dev "
    "under-fits where its train loss is higher too, and over-fits where its train loss is lower. Where the dev "
    "interval holds zero (or there is one seed), it is close."
)


def ordered_runs(studies: Sequence[Study]) -> list[Row]:
    """Every run once: the best of each cell first, cells by rank and studies in turn, then all others."""
    cells = [cell for rank in range(max((len(s.cells) for s in studies), default=0)) for cell in _at(studies, rank)]
    firsts = [row for cell in cells if (row := best_run(cell)) is not None]
    everything = firsts + [row for cell in cells for row in cell.rows]
    return list({row["run_id"]: row for row in everything}.values())[:MAX_RUNS]


def run_columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Numbers of each run."""
    losses = ("train_loss", "dev_loss", "dev_unseen_loss", "initial_loss")
    columns = {name: [rounded(row[name], 5) for row in rows] for name in losses}
    return columns | {
        "id": [row["run_id"] for row in rows],
        "seed": [row["seed"] for row in rows],
        "n_params": [row["n_params"] for row in rows],
        "n_steps": [row["n_steps"] for row in rows],
        "seconds": [rounded(row["wall_seconds"], 2) for row in rows],
        "diverged": [row["diverged_step"] if row["status"] == DIVERGED else None for row in rows],
    }


def run_curves(rows: Sequence[Row]) -> list[list[list[float | None]]]:
    """`[steps, train, dev, minibatch]` of each of the first runs."""
    curves, budget = [], MAX_CURVE_NUMBERS
    for row in rows:
        kept = thinned(len(row["history_step"]))
        budget -= 4 * len(kept)
        if budget < 0:
            break
        parts = (row[f"history_{part}_loss"] for part in ("train", "dev", "minibatch"))
        curves.append(
            [[row["history_step"][i] for i in kept], *([rounded(part[i], 4) for i in kept] for part in parts)]
        )
    return curves


def run_diagnostics(rows: Sequence[Row]) -> dict[int, dict[str, Any]]:
    """By place: steps, and for each statistic its lists of one number a layer or matrix."""
    by_place: dict[int, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        histories: dict[str, Any] = {name: row.get(f"history_{name}") for name in DIAGNOSTICS}
        if len(by_place) < MAX_DIAGNOSTIC_RUNS and all(histories.values()):
            kept = thinned(len(row["history_step"]))
            statistics = {
                name: [[rounded(v, 4) for v in values[i]] for i in kept] for name, values in histories.items()
            }
            by_place[place] = {"steps": [row["history_step"][i] for i in kept], "statistics": statistics}
    return by_place


def run_embeddings(store: Store, rows: Sequence[Row], n_tokens: int) -> dict[int, dict[str, Any]]:
    """By place: a plane of the run's embedding, at its last step, or at every step where the row has a history."""
    by_place: dict[int, dict[str, Any]] = {}
    budget = MAX_EMBEDDING_NUMBERS if n_tokens <= MAX_TOKENS else 0
    for place, row in enumerate(rows):
        if row["weights_sha256"] is None or row["status"] == DIVERGED:
            continue
        plane = _plane(store, row, n_tokens) if budget > 0 else None
        if plane is not None:
            budget -= plane.places.size
            by_place[place] = _plane_data(plane)
    return by_place


def _plane(store: Store, row: Row, n_tokens: int) -> "Plane | None":
    history = row.get("history_embedding")
    if history:
        kept = thinned(len(history))
        tables = np.array([history[i] for i in kept], float).reshape(len(kept), n_tokens, -1)
        return plane_of(tables, [row["history_step"][i] for i in kept])
    try:
        table = store.weights(row)["embedding"][:n_tokens, : row["embedding_dim"]]
    except (OSError, ValueError):  # Weights left out of a committed folder: the rest of the page stands.
        return None
    return plane_of(table[None], [row["n_steps"]])


def _plane_data(plane: "Plane") -> dict[str, Any]:
    return {
        "steps": plane.steps,
        "x": [[rounded(v, 3) for v in step[:, 0]] for step in plane.places],
        "y": [[rounded(v, 3) for v in step[:, 1]] for step in plane.places],
        "explained": rounded(plane.explained, 3),
        "projected": plane.is_projected,
    }


def run_samples(rows: Sequence[Row], samples: dict[str, Samples]) -> dict[int, dict[str, Any]]:
    """By place: sampled words."""
    drawn = ((place, samples.get(row["run_id"])) for place, row in enumerate(rows))
    return {
        place: {"words": one.words, "new": one.new, "duplicates": one.n_duplicates, "temperature": one.temperature}
        for place, one in drawn
        if one is not None
    }


def thinned(n: int) -> list[int]:
    """At most MAX_CURVE_POINTS places of n, evenly spaced, the first and the last among them."""
    if n <= MAX_CURVE_POINTS:
        return list(range(n))
    return sorted({round(i * (n - 1) / (MAX_CURVE_POINTS - 1)) for i in range(MAX_CURVE_POINTS)})


def rounded(value: float | None, digits: int) -> float | None:
    """A number for the page; None where there is none, or it is not finite."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def _at(studies: Iterable[Study], rank: int) -> list:
    return [study.cells[rank] for study in studies if rank < len(study.cells)]


@dataclass(frozen=True)
class Plane:
    """Token places, `[token, 2]` at each step, in one basis; `explained` is its share of the last step's variance."""

    steps: list[int]
    places: Float[np.ndarray, "step token 2"]
    explained: float
    is_projected: bool


def plane_of(tables: Float[np.ndarray, "step token dim"], steps: list[int]) -> Plane:
    """Two dimensions as they are, one as a line, more by the principal components of the last step's table."""
    last = tables[-1].astype(np.float64)
    dim = last.shape[1]
    if dim <= 2:
        return Plane(steps, np.pad(tables, ((0, 0), (0, 0), (0, 2 - dim))), 1.0, False)
    centre = last.mean(axis=0)
    _, spread, directions = np.linalg.svd(last - centre, full_matrices=False)
    total = float((spread**2).sum())
    explained = float((spread[:2] ** 2).sum()) / total if total > 0 else 1.0
    return Plane(steps, (tables - centre) @ directions[:2].T, explained, True)


def study_data(study: Study, places: Mapping[str, int]) -> dict[str, Any]:
    """A study for the page; `places` are the runs' places in its columns."""
    cells = [_cell_data(cell, study, places) for cell in study.cells]
    balanced = imbalance(study) is None
    return {
        "name": study.name,
        "fixed": study.fixed,
        "axes": list(study.axes),
        "cells": [cell for cell in cells if cell["runs"]],
        "main": _main_data(study) if balanced else [],
        "pairs": _pair_data(study) if balanced else [],
        "curves": [_curve_data(study, cell, i) for i, cell in enumerate(shown_cells(study))],
    }


def shown_cells(study: Study) -> list[Cell]:
    """The best cells, as many as there are distinct curves."""
    return [cell for cell in study.cells if cell.finished][:MAX_CURVES]


def _cell_data(cell: Cell, study: Study, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "values": [_shortened(cell.settings[axis]) for axis in study.axes],
        "runs": [places[row["run_id"]] for row in cell.rows if row["run_id"] in places],
        "n": len(cell.finished),
        "n_diverged": cell.n_diverged,
        "n_params": cell.rows[0]["n_params"],
        "dev": numbers(cell.estimate("dev_loss")),
        "to_best": None if cell is study.best and cell.finished else numbers(study.to_best(cell)),
        "unseen": numbers(cell.estimate("dev_unseen_loss")),
        "train": numbers(cell.estimate("train_loss")),
        "fit": fit_of(cell, study),
    }


def fit_of(cell: Cell, study: Study) -> str:
    """A cell's name among BEST, CLOSE, UNDER, OVER and UNKNOWN."""
    if not cell.finished:
        return UNKNOWN
    if cell is study.best:
        return BEST
    if study.is_close(cell):
        return CLOSE
    return OVER if paired_difference(cell, study.best, "train_loss").mean < 0 else UNDER


def _main_data(study: Study) -> list[dict[str, Any]]:
    axes = []
    for axis in study.factors:
        effects = main_effects(study, axis)
        axes.append(
            {
                "axis": axis,
                "names": [value_name(value) for value in effects],
                "places": [rounded(place, 3) for place in spaced_places(list(effects))],
                "points": [numbers(effect) for effect in effects.values()],
                "ordered": is_ordered(effects),
                "colours": [scheme_colour(v) for v in effects] if axis == "init" else None,
            }
        )
    return axes


def _pair_data(study: Study) -> list[dict[str, Any]]:
    pairs = []
    for (a, b), effects in interactions(study).items():
        firsts, seconds = (list(dict.fromkeys(sorted(key[i] for key in effects))) for i in (0, 1))
        if len(firsts) * len(seconds) <= MAX_PAIR_CELLS:
            points = [[numbers(effects[first, second]) for first in firsts] for second in seconds]
            places = [rounded(place, 3) for place in spaced_places(firsts)]
            names = {"first": list(map(value_name, firsts)), "second": list(map(value_name, seconds))}
            pairs.append({"axes": [a, b], **names, "places": places, "points": points})
    return sorted(pairs, key=_strength, reverse=True)


def _strength(pair: dict[str, Any]) -> float:
    """How far the means of a pair are from the sum of its axes' effects (the strongest interaction is shown first)."""
    means = np.array([[point[0] or 0.0 for point in line] for line in pair["points"]])
    additive = means.mean(axis=0) + means.mean(axis=1, keepdims=True) - means.mean()
    return float((means - additive).std())


def _curve_data(study: Study, cell: Cell, place: int) -> dict[str, Any]:
    dev, train = curve(cell, "history_dev_loss"), curve(cell, "history_train_loss")
    kept = thinned(len(dev))
    return {
        "label": study.label(cell),
        "steps": [cell.finished[0]["history_step"][i] for i in kept],
        "dev": [numbers(dev[i]) for i in kept],
        "train": [rounded(train[i].mean, 4) for i in kept],
        **curve_style(study, cell, place),
    }


def curve_style(study: Study, cell: Cell, place: int) -> dict[str, str]:
    """Colour and dash of the curve of a study's cell at a place: a scheme's own where nothing but schemes differ."""
    if study.compares_schemes:
        init, batch_norm = cell.settings["init"], cell.settings["batch_norm"]
        return {"colour": scheme_colour(init), "dash": "dash" if batch_norm else "solid"}
    return {"colour": LINE_COLOURS[place], "dash": "solid"}


def numbers(value: Estimate, digits: int = 7) -> list[float | None]:
    """Mean and interval; None where there is none. The page rounds once more, so digits enough that it shows."""
    return [rounded(part, digits) for part in (value.mean, value.low, value.high)]


def _shortened(value: Any) -> Any:
    return float(f"{value:.6g}") if type(value) is float else value
