"""`python -m experiments.sweep [NAME]`: train every run of a sweep that is not there yet, and say what came of it."""

import argparse
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

from experiments.catalog import SWEEPS
from experiments.execute import BLOCK_WIDTH, Job, available_cores, compilation_cache, execute
from experiments.interrupt import Interruption
from experiments.material import Material, load_material
from experiments.plan import Cohort, n_programs, plan, plan_seconds
from experiments.progress import Display, format_seconds
from experiments.request import make_request, write_request
from experiments.spec import AXES, RunSpec, SweepSpec, near_match, parse_value, sweep_from_dict
from experiments.store import Store
from experiments.summary import write_summary

EPILOG = """examples:
  python -m experiments.sweep                                  the default sweep, in a few minutes
  python -m experiments.sweep initialisation --seeds 3         a named sweep with fewer seeds
  python -m experiments.sweep --hidden-size 50 100 200 --init kaiming_tanh --out results/width
  python -m experiments.sweep --config my_sweep.toml --dry-run

The same command again trains only what is missing. An axis given here replaces that axis in every study."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    try:
        options = parse(arguments)
        if options.list:
            print_catalog()
            return 0
        return run(requested_sweep(options), options)
    except (ValueError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2


def run(sweep: SweepSpec, options: argparse.Namespace) -> int:
    """Train what is missing of a sweep, and write its tables and figures."""
    material = load_material(sweep.data)
    studies = sweep.expand(material.corpus.sha256)
    asked = {run_id: run for runs in studies.values() for run_id, run in runs.items()}
    _check_against_data(asked.values(), material)
    store = Store(options.out or Path("results") / sweep.name)
    cores = available_cores()[: options.workers]
    if options.dry_run:
        _print_plan(sweep, asked, plan(_missing(asked, store.run_ids()), material.n_windows, BLOCK_WIDTH), len(cores))
        return 0
    with store.lock():
        contents = store.rows(columns=())
        for message in contents.damaged:
            print(f"sweep: {message}", file=sys.stderr)
        missing = _missing(asked, set(contents.table["run_id"].to_pylist()))
        write_request(store.root, make_request(sweep, studies, material))
        job = Job(sweep.data, store.root, compilation_cache())
        code = train(plan(missing, material.n_windows, BLOCK_WIDTH), job, cores, len(asked) - len(missing))
        if code < 128:
            print(write_summary(store, material))
        return code


def train(cohorts: Sequence[Cohort], job: Job, cores: Sequence[int], n_done_before: int) -> int:
    """Train cohorts with a progress display; 0, 1 where runs failed, or 128 + a signal's number."""
    estimate = plan_seconds(cohorts, len(cores))
    with Interruption() as interruption, Display(cohorts, len(cores), n_done_before, estimate) as display:
        for event in execute(cohorts, job, cores, lambda: bool(interruption)):
            if event.model_steps:
                display.steps(event.cohort, event.model_steps)
            if event.rows:
                display.runs(row["dev_loss"] for row in event.rows)
            if event.failure:
                display.failed(event.cohort, event.failure)
    if interruption:
        print("sweep: stopped, everything so far is saved; the same command goes on from here", file=sys.stderr)
        return interruption.exit_code
    return 1 if display.n_failed else 0


def requested_sweep(options: argparse.Namespace) -> SweepSpec:
    """The sweep that the command line names, with its axes set as the command line has them."""
    if options.config:
        sweep = sweep_from_dict(_read_toml(options.config), options.config.stem)
    elif options.name in SWEEPS:
        sweep = SWEEPS[options.name]
    else:
        raise ValueError(f"unknown sweep {options.name!r}; {near_match(options.name, SWEEPS)} (--list shows them)")
    given = {name: getattr(options, name) for name in AXES if getattr(options, name) is not None}
    axes = {name: tuple(parse_value(name, text) for text in texts) for name, texts in given.items()}
    return replace(sweep.override(axes, options.seeds), data=options.data or sweep.data)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, one flag for every field of a run."""
    parser = _Parser(
        prog="python -m experiments.sweep",
        description="Train a sweep of multilayer-perceptron language models and report on it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="default", metavar="NAME", help="a named sweep (see --list)")
    parser.add_argument("--list", action="store_true", help="show the named sweeps and their size")
    parser.add_argument("--dry-run", action="store_true", help="show the plan: runs, cohorts, compilations, time")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a sweep of your own, in TOML")
    parser.add_argument("--data", metavar="DATA", help="ssa2018 (embedded), makemore (downloaded once) or a file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the sweep's folder (default: results/NAME)")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 for every cell")
    parser.add_argument("--workers", type=int, metavar="N", help="processes, one a core (default: all cores)")
    axes = parser.add_argument_group("axes, one or more values each")
    for field in fields(RunSpec):
        if field.name in AXES:
            flag, text, choices = f"--{field.name.replace('_', '-')}", field.metadata["help"], field.metadata["choices"]
            known = f": {', '.join(choices)}" if choices else ""
            axes.add_argument(flag, dest=field.name, nargs="+", metavar="X", help=f"{text}{known} ({field.default})")
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.config and options.name != "default":
        parser.error(f"give either a sweep's name or --config, got {options.name!r} and {str(options.config)!r}")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self._near_flag(message)} (--help shows all flags)")

    def _near_flag(self, message: str) -> str:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if not message.startswith("unrecognized") or not unknown.startswith("-"):
            return message
        flags = [flag for action in self._actions for flag in action.option_strings]
        return (
            f"unknown flag {unknown!r}; {near_match(unknown, flags)}"
            if near_match(unknown, flags)[0] == "d"
            else message
        )


def print_catalog() -> None:
    """The named sweeps, with their number of runs and steps."""
    for sweep in SWEEPS.values():
        runs = [run for runs in sweep.expand("").values() for run in runs.values()]
        steps = sum(run.n_steps for run in runs)
        print(f"{sweep.name:16} {len(runs):6,} runs {steps / 1e6:8,.2f} million steps   {sweep.title}")


def _print_plan(sweep: SweepSpec, asked: dict[str, RunSpec], cohorts: Sequence[Cohort], n_workers: int) -> None:
    n_missing = sum(len(cohort.runs) for cohort in cohorts)
    print(
        f"{sweep.name}: {len(asked):,} runs, {n_missing:,} to train in {len(cohorts):,} cohorts, "
        f"{n_programs(cohorts)} programs to compile, on {n_workers} cores: "
        f"about {format_seconds(plan_seconds(cohorts, n_workers))}"
    )


def _missing(asked: dict[str, RunSpec], done: set[str]) -> list[RunSpec]:
    return [run for run_id, run in asked.items() if run_id not in done]


def _check_against_data(runs: Iterable[RunSpec], material: Material) -> None:
    largest = max(run.batch_size for run in runs)
    if largest > material.n_windows:
        raise ValueError(
            f"batch_size {largest} exceeds the {material.n_windows} training windows of {material.corpus.name}; "
            "give a smaller one, or 0 for all of them"
        )


def _read_toml(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give a sweep file in TOML") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as TOML ({error})") from None


if __name__ == "__main__":
    sys.exit(main())
