"""What the page knows of single runs, in columns: numbers, curves, diagnostics, embeddings, samples."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.findings.analysis import Row, Study
from experiments.findings.effects import best_run
from experiments.findings.samples import Samples
from experiments.record import DIAGNOSTICS, DIVERGED
from experiments.report.planes import Plane, plane_of
from experiments.store import Store

# The page stays below 1 MB with 500 runs and below 3 with any: past these, in their cells' order, runs lack theirs.
MAX_RUNS = 8_000
MAX_CURVE_NUMBERS = 150_000
MAX_CURVE_POINTS = 60
MAX_DIAGNOSTIC_RUNS = 60
MAX_EMBEDDING_NUMBERS = 60_000
MAX_TOKENS = 400  # In one plane.


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
    told: dict[int, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        found: dict[str, Any] = {name: row.get(f"history_{name}") for name in DIAGNOSTICS}
        if len(told) < MAX_DIAGNOSTIC_RUNS and all(found.values()):
            kept = thinned(len(row["history_step"]))
            statistics = {name: [[rounded(v, 4) for v in values[i]] for i in kept] for name, values in found.items()}
            told[place] = {"steps": [row["history_step"][i] for i in kept], "statistics": statistics}
    return told


def run_embeddings(store: Store, rows: Sequence[Row], n_tokens: int) -> dict[int, dict[str, Any]]:
    """By place: a plane of the run's embedding, at its last step, or at every step where the row has a history."""
    told: dict[int, dict[str, Any]] = {}
    budget = MAX_EMBEDDING_NUMBERS if n_tokens <= MAX_TOKENS else 0
    for place, row in enumerate(rows):
        if row["weights_sha256"] is None or row["status"] == DIVERGED:
            continue
        plane = _plane(store, row, n_tokens) if budget > 0 else None
        if plane is not None:
            budget -= plane.places.size
            told[place] = _plane_data(plane)
    return told


def _plane(store: Store, row: Row, n_tokens: int) -> Plane | None:
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


def _plane_data(plane: Plane) -> dict[str, Any]:
    return {
        "steps": plane.steps,
        "x": [[rounded(v, 3) for v in step[:, 0]] for step in plane.places],
        "y": [[rounded(v, 3) for v in step[:, 1]] for step in plane.places],
        "explained": rounded(plane.explained, 3),
        "projected": plane.is_projected,
    }


def run_samples(rows: Sequence[Row], samples: dict[str, Samples]) -> dict[int, dict[str, Any]]:
    """By place: sampled words."""
    found = ((place, samples.get(row["run_id"])) for place, row in enumerate(rows))
    return {
        place: {"words": one.words, "new": one.new, "duplicates": one.n_duplicates, "temperature": one.temperature}
        for place, one in found
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
