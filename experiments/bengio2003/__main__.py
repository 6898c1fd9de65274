"""`python -m experiments.bengio2003 --data PATH`: the word-level models of Bengio et al. 2003, trained and compared."""

import signal

if __name__ == "__main__":  # Until `main` listens, Ctrl-C ends this process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.bengio2003.models import MODELS, MODERN, RECIPES, TABLE, make_grid
from experiments.command import Parser, command_parser
from experiments.findings.tables import printable
from experiments.material import TextMaterial, load_data, text_source
from experiments.request import FILE_NAME, encode_request, make_request
from experiments.running.devices import DEVICES, choose_device, widest_block
from experiments.running.execute import places_of
from experiments.running.failures import by_reason, describe_failures
from experiments.running.interrupt import Interrupted, Interruption
from experiments.running.ledger import CannotContinue
from experiments.running.plan import plan_seconds
from experiments.running.progress import format_seconds
from experiments.running.worker import Job, first_line
from experiments.spec import RunSpec, SweepSpec, near_match
from experiments.store import Store
from experiments.sweep import SAVED, plan_missing, train
from mlp_lm.small_text import SMALL_TEXT
from mlp_lm.text import BROWN, TRAINING_VOCABULARY, VOCABULARIES

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
    with Interruption() as interruption:
        try:
            return run(parse(arguments), interruption)
        except Interrupted:
            _complain(f"interrupted, {SAVED}")
            return interruption.exit_code
        except (ValueError, OSError, CannotContinue) as error:
            _complain(first_line(error))
            return 2


def run(options: argparse.Namespace, interruption: Interruption) -> int:
    """Train what is missing, and write tables, figures and the report."""
    source = text_source(options.data, options.vocabulary)
    material = load_data(source)
    assert isinstance(material, TextMaterial)
    grids = [
        make_grid(MODELS[name], recipe, material.size, options.seeds, options.epochs)
        for recipe in options.recipe
        for name in options.models
    ]
    sweep = SweepSpec(NAME, TITLE, tuple(grids), source)
    studies = sweep.expand(material.sha256)
    asked = {run_id: run for runs in studies.values() for run_id, run in runs.items()}
    device = choose_device(options.device)
    places = places_of(device)[: options.workers]
    store = Store(options.out)
    if options.dry_run:
        _print_plan(asked, store, material, device, len(places))
        return 0
    with store.lock():
        request = make_request(sweep, studies, material, "experiments.bengio2003")
        store.folder.put(FILE_NAME, encode_request(request))
        job = Job(source, store.location, cache=True, device=device)
        cohorts = plan_missing(asked, _sound_runs(store), store, material.size, widest_block(device))
        failures = train(cohorts, job, places, len(asked), interruption)
        if interruption:
            _complain(f"stopped, {SAVED}")
            return interruption.exit_code
        store.drop_checkpoints_of(asked.keys() - failures.keys())
        if len(failures) < len(asked):
            _analyse(store, material)
        _complain(describe_failures(by_reason(failures), len(asked)))
        return 1 if failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag or a wrong value.
    """
    parser = command_parser(NAME, "Train the word-level models of Bengio et al. 2003 and compare them.", EPILOG)
    text = f"{SMALL_TEXT} (made here), {BROWN} (downloaded once), nltk's brown.zip or its folder, or any text file"
    parser.add_argument("--data", default=SMALL_TEXT, metavar="DATA", help=f"{text} ({SMALL_TEXT})")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"the results' folder (results/{NAME}, or -small)")
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
    parser.add_argument("--workers", type=int, metavar="N", help="processes, one a core (all cores)")
    parser.add_argument("--device", choices=("auto", *DEVICES), default="auto", help="what trains (auto: the fastest)")
    parser.add_argument("--dry-run", action="store_true", help="show how much there is to train")
    options = parser.parse_args(arguments)
    _check(parser, options)
    options.out = options.out or Path("results") / (f"{NAME}-small" if options.data == SMALL_TEXT else NAME)
    return options


def _check(parser: Parser, options: argparse.Namespace) -> None:
    for name in options.models:
        if name not in MODELS:
            parser.error(f"unknown model {name!r}; {near_match(name, MODELS)}")
    for name in ("seeds", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if options.epochs is not None and not 0 < options.epochs <= 1000:
        parser.error(f"--epochs must be above 0 and at most 1000, got {options.epochs}")


def _sound_runs(store: Store) -> set[str]:
    contents = store.rows(columns=())
    for message in contents.damaged:
        _complain(message)
    return set(contents.table["run_id"].to_pylist())


def _print_plan(asked: dict[str, RunSpec], store: Store, material: TextMaterial, device: str, n_workers: int) -> None:
    size = material.size
    cohorts = plan_missing(asked, store.run_ids(), store, size, widest_block(device))
    n_missing = sum(len(cohort.runs) for cohort in cohorts)
    time = f"about {format_seconds(plan_seconds(cohorts, n_workers))} on {n_workers} cores"
    text = f"{printable(material.name)}: {size.n_windows:,} training tokens, a vocabulary of {size.vocab_size:,}"
    where = time if device == "cpu" else f"on this machine's {device}"
    print(f"{text}; {len(asked)} runs, {n_missing} to train, {where}")


def _analyse(store: Store, material: TextMaterial) -> None:
    # JAX and matplotlib only where they are needed: a wrong command line is told at once.
    from experiments.bengio2003.summary import write_summary

    print(write_summary(store, material))


def _complain(message: str) -> None:
    if message:
        print(f"{NAME}: {printable(message)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
