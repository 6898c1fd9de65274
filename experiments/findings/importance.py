"""How much of the variance of the dev loss each axis, and each pair of axes, explains: functional ANOVA, exact.

On a grid where every combination of the axes' values has the same seeds, the variance over all runs falls apart
without remainder (Hoeffding 1948; Hutter, Hoos and Leyton-Brown 2014):

    Var(y) = sum over axes a of V_a + sum over pairs of V_ab + higher orders + seeds within a cell
    V_a = Var(E[y | a]),    V_ab = Var(E[y | a, b]) - V_a - V_b

Shares are of Var(y). Intervals are percentiles over resampled seeds, a whole seed's grid at a time, because cells of
one seed share their luck.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.findings.analysis import CONFIDENCE, Study
from experiments.findings.effects import axis_values, imbalance

N_RESAMPLES = 2000
HIGHER, SEEDS = "three or more axes together", "seeds within a configuration"
FEWEST_SEEDS = 5  # Of fewer, resampling knows too little.


@dataclass(frozen=True)
class Share:
    """The part of the variance of dev loss that `axes` explain beyond their subsets, with a 95 % interval."""

    axes: tuple[str, ...]
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """A balanced study's shares, largest first, and what is left: together they are 1.

    `std` is the standard deviation of the dev loss over all runs, in nats per token.
    """

    shares: tuple[Share, ...]
    higher: Share
    seeds: Share
    std: float
    n_seeds: int


def importance(study: Study) -> Importance | str:
    """The decomposition, or in words why there is none."""
    reason = imbalance(study)
    if reason:
        return f"No importance of axes: {reason}, so that effects of one axis cannot be told from those of another."
    grid = loss_grid(study)
    if np.ptp(grid) == 0:
        return "No importance of axes: all runs have the same dev loss."
    n_seeds = grid.shape[-1]
    weights = np.random.default_rng(0).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_RESAMPLES) / n_seeds
    exact = decompose(grid, study.axes, np.full((1, n_seeds), 1 / n_seeds))
    resampled = decompose(grid, study.axes, weights)
    found = [_share(key, exact[key], resampled[key]) for key in exact]
    *shares, higher, seeds = found
    shares.sort(key=lambda share: -share.value)
    return Importance(tuple(shares), higher, seeds, float(grid.std()), n_seeds)


def importance_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a share of the variance of dev loss; none of studies that are not balanced."""
    for study in studies:
        found = importance(study)
        if isinstance(found, Importance):
            for share in (*found.shares, found.higher, found.seeds):
                told = {"share": share.value, "share_low": share.low, "share_high": share.high}
                yield {"study": study.name, "axes": " x ".join(share.axes), **told, "n_seeds": found.n_seeds}


def loss_grid(study: Study) -> Float[np.ndarray, "*axes seed"]:
    """Dev losses of a balanced study, one dimension an axis and the last one for the seeds."""
    places = [{value: i for i, value in enumerate(axis_values(study, axis))} for axis in study.axes]
    grid = np.empty((*map(len, places), len(study.cells[0].rows)))
    for cell in study.cells:
        index = tuple(place[cell.settings[axis]] for place, axis in zip(places, study.axes, strict=True))
        grid[index] = [row["dev_loss"] for row in cell.rows]
    return grid


def decompose(
    grid: Float[np.ndarray, "*axes seed"], axes: Sequence[str], weights: Float[np.ndarray, "resample seed"]
) -> dict[tuple[str, ...], Float[np.ndarray, " resample"]]:
    """Share of each axis and pair, then of higher orders and of the seeds, for each weighting of the seeds."""
    by_seed = np.moveaxis(grid, -1, 0)
    found: dict[tuple[int, ...], Float[np.ndarray, " resample"]] = {}
    for subset in _subsets(grid.ndim - 1):
        others = tuple(1 + i for i in range(grid.ndim - 1) if i not in subset)
        variance = _variance_of_means(by_seed.mean(axis=others), weights)
        found[subset] = variance - sum(v for part, v in found.items() if set(part) < set(subset))
    between = _variance_of_means(by_seed, weights)
    flat = by_seed.reshape(len(by_seed), -1)
    within = (weights @ flat**2 - (weights @ flat) ** 2).mean(axis=1)
    total = between + within
    total = np.where(total > 0, total, 1.0)
    shares = {tuple(axes[i] for i in subset): variance / total for subset, variance in found.items()}
    return shares | {(HIGHER,): (between - sum(found.values())) / total, (SEEDS,): within / total}


def _subsets(n_axes: int) -> Iterator[tuple[int, ...]]:
    for order in (1, 2):
        yield from itertools.combinations(range(n_axes), order)


def _variance_of_means(
    by_seed: Float[np.ndarray, "seed *axes"], weights: Float[np.ndarray, "resample seed"]
) -> Float[np.ndarray, " resample"]:
    means: Float[np.ndarray, "resample cells"] = weights @ by_seed.reshape(len(by_seed), -1)
    return means.var(axis=1)


def _share(key: tuple[str, ...], exact: Float[np.ndarray, " one"], resampled: Float[np.ndarray, " resample"]) -> Share:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail)) if np.ptp(resampled) > 0 else (exact[0], exact[0])
    return Share(key, float(exact[0]), float(low), float(high))
