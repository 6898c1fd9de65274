"""The part of the study that rests on its sweeps, from their folders: tables and figures; nothing is trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.analysis.baselines import Yardsticks, load_yardsticks
from experiments.analysis.finished import Finished, open_finished
from experiments.analysis.picture import save_figure
from experiments.analysis.studies import Study, make_study
from experiments.analysis.style import STYLE, scheme_label
from experiments.analysis.tables import csv_text
from experiments.initialisation import sweep_figures as figures
from experiments.initialisation.overview import draw_overview
from experiments.initialisation.tables import (
    REFERENCE,
    Table,
    as_markdown,
    batch_norm_table,
    by_scheme,
    definition_table,
    depth_table,
    published_table,
    rate_table,
    scheme_table,
)
from experiments.store.atomic import replace_file
from experiments.sweeps.catalog import LECTURE
from experiments.sweeps.request import FILE_NAME
from mlp_lm.data.word_lists import MAKEMORE_SHA256

SCHEME_COLUMNS = {
    "scheme": "scheme",
    "seeds": "seeds",
    "diverged": "diverged",
    "initial_loss": "loss at step 0",
    "initial_saturated_share": "saturated at step 0",
    "final_dead_units": "dead units at the end",
    "train_loss": "train",
    "dev_loss": "dev",
    "difference": "dev minus reference",
}
DEFINITION_COLUMNS = {"scheme": "scheme", "draws": "weights and biases", "source": "source"}
RATE_COLUMNS = {
    "scheme": "scheme",
    "dev_loss_at_default_rate": "dev at rate 0.1",
    "difference_at_default_rate": "minus reference",
    "best_rate": "best rate",
    "dev_loss_at_best_rate": "dev at best rate",
    "difference_at_best_rates": "minus reference at its best",
}
DEPTH_COLUMNS = {
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
}
BATCH_NORM_COLUMNS = {
    "scheme": "scheme",
    "without": "dev without",
    "with": "dev with batch norm",
    "difference": "with minus without",
}
PUBLISHED_COLUMNS = {
    "scheme": "scheme",
    "published_train_loss": "published train",
    "train_loss": "our train",
    "published_dev_loss": "published dev",
    "dev_loss": "our dev",
    "lowest_of_a_seed": "our lowest seed",
    "highest_of_a_seed": "our highest seed",
    "expected_low": "expected from",
    "expected_high": "to",
    "holds": "holds",
}


@dataclass(frozen=True)
class Studies:
    """The sweeps of the study; `rates` and `depth` where they have been run."""

    schemes: Study
    rates: Study | None
    depth: Study | None
    yardsticks: Yardsticks


def read_study(finished: Finished, rates: Path, depth: Path) -> Studies:
    """The studies of three sweep folders, the last two of which may be missing.

    Raises:
        ValueError: the first one holds no run of the reference scheme.
    """
    schemes = _study(finished)
    if schemes is None or REFERENCE not in by_scheme(schemes):
        raise ValueError(
            f"{finished.store.root} has no run of {scheme_label(*REFERENCE)}, with which all are compared: "
            "run `python -m experiments.sweep initialisation`"
        )
    return Studies(schemes, _optional(rates), _optional(depth), load_yardsticks(finished.store.root, finished.request))


def write_sweep_part(folder: Path, study: Studies, vocab_size: int) -> str:
    """Write the tables and figures that the sweeps allow; returns the tables as Markdown."""
    text = []
    for name, title, table, columns in _tables(study, vocab_size):
        text.append(f"## {title}\n\n{as_markdown(table, columns)}\n")
        replace_file(folder / "tables" / f"{name}.csv", csv_text(table).encode())
        replace_file(folder / "tables" / f"{name}.md", text[-1].encode())
    with plt.rc_context(STYLE):
        for name, figure in _figures(study):
            save_figure(figure, folder / "figures" / f"{name}.png")
    return "\n".join(text)


def _tables(study: Studies, vocab_size: int) -> Iterator[tuple[str, str, Table, dict[str, str]]]:
    uniform = f"log of the vocabulary is {math.log(vocab_size):.4f}"
    yield "schemes", f"Schemes ({uniform})", scheme_table(study.schemes, vocab_size), SCHEME_COLUMNS
    yield "definitions", "What each scheme draws", definition_table(study.schemes), DEFINITION_COLUMNS
    yield "batch_norm", "What batch norm changes", batch_norm_table(study.schemes), BATCH_NORM_COLUMNS
    at_full_length = study.schemes.cells[0].settings["n_steps"] == LECTURE.n_steps
    if study.yardsticks.data_hash == MAKEMORE_SHA256 and at_full_length:
        yield "published", "The lecture's single runs beside ours", published_table(study.schemes), PUBLISHED_COLUMNS
    if study.rates:
        table = rate_table(study.rates, LECTURE.learning_rate)
        yield "rates", "Each scheme at the lecture's rate and at its own best one", table, RATE_COLUMNS
    if study.depth:
        yield "depth", "Depth, gain and batch norm", depth_table(study.depth), DEPTH_COLUMNS


def _figures(study: Studies) -> Iterator[tuple[str, Figure]]:
    yield "overview", draw_overview(study.schemes, study.yardsticks)
    yield "schemes_curves", figures.draw_curves(study.schemes)
    rates = rate_table(study.rates, LECTURE.learning_rate) if study.rates else []
    title = f"each at its own best rate{figures.lengths(study.rates)}" if study.rates else ""
    panels = [(f"all at rate 0.1{figures.lengths(study.schemes)}", study.schemes)]
    yield "schemes_forest", figures.draw_forest(panels, rates, title)
    if any(row.get("history_saturated_share") for cell in study.schemes.cells for row in cell.rows):
        yield "schemes_saturation", figures.draw_saturation(study.schemes)
        yield "schemes_updates", figures.draw_updates(study.schemes)
    if study.rates:
        yield "rates_curves", figures.draw_rates(study.rates)
    if study.depth:
        yield "depth_scales", figures.draw_depth(study.depth)


def _optional(folder: Path) -> Study | None:
    return _study(open_finished(folder)) if (folder / FILE_NAME).exists() else None


def _study(finished: Finished) -> Study | None:
    return make_study(finished.request.name, finished.rows) if finished.rows else None
