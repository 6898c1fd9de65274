"""The coordinate check: which schemes keep the scale of activations, gradients and updates as the hidden layer grows.

After Yang et al. 2021 (Tensor Programs V, appendix D.1): a scale that drifts with the width, at initialisation or after
a few steps, means that a learning rate found on a narrow model does not carry over to a wide one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.analysis.studies import Estimate, estimate
from experiments.initialisation.measure import trace
from experiments.runner.rows import LAYER_STATISTICS, MATRIX_STATISTICS
from experiments.sweeps.grids import INIT_NAMES, RunSpec

WIDTHS = {1: (32, 64, 128, 256, 512, 1024, 2048), 2: (32, 64, 128, 256, 512)}  # By number of hidden layers.
STEPS = (0, 1, 10, 100)
# The matrices from the input to the last hidden layer, whose fan_in is the width where there are two.
MATRICES = {"embedding": 0, "hidden": -2, "output": -1}


def coordinate_check(
    data: str, n_seeds: int, n_layers: int, widths: Sequence[int], schemes: Sequence[str] = INIT_NAMES
) -> list[dict[str, Any]]:
    """One row a scheme, width and step: the last hidden layer's statistics, means over seeds with intervals.

    Matrices are the embedding, the last hidden layer's weights, and the output weights.
    """
    rows = []
    for init in schemes:
        for width in widths:
            runs = [RunSpec(init=init, hidden_size=width, n_layers=n_layers, seed=seed) for seed in range(n_seeds)]
            for step, told in zip(STEPS, trace(runs, STEPS, data), strict=True):
                place = {"scheme": init, "hidden_layers": n_layers, "hidden_size": width, "step": step}
                rows.append({**place, "n_seeds": n_seeds, **_columns(told)})
    return rows


def slopes(rows: list[dict[str, Any]], name: str, step: int) -> dict[str, float]:
    """Each scheme's exponent k where the statistic goes as width^k, by least squares over the widths; 0 keeps it."""
    found = {}
    for init in dict.fromkeys(row["scheme"] for row in rows):
        points = [(row["hidden_size"], row[name]) for row in rows if row["scheme"] == init and row["step"] == step]
        logs = np.log([(width, value) for width, value in points if np.isfinite(value) and value > 0])
        found[init] = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]) if len(logs) > 1 else float("nan")
    return found


def _columns(told: dict[str, np.ndarray]) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name in LAYER_STATISTICS:
        columns |= _over_seeds(told[name][:, -1]).columns(name)
    for name in MATRIX_STATISTICS:
        for matrix, i in MATRICES.items():
            columns |= _over_seeds(told[name][:, i]).columns(f"{matrix}_{name}")
    return columns


def _over_seeds(values: np.ndarray) -> Estimate:
    return estimate(values[np.isfinite(values)])
