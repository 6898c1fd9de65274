"""`python -m experiments.compare DIR DIR [...]`: the same configurations side by side, and folders merged."""

import shlex
import sys

from rich.table import Table

from experiments.analysis.folder_comparison import Comparison, compare, merge
from experiments.analysis.results import open_sweep
from experiments.cli.command import command, command_parser, folder_path
from experiments.cli.terminal import stdout_console
from experiments.runner.interrupt import Interruption
from experiments.store.atomic import replace_file
from experiments.sweep import write_analysis
from experiments.sweeps.text import count, csv_text, printable

SHOWN_LINES = 20


@command("compare")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser(
        "compare", "Compare the configurations that sweeps' folders have in common, paired by seed; or merge them."
    )
    parser.add_argument("folders", nargs="+", type=folder_path, metavar="DIR", help="sweeps' folders, two or more")
    parser.add_argument("--out", type=folder_path, metavar="DIR", help="merge them into this folder, with a report")
    options = parser.parse_args(arguments)
    if len({folder.resolve() for folder in options.folders}) < max(2, len(options.folders)):
        parser.error("give two folders or more, each once")
    several = [open_sweep(folder) for folder in options.folders]
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
