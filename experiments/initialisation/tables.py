"""The study's tables, from rows alone: schemes, schemes at their own best rate, depth, and the published figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.analysis.studies import Cell, Estimate, Study, estimate, paired_difference
from experiments.analysis.style import scheme_label
from experiments.analysis.tables import markdown_table
from experiments.runner.rows import DIVERGED

REFERENCE = ("kaiming_tanh", False)  # What every scheme is compared with.

# makemore lecture 3, its log of losses: (train, dev) of single runs, and the dev losses that count as the same, the
# seed noise of one run being 0.014.
PUBLISHED = {
    ("normal", False): (2.1245, 2.1682, (2.15, 2.19)),
    ("scaled_output", False): (2.07, 2.13, (2.11, 2.15)),
    ("scaled_hidden", False): (2.0356, 2.1027, (2.09, 2.13)),
    ("kaiming_tanh", False): (2.0377, 2.1070, (2.09, 2.13)),
    ("kaiming_tanh", True): (2.0668, 2.1048, (2.09, 2.13)),
}

Table = list[dict[str, Any]]


@dataclass(frozen=True)
class BestRate:
    """A scheme at its own best learning rate. Each seed's loss is at the rate that is best for the other seeds."""

    rate: float  # The best over all seeds.
    losses: dict[int, float]  # By seed.

    @property
    def estimate(self) -> Estimate:
        """Mean dev loss and interval."""
        return estimate(self.losses.values())


def scheme_of(cell: Cell) -> tuple[str, bool]:
    """What the study compares."""
    return cell.settings["init"], cell.settings["batch_norm"]


def by_scheme(study: Study) -> dict[tuple[str, bool], list[Cell]]:
    """A study's cells by scheme, in the order of their mean dev loss."""
    groups: dict[tuple[str, bool], list[Cell]] = {}
    for cell in study.cells:
        groups.setdefault(scheme_of(cell), []).append(cell)
    return groups


def scheme_table(study: Study, vocab_size: int) -> Table:
    """One row a scheme: how it starts, where it ends, and its difference to the reference, paired by seed."""
    reference = by_scheme(study)[REFERENCE][0]
    return [_scheme_row(cell, reference, vocab_size) for cell in study.cells]


def _scheme_row(cell: Cell, reference: Cell, vocab_size: int) -> dict[str, Any]:
    start = cell.estimate("initial_loss")
    return {
        "scheme": scheme_label(*scheme_of(cell)),
        "seeds": len(cell.finished),
        "diverged": cell.n_diverged,
        **start.columns("initial_loss"),
        "initial_loss_above_log_vocab": start.mean - math.log(vocab_size),
        **_history(cell, "saturated_share", 0).columns("initial_saturated_share"),
        **_history(cell, "dead_units", 0).columns("initial_dead_units"),
        **_history(cell, "saturated_share", -1).columns("final_saturated_share"),
        **_history(cell, "dead_units", -1).columns("final_dead_units"),
        **cell.estimate("train_loss").columns("train_loss"),
        **cell.estimate("dev_loss").columns("dev_loss"),
        **paired_difference(cell, reference).columns("difference"),
    }


def definition_table(study: Study) -> Table:
    """One row a scheme: what it draws, and where it comes from."""
    # JAX is imported with the schemes: what else reads tables starts without it.
    from mlp_lm.initializers import SCHEMES

    names = sorted({init for init, _ in by_scheme(study)})
    return [{"scheme": name, "draws": SCHEMES[name].summary, "source": SCHEMES[name].source} for name in names]


def rate_table(study: Study, default_rate: float) -> Table:
    """One row a scheme: its dev loss at the default rate and at its own best one, and both differences.

    What a sweep of fewer schemes or rates does not have is NaN.
    """
    best = {scheme: best_rate(cells) for scheme, cells in by_scheme(study).items()}
    at_default = {
        scheme: cell for scheme, cells in by_scheme(study).items() for cell in cells if _has(cell, default_rate)
    }
    reference = best[REFERENCE].losses if REFERENCE in best else {}
    return [
        {
            "scheme": scheme_label(*scheme),
            **_at_rate(at_default.get(scheme), at_default.get(REFERENCE)),
            "best_rate": best[scheme].rate,
            **best[scheme].estimate.columns("dev_loss_at_best_rate"),
            **_difference(best[scheme].losses, reference).columns("difference_at_best_rates"),
        }
        for scheme in sorted(best, key=lambda scheme: best[scheme].estimate.mean)
    ]


def _at_rate(cell: Cell | None, reference: Cell | None) -> dict[str, float]:
    loss = cell.estimate("dev_loss") if cell else estimate(())
    difference = paired_difference(cell, reference) if cell and reference else estimate(())
    return {**loss.columns("dev_loss_at_default_rate"), **difference.columns("difference_at_default_rate")}


