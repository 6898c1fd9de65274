"""Rows as a sweep would leave them, from a formula instead of training."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.results import BASELINES_FILE
from experiments.runner.rows import DIVERGED, DONE, SCHEMA
from experiments.store import Store
from experiments.store.atomic import replace_file
from experiments.store.small_files import write_small
from experiments.sweeps.request import FILE_NAME, Request, encode_request
from mlp_lm.config import RunConfig
from mlp_lm.ngram.baselines import Baseline, Baselines

N_EVALUATIONS = 4
STORE_COLUMNS = ("cohort_id", "weights_index", "weights_sha256")


def write_request(folder: Path, request: Request) -> None:
    """What a sweep's folder was last asked for."""
    replace_file(folder / FILE_NAME, encode_request(request))


def synthetic_row(run: RunConfig, dev_loss: float, diverged: bool = False) -> dict[str, Any]:
    """A row of this run with this dev loss; its train loss is 0.02 lower, its curve falls towards both."""
    steps = [run.n_steps * i // N_EVALUATIONS for i in range(N_EVALUATIONS + 1)]
    dev = [dev_loss + 1.2 * (1 - step / run.n_steps) ** 3 for step in steps]
    return {
        "run_id": run.run_id, **asdict(run), "n_params": 27 * run.embedding_dim + run.hidden_size,
        "initial_loss": dev[0] - 0.02, "train_loss": dev_loss - 0.02, "dev_loss": dev_loss,
        "dev_unseen_loss": dev_loss + 0.01, "status": DIVERGED if diverged else DONE,
        "diverged_step": 7 if diverged else None, "wall_seconds": 1.5, "history_step": steps,
        "history_train_loss": [loss - 0.02 for loss in dev], "history_dev_loss": dev,
        "history_minibatch_loss": [None, *dev[1:]], "data": "ssa2018", "commit": "c" * 40, "dirty": False,
        "versions": "python=3.11", "device": "a test's", "cohort_id": "0" * 16, "weights_index": 0,
        "weights_sha256": None,
    }  # fmt: skip


def synthetic_rows(
    axes: Mapping[str, Sequence[Any]], n_seeds: int, loss: Callable[..., float], noise: float = 0.0
) -> list[dict[str, Any]]:
    """The full product of some axes and seeds; `loss(**settings)` plus noise of this standard deviation."""
    rng = np.random.default_rng(0)
    rows = []
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        for seed in range(n_seeds):
            run = RunConfig(**settings, seed=seed, n_steps=100, n_evaluations=N_EVALUATIONS)
            rows.append(synthetic_row(run, loss(**settings) + float(noise * rng.standard_normal())))
    return rows


def synthetic_folder(
    folder: Path, studies: Mapping[str, list[dict[str, Any]]], tokens: Sequence[str] = (), title: str = "A title"
) -> Path:
    """A sweep's folder of these rows, each with an embedding of its own width for weights."""
    tokens = tuple(tokens) or (".", *"abcdefghijklmnopqrstuvwxyz")
    by_width: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in (row for rows in studies.values() for row in rows):
        by_width[row["embedding_dim"]][row["run_id"]] = {k: v for k, v in row.items() if k not in STORE_COLUMNS}
    for width, rows in by_width.items():
        embeddings = np.random.default_rng(width).standard_normal((len(rows), len(tokens), width)).astype(np.float32)
        cohort_id = f"{width:016x}"
        Store(folder).write(cohort_id, list(rows.values()), {"embedding": embeddings}, SCHEMA)
    listed = {name: [row["run_id"] for row in rows] for name, rows in studies.items()}
    write_request(folder, Request("synthetic", title, "ssa2018", "d" * 64, "python -m experiments.sweep", listed))
    counts = [Baseline(k, "absolute discount", 2.4 - 0.05 * k, 0.7, 27**k, 2.2 - 0.1 * k) for k in range(1, 8)]
    kept = Baselines("d" * 64, tokens, tuple(counts))
    write_small(folder, BASELINES_FILE, asdict(kept))
    return folder
