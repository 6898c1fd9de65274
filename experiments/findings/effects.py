"""What each axis of a study does: main effects, interactions, learning curves, and whether they may be compared."""

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
    groups: dict[tuple, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in study.cells:
        group = groups[tuple(cell.settings[axis] for axis in axes)]
        for row in cell.finished:
            group[row["seed"]].append(row["dev_loss"])
    return {
        key: estimate(float(np.mean(losses)) for _, losses in sorted(groups[key].items())) for key in sorted(groups)
    }


def effect_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a value of an axis: the mean dev loss over all other axes; none of studies that are not balanced."""
    for study in studies:
        for axis in study.axes if imbalance(study) is None else ():
            for value, effect in main_effects(study, axis).items():
                told = effect.columns("dev_loss")
                yield {"study": study.name, "axis": axis, "value": value, **told, "n_seeds": effect.n}


def curve(cell: Cell, column: str) -> list[Estimate]:
    """Mean and interval of a history column over a cell's finished runs, evaluation by evaluation."""
    return [estimate(_number(value) for value in values) for values in zip(*_histories(cell, column), strict=False)]


def _histories(cell: Cell, column: str) -> list[list[float | None]]:
    return [row[column] for row in cell.finished if row.get(column)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def value_name(value: Any) -> str:
    """A setting's value as a label."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def best_run(cell: Cell) -> Row | None:
    """A cell's run of the lowest dev loss."""
    return min(cell.finished, key=lambda row: row["dev_loss"], default=None)
