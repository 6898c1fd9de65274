"""The study of causes, from rows alone: where the best scale lies, and which parametrisation keeps its rate."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis.results import SweepResults, open_sweep
from experiments.analysis.studies import Cell, Estimate, Study, estimate
from experiments.initialisation.tables import Table, TitledTable, best_rate, diagnostic

LENGTHS_AXES = {"gain", "output_gain", "n_steps"}
MAP_AXES = {"gain", "output_gain"}
TRANSFER_AXES = {"hidden_size", "learning_rate", "parametrization"}  # And weight_decay, perhaps.


@dataclass(frozen=True)
class Causes:
    """The studies of the folders that were given: scales at several lengths, scales at one, and rates over widths."""

    lengths: Study | None = None
    map: Study | None = None
    transfer: Study | None = None


def read_causes(results: SweepResults, scale: Path | None, transfer: Path | None) -> Causes:
    """The studies of a sweep such as `initialisation-scale` and of one such as `rate-transfer`.

    Raises:
        ValueError: a folder does not hold such a sweep, or not on the data of `results`.
    """
    causes = Causes()
    if scale is not None:
        studies = _finished_studies("--scale", scale, results)
        lengths = next((study for study in studies if set(study.axes) == LENGTHS_AXES), None)
        plane = next((study for study in studies if set(study.axes) == MAP_AXES), None)
        if lengths is None and plane is None:
            raise ValueError(
                f"--scale {scale}: no study of gain and output_gain; give a sweep such as initialisation-scale"
            )
        causes = Causes(lengths, plane)
    if transfer is not None:
        studies = _finished_studies("--transfer", transfer, results)
        rates = next((study for study in studies if set(study.axes) - {"weight_decay"} == TRANSFER_AXES), None)
        if rates is None:
            raise ValueError(
                f"--transfer {transfer}: no study of hidden_size, learning_rate and parametrization; "
                "give a sweep such as rate-transfer"
            )
        causes = Causes(causes.lengths, causes.map, rates)
    return causes


def _finished_studies(flag: str, folder: Path, results: SweepResults) -> Sequence[Study]:
    try:
        other = open_sweep(folder)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None
    if other.request.data_hash != results.request.data_hash:
        raise ValueError(
            f"{flag} {folder} was trained on {other.request.data}, and {results.folder} on {results.request.data}; "
            "give a sweep on the same data"
        )
    return [study for study in other.studies if study.best.finished]


def cause_tables(causes: Causes) -> list[TitledTable]:
    """The tables that the given studies allow."""
    tables = []
    if causes.lengths:
        tables.append(
            TitledTable(
                "scale_minimum",
                "The best standard deviation of the first preactivations: the vertex of a parabola in its logarithm",
                minimum_table(causes.lengths),
                {
                    "steps": "steps",
                    "output_gain": "output gain",
                    "preactivation_std": "best preactivation std",
                    "dev_loss": "dev there",
                    "seeds_at_an_end": "seeds whose best is at an end",
                },
            )
        )
        tables.append(
            TitledTable(
                "scale",
                "Dev loss by scale",
                scale_table(causes.lengths),
                {
                    "steps": "steps",
                    "output_gain": "output gain",
                    "gain": "gain",
                    "preactivation_std": "preactivation std at step 0",
                    "dev_loss": "dev",
                },
            )
        )
    if causes.transfer:
        tables.append(
            TitledTable(
                "rate_transfer",
                "Best learning rate by width, and what the rate that is best at the smallest width costs",
                transfer_table(causes.transfer),
                {
                    "parametrization": "parametrization",
                    "weight_decay": "weight decay",
                    "hidden_size": "hidden units",
                    "best_rate": "best rate",
                    "dev_loss": "dev there",
                    "difference_at_transferred_rate": "dev at the smallest width's rate, minus that",
                },
            )
        )
    return tables


def scale_lines(study: Study) -> dict[tuple[int, float], list[Cell]]:
    """By number of steps and output gain: the cells in the order of their gain."""
    lines: dict[tuple[int, float], list[Cell]] = defaultdict(list)
    for cell in sorted(study.cells, key=lambda cell: cell.settings["gain"]):
        if cell.finished:
            lines[cell.settings["n_steps"], cell.settings["output_gain"]].append(cell)
    return dict(sorted(lines.items()))


def starting_scale(cell: Cell) -> Estimate:
    """The standard deviation of the first preactivations at step 0; n is 0 where it was not recorded."""
    return diagnostic(cell, "preactivation_std", 0)


def scale_table(study: Study) -> Table:
    """One row a length, output gain and gain."""
    return [
        {
            "steps": n_steps,
            "output_gain": output_gain,
            "gain": cell.settings["gain"],
            **starting_scale(cell).columns("preactivation_std"),
            **cell.estimate("dev_loss").columns("dev_loss"),
            "n_seeds": len(cell.finished),
        }
        for (n_steps, output_gain), cells in scale_lines(study).items()
        for cell in cells
    ]


def minimum_table(study: Study) -> Table:
    """One row a length and output gain: where the dev loss is lowest, each seed on its own.

    A seed whose lowest loss is at either end of the gains has no minimum between them, and is counted instead.
    """
    table = []
    for (n_steps, output_gain), cells in scale_lines(study).items():
        by_seed: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for cell in cells:
            for row in cell.finished:
                if history := row.get("history_preactivation_std"):
                    by_seed[row["seed"]].append((math.log(history[0][0]), row["dev_loss"]))
        vertices = [vertex(points) for points in by_seed.values()]
        inside = [point for point in vertices if point is not None]
        scale = estimate(place for place, _ in inside)  # A mean of logarithms, whose interval is not symmetric.
        table.append(
            {
                "steps": n_steps,
                "output_gain": output_gain,
                "preactivation_std": math.exp(scale.mean),
                "preactivation_std_low": math.exp(scale.low),
                "preactivation_std_high": _exp(scale.high),
                **estimate(loss for _, loss in inside).columns("dev_loss"),
                "n_seeds": len(inside),
                "seeds_at_an_end": len(vertices) - len(inside),
            }
        )
    return table


def vertex(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The lowest point of the parabola through the lowest of some points and its two neighbours.

    None where the lowest is the first or the last.
    """
    points = sorted(points)
    lowest = min(range(len(points)), key=lambda i: points[i][1])
    if not 0 < lowest < len(points) - 1:
        return None
    x, y = np.array(points[lowest - 1 : lowest + 2]).T
    a, b, c = np.polyfit(x - x[1], y, 2)
    if a <= 0:  # All three are equal.
        return float(x[1]), float(y[1])
    return float(x[1] - b / (2 * a)), float(c - b * b / (4 * a))


