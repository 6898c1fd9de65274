"""The study of causes: which sweeps are about which cause, and the tables that they allow, row by row.

The causes are scales, draws, learning rates, depth, the gains of activations, and parametrisations.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from experiments.analysis.comparisons import MARGIN, compare, tolerated, tune, tuned_study
from experiments.analysis.diagnostics import diagnostic
from experiments.analysis.results import SweepResults, open_beside
from experiments.analysis.studies import Cell, Estimate, Study, estimate, paired_difference, rank_cells
from experiments.initialisation.tables import Table, TitledTable, place_on_axes, rate_table
from mlp_lm.config import RunConfig
from mlp_lm.schemes import RELU_GAIN, SCHEMES, TANH_GAIN, ZERO_BIAS

LENGTHS, PLANE, TRANSFER, DRAWS, DATA = "lengths", "plane", "transfer", "draws", "data"
RATES, DEPTHS, GAINS = "rates", "depths", "gains"
KINDS = {  # Of studies: the axes in which their configurations differ, those in which they may, and where one is.
    LENGTHS: ({"gain", "n_steps"}, {"output_gain"}, "initialisation-scale"),
    PLANE: ({"gain", "output_gain"}, set(), "initialisation-scale"),
    TRANSFER: ({"hidden_size", "learning_rate", "parametrization"}, {"weight_decay"}, "rate-transfer"),
    DRAWS: ({"draw"}, set(), "initialisation-draws"),
    DATA: ({"init", "output_bias"}, set(), "initialisation-draws"),
    RATES: ({"init", "learning_rate"}, {"batch_norm"}, "initialisation-optimizers"),
    DEPTHS: ({"n_layers", "gain", "learning_rate"}, {"batch_norm"}, "initialisation-depth"),
    GAINS: ({"activation", "gain"}, {"n_layers"}, "initialisation-activations"),
}

Causes: TypeAlias = Mapping[str, Sequence[Study]]  # The studies of each kind.
DEPTH_AXES = ("n_layers", "batch_norm", "gain")
NAMED_GAINS = {"1": 1.0, "sqrt2": RELU_GAIN, "5/3": TANH_GAIN}


def read_causes(results: SweepResults, folders: Iterable[Path]) -> Causes:
    """The studies of sweeps that vary causes, each known by the axes in which its configurations differ.

    Raises:
        ValueError: a folder has no such study, or not on the data of `results`.
    """
    causes: dict[str, list[Study]] = defaultdict(list)
    for folder in folders:
        other = open_beside(results, folder, "--causes")
        known = {study.name: kind for study in other.studies if study.best.finished and (kind := kind_of(study))}
        if not known:
            sweeps = ", ".join(dict.fromkeys(sweep for *_, sweep in KINDS.values()))
            raise ValueError(f"--causes {folder}: none of its studies is one of causes; give sweeps such as {sweeps}")
        for study in other.studies:
            if study.name in known:
                causes[known[study.name]].append(study)
    return causes


def kind_of(study: Study) -> str | None:
    """What a study of causes is about, by its axes; None of any other study."""
    axes = set(study.axes)
    return next((kind for kind, (must, may, _) in KINDS.items() if must <= axes <= must | may), None)


def cause_tables(causes: Causes, schemes: Study, vocab_size: int) -> Iterator[TitledTable]:
    """The tables that the given studies allow, beside the study of schemes."""
    for study in causes.get(LENGTHS, ())[:1]:
        yield TitledTable(
            "scale_minimum",
            "The best standard deviation of the first preactivations: the vertex of a parabola in its logarithm",
            minimum_table(study),
            {
                "steps": "steps",
                "output_gain": "output gain",
                "preactivation_std": "best preactivation std",
                "preactivation_std_from": "95 % from",
                "preactivation_std_to": "to",
                "dev_loss": "dev there",
                "seeds_at_an_end": "seeds whose best is at an end",
            },
        )
        yield TitledTable(
            "scale",
            "Dev loss by scale",
            scale_table(study),
            {
                "steps": "steps",
                "output_gain": "output gain",
                "gain": "gain",
                "preactivation_std": "preactivation std at step 0",
                "dev_loss": "dev",
                "difference": "minus the best gain",
            },
        )
        yield TitledTable(
            "scheme_places",
            "Each scheme and the curve of the nearest output gain at its own starting scale",
            curve_table(study, schemes, vocab_size),
            {
                "scheme": "scheme",
                "preactivation_std": "preactivation std at step 0",
                "output_gain": "its output gain",
                "curve_output_gain": "the curve's",
                "dev_loss": "dev",
                "curve_dev_loss": "dev on the curve",
                "difference": "difference",
            },
        )
    for study in causes.get(PLANE, ())[:1]:
        yield TitledTable(
            "scale_map",
            "Each output gain at its best gain of the hidden weights",
            map_table(study),
            {"output_gain": "output gain", "gain": "best gain", "dev_loss": "dev", "difference": "minus the best"},
        )
    for kind, name, title, reference in (
        (DRAWS, "draws", "Distributions of weights at equal variance", {"draw": "normal"}),
        (
            DATA,
            "data",
            "Schemes that look at the data, and the prior output bias",
            {"init": "fan_in", "output_bias": ZERO_BIAS},
        ),
    ):
        for study in causes.get(kind, ())[:1]:
            yield TitledTable(
                name,
                f"{title}, minus {', '.join(reference.values())}",
                contrast_table(study, reference),
                {
                    **{axis: axis.replace("_", " ") for axis in reference},
                    "preactivation_std": "preactivation std at step 0",
                    "initial_loss": "loss at step 0",
                    "dev_loss": "dev",
                    "difference": "difference",
                    "p_difference": "p of no difference",
                    "verdict": "verdict",
                    "within_margin": f"within {MARGIN}",
                },
            )
    if causes.get(RATES):
        yield TitledTable(
            "tuned_rates",
            "Each scheme at its own best learning rate, by optimiser and length",
            [row for study in causes[RATES] for row in tuned_rate_table(study)],
            {
                "optimizer": "optimiser",
                "steps": "steps",
                "scheme": "scheme",
                "best_rate": "best rate",
                "at_edge": "lowest or highest tried",
                "tolerated": "not shown to be worse",
                "dev_loss_at_best_rate": "dev at best rate",
                "difference_at_best_rates": "minus reference at its best",
            },
        )
    for study in causes.get(DEPTHS, ())[:1]:
        yield TitledTable(
            "depth_rates",
            "Depth, gain and batch norm, each at its own best learning rate",
            depth_rate_table(study),
            {
                "n_layers": "hidden layers",
                "gain": "gain",
                "batch_norm": "batch norm",
                "best_rate": "best rate",
                "at_edge": "lowest or highest tried",
                "dev_loss": "dev",
                "difference_to_gain": "minus gain 5/3",
                "difference_of_batch_norm": "with minus without batch norm",
            },
        )
        yield TitledTable(
            "depth_best",
            "Depth and batch norm, each at its own best gain and learning rate",
            depth_best_table(study),
            {
                "n_layers": "hidden layers",
                "batch_norm": "batch norm",
                "gain": "best gain",
                "best_rate": "best rate",
                "dev_loss": "dev",
                "difference_of_batch_norm": "with minus without batch norm",
            },
        )
    for study in causes.get(GAINS, ())[:1]:
        yield TitledTable(
            "activation_gains",
            "The best gain of each activation, and what other gains cost",
            gain_table(study),
            {
                "activation": "activation",
                "n_layers": "hidden layers",
                "best_gain": "best gain",
                "tolerated": "not shown to be worse",
                "dev_loss": "dev there",
                **{f"difference_at_{name}": f"gain {name}" for name in NAMED_GAINS},
            },
        )
    for study in causes.get(TRANSFER, ())[:1]:
        yield TitledTable(
            "rate_transfer",
            "Best learning rate by width, and what the rate that is best at the smallest width costs",
            transfer_table(study),
            {
                "parametrization": "parametrization",
                "weight_decay": "weight decay",
                "hidden_size": "hidden units",
                "best_rate": "best rate",
                "dev_loss": "dev there",
                "difference_at_transferred_rate": "dev at the smallest width's rate, minus that",
            },
        )


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
            **paired_difference(cell, rank_cells(cells)[0]).columns("difference"),
            "n_seeds": len(cell.finished),
        }
        for (n_steps, output_gain), cells in scale_lines(study).items()
        for cell in cells
    ]


def curve_table(study: Study, schemes: Study, vocab_size: int) -> Table:
    """One row a scheme without batch norm: how far it is from the curve of scales, at its own starting scale.

    The curve has the schemes' number of steps and the nearest output gain, and is interpolated over the logarithm of
    the scale; NaN stands for a scale beyond its ends. Output gains are factors on the output weights of `study`.
    """
    n_steps = schemes.cells[0].settings["n_steps"]
    curves = {gain: cells for (steps, gain), cells in scale_lines(study).items() if steps == n_steps}
    settings = study.cells[0].settings
    architecture = RunConfig(**schemes.cells[0].settings).architecture(vocab_size)
    own = place_on_axes(settings["init"], architecture)["output_gain"]
    table = []
    for cell in schemes.cells:
        init, start = cell.settings["init"], starting_scale(cell)
        if not curves or cell.settings["batch_norm"] or not start.n or not start.mean or SCHEMES[init].adjust:
            continue
        output_gain = place_on_axes(init, architecture)["output_gain"] / own
        nearest = min(curves, key=lambda gain: abs(math.log(gain / output_gain)) if output_gain else math.inf)
        scales, losses, _ = places(curves[nearest])
        if not scales:
            continue
        on_curve = np.interp(math.log(start.mean), np.log(scales), losses, left=math.nan, right=math.nan)
        loss = cell.estimate("dev_loss")
        table.append(
            {
                "scheme": init,
                "preactivation_std": start.mean,
                "output_gain": output_gain,
                "curve_output_gain": nearest,
                **loss.columns("dev_loss"),
                "curve_dev_loss": float(on_curve),
                "difference": loss.mean - float(on_curve),
            }
        )
    return table


def map_table(study: Study) -> Table:
    """One row an output gain: the best gain of the hidden weights there, and its difference from the best of all."""
    tuned = tuned_study(study, ("gain",))
    return [
        {
            "output_gain": cell.settings["output_gain"],
            "gain": cell.settings["gain"],
            **cell.estimate("dev_loss").columns("dev_loss"),
            **tuned.to_best(cell).columns("difference"),
            "n_seeds": len(cell.finished),
        }
        for cell in sorted(tuned.cells, key=lambda cell: cell.settings["output_gain"])
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
                history = row.get("history_preactivation_std")
                if history and history[0][0]:
                    by_seed[row["seed"]].append((math.log(history[0][0]), row["dev_loss"]))
        vertices = [vertex(points) for points in by_seed.values()]
        inside = [point for point in vertices if point is not None]
        scale = estimate(place for place, _ in inside)  # A mean of logarithms, whose interval is not symmetric.
        table.append(
            {
                "steps": n_steps,
                "output_gain": output_gain,
                "preactivation_std": math.exp(scale.mean),
                "preactivation_std_from": math.exp(scale.low),
                "preactivation_std_to": _exp(scale.high),
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


def contrast_table(study: Study, reference: Mapping[str, Any]) -> Table:
    """One row a configuration: how it starts, where it ends, and whether that differs from a reference.

    The reference is a configuration of the study, chosen beforehand; where it has not run, the best one is taken.
    """
    cells = [cell for cell in study.cells if cell.finished]
    chosen = [cell for cell in cells if all(cell.settings[axis] == value for axis, value in reference.items())]
    first = chosen[0] if chosen else cells[0]
    compared = {id(comparison.cell): comparison for comparison in compare(cells, first)}
    return [
        {
            **{axis: cell.settings[axis] for axis in reference},
            **starting_scale(cell).columns("preactivation_std"),
            **cell.estimate("initial_loss").columns("initial_loss"),
            **cell.estimate("dev_loss").columns("dev_loss"),
            **(compared[id(cell)].columns() if id(cell) in compared else {"difference": 0.0, "verdict": "reference"}),
        }
        for cell in (first, *(cell for cell in cells if cell is not first))
    ]


def tuned_rate_table(study: Study) -> Table:
    """The table of rates of one study, with its optimiser and length."""
    shared = {"optimizer": study.cells[0].settings["optimizer"], "steps": study.cells[0].settings["n_steps"]}
    return [shared | row for row in rate_table(study)]


def depth_rate_table(study: Study) -> Table:
    """One row a depth, batch norm and gain at its best learning rate, against gain 5/3 and against no batch norm."""
    tuned = tuned_study(study, ("learning_rate",))
    places = {tuple(cell.settings[axis] for axis in DEPTH_AXES): cell for cell in tuned.cells}
    rates = [cell.settings["learning_rate"] for cell in study.cells]
    table = []
    for (n_layers, batch_norm, gain), cell in sorted(places.items()):
        beside = [other for key, other in places.items() if key[:2] == (n_layers, batch_norm)]
        reference = min(beside, key=lambda other: abs(other.settings["gain"] - TANH_GAIN))
        table.append(
            {
                "n_layers": n_layers,
                "gain": gain,
                "batch_norm": batch_norm,
                "best_rate": cell.settings["learning_rate"],
                "at_edge": cell.settings["learning_rate"] in (min(rates), max(rates)),
                **cell.estimate("dev_loss").columns("dev_loss"),
                **paired_difference(cell, reference).columns("difference_to_gain"),
                **_of_batch_norm(cell, places.get((n_layers, False, gain))),
            }
        )
    return table


def depth_best_table(study: Study) -> Table:
    """One row a depth and batch norm, at its best gain and learning rate."""
    tuned = tuned_study(study, ("gain", "learning_rate"))
    places = {(cell.settings["n_layers"], cell.settings["batch_norm"]): cell for cell in tuned.cells}
    return [
        {
            "n_layers": n_layers,
            "batch_norm": batch_norm,
            "gain": cell.settings["gain"],
            "best_rate": cell.settings["learning_rate"],
            **cell.estimate("dev_loss").columns("dev_loss"),
            **_of_batch_norm(cell, places.get((n_layers, False))),
        }
        for (n_layers, batch_norm), cell in sorted(places.items())
    ]


def _of_batch_norm(cell: Cell, without: Cell | None) -> dict[str, float]:
    difference = paired_difference(cell, without) if without and cell.settings["batch_norm"] else estimate(())
    return difference.columns("difference_of_batch_norm")


def gain_table(study: Study) -> Table:
    """One row an activation and depth: its best gain, those not shown to be worse, and what NAMED_GAINS cost."""
    lines: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    for cell in sorted(study.cells, key=lambda cell: cell.settings["gain"]):
        lines[cell.settings["activation"], cell.settings["n_layers"]].append(cell)
    table = []
    for (activation, n_layers), cells in sorted(lines.items()):
        best = tune(cells)
        costs = {
            name: paired_difference(min(cells, key=lambda cell: abs(cell.settings["gain"] - gain)), best)
            for name, gain in NAMED_GAINS.items()
        }
        table.append(
            {
                "activation": activation,
                "n_layers": n_layers,
                "best_gain": best.settings["gain"],
                "tolerated": ", ".join(f"{cell.settings['gain']:.3g}" for cell in tolerated(cells)),
                **best.estimate("dev_loss").columns("dev_loss"),
                **{k: v for name, cost in costs.items() for k, v in cost.columns(f"difference_at_{name}").items()},
                "n_seeds": len(best.finished),
            }
        )
    return table


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
        transferred = tune(by_width[min(by_width)]).settings["learning_rate"]
        for width, cells in by_width.items():
            best = tune(cells)
            same = [cell for cell in cells if cell.settings["learning_rate"] == transferred]
            cost = paired_difference(same[0], best) if same else estimate(())
            table.append(
                {
                    "parametrization": parametrization,
                    "weight_decay": decay,
                    "hidden_size": width,
                    "best_rate": best.settings["learning_rate"],
                    **best.estimate("dev_loss").columns("dev_loss"),
                    **cost.columns("difference_at_transferred_rate"),
                    "n_seeds": len(best.finished),
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
