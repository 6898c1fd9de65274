"""The study's sweeps and its tables, from rows alone: nothing is trained, and JAX is not needed."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from experiments.analysis.comparisons import MARGIN, compare, tolerated, tuned_study
from experiments.analysis.diagnostics import diagnostic
from experiments.analysis.results import SweepResults, load_baselines, open_beside
from experiments.analysis.studies import (
    Cell,
    Study,
    estimate,
    make_study,
    paired_difference,
    predict_one_more,
)
from experiments.analysis.style import scheme_label
from experiments.store.atomic import replace_file
from experiments.sweeps.catalog import LECTURE
from experiments.sweeps.text import csv_text, markdown_table
from mlp_lm.config import AXES, Architecture, RunConfig
from mlp_lm.data.word_lists import MAKEMORE_SHA256
from mlp_lm.ngram.baselines import Baselines
from mlp_lm.schemes import ORTHOGONAL, OWN, SAMPLE_STDS, SAMPLES, SCHEMES, TANH_GAIN, ZERO_BIAS

Scheme: TypeAlias = tuple[str, bool]  # A scheme's name, and whether batch norm is used with it.
Table: TypeAlias = list[dict[str, Any]]

REFERENCE: Scheme = ("kaiming_tanh", False)  # All schemes are compared with this one.

# makemore lecture 3, its log of losses: train and dev of single runs.
PUBLISHED: dict[Scheme, dict[str, float]] = {
    ("normal", False): {"train": 2.1245, "dev": 2.1682},
    ("scaled_output", False): {"train": 2.07, "dev": 2.13},
    ("scaled_hidden", False): {"train": 2.0356, "dev": 2.1027},
    ("kaiming_tanh", False): {"train": 2.0377, "dev": 2.1070},
    ("kaiming_tanh", True): {"train": 2.0668, "dev": 2.1048},
}
FREE_AXES = {
    "init",
    "batch_norm",
    "n_evaluations",
    "diagnostics",
}  # Published losses are comparable whatever these are.

# The axes in which the configurations of each sweep must differ, beside batch_norm, in which they may.
COMPARED = {
    "initialisation": ("init",),
    "initialisation-rates": ("init", "learning_rate"),
    "depth": ("n_layers", "gain"),
}


@dataclass(frozen=True)
class Studies:
    """What the study rests on: the sweep of schemes, those of learning rates and depths if given, and baselines."""

    schemes: Study
    rates: Study | None
    depth: Study | None
    baselines: Baselines


class TitledTable(NamedTuple):
    """A table, the stem of its file names, its title, and the headings of the columns that Markdown shows."""

    name: str
    title: str
    rows: Table
    headings: dict[str, str]


def read_studies(results: SweepResults, rates: Path | None, depth: Path | None) -> Studies:
    """The studies of an opened sweep of schemes and of the folders of the two other sweeps.

    Raises:
        ValueError: a folder does not hold the sweep that it should hold, or not on the same data.
    """
    schemes = _checked_study("DIR", results, "initialisation")
    reference = by_scheme(schemes).get(REFERENCE)
    if reference is None or not reference[0].finished:
        raise ValueError(
            f"{results.folder} has no finished run of {scheme_label(*REFERENCE)}, with which all schemes are compared; "
            "add it with `python -m experiments.sweep initialisation`"
        )
    others: dict[str, Study | None] = {}
    for flag, folder, sweep in (("--rates", rates, "initialisation-rates"), ("--depth", depth, "depth")):
        if folder is None:
            others[sweep] = None
            continue
        others[sweep] = _checked_study(flag, open_beside(results, folder, flag), sweep)
    return Studies(
        schemes, others["initialisation-rates"], others["depth"], load_baselines(results.folder, results.request)
    )


def _checked_study(flag: str, results: SweepResults, sweep: str) -> Study:
    results.request.load_ideas()
    study = make_study(results.request.name, results.rows) if results.rows else None
    if study is None or not any(cell.finished for cell in study.cells):
        raise ValueError(f"{flag} {results.folder} has no finished run; run its sweep first")
    if set(study.axes) - {"batch_norm"} != set(COMPARED[sweep]):
        raise ValueError(
            f"{flag} {results.folder}: its runs differ in {', '.join(study.axes) or 'nothing but the seed'}, not in "
            f"{' and '.join(COMPARED[sweep])} (and perhaps batch_norm); give the folder of a sweep such as {sweep}"
        )
    return study


def by_scheme(study: Study) -> dict[Scheme, list[Cell]]:
    """A study's cells by scheme; cells and schemes are in the order of their mean dev loss."""
    groups: dict[Scheme, list[Cell]] = {}
    for cell in study.cells:
        groups.setdefault((cell.settings["init"], cell.settings["batch_norm"]), []).append(cell)
    return groups


