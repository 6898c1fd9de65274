"""The experiment runner: train what is missing of a sweep, here or on many machines, and have it analysed."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.findings.tables import printable
from experiments.material import Material, TextMaterial, load_data
from experiments.request import FILE_NAME, encode_request, make_request
from experiments.running.devices import DEVICES, choose_device, widest_block
from experiments.running.execute import Execute, execute, places_of
from experiments.running.failures import by_reason, describe_failures, read_failures, write_failures
from experiments.running.feasible import check_feasible
from experiments.running.interrupt import Interrupted, Interruption
from experiments.running.ledger import CannotContinue
from experiments.running.plan import Cohort, block_width, n_programs, plan, plan_seconds
from experiments.running.progress import Display, format_seconds
from experiments.running.worker import Job, first_line
from experiments.spec import RunSpec, SweepSpec
from experiments.store import Store
from experiments.store.atomic import explained
from experiments.store.mirror import copy_analysis, fetch

SAVED = "everything so far is saved; the same command goes on from here"


@dataclass(frozen=True)
class Command:
    """What a command that trains sweeps adds to the runner.

    It is `python -m experiments.NAME`, and its messages begin with NAME. `analyse(store, material, any_run)` writes
    and prints what is told of a folder; `any_run` is whether it has a finished run.
    """

    name: str
    analyse: Callable[[Store, Any, bool], None]

    def complain(self, message: str) -> None:
        """A message on stderr, if there is one."""
        if message:
            print(f"{self.name}: {printable(message)}", file=sys.stderr)


def guard(command: Command, body: Callable[[Interruption], int]) -> int:
    """Run a command's body; returns its exit code: 0, 1 where runs failed, 2 a mistake, 130 or 143 interrupted."""
    with Interruption() as interruption:
        try:
            return body(interruption)
        except Interrupted:
            command.complain(f"interrupted, {SAVED}")
            return interruption.exit_code
        except BrokenPipeError:  # Of `| head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except (ValueError, OSError, CannotContinue) as error:
            command.complain(first_line(error))
            return 2


def run_sweep(command: Command, sweep: SweepSpec, options: argparse.Namespace, interruption: Interruption) -> int:
    """Train what is missing of a sweep, and have its folder analysed; options are those of `add_runner_flags`."""
    material = load_data(sweep.data)
    studies = sweep.expand(material.sha256)
    asked = {run_id: run for runs in studies.values() for run_id, run in runs.items()}
    device = _device(options)
    widest = widest_block(device)
    places = places_of(device)[: options.workers]
    check_feasible(
        asked.values(),
        material,
        1 if options.address else len(places),
        lambda run: min(block_width(run, widest, material.size.vocab_size), len(asked)),
    )
    ours = _slice(asked, options.shard, material, widest)
    store = Store(options.out or Path("results") / sweep.name)
    if options.dry_run:
        _print_plan(sweep, ours, _plan(ours, store.run_ids(), store, material, widest), device, len(places))
        return 0
    with store.lock(shared=options.shard is not None), _here(store, options, sweep) as here, explained(here.location):
        done = store.run_ids() if options.shard else _sound_runs(command, store)
        request = make_request(sweep, studies, material, f"experiments.{command.name}")
        store.folder.put(FILE_NAME, encode_request(request))
        job = Job(sweep.data, store.location, cache=True, device=device)
        cohorts = _plan(ours, done, store, material, widest)
        failures = _train(cohorts, job, places, len(ours), interruption, _executor(options))
        if interruption:
            command.complain(f"stopped, {SAVED}")
            return interruption.exit_code
        if options.shard:
            return _end_slice(command, failures, ours)
        store.drop_checkpoints_of(asked.keys() - failures.keys())
        for kept in (store,) if here is store else (store, here):
            write_failures(kept, failures)
        _analyse(command, store, here, material, any_run=len(failures) < len(asked))
        command.complain(describe_failures(read_failures(here.root, asked.keys()), len(asked)))
        return 1 if failures else 0


