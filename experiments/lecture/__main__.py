"""`python -m experiments.lecture`: the makemore lecture, number by number, and a page of it."""

import argparse
import sys
import time

from experiments.cli.command import command, command_parser, folder_path, positive
from experiments.cli.flags import add_data_flags, requested_source
from experiments.cli.terminal import CommandLine
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.interrupt import Interruption
from experiments.runner.run import RESULTS, RunOptions, run_sweep
from experiments.store import Store
from experiments.store.atomic import make_folder
from experiments.sweeps.text import printable
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.word_lists import DEFAULT_DATA, MAKEMORE_DATA

LARGEST_BATCH = 128  # Of the sweep `lecture`.
EPILOG = """examples:
  python -m experiments.lecture                           the lecture's list, downloaded once
  python -m experiments.lecture --data ssa2018            the embedded list, where there is no network
  python -m experiments.lecture --data my_words.txt       words of your own, without published numbers
  python -m experiments.sweep lecture                     the trainings alone, with their tables and report

The same command again trains only what is missing."""


@command("lecture", saves=True)
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code: 0, 1 where runs failed, 2 a mistake, 130 or 143 interrupted."""
    options = parse(arguments)
    names = load_words(requested_source(options, MAKEMORE_DATA))
    from experiments.lecture.walk import (
        SECTIONS,
        Walk,
        default_folder,
        lecture_sweep,
    )  # JAX only once the words are there.

    folder = options.out or default_folder(names, options.quick)
    page = options.page or folder / "lecture"
    make_folder(page / "figures")
    started = time.monotonic()
    sweep, how = lecture_sweep(names, options.quick), RunOptions(out=folder, workers=options.workers)
    terminal = CommandLine("lecture")

    def no_report(store: Store, dataset: Dataset) -> None:
        """The walk's page takes its place; `experiments.sweep lecture` writes one."""

    exit_code = run_sweep(sweep, names, how, terminal, interruption, no_report, "experiments.lecture")
    if exit_code:
        return exit_code
    from experiments.analysis.results import open_sweep
    from experiments.lecture.page import make_chapter, write_page
    from mlp_lm.settings import pinned_settings

    use_compilation_cache()
    walk = Walk(names, open_sweep(folder))
    chapters = []
    print("what: printed | ours | agreement")
    with pinned_settings():
        for name, (title, _) in SECTIONS.items():
            chapters.append(make_chapter(walk, name, walk.measure(name), page))
            print(f"\n{title}")
            for what, printed, ours, verdict in chapters[-1].rows(walk.is_own):
                print(printable(f"  {what}: {' | '.join(filter(None, (printed, ours, verdict)))}"), flush=True)
    path = write_page(page, walk, chapters)
    print(f"\n{printable(str(path))} has all of it, with figures and code ({time.monotonic() - started:.0f} s)")
    return 0


def load_words(source: str) -> Dataset:
    """The list of words to walk on.

    Raises:
        ValueError: it cannot be had, is running text, or is too short for the lecture's batches.
    """
    try:
        names = load_dataset(source)
    except ValueError as error:
        if source == MAKEMORE_DATA:
            raise ValueError(f"{error}; or --data {DEFAULT_DATA}, the embedded list") from None
        raise
    if names.is_running_text:
        raise ValueError(
            f"{names.name} is running text; the lecture is about a list of words: give one with --data FILE"
        )
    if names.n_windows < LARGEST_BATCH:
        raise ValueError(
            f"{names.name} has {names.n_windows} training windows, fewer than a batch of {LARGEST_BATCH}; "
            "give a longer list"
        )
    return names


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag or a wrong value.
    """
    parser = command_parser(
        "lecture", "The makemore lecture, number by number: what it prints, and what we get.", EPILOG
    )
    parser.add_argument("--out", type=folder_path, metavar="DIR", help=f"where runs are kept ({RESULTS}/lecture)")
    parser.add_argument("--page", type=folder_path, metavar="DIR", help="where the page is written (lecture in --out)")
    parser.add_argument("--quick", action="store_true", help="a hundredth of every training, to see that all works")
    parser.add_argument("--workers", type=positive, metavar="INT", help="processes, one a core (default: all cores)")
    add_data_flags(parser, words=False)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