def best_rate(cells: Sequence[Cell]) -> BestRate:
    """The best of cells that differ in their learning rate only, without choosing and judging on one seed."""
    losses = {cell.settings["learning_rate"]: {row["seed"]: row["dev_loss"] for row in cell.finished} for cell in cells}
    seeds = sorted({seed for by_seed in losses.values() for seed in by_seed})
    # A rate at which any seed diverged is no candidate.
    whole = {rate: by_seed for rate, by_seed in losses.items() if len(by_seed) == len(seeds)} or losses

    def mean_without(rate: float, left_out: int | None) -> float:
        others = [loss for seed, loss in whole[rate].items() if seed != left_out]
        return sum(others) / len(others) if others else math.inf

    held_out = {seed: min(whole, key=lambda rate, seed=seed: mean_without(rate, seed)) for seed in seeds}  # type: ignore[misc]
    chosen = {seed: whole[rate][seed] for seed, rate in held_out.items() if seed in whole[rate]}
    return BestRate(min(whole, key=lambda rate: mean_without(rate, None)), chosen)


def depth_table(study: Study) -> Table:
    """One row a depth, gain and norm: losses, and the scale of the first and last hidden layer at the start."""
    order = sorted(study.cells, key=lambda c: (c.settings["n_layers"], c.settings["batch_norm"], c.settings["gain"]))
    return [_depth_row(cell, _depth_reference(study, cell)) for cell in order]


def _depth_row(cell: Cell, reference: Cell) -> dict[str, Any]:
    return {
        "hidden layers": cell.settings["n_layers"],
        "gain": round(cell.settings["gain"], 4),
        "batch_norm": cell.settings["batch_norm"],
        "seeds": len(cell.finished),
        "diverged": cell.n_diverged,
        **cell.estimate("initial_loss").columns("initial_loss"),
        **_history(cell, "activation_std", 0, 0).columns("first_layer_initial_activation_std"),
        **_history(cell, "activation_std", 0, -1).columns("last_layer_initial_activation_std"),
        **_history(cell, "saturated_share", 0, -1).columns("last_layer_initial_saturated_share"),
        **_history(cell, "gradient_to_weight", 0, 1).columns("first_hidden_initial_gradient_to_weight"),
        **cell.estimate("train_loss").columns("train_loss"),
        **cell.estimate("dev_loss").columns("dev_loss"),
        **paired_difference(cell, reference).columns("difference"),
    }


def _depth_reference(study: Study, cell: Cell) -> Cell:
    """The cell of the same depth and norm at the gain nearest to 5/3."""
    alike = [c for c in study.cells if all(c.settings[k] == cell.settings[k] for k in ("n_layers", "batch_norm"))]
    return min(alike, key=lambda c: abs(c.settings["gain"] - 5 / 3))


def batch_norm_table(study: Study) -> Table:
    """One row a scheme: what batch norm changes, paired by seed."""
    cells = by_scheme(study)
    return [
        {
            "scheme": init,
            **cells[init, False][0].estimate("dev_loss").columns("without"),
            **cells[init, True][0].estimate("dev_loss").columns("with"),
            **paired_difference(cells[init, True][0], cells[init, False][0]).columns("difference"),
        }
        for init, norm in cells
        if not norm and (init, True) in cells
    ]


def published_table(study: Study) -> Table:
    """The lecture's single runs beside ours."""
    cells = by_scheme(study)
    rows = []
    for scheme, (train, dev, (low, high)) in PUBLISHED.items():
        if scheme in cells:
            ours = cells[scheme][0].estimate("dev_loss")
            seeds = [row["dev_loss"] for row in cells[scheme][0].finished]
            rows.append(
                {
                    "scheme": scheme_label(*scheme),
                    "published_train_loss": train,
                    **cells[scheme][0].estimate("train_loss").columns("train_loss"),
                    "published_dev_loss": dev,
                    **ours.columns("dev_loss"),
                    "lowest_of_a_seed": min(seeds, default=math.nan),
                    "highest_of_a_seed": max(seeds, default=math.nan),
                    "expected_low": low,
                    "expected_high": high,
                    "holds": low <= ours.mean <= high,
                }
            )
    return rows


def as_markdown(table: Table, columns: dict[str, str]) -> str:
    """Some columns of a table under headings of their own; a column with an interval is written with it."""
    rows = [[_shown(row, name) for name in columns] for row in table]
    return markdown_table(list(columns.values()), rows)


def _shown(row: dict[str, Any], name: str) -> str:
    value, low = row[name], row.get(f"{name}_low")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    digits = _significant if abs(value) < 0.1 else "{:.4f}".format
    signed = "+" if name.startswith("difference") and value > 0 else ""
    half = f" ± {digits(row[f'{name}_high'] - value)}" if low is not None and math.isfinite(low) else ""
    return f"{signed}{digits(value)}{half}" if math.isfinite(value) else "-"


def _significant(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def _history(cell: Cell, name: str, evaluation: int, place: int = 0) -> Estimate:
    """A diagnostic at one evaluation, at one layer or matrix; no estimate where a run did not record it."""
    told = [row.get(f"history_{name}") for row in cell.rows if row["status"] != DIVERGED or evaluation == 0]
    found = [values[evaluation][place] for values in told if values]
    return estimate(value for value in found if value is not None)


def _difference(ours: dict[int, float], theirs: dict[int, float]) -> Estimate:
    return estimate(ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys()))


def _has(cell: Cell, rate: float) -> bool:
    return math.isclose(cell.settings["learning_rate"], rate)