def write_tables(folder: Path, tables: Iterable[TitledTable]) -> str:
    """Write each table to `tables/` as CSV and as Markdown; returns the Markdown of all of them."""
    sections = []
    for table in tables:
        sections.append(f"## {table.title}\n\n{as_markdown(table)}\n")
        replace_file(folder / "tables" / f"{table.name}.csv", csv_text(table.rows).encode())
        replace_file(folder / "tables" / f"{table.name}.md", sections[-1].encode())
    return "\n".join(sections)


def study_tables(studies: Studies) -> Iterator[TitledTable]:
    """The tables that the given sweeps allow; losses are in nats per token."""
    yield TitledTable(
        "schemes",
        f"Schemes (log of the vocabulary is {studies.baselines.uniform:.4f})",
        scheme_table(studies.schemes, studies.baselines.uniform),
        {
            "scheme": "scheme",
            "seeds": "seeds",
            "diverged": "diverged",
            "initial_loss": "loss at step 0",
            "initial_saturated_share": "saturated at step 0",
            "final_dead_units": "dead units at the end",
            "train_loss": "train",
            "dev_loss": "dev",
            "difference": "dev minus reference",
        },
    )
    yield TitledTable(
        "scheme_comparisons",
        f"Each scheme minus {scheme_label(*REFERENCE)}, p-values adjusted for all of these comparisons (Holm)",
        comparison_table(studies.schemes),
        {
            "scheme": "scheme",
            "difference": "dev minus reference",
            "p_difference": "p of no difference",
            "p_equivalence": f"p of more than {MARGIN}",
            "verdict": "verdict",
            "within_margin": f"within {MARGIN}",
        },
    )
    yield TitledTable(
        "definitions",
        "What each scheme draws",
        definition_table(studies.schemes),
        {"scheme": "scheme", "draws": "weights and biases", "source": "source"},
    )
    sizes = studies.schemes.cells[0].settings
    yield TitledTable(
        "places",
        "Where each scheme lies: normal with these factors, which are its standard deviations",
        place_table(RunConfig(**sizes | {"init": "normal"}).architecture(len(studies.baselines.tokens))),
        {
            "scheme": "scheme",
            "draw": "draws",
            "embedding_gain": "embedding",
            "gain": "hidden weights",
            "bias_gain": "biases",
            "output_gain": "output weights",
            "output_bias": "output bias",
        },
    )
    yield TitledTable(
        "batch_norm",
        "What batch norm changes",
        batch_norm_table(studies.schemes),
        {
            "scheme": "scheme",
            "without": "dev without",
            "with": "dev with batch norm",
            "difference": "with minus without",
        },
    )
    settings = studies.schemes.cells[0].settings
    is_lectures = all(settings[axis] == getattr(LECTURE, axis) for axis in AXES if axis not in FREE_AXES)
    if is_lectures and studies.baselines.data_hash == MAKEMORE_SHA256:
        yield TitledTable(
            "published",
            "The lecture's single runs, and the same configurations here",
            published_table(studies.schemes),
            {
                "scheme": "scheme",
                "split": "split",
                "published": "published",
                "loss": "here",
                "predicted": "one more run",
                "lowest_of_a_seed": "lowest seed",
                "highest_of_a_seed": "highest seed",
                "inside": "inside",
                "p_value": "p",
            },
        )
    if studies.rates:
        yield TitledTable(
            "rates",
            "Each scheme at the lecture's learning rate and at its own best one",
            rate_table(studies.rates),
            {
                "scheme": "scheme",
                "dev_loss_at_default_rate": f"dev at rate {LECTURE.learning_rate}",
                "difference_at_default_rate": "minus reference",
                "best_rate": "best rate",
                "at_edge": "lowest or highest tried",
                "tolerated": "not shown to be worse",
                "dev_loss_at_best_rate": "dev at best rate",
                "difference_at_best_rates": "minus reference at its best",
            },
        )
    if studies.depth:
        yield TitledTable(
            "depth",
            "Depth, gain and batch norm",
            depth_table(studies.depth),
            {
                "hidden layers": "hidden layers",
                "gain": "gain",
                "batch_norm": "batch norm",
                "diverged": "diverged",
                "initial_loss": "loss at step 0",
                "first_layer_initial_activation_std": "activation std, first layer",
                "last_layer_initial_activation_std": "activation std, last layer",
                "last_layer_initial_saturated_share": "saturated, last layer",
                "train_loss": "train",
                "dev_loss": "dev",
                "difference": "dev minus gain 5/3",
            },
        )


