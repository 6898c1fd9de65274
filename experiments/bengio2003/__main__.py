"""`python -m experiments.bengio2003 --data PATH`: the word-level models of Bengio et al. 2003, trained and compared."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.analysis.looks import this_command
from experiments.analysis.results import SweepResults, select_results
from experiments.bengio2003.models import MODELS, MODERN, RECIPES, TABLE, make_grid
from experiments.cli.command import Parser, command, command_parser, complain
from experiments.cli.flags import add_choice, add_machine_flags, add_output_flags, add_vocabulary_flag, runner_options
from experiments.cli.terminal import CommandLine, print_table, stdout_console, working
from experiments.report.build import write_report
from experiments.runner.interrupt import Interruption
from experiments.runner.run import RESULTS, run_sweep
from experiments.store import Store
from experiments.sweeps.grids import SweepSpec
from experiments.sweeps.request import make_request, read_request
from experiments.sweeps.text import printable
from mlp_lm.config import near_match
from mlp_lm.data.dataset import WORDS, Dataset, dataset_source, load_dataset
from mlp_lm.data.texts import BROWN, CLOSED_VOCABULARY, SMALL_TEXT, TRAINING_VOCABULARY

if TYPE_CHECKING:
    from experiments.bengio2003.table import Summary

NAME = "bengio2003"
TITLE = "Bengio et al. 2003 on words: the models of Table 1"
EPILOG = """examples:
  python -m experiments.bengio2003                              a small text made here, in a minute
  python -m experiments.bengio2003 --data brown.zip             nltk's Brown corpus (or its folder), the modern recipe
  python -m experiments.bengio2003 --data brown                 the same, downloaded once
  python -m experiments.bengio2003 --data brown --test          also test perplexities: a look that is counted
  python -m experiments.bengio2003 --data my.txt --models MLP9 --seeds 1
  python -m experiments.bengio2003 --data brown.zip --recipe paper --models MLP9 --seeds 1 --out results/local/as-then
  python -m experiments.bengio2003 --data brown.zip --models MLP9 --seeds 1 --out results/bengio2003     a published one

The same command again trains only what is missing. `--vocabulary closed` counts the words of the whole text, as the
paper's numbers imply; the default counts those of the training part alone. A folder in which all runs are done, but
whose weights are elsewhere, is read and left as it is."""


@command(NAME, saves=True)
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code: 0, 1 where runs failed, 2 a mistake, 130 or 143 interrupted."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    how = runner_options(parser, options)
    check(parser, options)
    dataset = load_dataset(dataset_source(options.data, WORDS, options.vocabulary))
    sweep = requested_sweep(options, dataset)
    if not how.dry_run and not how.shard:
        published = open_published(sweep, dataset, how.out or RESULTS / sweep.name)
        if published is not None:
            print_published(published)
            return 0
    program = f"experiments.{NAME}"
    test = this_command(program, arguments) if options.test else None
    return run_sweep(sweep, dataset, how, CommandLine(NAME), interruption, partial(analyse, test=test), program)


def requested_sweep(options: argparse.Namespace, dataset: Dataset) -> SweepSpec:
    """The models that the command line names, each under each recipe."""
    grids = [
        make_grid(MODELS[name], recipe, dataset.n_windows, options.seeds, options.epochs)
        for recipe in options.recipe
        for name in options.models
    ]
    small = "-small" if options.data == SMALL_TEXT else ""
    closed = "-closed" if options.vocabulary == CLOSED_VOCABULARY else ""
    return SweepSpec(f"{NAME}{small}{closed}", TITLE, tuple(grids), dataset.source)


def analyse(store: Store, dataset: Dataset, test: str | None = None) -> None:
    """Write a folder's tables, map and report, and print the tables."""
    # JAX only where it is needed: a wrong command line is reported at once.
    from experiments.bengio2003.table import write_tables

    with working("mixtures, tables and the report ..."):
        summary = write_tables(select_results(store, read_request(store.root), set_aside=True), test)
        path = write_report(store.root)
    print_summary(summary)
    print(printable(f"Report: {path}"))


def print_summary(summary: "Summary") -> None:
    """Print the paper's table in few columns, and what it says."""
    header = ("model", "training", "seeds", "validation", "test", "paper")
    rows = [line.as_short_texts() for line in summary.lines]
    stdout_console().print(f"\n{printable(summary.title)}: perplexities, with those of the paper's test part\n")
    print_table(header, rows, n_names=2)
    stdout_console().print(f"\n{printable(summary.sections[0].text)}\n")
    if summary.left_out:
        print(printable(summary.left_out))


def open_published(sweep: SweepSpec, dataset: Dataset, folder: object) -> SweepResults | None:
    """A folder in which all runs of the sweep are done, but weights are missing; None for any other."""
    if not isinstance(folder, Path):
        return None
    store, request = Store(folder), make_request(sweep, sweep.expand(dataset.sha256), dataset, f"experiments.{NAME}")
    results = select_results(store, request)
    is_done = {row["run_id"] for row in results.rows} == request.run_ids
    return results if is_done and not all(map(store.has_weights, results.rows)) else None


def print_published(results: SweepResults) -> None:
    """The tables of a folder without weights, which stays as it is: what it keeps cannot be made anew.

    Test perplexities are shown where it keeps some; a look at the test part that is not written down is none.
    """
    from experiments.bengio2003.table import summarise

    print_summary(summarise(results))
    complain(NAME, f"{results.folder} has no weights of some runs: it is read, and left as it is")


def make_parser() -> Parser:
    """The flags of the command."""
    parser = command_parser(NAME, "Train the word-level models of Bengio et al. 2003 and compare them.", EPILOG)
    text = f"{SMALL_TEXT} (made here), {BROWN} (downloaded once), nltk's brown.zip or its folder, or any text file"
    parser.add_argument("--data", default=SMALL_TEXT, metavar="DATA", help=f"{text} ({SMALL_TEXT})")
    names = [model.name for model in TABLE]
    parser.add_argument(
        "--models", nargs="+", default=names, metavar="NAME", help=f"of {', '.join(MODELS)} ({' '.join(names)})"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="INT", help="how many seeds for every model (3)")
    add_choice(parser, "--recipe", RECIPES, f"how to train ({MODERN})", nargs="+", default=[MODERN])
    parser.add_argument("--epochs", type=float, metavar="FLOAT", help="passes over the text (the recipe's own number)")
    parser.add_argument("--test", action="store_true", help="also the test perplexities, as the paper's table has them")
    add_vocabulary_flag(parser, TRAINING_VOCABULARY)
    folder = f"{NAME}, with -small and -closed after it where they apply"
    add_output_flags(parser, folder)
    add_machine_flags(parser, folder)
    return parser


def check(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse values that no study has.

    Raises:
        ValueError: there is one.
    """
    for name in options.models:
        if name not in MODELS:
            parser.error(f"unknown model {name!r}; {near_match(name, MODELS)}")
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    if options.epochs is not None and not 0 < options.epochs <= 1000:
        parser.error(f"--epochs must be above 0 and at most 1000, got {options.epochs}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
