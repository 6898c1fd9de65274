"""What a terminal shows of a finished sweep: a table a study in 80 columns, what it means, and its report."""

from pathlib import Path

from rich.table import Table

from experiments.analysis.studies import Study, perplexity_of
from experiments.analysis.summary import Summary
from experiments.analysis.words import answers
from experiments.cli.terminal import stdout_console
from experiments.runner.rows import DIVERGED
from experiments.sweeps.text import count, printable

SHOWN_CELLS = 10


def print_summary(summary: Summary, report: Path) -> None:
    """Print the tables of a sweep, its answers, and the report's path, which is the last line."""
    console = stdout_console()
    request, rows = summary.results.request, summary.results.rows
    n_diverged = sum(row["status"] == DIVERGED for row in rows)
    steps = sum(row["n_steps"] for row in rows)
    console.print(
        f"\n{printable(request.name)}: {printable(request.title)}\n{len(rows):,} of "
        f"{count(len(request.run_ids), 'run')} done, {n_diverged} diverged, {steps:,} steps, "
        f"{printable(request.data)}"
    )
    for study in summary.results.studies:
        console.print(f"\n{printable(study.name)}: {study.fixed}")
        console.print(_table(study, summary.results.is_running_text))
        more = len(study.cells) - SHOWN_CELLS
        if more > 0:
            console.print(f"  and {count(more, 'more configuration')} in tables/summary.md")
        if study.caution:
            console.print(study.caution)
    console.print("\nLosses in nats per token; ± is half of a 95 % interval over seeds; to best: paired by seed.\n")
    for sentence in answers(summary.results, summary.baselines, summary.looks):
        console.print(printable(sentence))
    print(f"\nReport: {printable(str(report))}", flush=True)


def _table(study: Study, is_running_text: bool) -> Table:
    padding = 2 if len(study.axes) <= 2 else 1  # In 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, padding, 0, 0), header_style="")
    table.add_column("", justify="right", overflow="fold")
    for axis in study.axes or ("configuration",):
        table.add_column(axis.replace("_", " "), overflow="fold")
    for column in ("seeds", "dev", *(["perplexity"] if is_running_text else []), "to best"):
        table.add_column(column, justify="right", overflow="fold")
    for rank, cell in enumerate(study.cells[:SHOWN_CELLS], start=1):
        values = [printable(_short(cell.settings[axis])) for axis in study.axes] or ["the one"]
        seeds = f"{len(cell.finished)}" + (f" ({cell.n_diverged} diverged)" if cell.n_diverged else "")
        to_best = study.to_best_words(cell)
        dev = cell.estimate("dev_loss")
        perplexity = [f"{perplexity_of(dev.mean):.1f}" if dev.n else "-"] if is_running_text else []
        table.add_row(f"{rank}", *values, seeds, str(dev), *perplexity, to_best)
    return table


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
