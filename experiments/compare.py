"""`python -m experiments.compare DIR [DIR ...]`: the configurations of one folder or of several, and folders merged."""

import shlex
import sys
from collections.abc import Sequence

from rich.table import Table

from experiments.analysis.comparisons import p_text, why_reference
from experiments.analysis.folder_comparison import Comparison, compare, merge
from experiments.analysis.results import SweepResults, open_sweep
from experiments.analysis.studies import CONFIDENCE
from experiments.analysis.word_intervals import WordInterval, word_intervals
from experiments.cli.command import command, command_parser, folder_path
from experiments.cli.terminal import print_table, stdout_console, working
from experiments.report.build import write_report
from experiments.report.sections import Section, read_sections, write_sections
from experiments.runner.interrupt import Interruption
from experiments.store.atomic import replace_file
from experiments.sweep import write_analysis
from experiments.sweeps.text import count, csv_text, inert, markdown_table, printable

SHOWN_LINES = 20
EPILOG = """one folder: each configuration against the default one (or else the best one), with intervals over seeds,
and over seeds and dev words together, from the weights of its runs; also in the report and in tables/word_intervals.csv
two or more: the configurations that they have in common, paired by seed"""
HEADER = ("configuration", "seeds", "over seeds", "over seeds and dev words", "p")


@command("compare")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser(
        "compare", "Compare the configurations of a sweep's folder, or those that several have in common.", EPILOG
    )
    parser.add_argument("folders", nargs="+", type=folder_path, metavar="DIR", help="sweeps' folders")
    parser.add_argument("--out", type=folder_path, metavar="DIR", help="merge them into this folder, with a report")
    parser.add_ideas("the ideas file of their runs, where it is no longer the path that a sweep was given")
    options = parser.parse_args(arguments)
    if len({folder.resolve() for folder in options.folders}) < len(options.folders):
        parser.error("give each folder once")
    if len(options.folders) < 2 and options.out:
        parser.error("--out merges two folders or more, got one")
    several = [open_sweep(folder) for folder in options.folders]
    if len(several) == 1:
        compare_within(several[0])
        return 0
    # Folders without a common configuration can be merged all the same.
    comparison = None
    try:
        comparison = compare(several)
        print_comparison(comparison)
    except ValueError:
        if not options.out:
            raise
    if options.out:
        parts = ["python", "-m", "experiments.compare", *map(str, options.folders), "--out", str(options.out)]
        store = merge(several, options.out, shlex.join(parts))
        _, path = write_analysis(store, several[0].dataset)
        if comparison:
            replace_file(store.root / "tables" / "compare.csv", csv_text(list(comparison.rows())).encode())
        print(f"Merged {count(len(options.folders), 'folder')}: {printable(str(path))}")
    return 0


def compare_within(results: SweepResults) -> None:
    """Compare the configurations of one folder; prints them, and writes a table and the report."""
    with working("every dev word by every run, and the report ..."):
        intervals = word_intervals(results)
        kept = [section for section in read_sections(results.folder) if tuple(section.header) != HEADER]
        sections = [_section(results, intervals, name) for name in {one.study.name: None for one in intervals}]
        tables = results.folder / "tables"
        replace_file(tables / "word_intervals.csv", csv_text([one.columns() for one in intervals]).encode())
        text = "\n\n".join(
            f"## {inert(s.title)}\n\n{inert(s.text)}\n\n{markdown_table(s.header, s.rows)}" for s in sections
        )
        replace_file(tables / "word_intervals.md", f"{text}\n".encode())
        write_sections(results.folder, [*kept, *sections])
        path = write_report(results.folder)
    for section in sections:
        print(f"{printable(section.title)}\n")
        print_table(HEADER, section.rows)
        stdout_console().print(f"\n{printable(section.text)}\n")
    print(f"Report: {printable(str(path))}")


def _section(results: SweepResults, intervals: Sequence[WordInterval], name: str) -> Section:
    mine = [one for one in intervals if one.study.name == name]
    study, reference = mine[0].study, mine[0].reference
    run_ids = [row["run_id"] for cell in (reference, *(one.cell for one in mine)) for row in cell.finished]
    what = "stretches of dev" if results.is_running_text else "dev words"
    n_significant = sum(one.p < 1 - CONFIDENCE for one in mine)
    n_more = len(mine) - SHOWN_LINES
    more = f" {n_more:,} more are in tables/word_intervals.csv." if n_more > 0 else ""
    return Section(
        f"{name}: differences with other {what}",
        run_ids,
        f"Dev loss minus that of {study.label(reference)}, {why_reference(reference, study)}; paired by seed and "
        f"token, in nats per token. The first interval is 95 % over seeds, for these {what}; the second over seeds and "
        f"{what} drawn together, as in another sample of the same language on which the same networks are evaluated. "
        f"p is that of no difference over both, adjusted for all {count(len(mine), 'comparison')} (Holm 1979): "
        f"{n_significant} of them {'is' if n_significant == 1 else 'are'} significant at 5 %.{more}",
        HEADER,
        [
            [
                study.label(one.cell),
                str(one.over_seeds.n),
                one.over_seeds.signed(),
                one.over_both.signed(),
                p_text(one.p),
            ]
            for one in mine[:SHOWN_LINES]
        ],
    )


def print_comparison(comparison: Comparison) -> None:
    """Print the common configurations, and in two sentences what they say."""
    console = stdout_console()
    for letter, folder in zip(_letters(comparison), comparison.folders, strict=True):
        console.print(f"{letter}: {printable(str(folder))}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("configuration", overflow="fold")
    for letter in _letters(comparison):
        table.add_column(f"dev {letter}", justify="right", overflow="fold")
    for letter in _letters(comparison)[1:]:
        table.add_column(f"{letter} - A", justify="right", overflow="fold")
    for cell, sides in comparison.lines[:SHOWN_LINES]:
        devs = [f"{side.dev.mean:.4f}" if side and side.dev.n else "-" for side in sides]
        differences = [side.difference.signed() if side and side.difference.n else "-" for side in sides[1:]]
        table.add_row(printable(comparison.study.label(cell)), *devs, *differences)
    console.print(table)
    more = len(comparison.lines) - SHOWN_LINES
    if more > 0:
        console.print(f"  and {count(more, 'more configuration')}")
    n_equal = sum(side.n_equal for _, sides in comparison.lines for side in sides[1:] if side)
    n_all = sum(side.dev.n for _, sides in comparison.lines for side in sides[1:] if side)
    console.print(
        f"\n{count(len(comparison.lines), 'configuration')} in common; {n_equal} of {n_all} runs are the same run as "
        "in A with the same loss. Dev is over all seeds of a folder, a difference over those that both have."
    )
    if comparison.differences:
        console.print(
            f"{comparison.n_apart} of {count(len(comparison.differences), 'difference')}, paired by seed, "
            "have a 95 % interval without 0; of equal ones, one in twenty has."
        )


def _letters(comparison: Comparison) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(comparison.folders))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