def scheme_table(study: Study, uniform_loss: float) -> Table:
    """One row a scheme: how it starts, where it ends, and its difference from the reference, paired by seed."""
    reference = by_scheme(study)[REFERENCE][0]
    return [
        {
            "scheme": scheme_label(*scheme),
            "seeds": len(cell.finished),
            "diverged": cell.n_diverged,
            **cell.estimate("initial_loss").columns("initial_loss"),
            "initial_loss_above_log_vocab": cell.estimate("initial_loss").mean - uniform_loss,
            **diagnostic(cell, "saturated_share", 0).columns("initial_saturated_share"),
            **diagnostic(cell, "dead_units", 0).columns("initial_dead_units"),
            **diagnostic(cell, "saturated_share", -1).columns("final_saturated_share"),
            **diagnostic(cell, "dead_units", -1).columns("final_dead_units"),
            **cell.estimate("train_loss").columns("train_loss"),
            **cell.estimate("dev_loss").columns("dev_loss"),
            **paired_difference(cell, reference).columns("difference"),
        }
        for scheme, (cell,) in by_scheme(study).items()
    ]


def comparison_table(study: Study) -> Table:
    """One row a scheme that has runs: whether it differs from the reference, and whether by less than MARGIN."""
    cells = {scheme: cells[0] for scheme, cells in by_scheme(study).items() if cells[0].finished}
    return [
        {"scheme": scheme_label(c.cell.settings["init"], c.cell.settings["batch_norm"]), **c.columns()}
        for c in compare(cells.values(), cells[REFERENCE])
    ]


def definition_table(study: Study) -> Table:
    """One row a scheme: what it draws, and where it comes from."""
    names = sorted({init for init, _ in by_scheme(study)})
    return [{"scheme": name, "draws": SCHEMES[name].summary, "source": SCHEMES[name].source} for name in names]


def place_table(architecture: Architecture) -> Table:
    """One row a scheme that does not look at the data: where it lies on the axes of initialisation, at these sizes."""
    return [{"scheme": name, **place_on_axes(name, architecture)} for name in SCHEMES if SCHEMES[name].adjust is None]


def place_on_axes(name: str, architecture: Architecture) -> dict[str, Any]:
    """The fields of `RunConfig` that make `normal` a scheme without `adjust`, for one hidden layer of these sizes.

    The factors are the standard deviations of the scheme's weights and biases, because those of `normal` are 1; that
    on the biases is of the hidden ones where the output bias is zero.
    """
    a, scheme = architecture, SCHEMES[name]
    hidden, output = (a.n_features, a.hidden_size), (a.hidden_size, a.vocab_size)
    std = SAMPLE_STDS.get(scheme.sample, 1.0)
    draw = next((name for name, sample in SAMPLES.items() if sample is scheme.sample), "its own")
    return {
        "init": "normal",
        "draw": ORTHOGONAL if scheme.orthogonal else draw,
        "embedding_gain": std * scheme.embedding(1, a.embedding_dim),
        "gain": scheme.draw_std(*hidden) * scheme.hidden(*hidden),
        "bias_gain": std * scheme.hidden_bias(*hidden),
        "output_gain": scheme.draw_std(*output) * scheme.output(*output),
        "output_bias": OWN if scheme.output_bias(*output) else ZERO_BIAS,
    }


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
        for init, batch_norm in cells
        if not batch_norm and (init, True) in cells
    ]


def published_table(study: Study) -> Table:
    """The lecture's single runs beside this study's runs of the same configurations, and where one more would fall."""
    cells, table = by_scheme(study), []
    for scheme, losses in PUBLISHED.items():
        for split, published in losses.items() if scheme in cells else ():
            cell = cells[scheme][0]
            values = [row[f"{split}_loss"] for row in cell.finished]
            prediction = predict_one_more(values, published)
            table.append(
                {
                    "scheme": scheme_label(*scheme),
                    "split": split,
                    "published": published,
                    **cell.estimate(f"{split}_loss").columns("loss"),
                    **prediction.columns("predicted"),
                    "lowest_of_a_seed": min(values, default=math.nan),
                    "highest_of_a_seed": max(values, default=math.nan),
                    "standard_deviation": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
                    "n_seeds": len(values),
                    "inside": prediction.holds,
                    "p_value": prediction.p_value,
                }
            )
    return table


