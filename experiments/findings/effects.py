"""What each axis of a study does: main effects, interactions, what each step gains, learning curves."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from experiments.findings.analysis import Cell, Estimate, Row, Study, estimate


def axis_values(study: Study, axis: str) -> list[Any]:
    """The values of an axis, in order."""
    return sorted({cell.settings[axis] for cell in study.cells})


def imbalance(study: Study) -> str | None:
    """Why effects of single axes mean little here; None where every combination of values has the same seeds."""
    n_combinations = math.prod(len(axis_values(study, axis)) for axis in study.axes)
    if not study.axes:
        return "nothing varies but the seed"
    if len(study.cells) < n_combinations:
        return f"only {len(study.cells)} of {n_combinations} combinations of {', '.join(study.axes)} are there"
    n_diverged = sum(cell.n_diverged for cell in study.cells)
    if n_diverged:
        return f"{n_diverged} of {sum(len(cell.rows) for cell in study.cells)} runs diverged"
    if len({tuple(row["seed"] for row in cell.rows) for cell in study.cells}) > 1:
        return "the configurations do not all have the same seeds"
    return None


def main_effects(study: Study, axis: str) -> dict[Any, Estimate]:
    """For each value of an axis: the dev loss averaged over all cells with it, one number a seed."""
    return {value: effect for (value,), effect in effects(study, (axis,)).items()}


def interactions(study: Study) -> dict[tuple[str, str], dict[tuple[Any, Any], Estimate]]:
    """For each pair of axes, and each pair of their values: the dev loss averaged over all cells with both."""
    return {pair: effects(study, pair) for pair in itertools.combinations(study.axes, 2)}


def effects(study: Study, axes: Sequence[str]) -> dict[tuple, Estimate]:
    """For each combination of the values of `axes`: the mean dev loss of its cells, one number a seed."""
    return {key: estimate(by_seed.values()) for key, by_seed in seed_means(study, axes).items()}


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
    those of the means; schemes and other names have no order, and no difference.
    """
    for study in _balanced(studies):
        for axis in study.axes:
            for (value,), told in _steps(study, (axis,)):
                yield {"study": study.name, "axis": axis, "value": value, **told}


def interaction_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """The same with each value of each other axis held: one row a pair of values, either way round."""
    for study in _balanced(studies):
        for held, axis in itertools.permutations(study.axes, 2):
            for (held_value, value), told in _steps(study, (held, axis)):
                where = {"held_axis": held, "held_value": held_value, "axis": axis, "value": value}
                yield {"study": study.name, **where, **told}


def _balanced(studies: Iterable[Study]) -> Iterator[Study]:
    return (study for study in studies if imbalance(study) is None)


def _steps(study: Study, axes: Sequence[str]) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """Each combination of values: its mean dev loss, and minus that of the previous value of the last axis."""
    means = seed_means(study, axes)
    for before, key in zip([None, *means], means, strict=False):
        effect = estimate(means[key].values())
        told = effect.columns("dev_loss") | {"n_seeds": effect.n}
        if before is not None and before[:-1] == key[:-1] and is_ordered(key[-1:]):
            difference = estimate(loss - means[before][seed] for seed, loss in means[key].items())
            told |= difference.columns("to_previous")
        yield key, told


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


def value_name(value: Any) -> str:
    """A setting's value as a label."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def best_run(cell: Cell) -> Row | None:
    """A cell's run of the lowest dev loss."""
    return min(cell.finished, key=lambda row: row["dev_loss"], default=None)
