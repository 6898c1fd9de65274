"""The study of causes: which sweeps are about which cause, and the tables that they allow."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from experiments.analysis.comparisons import MARGIN
from experiments.analysis.results import SweepResults, open_beside
from experiments.analysis.studies import Study
from experiments.initialisation.cause_rows import (
    NAMED_GAINS,
    contrast_table,
    curve_table,
    depth_best_table,
    depth_rate_table,
    gain_table,
    map_table,
    minimum_table,
    scale_table,
    transfer_table,
    tuned_rate_table,
)
from experiments.initialisation.tables import TitledTable
from mlp_lm.schemes import ZERO_BIAS

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
