"""`python -m experiments.sweep [NAME]`: train every run of a sweep that is missing, and report on all of them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Parser, command, command_parser
from experiments.cli.flags import (
    add_axes,
    add_data_flags,
    add_machine_flags,
    add_output_flags,
    add_point_flags,
    add_seed_flags,
    add_stage_flags,
    check_list_alone,
    check_stage_flags,
    requested_sweep,
    runner_options,
)
from experiments.cli.terminal import CommandLine, Quiet, working
from experiments.runner import run as runner
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.interrupt import Interruption
from experiments.runner.stages import LongerStages, Stages, Studies
from experiments.store import Store
from experiments.sweeps.catalog import SWEEPS
from experiments.sweeps.grids import Grid, SweepSpec
from mlp_lm.config import DEFAULTS, LARGEST_INT
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.ideas import load_ideas
from mlp_lm.settings import pinned_settings

if TYPE_CHECKING:
    from experiments.analysis.results import SweepResults
    from experiments.analysis.summary import Summary

EPILOG = """examples:
  python -m experiments.sweep                                  the default sweep, in a few minutes
  python -m experiments.sweep initialisation --seeds 3         a named sweep with fewer seeds
  python -m experiments.sweep single --hidden-size 50 100 200 --out results/local/width
  python -m experiments.sweep single --learning-rate 0.01:1:log --weight-decay 1e-5:1e-2:log --points 32
  python -m experiments.sweep initialisation --n-steps 20000 --until 0.003 --max-seeds 32
  python -m experiments.sweep single --learning-rate 0.01:1:log --points 27 --n-steps 2000 --then 3x
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
    if options.config and options.name is not None:
        parser.error(f"give either a sweep's name or --config, got {options.name!r} and {str(options.config)!r}")
    how = runner_options(parser, options)
    check_stage_flags(parser, options)
    sweep = requested_sweep(options)
    choose: Callable[[Studies], Stages] | None = None
    if options.then is not None:
        choose = partial(LongerStages, factor=options.then, most_steps=options.then_steps or LARGEST_INT)
    if options.until is not None:
        from experiments.analysis.sequential import SeedStages  # SciPy is slow to import.

        first = sweep.grids[0].first_seed
        sweep = sweep.override({}, options.max_seeds, first)
        choose = partial(SeedStages, width=options.until, max_seeds=options.max_seeds, first_seed=first)
    dataset, terminal = load_dataset(sweep.data), CommandLine("sweep")
    analyse = partial(print_analysis, test=options.test)
    return runner.run_sweep(
        sweep, dataset, how, terminal, interruption, analyse, choose=choose, prepare=prepare_analysis
    )


def run_sweep(
    grids: Grid | Sequence[Grid],
    seeds: int | None = None,
    out: str | Path | None = None,
    *,
    data: str | Path | Dataset = "ssa2018",
    ideas: str | Path | None = None,
    name: str = "python",
    title: str = "A sweep from Python",
    workers: int | None = None,
    device: str = "auto",
) -> "SweepResults":
    """Train every run of some grids that is missing in a folder, and open the results.

        study = run_sweep(Grid(hidden_size=[100, 200]), seeds=5, out="results/local/mine")
        study.to_pandas()

    Tables, figures and `report.html` are written into the folder as by the command. Works in notebooks, and in scripts
    without a `__main__` guard; the same call again trains only what is missing.

    Args:
        grids: what to train; configurations of grids of one study are compared with each other.
        seeds: how many for every configuration (by default each grid's own number).
        out: the sweep's folder (by default results/local/NAME).
        data: a dataset, or what `mlp_lm.load_dataset` takes.
        ideas: a file of your own schemes, schedules, optimisers or activations, if it is not loaded already.
        name: the sweep's name.
        title: the title of its page.
        workers: processes, one a core (by default all cores).
        device: `auto`, `cpu`, `gpu` or `tpu`.

    Raises:
        ValueError: a value no run can have, or a folder that holds other data.
        RuntimeError: runs failed; the message says why.
        KeyboardInterrupt: it was interrupted, with everything so far saved.
    """
    if ideas is not None:
        load_ideas(ideas)
    several = (grids,) if isinstance(grids, Grid) else tuple(grids)
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    sweep = SweepSpec(name, title, several, dataset.source).override({}, seeds)
    options = runner.RunOptions(out=None if out is None else Path(out), workers=workers, device=device)
    terminal = Quiet(name)
    with Interruption() as interruption:
        exit_code = runner.run_sweep(
            sweep,
            dataset,
            options,
            terminal,
            interruption,
            write_analysis,
            code=_as_code(sweep, ideas),
            prepare=prepare_analysis,
        )
    if interruption:
        raise KeyboardInterrupt
    if exit_code:
        raise RuntimeError(terminal.messages[-1])
    from experiments.analysis.results import open_sweep

    return open_sweep(options.out or runner.RESULTS / name)


def _as_code(sweep: SweepSpec, ideas: str | Path | None) -> str:
    """The call as one might write it."""

    def call(name: str, *values: str, **named: object) -> str:
        return f"{name}({', '.join([*values, *(f'{key}={value!r}' for key, value in named.items())])})"

    grids = []
    for grid in sweep.grids:
        own = {"study": "grid", "n_seeds": 1, "first_seed": 0, "zipped": ()} | ({"n_points": 0} if grid.ranges else {})
        given = {key: getattr(grid, key) for key, default in own.items() if getattr(grid, key) != default}
        changed = {key: value for key, value in asdict(grid.base).items() if value != DEFAULTS[key]}
        grids.append(call("Grid", **given | changed | grid.axes | grid.ranges))
    more = {} if sweep.data == SweepSpec.data else {"data": sweep.data}
    more |= {} if ideas is None else {"ideas": str(ideas)}
    return call("run_sweep", grids[0] if len(grids) == 1 else f"[{', '.join(grids)}]", **more)


def write_analysis(store: Store, dataset: Dataset, test: bool = False) -> "tuple[Summary, Path]":
    """Write a folder's tables, figures and report; returns what they show, and the report's path."""
    # SciPy and matplotlib only where there is something to analyse: training starts without them.
    from experiments.analysis.summary import write_summary
    from experiments.report.build import write_report

    with pinned_settings():
        return write_summary(store, dataset, test), write_report(store.root)


def prepare_analysis(store: Store, dataset: Dataset) -> None:
    """Do what `write_analysis` does whatever was trained: slow imports, and the count models of a word list.

    Those of a text are left to it: they need memory, which training may need, too.
    """
    from experiments.analysis.results import BASELINES_FILE
    from experiments.report import build  # noqa: F401
    from mlp_lm import sampling  # noqa: F401
    from mlp_lm.ngram.baselines import measure_baselines

    if not dataset.is_running_text and not (store.root / BASELINES_FILE).exists():
        measure_baselines(dataset)  # Which are kept in memory.


def print_analysis(store: Store, dataset: Dataset, test: bool = False) -> None:
    """Write a folder's tables, figures and report, and print what they say."""
    from experiments.cli.summary import print_summary

    use_compilation_cache()
    with working("tables, figures and the report ..."):
        analysis = write_analysis(store, dataset, test)
    print_summary(*analysis)


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
    add_output_flags(parser)
    add_seed_flags(parser, "how many seeds for every configuration")
    parser.add_argument("--title", metavar="TEXT", help="the title of its page")
    parser.add_argument("--test", action="store_true", help="also look at the test loss of each study's best")
    add_point_flags(parser)
    parser.add_ideas()
    add_data_flags(parser)
    add_axes(parser)
    add_stage_flags(parser)
    add_machine_flags(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
