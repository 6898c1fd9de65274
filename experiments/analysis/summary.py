"""A sweep's tables: ranked configurations, differences paired by seed, baselines, and the winner's test loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from experiments.analysis.comparisons import comparison_rows, tuned_rows
from experiments.analysis.diagnostics import EXPLANATION, diagnostic_rows, diagnostic_table, has_diagnostics
from experiments.analysis.effects import (
    best_run,
    difference_rows,
    effect_rows,
    importance_rows,
    interaction_rows,
    rise_from_lowest,
)
from experiments.analysis.figures import write_figures
from experiments.analysis.looks import HeldOut, read_looks
from experiments.analysis.response import marginal_rows, neighbour_rows, response_rows
from experiments.analysis.results import SweepResults, load_baselines, ranked_table, read_failures, select_results
from experiments.analysis.sequential_figures import plot_seeds, seed_outcomes, seed_rows
from experiments.analysis.studies import Cell, Study, estimate
from experiments.analysis.style import STYLE, file_stems, save_figure
from experiments.analysis.tradeoffs import tradeoff_rows
from experiments.analysis.trained_models import keep_samples, look_at_test
from experiments.analysis.words import made_on
from experiments.runner.rows import DIVERGED
from experiments.store import Store
from experiments.store.atomic import replace_file
from experiments.store.small_files import describe_failures
from experiments.sweeps.request import read_request
from experiments.sweeps.text import code, count, csv_text, inert, markdown_table
from mlp_lm.data.dataset import SAMPLED_TRAINING, Dataset
from mlp_lm.ngram.baselines import Baselines

BASELINE_NOTE = (
    "Count models of the same training part; discounts, and the weights of deleted interpolation, are chosen on dev."
)
TABLES = {
    "importance": importance_rows,
    "effects": effect_rows,
    "interactions": interaction_rows,
    "differences": difference_rows,  # Of unbalanced studies, which have none of the others.
    "comparisons": comparison_rows,  # Where there are two seeds or more.
    "tuned": tuned_rows,  # Of studies with learning rates or gains to choose from.
    "range_importance": response_rows,  # Of studies whose axes have ranges.
    "marginals": marginal_rows,
    "neighbours": neighbour_rows,
    "tradeoffs": tradeoff_rows,
    "diagnostics": diagnostic_rows,
}
ALWAYS = ("importance", "effects", "interactions")  # The others where there are any.
SHOWN_CELLS = 40  # In Markdown; the CSV has all.


@dataclass(frozen=True)
class Summary:
    """All that a sweep's tables and figures show."""

    results: SweepResults
    baselines: Baselines
    looks: dict[str, HeldOut]  # At the test part, by study, for its best configuration.
    failures: dict[str, list[str]]


def write_summary(store: Store, dataset: Dataset, test: bool = False) -> Summary:
    """Write `tables/` and `figures/` of a sweep's folder from its shards; `test` looks at each winner's test loss."""
    results = select_results(store, read_request(store.root), set_aside=True)
    if test:
        for study in results.studies:
            if study.best.finished:
                look_at_test(results, study.best, f"{study.name}: {study.label(study.best)}")
    summary = Summary(
        results,
        load_baselines(store.root, results.request, dataset),
        looks_of(results),
        read_failures(store.root, results.request.run_ids - {row["run_id"] for row in results.rows}),
    )
    text = as_markdown(summary)
    tables = store.root / "tables"
    replace_file(tables / "summary.csv", csv_text(list(_csv_rows(summary))).encode())
    replace_file(tables / "summary.md", text.encode())
    for name, make_rows in TABLES.items():
        _write_table(tables / f"{name}.csv", list(make_rows(results.studies)), always=name in ALWAYS)
    write_figures(store, results.studies, dataset.vocabulary)
    _write_design(results)
    best = [best_run(study.best) for study in results.studies]
    keep_samples(results, [row for row in best if row is not None])
    return summary


def _write_table(path: Path, rows: list[dict[str, Any]], always: bool = False) -> None:
    """Write a table; one that has no rows any more goes, unless it is always there."""
    if rows or always:
        replace_file(path, csv_text(rows).encode())
    else:
        path.unlink(missing_ok=True)


def _write_design(results: SweepResults) -> None:
    """The tables and figures of how runs were chosen, where they were not all at once."""
    _write_table(results.folder / "tables" / "seeds.csv", list(seed_rows(results)))
    outcomes = {study.name: outcome for study, outcome in seed_outcomes(results)}
    with plt.rc_context(STYLE):
        for study, stem in zip(results.studies, file_stems([study.name for study in results.studies]), strict=True):
            path = results.folder / "figures" / f"{stem}_seeds.png"
            if study.name in outcomes:
                save_figure(plot_seeds(study, outcomes[study.name]), path)
            else:
                path.unlink(missing_ok=True)