def _train(
    cohorts: Sequence[Cohort],
    job: Job,
    places: Sequence[int | None],
    n_asked: int,
    interruption: Interruption,
    execute: Execute,
) -> dict[str, str]:
    """Train cohorts with a progress display; returns the reason of every run that was given up."""
    n_done_before = n_asked - sum(len(cohort.runs) for cohort in cohorts)
    failures: dict[str, str] = {}
    display = Display(cohorts, n_done_before, plan_seconds(cohorts, len(places)))
    events = execute(cohorts, job, places, lambda: bool(interruption))
    with interruption.deferred(), display, contextlib.closing(events):
        for event in events:
            if event.model_steps:
                display.steps(event.cohort, event.model_steps, event.resumed)
            if event.rows:
                display.runs(row["dev_loss"] for row in event.rows)
            if event.failure:
                display.failed(event.cohort, printable(event.failure))
                failures |= {run.run_id: event.failure for run in event.cohort.runs}
    return failures


def _device(options: argparse.Namespace) -> str:
    """What trains: of another machine's cluster we know no more than we are told."""
    if options.address and options.device in DEVICES:
        return str(options.device)
    device = choose_device(options.device)
    if device == "tpu" and options.executor == "ray":
        raise ValueError("--executor ray trains on cores and GPUs; give --device cpu, or --shard on each machine")
    return device


@contextlib.contextmanager
def _here(store: Store, options: argparse.Namespace, sweep: SweepSpec) -> Iterator[Store]:
    """The store that tables are made from: the sweep's own, or a copy in a folder of this machine."""
    if isinstance(store.location, Path) or options.shard:
        yield store
    else:
        here = Store(options.fetch_to or Path("results") / sweep.name)
        with here.lock():
            yield here


def _analyse(command: Command, store: Store, here: Store, material: Material | TextMaterial, any_run: bool) -> None:
    if here is not store:
        for message in fetch(store, here):
            command.complain(message)
    command.analyse(here, material, any_run)
    if here is not store:
        copy_analysis(here.folder, store.folder)
        print(f"{store.location} is copied to {printable(str(here.root))}, for the other commands")


def _slice(
    asked: dict[str, RunSpec], shard: tuple[int, int] | None, material: Material | TextMaterial, widest: int
) -> dict[str, RunSpec]:
    """The runs of slice I of N: every N-th cohort of the whole sweep's plan, whatever is done already."""
    if shard is None:
        return asked
    number, total = shard
    cohorts = plan(asked.values(), material.size, widest)[number - 1 :: total]
    return {run.run_id: run for cohort in cohorts for run in cohort.runs}


def _sound_runs(command: Command, store: Store) -> set[str]:
    """The runs that are done; what is damaged is set aside, which a slice may not do: another one may be writing."""
    contents = store.rows(columns=())
    for message in contents.damaged:
        command.complain(message)
    return set(contents.table["run_id"].to_pylist())


def _plan(
    asked: dict[str, RunSpec], done: set[str], store: Store, material: Material | TextMaterial, widest: int
) -> tuple[Cohort, ...]:
    """The cohorts of the runs that are not done; those that have a checkpoint stay whole."""
    missing = [run for run_id, run in asked.items() if run_id not in done]
    begun = [metadata["run_ids"] for metadata in store.begun().values() if "run_ids" in metadata]
    return plan(missing, material.size, widest, begun)


def _executor(options: argparse.Namespace) -> Execute:
    if options.executor == "local":
        return execute
    from experiments.running.ray_executor import on_ray  # Ray is an extra.

    return on_ray(options.address)


def _end_slice(command: Command, failures: dict[str, str], ours: dict[str, RunSpec]) -> int:
    command.complain(describe_failures(by_reason(failures), len(ours)))
    print(f"{len(ours) - len(failures):,} runs of this slice are done; when all slices are, run without --shard")
    return 1 if failures else 0


def _print_plan(
    sweep: SweepSpec, asked: dict[str, RunSpec], cohorts: Sequence[Cohort], device: str, n_workers: int
) -> None:
    n_missing = sum(len(cohort.runs) for cohort in cohorts)
    time = format_seconds(plan_seconds(cohorts, n_workers))
    print(
        f"{printable(sweep.name)}: {len(asked):,} runs, {n_missing:,} to train in {len(cohorts):,} cohorts, "
        f"{n_programs(cohorts)} programs to compile, "
        + (f"on {n_workers} cores: about {time}" if device == "cpu" else f"on this machine's {device}")
    )
