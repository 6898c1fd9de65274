"""A sweep's tables: ranked cells, differences paired by seed, yardsticks, and the winner's test loss."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.findings.analysis import Cell, Estimate, Row, Study, best_study, estimate, paired_difference
from experiments.findings.effects import best_run, effect_rows, interaction_rows, rise_from_lowest
from experiments.findings.figures import write_figures
from experiments.findings.finished import select_finished
from experiments.findings.importance import importance_rows
from experiments.findings.samples import keep_samples
from experiments.findings.tables import code, csv_text, inert, markdown_table
from experiments.findings.winner import HeldOut, evaluate_winner
from experiments.findings.yardsticks import Yardsticks, load_yardsticks
from experiments.material import Material
from experiments.record import DIVERGED
from experiments.request import Request, read_request
from experiments.running.failures import describe_failures, read_failures
from experiments.store import Store
from experiments.store.atomic import make_folder, replace_file

YARDSTICK_NOTE = (
    "Count models of the same training words; discounts, and the weights of deleted interpolation, are chosen on dev."
)
SHOWN_CELLS = 40  # In Markdown; the CSV has all.


@dataclass(frozen=True)
class Summary:
    """All that a sweep's tables and figures show."""

    request: Request
    rows: list[Row]
    studies: tuple[Study, ...]
    yardsticks: Yardsticks
    winner: tuple[Study, Cell, HeldOut] | None
    failures: dict[str, list[str]]


def write_summary(store: Store, material: Material) -> str:
    """Write `tables/` and `figures/` of a sweep's folder from its shards; returns the table as Markdown."""
    summary = summarise(store, material)
    text = as_markdown(summary)
    make_folder(store.root / "tables")
    replace_file(store.root / "tables" / "summary.csv", csv_text(list(_csv_rows(summary))).encode())
    replace_file(store.root / "tables" / "summary.md", text.encode())
    for name, told in (("importance", importance_rows), ("effects", effect_rows), ("interactions", interaction_rows)):
        replace_file(store.root / "tables" / f"{name}.csv", csv_text(list(told(summary.studies))).encode())
    write_figures(store, summary.studies, material.vocabulary)
    best = [best_run(study.best) for study in summary.studies]
    keep_samples(store, [row for row in best if row is not None], material)
    return text


def summarise(store: Store, material: Material) -> Summary:
    """Read the rows of the runs that were asked for, and weigh them."""
    finished = select_finished(store, read_request(store.root), store.rows())
    request, rows, studies = finished.request, finished.rows, finished.studies
    return Summary(
        request,
        rows,
        studies,
        load_yardsticks(store.root, request, material),
        _winner(store, studies, material),
        read_failures(store.root, request.run_ids - {row["run_id"] for row in rows}),
    )


def as_markdown(summary: Summary) -> str:
    """The tables in words and Markdown."""
    return (
        "\n\n".join(
            [_head(summary), *map(_study_section, summary.studies), _yardstick_section(summary), *_test(summary)]
        )
        + "\n"
    )


def _head(summary: Summary) -> str:
    request, rows = summary.request, summary.rows
    n_diverged = sum(row["status"] == DIVERGED for row in rows)
    made = sorted(
        {f"{row['device']}, commit {(row['commit'] or 'unknown')[:9]}{'+' if row['dirty'] else ''}" for row in rows}
    )
    return "\n".join(
        [
            f"# {inert(request.name)}: {inert(request.title)}",
            "",
            f"{len(rows)} of {len(request.run_ids)} runs done, {n_diverged} of them diverged; "
            f"{sum(row['n_steps'] for row in rows) / 1e6:,.1f} million steps. Losses are in nats per token, exact over "
            "whole splits; intervals are 95 % over seeds.",
            *(
                [f"**{inert(failed)}**"]
                if (failed := describe_failures(summary.failures, len(request.run_ids)))
                else []
            ),
            "",
            f"Command: {code(request.command)}",
            f"Data: {inert(request.data)}, sha256 {request.data_hash[:12]}. Made on: {'; '.join(made)}.",
        ]
    )