def rate_table(study: Study) -> Table:
    """One row a scheme: its dev loss at the lecture's learning rate and at its own best one, and both differences.

    NaN stands for what a sweep of fewer schemes or rates does not have. `tolerated` are the rates that are not shown to
    be worse than the best.
    """
    at_best = by_scheme(tuned_study(study, ("learning_rate",)))
    at_default = {
        scheme: cell
        for scheme, cells in by_scheme(study).items()
        for cell in cells
        if math.isclose(cell.settings["learning_rate"], LECTURE.learning_rate)
    }
    nothing = estimate(())
    rates = {cell.settings["learning_rate"] for cell in study.cells}
    table = []
    for scheme, (best,) in at_best.items():
        cell, rate = at_default.get(scheme), best.settings["learning_rate"]
        reference, best_reference = at_default.get(REFERENCE), at_best.get(REFERENCE, [None])[0]
        difference = paired_difference(cell, reference) if cell and reference else nothing
        at_best_rates = paired_difference(best, best_reference) if best_reference else nothing
        near = tolerated(by_scheme(study)[scheme]) if best.finished else []
        table.append(
            {
                "scheme": scheme_label(*scheme),
                **(cell.estimate("dev_loss") if cell else nothing).columns("dev_loss_at_default_rate"),
                **difference.columns("difference_at_default_rate"),
                "best_rate": rate,
                "at_edge": rate in (min(rates), max(rates)),
                "tolerated": ", ".join(f"{rate:g}" for rate in sorted(c.settings["learning_rate"] for c in near)),
                **best.estimate("dev_loss").columns("dev_loss_at_best_rate"),
                **at_best_rates.columns("difference_at_best_rates"),
            }
        )
    return table


def depth_table(study: Study) -> Table:
    """One row a depth, gain and batch norm: scales at step 0, losses, and the difference from gain 5/3."""
    table = []
    order = ("n_layers", "batch_norm", "gain")
    for cell in sorted(study.cells, key=lambda cell: [cell.settings[axis] for axis in order]):
        alike = [c for c in study.cells if all(c.settings[a] == cell.settings[a] for a in ("n_layers", "batch_norm"))]
        reference = min(alike, key=lambda c: abs(c.settings["gain"] - TANH_GAIN))
        table.append(
            {
                "hidden layers": cell.settings["n_layers"],
                "gain": round(cell.settings["gain"], 4),
                "batch_norm": cell.settings["batch_norm"],
                "seeds": len(cell.finished),
                "diverged": cell.n_diverged,
                **cell.estimate("initial_loss").columns("initial_loss"),
                **diagnostic(cell, "activation_std", 0, 0).columns("first_layer_initial_activation_std"),
                **diagnostic(cell, "activation_std", 0, -1).columns("last_layer_initial_activation_std"),
                **diagnostic(cell, "saturated_share", 0, -1).columns("last_layer_initial_saturated_share"),
                **diagnostic(cell, "gradient_to_weight", 0, 1).columns("first_hidden_initial_gradient_to_weight"),
                **cell.estimate("train_loss").columns("train_loss"),
                **cell.estimate("dev_loss").columns("dev_loss"),
                **paired_difference(cell, reference).columns("difference"),
            }
        )
    return table


def as_markdown(table: TitledTable) -> str:
    """The columns that have a heading; a mean is shown with half its interval."""

    def text(row: dict[str, Any], name: str) -> str:
        value, high = row.get(name, math.nan), row.get(f"{name}_high", math.inf)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if not isinstance(value, float):
            return str(value)
        if not math.isfinite(value):
            return "-"
        if high == math.inf and 0 < value < 0.00005:  # A p-value.
            return "below 0.0001"
        sign = "+" if name.startswith("difference") and value > 0 else ""
        return f"{sign}{value:.4f}" + (f" ± {high - value:.4f}" if math.isfinite(high) else "")

    rows = [[text(row, name) for name in table.headings] for row in table.rows]
    return markdown_table(list(table.headings.values()), rows)
