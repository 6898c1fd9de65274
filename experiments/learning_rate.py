"""`python -m experiments.learning_rate`: raise the learning rate at every step, and see where the loss is lowest.

The learning-rate finder of makemore lecture 2 (Smith 2017, section 3.3), for several seeds and configurations at once.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import replace

from experiments.analysis.rate_curves import RULE, LossCurve, rising_rates, write_curves
from experiments.cli.command import command, command_parser, complain, folder_path
from experiments.cli.flags import (
    add_axes,
    add_data_flags,
    add_seed_flags,
    folder_name,
    given_axes,
    requested_source,
)
from experiments.cli.terminal import stdout_console
from experiments.runner.devices import WIDEST
from experiments.runner.interrupt import Interruption
from experiments.runner.plan import check_feasible
from experiments.runner.run import RESULTS
from experiments.store.atomic import make_folder
from experiments.sweeps.grids import Grid
from experiments.sweeps.text import printable
from mlp_lm.config import AXES, RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.data.word_lists import DEFAULT_DATA

# The finder sets the rate of every step itself, and neither evaluates nor looks inside.
NOT_AXES = (
    "learning_rate", "schedule", "warmup", "decay_factor", "decay_at", "patience", "inverse_time_rate", "n_steps",
    "n_evaluations", "diagnostics",
)  # fmt: skip
NAME = "learning-rate"  # Of the folder.
LEAST_STEPS, MOST_STEPS = 50, 1_000_000
FARTHEST_EXPONENT = 30  # Rates are float32, which end at 3.4e38.

EPILOG = """examples:
  python -m experiments.learning_rate --init normal kaiming_tanh
  python -m experiments.learning_rate --optimizer adam --low-exponent -5 --high-exponent -1
  python -m experiments.learning_rate --batch-size 0 --steps 300      full-batch gradient descent"""


@command("learning_rate")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    source = requested_source(options, DEFAULT_DATA)
    folder = options.out or RESULTS / (NAME if source == DEFAULT_DATA else folder_name(NAME, source))
    dataset = load_dataset(source)
    for caution in dataset.cautions:
        complain("learning_rate", caution)
    configurations: dict[RunConfig, list[RunConfig]] = defaultdict(list)
    for run in Grid().override(given_axes(options), options.seeds, options.first_seed):
        configurations[replace(run, seed=0)].append(run)
    for runs in configurations.values():  # All seeds of one train side by side.
        check_feasible(runs, dataset, 1, WIDEST)
    rates = rising_rates(options.steps, options.low_exponent, options.high_exponent)
    make_folder(folder)
    from mlp_lm.rate_finder import rate_finder_losses  # JAX only once the command line is known to be right.

    curves = []
    for config, runs in configurations.items():
        losses = rate_finder_losses(config, dataset, rates, [run.seed for run in runs])
        settings = {axis: getattr(config, axis) for axis in AXES if axis not in NOT_AXES}
        curves.append(LossCurve(settings, rates, losses))
        print(printable(str(curves[-1])), flush=True)
    write_curves(folder, curves)
    stdout_console().print(f"Chosen: {RULE}.")
    print(printable(f"Written to {folder}"))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag or a wrong value.
    """
    parser = command_parser("learning_rate", f"Find a learning rate: {RULE}.", EPILOG)
    text = f"where to write ({RESULTS}/{NAME}, and of other data a folder named after them)"
    parser.add_argument("--out", type=folder_path, metavar="DIR", help=text)
    parser.add_argument("--steps", type=int, default=1000, metavar="INT", help="rates, one a step (1000)")
    parser.add_argument(
        "--low-exponent", type=float, default=-3.0, metavar="FLOAT", help="of ten, at the first step (-3)"
    )
    parser.add_argument(
        "--high-exponent", type=float, default=0.0, metavar="FLOAT", help="of ten, at the last step (0)"
    )
    add_seed_flags(parser, "seeds of every configuration (8)", default=8)
    parser.add_ideas()
    add_data_flags(parser)
    add_axes(parser, without=NOT_AXES)
    options = parser.parse_args(arguments)
    if not LEAST_STEPS <= options.steps <= MOST_STEPS:
        parser.error(f"--steps must be between {LEAST_STEPS} and {MOST_STEPS:,}, got {options.steps}")
    low, high = options.low_exponent, options.high_exponent
    if not -FARTHEST_EXPONENT <= low < high <= FARTHEST_EXPONENT:
        parser.error(f"exponents must rise within -{FARTHEST_EXPONENT} to {FARTHEST_EXPONENT}, got {low} and {high}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