def transfer_lines(study: Study) -> dict[tuple[str, float], dict[int, list[Cell]]]:
    """By parametrisation and weight decay: by width, the cells in the order of their learning rate."""
    lines: dict[tuple[str, float], dict[int, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in sorted(study.cells, key=lambda cell: (cell.settings["hidden_size"], cell.settings["learning_rate"])):
        if cell.finished:
            settings = cell.settings
            lines[settings["parametrization"], settings["weight_decay"]][settings["hidden_size"]].append(cell)
    return {key: dict(by_width) for key, by_width in lines.items()}


def transfer_table(study: Study) -> Table:
    """One row a parametrisation, decay and width: the best rate, and the cost of the smallest width's best one there.

    Each seed's loss is that at the rate that is best for the other seeds; the cost is paired by seed.
    """
    table = []
    for (parametrization, decay), by_width in sorted(transfer_lines(study).items()):
        transferred = best_rate(by_width[min(by_width)]).rate
        for width, cells in by_width.items():
            best = best_rate(cells)
            same = [cell for cell in cells if cell.settings["learning_rate"] == transferred]
            losses = {row["seed"]: row["dev_loss"] for cell in same for row in cell.finished}
            common = sorted(losses.keys() & best.losses.keys())
            cost = estimate(losses[seed] - best.losses[seed] for seed in common)
            table.append(
                {
                    "parametrization": parametrization,
                    "weight_decay": decay,
                    "hidden_size": width,
                    "best_rate": best.rate,
                    **estimate(best.losses.values()).columns("dev_loss"),
                    **cost.columns("difference_at_transferred_rate"),
                    "n_seeds": len(best.losses),
                }
            )
    return table


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def places(cells: Sequence[Cell]) -> tuple[list[float], list[Any], list[Any]]:
    """Starting scale, mean dev loss and half its interval of each cell whose scale was recorded."""
    known = [(starting_scale(cell), cell.estimate("dev_loss")) for cell in cells]
    points = [(scale.mean, loss.mean, loss.half) for scale, loss in known if scale.n and scale.mean > 0]
    return tuple(map(list, zip(*points, strict=True))) if points else ([], [], [])  # type: ignore[return-value]
