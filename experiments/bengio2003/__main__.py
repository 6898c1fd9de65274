"""`python -m experiments.bengio2003 --data PATH`: the word-level models of Bengio et al. 2003, trained and compared."""

import signal

if __name__ == "__main__":  # Until `main` listens, Ctrl-C ends this process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence

from mlp_lm.data.material import TextMaterial, load_data, text_source
from mlp_lm.data.small_text import SMALL_TEXT

from experiments.bengio2003.models import MODELS, MODERN, RECIPES, TABLE, make_grid
from experiments.cli.command import Parser, command_parser
from experiments.cli.flags import add_runner_flags, check_runner_flags
from experiments.runner.interrupt import Interruption
from experiments.runner.run import Command, guard, run_sweep
from experiments.store import Store
from experiments.sweeps.grids import SweepSpec, near_match
from mlp_lm.data.texts import BROWN, CLOSED_VOCABULARY, TRAINING_VOCABULARY, VOCABULARIES

NAME = "bengio2003"
TITLE = "Bengio et al. 2003 on words: the models of Table 1"
EPILOG = """examples:
  python -m experiments.bengio2003                              a small text made here, in a minute
  python -m experiments.bengio2003 --data brown.zip             nltk's Brown corpus (or its folder), the modern recipe
  python -m experiments.bengio2003 --data brown                 the same, downloaded once
  python -m experiments.bengio2003 --data my.txt --models MLP9 --seeds 1
  python -m experiments.bengio2003 --data brown.zip --recipe paper --models MLP9 --seeds 1 --out results/as-then

The same command again trains only what is missing. `--vocabulary closed` counts the words of the whole text, as the
paper's numbers imply; the default counts those of the training part alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 where runs failed, 2 a mistake, 130 or 143 interrupted."""

    def body(interruption: Interruption) -> int:
        options = parse(arguments)
        return run_sweep(COMMAND, requested_study(options), options, interruption)

    return guard(COMMAND, body)


def requested_study(options: argparse.Namespace) -> SweepSpec:
    """The models that the command line names, each under each recipe.

    Raises:
        ValueError: the text cannot be had.
    """
    source = text_source(options.data, options.vocabulary)
    size = load_data(source).size
    grids = [
        make_grid(MODELS[name], recipe, size, options.seeds, options.epochs)
        for recipe in options.recipe
        for name in options.models
    ]
    small = "-small" if options.data == SMALL_TEXT else ""
    closed = "-closed" if options.vocabulary == CLOSED_VOCABULARY else ""
    return SweepSpec(f"{NAME}{small}{closed}", TITLE, tuple(grids), source)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag or a wrong value.
    """
    parser = command_parser(NAME, "Train the word-level models of Bengio et al. 2003 and compare them.", EPILOG)
    text = f"{SMALL_TEXT} (made here), {BROWN} (downloaded once), nltk's brown.zip or its folder, or any text file"
    parser.add_argument("--data", default=SMALL_TEXT, metavar="DATA", help=f"{text} ({SMALL_TEXT})")
    parser.add_argument(
        "--vocabulary", choices=VOCABULARIES, default=TRAINING_VOCABULARY, help="where words are counted"
    )
    parser.add_argument("--recipe", nargs="+", choices=RECIPES, default=[MODERN], help=f"how to train ({MODERN})")
    names = [model.name for model in TABLE]
    parser.add_argument(
        "--models", nargs="+", default=names, metavar="M", help=f"of {', '.join(MODELS)} ({' '.join(names)})"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1 for every model (3)")
    parser.add_argument("--epochs", type=float, metavar="X", help="passes over the training part (the recipe's own)")
    add_runner_flags(parser, f"{NAME}; with -small and -closed after it, where they apply")
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _check(parser: Parser, options: argparse.Namespace) -> None:
    check_runner_flags(parser, options)
    for name in options.models:
        if name not in MODELS:
            parser.error(f"unknown model {name!r}; {near_match(name, MODELS)}")
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    if options.epochs is not None and not 0 < options.epochs <= 1000:
        parser.error(f"--epochs must be above 0 and at most 1000, got {options.epochs}")


def _analyse(store: Store, material: TextMaterial, any_run: bool) -> None:
    if any_run:
        # JAX and matplotlib only where they are needed: a wrong command line is told at once.
        from experiments.bengio2003.summary import write_summary

        print(write_summary(store, material))


COMMAND = Command(NAME, _analyse)

if __name__ == "__main__":
    sys.exit(main())
