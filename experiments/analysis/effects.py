"""What each axis of a study does: main effects, interactions, learning curves, and its share of the variance.

On a grid where every combination of the axes' values has the same seeds, the variance of the dev loss over all runs
falls apart without remainder (Hoeffding 1948; Hutter, Hoos and Leyton-Brown 2014):

    Var(y) = sum over axes a of V_a + sum over pairs of V_ab + higher orders + seeds within a cell
    V_a = Var(E[y | a]),    V_ab = Var(E[y | a, b]) - V_a - V_b

Shares are of Var(y). Intervals are percentiles over resampled seeds, a whole seed's grid at a time, because runs of one
seed have their draws in common.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.analysis.studies import CONFIDENCE, Cell, Estimate, Study, describe, estimate, paired_difference
from experiments.runner.rows import Row


def axis_values(study: Study, axis: str) -> list[Any]:
    """The values of an axis, in order."""
    return sorted({cell.settings[axis] for cell in study.cells})


def imbalance(study: Study) -> str | None:
    """Why effects of single axes mean little here; None where every combination of values has the same seeds."""
    n_combinations = math.prod(len(axis_values(study, axis)) for axis in study.factors)
    if not study.factors:
        return "nothing varies but the seed"
    if len(study.cells) < n_combinations:
        return f"only {len(study.cells)} of {n_combinations} combinations of {', '.join(study.factors)} are there"
    n_diverged = sum(cell.n_diverged for cell in study.cells)
    if n_diverged:
        return f"{n_diverged} of {sum(len(cell.rows) for cell in study.cells)} runs diverged"
    if len({tuple(row["seed"] for row in cell.rows) for cell in study.cells}) > 1:
        return "the configurations do not all have the same seeds"
    return None


def main_effects(study: Study, axis: str) -> dict[Any, Estimate]:
    """For each value of an axis: its mean dev loss minus that of the axis's best value, paired by seed."""
    return {value: effect for (value,), effect in effects(study, (axis,)).items()}


def interactions(study: Study) -> dict[tuple[str, str], dict[tuple[Any, Any], Estimate]]:
    """For each pair of axes, and each pair of their values: minus the best pair of values, paired by seed."""
    return {pair: effects(study, pair) for pair in itertools.combinations(study.factors, 2)}


def effects(study: Study, axes: Sequence[str]) -> dict[tuple, Estimate]:
    """For each combination of the values of `axes`: mean dev loss minus the best combination's, paired by seed.

    Means are over all cells with these values, so that what other axes do cancels in a balanced study, and so does what
    the runs of one seed have in common. The best combination has 0.
    """
    means = seed_means(study, axes)
    best = min(means.values(), key=lambda by_seed: float(np.mean(list(by_seed.values()))))
    return {key: estimate(loss - best[seed] for seed, loss in by_seed.items()) for key, by_seed in means.items()}