def _study_section(study: Study) -> str:
    header = [
        "rank",
        *(study.axes or ("configuration",)),
        "seeds",
        "dev",
        "to best",
        "dev, unseen names",
        "train",
        "parameters",
    ]
    rows = [_cells_row(rank, study, cell) for rank, cell in enumerate(study.cells[:SHOWN_CELLS], start=1)]
    more = len(study.cells) - len(rows)
    note = f"\n\n{more} more cells are in summary.csv." if more > 0 else ""
    return f"## {inert(study.name)}\n\n{markdown_table(header, rows)}{note}"


def _cells_row(rank: int, study: Study, cell: Cell) -> list[Any]:
    difference = paired_difference(cell, study.best)
    n = f"{len(cell.finished)}" + (f" ({cell.n_diverged} diverged)" if cell.n_diverged else "")
    return [
        rank,
        *([cell.settings[axis] for axis in study.axes] or ["the one"]),
        n,
        cell.estimate("dev_loss"),
        "best" if cell is study.best else _signed(difference),
        cell.estimate("dev_unseen_loss"),
        cell.estimate("train_loss"),
        f"{cell.rows[0]['n_params']:,}",
    ]


def _signed(difference: Estimate) -> str:
    text = str(difference)
    return text if text.startswith("-") else f"+{text}"


def _yardstick_section(summary: Summary) -> str:
    counts = summary.yardsticks
    rows = [[f"{family}, dev", *(_loss(row.dev_loss) for row in rows)] for family, rows in counts.families.items()]
    floors = ["floor: no model has a lower train loss", *map(_loss, counts.floors.values())]
    uniform = ["uniform: log of the vocabulary", *[_loss(counts.uniform)] * len(counts.lengths)]
    table = markdown_table(["context tokens", *map(str, counts.lengths)], [*rows, floors, uniform])
    return f"## Yardsticks\n\n{YARDSTICK_NOTE}\n\n{table}"


def _test(summary: Summary) -> Iterator[str]:
    if summary.winner:
        study, cell, held_out = summary.winner
        yield (
            f"## Test\n\nThe configuration of the lowest dev loss ({inert(study.name)}: {study.label(cell)}) has a "
            f"test loss of {estimate(held_out.losses)} over {len(held_out.losses)} seeds."
        )


def _winner(store: Store, studies: Sequence[Study], material: Material) -> tuple[Study, Cell, HeldOut] | None:
    study = best_study(studies)
    return (study, study.best, evaluate_winner(store, study.best, material)) if study else None


def _csv_rows(summary: Summary) -> Iterator[dict[str, Any]]:
    for study in summary.studies:
        for rank, cell in enumerate(study.cells, start=1):
            yield {"kind": "cell", "study": study.name, "rank": rank, **cell.settings} | _cell_numbers(study, cell)
    for row in summary.yardsticks.rows:
        told = {"kind": "yardstick", "study": row.family, "block_size": row.context_length, "dev_loss": row.dev_loss}
        yield told | {"discount": row.discount, "floor": row.floor, "distinct_contexts": row.distinct_contexts}
    yield {"kind": "yardstick", "study": "uniform", "dev_loss": summary.yardsticks.uniform}
    if summary.winner:
        study, cell, held_out = summary.winner
        yield {"kind": "test", "study": study.name, **cell.settings, **estimate(held_out.losses).columns("test_loss")}


def _cell_numbers(study: Study, cell: Cell) -> dict[str, Any]:
    return {
        "n_seeds": len(cell.finished),
        "n_diverged": cell.n_diverged,
        "n_params": cell.rows[0]["n_params"],
        **cell.estimate("dev_loss").columns("dev_loss"),
        **paired_difference(cell, study.best).columns("difference_to_best"),
        **cell.estimate("dev_unseen_loss").columns("dev_unseen_loss"),
        **cell.estimate("train_loss").columns("train_loss"),
        **rise_from_lowest(cell).columns("rise_from_lowest"),
    }


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "infinite"
