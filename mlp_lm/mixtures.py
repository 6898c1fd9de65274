"""Averages of several models' probabilities, and their mixtures with count models, for names and words alike.

A model is represented by the probabilities that it gives the targets of some windows; how often each window counts is a
weight. For a list of words the windows are the distinct ones, weighted by how often they occur, for a running text all
of them, so losses are exact. Probabilities are in float64: averages of small numbers, logarithms of averages.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from mlp_lm.data.dataset import Dataset, Windows
from mlp_lm.evaluation import each_loss
from mlp_lm.model import Moments, Params

Probabilities = Float[np.ndarray, " n"]


def distinct_windows(
    dataset: Dataset, parts: Sequence[str], block_size: int
) -> tuple[Windows, dict[str, Probabilities]]:
    """The windows of some parts, each once, and by part how often it has each of them.

    Parts are `train`, `dev`, `test`, and of the last two `dev_unseen` and `test_unseen`. Windows of a running text are
    kept as they are.
    """
    names = list(dict.fromkeys(part.removesuffix("_unseen") for part in parts))
    windows = [dataset.windows(name, block_size) for name in names]
    rows = np.concatenate([np.column_stack([one.contexts, one.targets]) for one in windows])
    index = np.arange(len(rows))
    if not dataset.is_running_text:
        rows, index = np.unique(rows, axis=0, return_inverse=True)
    ends = np.cumsum([len(one) for one in windows])
    weights = {}
    for part in parts:
        end = ends[names.index(part.removesuffix("_unseen"))]
        mine = index[end - len(windows[names.index(part.removesuffix("_unseen"))]) : end]
        if part.endswith("_unseen"):
            mine = mine[dataset.unseen(part.removesuffix("_unseen"), block_size)]
        weights[part] = np.bincount(mine, minlength=len(rows)).astype(np.float64)
    return Windows(np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, -1])), weights


def target_probabilities(params: Params, moments: tuple[Moments, ...], windows: Windows) -> Probabilities:
    """What a network gives each target; a longer context than the network's counts with its last tokens.

    With batch norm, `moments` are those of the training split (mlp_lm.evaluation.population_moments).
    """
    return np.exp(-each_loss(params, windows, moments).astype(np.float64))


def average(members: Sequence[Probabilities]) -> Probabilities:
    """The mean of the members' probabilities."""
    return np.mean(np.stack(members), axis=0)


def mix(neural: Probabilities, counted: Probabilities, weight: float) -> Probabilities:
    """`(1 - weight) * neural + weight * counted` (Bengio et al. 2003, section 4.2, with a weight of 1/2)."""
    return (1 - weight) * neural + weight * counted


def mixture_weight(neural: Probabilities, counted: Probabilities, weights: Probabilities) -> float:
    """The count model's weight in the mixture of the lowest loss; the loss is convex in it."""
    best = minimize_scalar(
        lambda weight: mean_loss(mix(neural, counted, weight), weights), bounds=(0, 1), method="bounded"
    )
    return float(best.x)


def mean_loss(probabilities: Probabilities, weights: Probabilities) -> float:
    """Mean cross-entropy in nats per token; `weights[i]` is how often window i occurs."""
    occurs = weights > 0
    with np.errstate(divide="ignore"):  # A count model may rule a token out: an infinite loss.
        return float(-(weights[occurs] @ np.log(probabilities[occurs])) / weights.sum())