def seed_means(study: Study, axes: Sequence[str]) -> dict[tuple, dict[int, float]]:
    """For each combination of the values of `axes`, in order: by seed, the mean dev loss of its finished runs."""
    groups: dict[tuple, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in study.cells:
        group = groups[tuple(cell.settings[axis] for axis in axes)]
        for row in cell.finished:
            group[row["seed"]].append(row["dev_loss"])
    return {
        key: {seed: float(np.mean(losses)) for seed, losses in sorted(groups[key].items())} for key in sorted(groups)
    }


def effect_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a value of an axis: the mean dev loss over all other axes, and how far it is from the previous value's.

    None of studies that are not balanced. Differences are paired by seed, so that their intervals are narrower than
    those of the means; that of a switch is on minus off; schemes and other names have no order, and no difference.
    `per_doubling` is the difference for each doubling of a positive value, which does not depend on what other values
    the axis has.
    """
    for study in _balanced(studies):
        for axis in study.factors:
            for (value,), columns in _steps(study, (axis,)):
                yield {"study": study.name, "axis": axis, "value": value, **columns}


def interaction_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """The same with each value of each other axis held: one row a pair of values, either way round."""
    for study in _balanced(studies):
        for held, axis in itertools.permutations(study.factors, 2):
            for (held_value, value), columns in _steps(study, (held, axis)):
                where = {"held_axis": held, "held_value": held_value, "axis": axis, "value": value}
                yield {"study": study.name, **where, **columns}


def difference_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row for each two configurations of an unbalanced study that differ in one axis alone, in neighbouring values.

    Losses of the one minus those of the other, paired by seed: what `effect_rows` cannot tell of such a study.
    """
    for study in studies:
        if not study.axes or imbalance(study) is None:
            continue
        for axis in study.axes:
            lines: dict[tuple, list[Cell]] = defaultdict(list)
            for cell in study.cells:
                lines[tuple(cell.settings[other] for other in study.axes if other != axis)].append(cell)
            for cells in lines.values():
                cells.sort(key=lambda cell: cell.settings[axis])
                for lower, upper in itertools.pairwise(cells):
                    columns: dict[str, Any] = {"study": study.name, "axis": axis}
                    columns |= {"value": upper.settings[axis], "minus_value": lower.settings[axis]}
                    for loss in ("dev_loss", "dev_unseen_loss", "train_loss"):
                        difference = paired_difference(upper, lower, loss)
                        columns |= difference.columns(f"{loss}_difference")
                    others = [other for other in study.axes if other != axis]
                    yield columns | {"where": describe(upper.settings, others), "n_seeds": difference.n}


def _balanced(studies: Iterable[Study]) -> Iterator[Study]:
    return (study for study in studies if imbalance(study) is None)


def _steps(study: Study, axes: Sequence[str]) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """Each combination of values: its mean dev loss, and minus that of the previous value of the last axis."""
    means = seed_means(study, axes)
    for before, key in zip([None, *means], means, strict=False):
        effect = estimate(means[key].values())
        columns = effect.columns("dev_loss") | {"n_seeds": effect.n}
        if before is not None and before[:-1] == key[:-1] and isinstance(key[-1], int | float):
            differences = [loss - means[before][seed] for seed, loss in means[key].items()]
            columns |= estimate(differences).columns("to_previous")
            if before[-1] > 0:
                doublings = math.log2(key[-1] / before[-1])
                columns |= estimate(difference / doublings for difference in differences).columns("per_doubling")
        yield key, columns


def is_ordered(values: Iterable[Any]) -> bool:
    """Whether values are numbers, so that one may speak of what lies between two of them."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def curve(cell: Cell, column: str) -> list[Estimate]:
    """Mean and interval of a history column over a cell's finished runs, evaluation by evaluation."""
    return [estimate(_number(value) for value in values) for values in zip(*_histories(cell, column), strict=False)]


def rise_from_lowest(cell: Cell) -> Estimate:
    """A cell's final dev loss minus the lowest one of its mean curve: above zero where more steps over-fitted."""
    means = [point.mean for point in curve(cell, "history_dev_loss")]
    if not means:
        return estimate(())
    lowest = min(range(len(means)), key=lambda i: math.inf if math.isnan(means[i]) else means[i])
    histories = _histories(cell, "history_dev_loss")
    return estimate(_number(losses[-1]) - _number(losses[lowest]) for losses in histories)


def _histories(cell: Cell, column: str) -> list[list[float | None]]:
    return [row[column] for row in cell.finished if row.get(column)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def spaced_places(values: Sequence[Any]) -> list[float]:
    """Where the values of an axis stand in a figure, from 0 to their number minus 1.

    Numbers are spaced by value, or by logarithm where the largest is at least ten times the smallest above zero, and a
    zero then stands a mean step below that; names are spaced evenly.
    """
    if not is_ordered(values) or len(values) < 3:
        return [float(i) for i in range(len(values))]
    scaled = [float(value) for value in values]
    smallest, *larger = scaled[1:] if scaled[0] == 0 else scaled
    if smallest > 0 and scaled[-1] >= 10 * smallest:
        step = math.log(scaled[-1] / smallest) / len(larger)
        scaled = [math.log(value) if value else math.log(smallest) - step for value in scaled]
    return [(len(values) - 1) * (value - scaled[0]) / (scaled[-1] - scaled[0]) for value in scaled]


def value_name(value: Any) -> str:
    """A setting's value as a label."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_run(cell: Cell) -> Row | None:
    """A cell's run of the lowest dev loss."""
    return min(cell.finished, key=lambda row: row["dev_loss"], default=None)


N_RESAMPLES = 2000
MOST_MEANS = 2**24  # Means of cells, one a resample, that are held at once: 128 MiB.
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
    if study.ranges:
        return f"Values of {', '.join(study.ranges)} are drawn from ranges: what matters is estimated further down."
    reason = imbalance(study)
    if reason:
        return f"No importance of axes: {reason}, so effects of one axis cannot be separated from those of another."
    grid = loss_grid(study)
    if np.ptp(grid) == 0:
        return "No importance of axes: all runs have the same dev loss."
    n_seeds = grid.shape[-1]
    weights = np.random.default_rng(0).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_RESAMPLES) / n_seeds
    exact = decompose(grid, study.factors, np.full((1, n_seeds), 1 / n_seeds))
    pieces = np.array_split(weights, math.ceil(N_RESAMPLES * grid[..., 0].size / MOST_MEANS))
    parts = [decompose(grid, study.factors, piece) for piece in pieces]
    resampled = {key: np.concatenate([part[key] for part in parts]) for key in exact}
    every_share = [_share(key, exact[key], resampled[key], n_seeds) for key in exact]
    *shares, higher, seeds = every_share
    shares.sort(key=lambda share: -share.value)
    return Importance(tuple(shares), higher, seeds, float(grid.std()), n_seeds)


def importance_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a share of the variance of dev loss; none of studies that are not balanced.

    Shares depend on the values that the axes have. Rows that name values as `without` are of the study without them:
    the lower half of an axis of three or more numbers, and then of every combination of such axes.
    """
    for study in _balanced(studies):
        for without, part in {"": study, **_upper_halves(study)}.items():
            decomposition = importance(part)
            if isinstance(decomposition, Importance):
                for share in (*decomposition.shares, decomposition.higher, decomposition.seeds):
                    yield {
                        "study": study.name,
                        "without": without,
                        "axes": " x ".join(share.axes),
                        "share": share.value,
                        "share_low": share.low,
                        "share_high": share.high,
                        "n_seeds": decomposition.n_seeds,
                    }


def _upper_halves(study: Study) -> dict[str, Study]:
    """By what is left out: a study without the lower half of some axes' numbers, for every combination of axes."""
    dropped = {}
    for axis in study.factors:
        values = axis_values(study, axis)
        if len(values) > 2 and is_ordered(values):
            dropped[axis] = values[: len(values) // 2]
    names = {axis: f"{axis} {', '.join(map(value_name, values))}" for axis, values in dropped.items()}
    combinations = [axes for n in range(1, len(dropped) + 1) for axes in itertools.combinations(dropped, n)]
    parts = {"; ".join(names[axis] for axis in axes): {axis: dropped[axis] for axis in axes} for axes in combinations}
    return {
        name: replace(
            study,
            cells=tuple(c for c in study.cells if not any(c.settings[a] in values for a, values in out.items())),
        )
        for name, out in parts.items()
    }


def loss_grid(study: Study) -> Float[np.ndarray, "*axes seed"]:
    """Dev losses of a balanced study, one dimension an axis and the last one for the seeds."""
    places = [{value: i for i, value in enumerate(axis_values(study, axis))} for axis in study.factors]
    grid = np.empty((*map(len, places), len(study.cells[0].rows)))
    for cell in study.cells:
        index = tuple(place[cell.settings[axis]] for place, axis in zip(places, study.factors, strict=True))
        grid[index] = [row["dev_loss"] for row in cell.rows]
    return grid


def decompose(
    grid: Float[np.ndarray, "*axes seed"], axes: Sequence[str], weights: Float[np.ndarray, "resample seed"]
) -> dict[tuple[str, ...], Float[np.ndarray, " resample"]]:
    """Share of each axis and pair, then of higher orders and of the seeds, for each weighting of the seeds."""
    by_seed = np.moveaxis(grid, -1, 0)
    variances: dict[tuple[int, ...], Float[np.ndarray, " resample"]] = {}
    for subset in _subsets(grid.ndim - 1):
        others = tuple(1 + i for i in range(grid.ndim - 1) if i not in subset)
        variance = _variance_of_means(by_seed.mean(axis=others), weights)
        variances[subset] = variance - sum(v for part, v in variances.items() if set(part) < set(subset))
    between = _variance_of_means(by_seed, weights)
    flat = by_seed.reshape(len(by_seed), -1)
    within = (weights @ flat**2 - (weights @ flat) ** 2).mean(axis=1)
    total = between + within
    total = np.where(total > 0, total, 1.0)
    shares = {tuple(axes[i] for i in subset): variance / total for subset, variance in variances.items()}
    return shares | {(HIGHER,): (between - sum(variances.values())) / total, (SEEDS,): within / total}


def _subsets(n_axes: int) -> Iterator[tuple[int, ...]]:
    for order in (1, 2):
        yield from itertools.combinations(range(n_axes), order)


def _variance_of_means(
    by_seed: Float[np.ndarray, "seed *axes"], weights: Float[np.ndarray, "resample seed"]
) -> Float[np.ndarray, " resample"]:
    means: Float[np.ndarray, "resample cells"] = weights @ by_seed.reshape(len(by_seed), -1)
    return means.var(axis=1)


def _share(
    key: tuple[str, ...], exact: Float[np.ndarray, " one"], resampled: Float[np.ndarray, " resample"], n_seeds: int
) -> Share:
    """A share with its interval, which one seed alone does not have."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail)) if n_seeds > 1 else (math.nan, math.nan)
    return Share(key, float(exact[0]), float(low), float(high))