def looks_of(results: SweepResults) -> dict[str, HeldOut]:
    """By study, the look at the test part that its best configuration has had, if any."""
    looks = {tuple(look.run_ids): look for look in read_looks(results.folder) if not look.together}
    winners = {study.name: tuple(row["run_id"] for row in study.best.finished) for study in results.studies}
    return {name: looks[run_ids] for name, run_ids in winners.items() if run_ids in looks}


def as_markdown(summary: Summary) -> str:
    """The tables in words and Markdown."""
    text = summary.results.is_running_text
    sections = [
        _head(summary),
        *(_study_section(study, text) for study in summary.results.studies),
        _baseline_section(summary.baselines),
    ]
    if summary.looks:
        lines = [
            f"- {inert(look.what)}: {estimate(look.losses)} over {count(len(look.losses), 'seed')}, look {look.look} "
            "at the test part in this folder"
            for look in summary.looks.values()
        ]
        sections.append("## Test\n\nTest losses of configurations that were chosen on dev.\n\n" + "\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _head(summary: Summary) -> str:
    request, rows = summary.results.request, summary.results.rows
    n_asked, n_diverged = len(request.run_ids), sum(row["status"] == DIVERGED for row in rows)
    failed = describe_failures(summary.failures, n_asked)
    lines = [
        f"# {inert(request.name)}: {inert(request.title)}",
        "",
        f"{len(rows)} of {count(n_asked, 'run')} done, {n_diverged} of them diverged; "
        f"{sum(row['n_steps'] for row in rows) / 1e6:,.1f} million steps. {describe_losses(summary.results)} "
        "Intervals are 95 % over seeds.",
        *([f"**{inert(failed)}**"] if failed else []),
        "",
        f"Command: {code(request.command)}",
        f"Data: {inert(request.data)}, sha256 {request.data_hash[:12]}. Made on: {made_on(rows)}.",
    ]
    return "\n".join(lines)


def describe_losses(results: SweepResults) -> str:
    """What the losses of a sweep are."""
    if results.is_running_text:
        return (
            f"Losses are in nats per token, over all of dev; the train loss is that of every {SAMPLED_TRAINING}th "
            "window. Unseen are dev windows whose context is not in the training part."
        )
    return "Losses are in nats per token, exact over whole splits."


def _study_section(study: Study, is_running_text: bool) -> str:
    header, rows = ranked_table(study, SHOWN_CELLS, is_running_text)
    more = len(study.cells) - len(rows)
    note = f"\n\n{count(more, 'more configuration')} {'is' if more == 1 else 'are'} in summary.csv." if more > 0 else ""
    caution = f"\n\n{study.caution}" if study.caution else ""
    inside = ""
    if has_diagnostics(study):
        inside = f"\n\n### Inside the models\n\n{EXPLANATION}\n\n{markdown_table(*diagnostic_table(study))}"
    return f"## {inert(study.name)}\n\n{study.fixed}.\n\n{markdown_table(header, rows)}{note}{caution}{inside}"


def _baseline_section(baselines: Baselines) -> str:
    rows = [[f"{family}, dev", *(_loss(row.dev_loss) for row in rows)] for family, rows in baselines.families.items()]
    floors = ["floor: no model has a lower train loss", *map(_loss, baselines.floors.values())]
    uniform = ["uniform: log of the vocabulary", *[_loss(baselines.uniform)] * len(baselines.lengths)]
    table = markdown_table(["context tokens", *map(str, baselines.lengths)], [*rows, floors, uniform])
    return f"## Baselines\n\n{BASELINE_NOTE}\n\n{table}"


def _csv_rows(summary: Summary) -> Iterator[dict[str, Any]]:
    for study in summary.results.studies:
        for rank, cell in enumerate(study.cells, start=1):
            yield {"kind": "cell", "study": study.name, "rank": rank, **cell.settings} | _cell_numbers(study, cell)
    for row in summary.baselines.rows:
        yield {
            "kind": "baseline",
            "study": row.family,
            "block_size": row.context_length,
            "dev_loss": row.dev_loss,
            "discount": row.discount,
            "floor": row.floor,
            "distinct_contexts": row.distinct_contexts,
        }
    yield {"kind": "baseline", "study": "uniform", "dev_loss": summary.baselines.uniform}
    for study in summary.results.studies:
        if study.name in summary.looks:
            losses = estimate(summary.looks[study.name].losses).columns("test_loss")
            yield {"kind": "test", "study": study.name, **study.best.settings, **losses}


def _cell_numbers(study: Study, cell: Cell) -> dict[str, Any]:
    return {
        "n_seeds": len(cell.finished),
        "n_diverged": cell.n_diverged,
        "n_params": cell.rows[0]["n_params"],
        **cell.estimate("dev_loss").columns("dev_loss"),
        **study.to_best(cell).columns("difference_to_best"),
        **cell.estimate("dev_unseen_loss").columns("dev_unseen_loss"),
        **cell.estimate("train_loss").columns("train_loss"),
        **rise_from_lowest(cell).columns("rise_from_lowest"),
    }


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "infinite"
