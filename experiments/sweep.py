"""`python -m experiments.sweep [NAME]`: train every run of a sweep that is missing, and report on all of them."""

import signal

if __name__ == "__main__":  # Until `main` listens, Ctrl-C ends this process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from pathlib import Path

from experiments.analysis.summary import write_summary
from experiments.cli.command import Parser, command, command_parser
from experiments.cli.flags import (
    add_axes,
    add_data_flags,
    add_runner_flags,
    add_seed_flags,
    check_list_alone,
    requested_sweep,
    runner_options,
)
from experiments.cli.terminal import CommandLine
from experiments.report.build import write_report
from experiments.runner.interrupt import Interruption
from experiments.runner.run import run_sweep
from experiments.store import Store
from experiments.sweeps.catalog import SWEEPS
from mlp_lm.data.dataset import Dataset, load_dataset

EPILOG = """examples:
  python -m experiments.sweep                                  the default sweep, in a few minutes
  python -m experiments.sweep initialisation --seeds 3         a named sweep with fewer seeds
  python -m experiments.sweep single --hidden-size 50 100 200 --out results/local/width
  python -m experiments.sweep --config my_sweep.toml --dry-run
  python -m experiments.sweep --config my_sweep.toml --shard 3/64     one process of a job array of 64
  python -m experiments.sweep --out s3://my-bucket/default     shards in a bucket, and a copy in results/local/default

The same command again trains only what is missing. An axis given here replaces that axis in every study."""


@command("sweep", saves=True)
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code: 0, 1 where runs failed, 2 a mistake, 130 or 143 interrupted."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.list:
        check_list_alone(parser, options)
        print_catalog()
        return 0
    if options.config and options.name:
        parser.error(f"give either a sweep's name or --config, got {options.name!r} and {str(options.config)!r}")
    how = runner_options(parser, options)
    sweep = requested_sweep(options)
    return run_sweep(
        sweep, load_dataset(sweep.data), how, CommandLine("sweep"), interruption, analyse, "experiments.sweep"
    )


def analyse(store: Store, dataset: Dataset) -> None:
    """Write a folder's tables, figures and report, and print the tables."""
    text = write_summary(store, dataset)
    path = write_report(store.root)
    print(text)
    print(f"Report: {path}")


def print_catalog() -> None:
    """The named sweeps, with their number of runs and steps."""
    for sweep in SWEEPS.values():
        runs = [run for runs in sweep.expand("").values() for run in runs.values()]
        steps = sum(run.n_steps for run in runs)
        print(f"{sweep.name:20} {len(runs):6,} runs {steps / 1e6:8,.2f} million steps   {sweep.title}")


def make_parser() -> Parser:
    """The flags of the command."""
    parser = command_parser("sweep", "Train a sweep of multilayer-perceptron language models and report on it.", EPILOG)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a named sweep (see --list; default: default)")
    parser.add_argument("--list", action="store_true", help="show the named sweeps and their size")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a sweep of your own, in TOML")
    parser.add_argument("--title", metavar="TEXT", help="the title of its page")
    add_seed_flags(parser, "seeds 0 to N-1 for every configuration")
    parser.add_ideas()
    add_runner_flags(parser)
    add_data_flags(parser)
    add_axes(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
