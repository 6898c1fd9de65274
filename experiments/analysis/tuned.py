"""Studies with an axis tuned: every configuration at its own best learning rate, or gain.

A loss at a value that was chosen by that loss is too low, and the lower the more values there were. So every seed is
judged at the value that is best for the other seeds, and differences stay paired by seed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from experiments.analysis.comparisons import HIGHER, compare
from experiments.analysis.effects import axis_values, value_name
from experiments.analysis.studies import Cell, Study, rank_cells

TUNABLE = ("learning_rate", "gain")  # Of which a configuration may have its own, and be no other for that.
FEWEST_VALUES = 3  # Of an axis that is worth tuning.


def tune(cells: Sequence[Cell]) -> Cell:
    """The best of some configurations, judged without its own choice.

    Its settings are those of the lowest mean dev loss, and the row of a seed is that of the configuration with the
    lowest mean over the other seeds; where there is one seed alone, it is judged by its own choice. Configurations in
    which a seed diverged or is missing are no candidates, unless all are.
    """
    seeds = sorted({row["seed"] for cell in cells for row in cell.finished})
    candidates = [cell for cell in cells if len(cell.finished) == len(seeds)] or list(cells)
    losses = {id(cell): {row["seed"]: row["dev_loss"] for row in cell.finished} for cell in candidates}

    def best_without(left_out: int | None) -> Cell:
        def mean(cell: Cell) -> float:
            others = [loss for seed, loss in losses[id(cell)].items() if seed != left_out]
            return sum(others) / len(others) if others else float("inf")

        return min(candidates, key=mean)

    best = best_without(None)
    if len(seeds) < 2:
        return best
    chosen = (row for seed in seeds for row in best_without(seed).finished if row["seed"] == seed)
    return Cell(best.settings, tuple(chosen) or best.rows)


def tuned_study(study: Study, tuned: Sequence[str]) -> Study:
    """The same study with the best values of the axes `tuned` for each combination of its other axes."""
    others = tuple(axis for axis in study.axes if axis not in tuned)
    cells = [tune(group) for group in _groups(study, others).values()]
    return replace(study, name=f"{study.name}, tuned", axes=others, cells=rank_cells(cells))


def tunings(study: Study) -> list[tuple[str, ...]]:
    """The axes of a study that are worth tuning: each one, and all together."""
    worth = [axis for axis in TUNABLE if axis in study.axes and axis not in study.ranges]
    worth = [axis for axis in worth if len(axis_values(study, axis)) >= FEWEST_VALUES]
    alone = [(axis,) for axis in worth]
    return [each for each in (*alone, *([tuple(worth)] if len(worth) > 1 else [])) if set(each) < set(study.axes)]


def tolerated(cells: Sequence[Cell]) -> list[Cell]:
    """Those of some configurations that are not shown to be worse than the best of them, with Holm's correction."""
    best = rank_cells(cells)[0]
    worse = {id(c.cell) for c in compare(cells, best) if c.verdict == HIGHER or c.cell.n_diverged}
    return [cell for cell in cells if id(cell) not in worse]


def tuned_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a tuning of a study and combination of its other axes: the best values, what they give, and the rest.

    `at_edge`: a best value is the lowest or highest that was tried. `tolerated`: the values that are not shown to be
    worse than the best.
    """
    for study in studies:
        for tuned in tunings(study):
            result = tuned_study(study, tuned)
            groups = _groups(study, result.axes)
            ends = {axis: (axis_values(study, axis)[0], axis_values(study, axis)[-1]) for axis in tuned}
            for rank, cell in enumerate(result.cells, start=1):
                group = groups[tuple(cell.settings[axis] for axis in result.axes)]
                near = [" x ".join(value_name(c.settings[axis]) for axis in tuned) for c in tolerated(group)]
                yield {
                    "study": study.name,
                    "tuned": " x ".join(tuned),
                    "rank": rank,
                    **{axis: cell.settings[axis] for axis in study.axes},
                    "at_edge": any(cell.settings[axis] in ends[axis] for axis in tuned),
                    "tolerated": ", ".join(near),
                    "n_seeds": len(cell.finished),
                    **cell.estimate("dev_loss").columns("dev_loss"),
                    **result.to_best(cell).columns("difference_to_best"),
                }


def _groups(study: Study, axes: Sequence[str]) -> dict[tuple, list[Cell]]:
    """A study's cells by their values of some axes; within each, in the order of the others."""
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    varying = [axis for axis in study.axes if axis not in axes]
    for cell in sorted(study.cells, key=lambda cell: [cell.settings[axis] for axis in varying]):
        groups[tuple(cell.settings[axis] for axis in axes)].append(cell)
    return groups
