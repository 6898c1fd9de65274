"""Run a sweep: plan what is missing of it, train that, here or on many machines, and have its folder analysed."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.runner.devices import DEVICES, choose_device, widest_batch, worker_slots
from experiments.runner.interrupt import Interruption
from experiments.runner.local_executor import Execute, execute
from experiments.runner.plan import Plan, check_feasible, make_plan
from experiments.runner.protocol import Progress
from experiments.runner.worker import Job
from experiments.store import Location, Store
from experiments.store.atomic import explained
from experiments.store.mirror import copy_analysis, fetch
from experiments.store.small_files import by_reason, describe_failures, read_failures, write_failures
from experiments.sweeps.grids import SweepSpec
from experiments.sweeps.request import FILE_NAME, Request, encode_request, make_request, read_request
from experiments.sweeps.text import count
from mlp_lm.data.dataset import Dataset

MAX_ROUNDS = 3
RESULTS = Path("results/local")  # Where a user's own sweeps are kept; `results/` itself holds the published ones.


@dataclass(frozen=True)
class RunOptions:
    """Where and on what a sweep is trained.

    Attributes:
        out: the sweep's folder or bucket (default: RESULTS / the sweep's name).
        fetch_to: of a bucket, the folder of this machine that tables are made in (the same default).
        dry_run: print the plan, and do nothing.
        workers: processes, one a core (default: all cores).
        device: `auto`, or one of DEVICES.
        shard: (I, N) to train slice I of N only.
        executor: `local` or `ray`.
        address: of a running Ray cluster.
    """

    out: Location | None = None
    fetch_to: Path | None = None
    dry_run: bool = False
    workers: int | None = None
    device: str = "auto"
    shard: tuple[int, int] | None = None
    executor: str = "local"
    address: str | None = None

    def choose_device(self) -> str:
        """What trains: of the machines of another cluster nothing is known but what is given.

        Raises:
            ValueError: an accelerator that is not here, or a TPU on Ray.
        """
        if self.address and self.device in DEVICES:
            return self.device
        device = choose_device(self.device)
        if device == "tpu" and self.executor == "ray":
            raise ValueError("--executor ray trains on cores and GPUs; give --device cpu, or --shard on each machine")
        return device


class Display(Protocol):
    """Shows training while it goes on."""

    def show(self, event: Progress) -> None:
        """Take note of what an executor yields."""


class Terminal(Protocol):
    """What the runner tells people, and how."""

    def say(self, text: str) -> None:
        """Something to read."""

    def complain(self, message: str) -> None:
        """Something that is wrong, in one line; an empty text says nothing."""

    def display(self, plan: Plan, n_done: int, seconds: float) -> AbstractContextManager[Display]:
        """The display of a plan beside which `n_done` runs are done already."""


Analyse = Callable[[Store, Dataset], object]


def run_sweep(
    sweep: SweepSpec,
    dataset: Dataset,
    options: RunOptions,
    terminal: Terminal,
    interruption: Interruption,
    analyse: Analyse,
    program: str = "experiments.sweep",
    code: str | None = None,
) -> int:
    """Train what is missing of a sweep, and have its folder analysed, where it has a run.

    Its page names the command of this process, `python -m PROGRAM`, or the Python `code` that asked for it. Returns 0,
    1 where runs failed, 130 or 143 where it was interrupted.

    Raises:
        ValueError: a sweep that cannot be trained here, or a folder that holds another one.
        CannotContinue: workers can't start, or nothing can be stored.
    """
    studies = sweep.expand(dataset.sha256)
    asked = {run_id: run for runs in studies.values() for run_id, run in runs.items()}
    device = options.choose_device()
    widest, slots = widest_batch(device), worker_slots(device)[: options.workers]
    check_feasible(asked.values(), dataset, 1 if options.address else len(slots), widest)
    mine = asked
    if options.shard:  # Every N-th cohort of the whole sweep's plan, whatever is done already.
        slice_ = make_plan(asked.values(), dataset, widest).slice(*options.shard)
        mine = {run.run_id: run for cohort in slice_.cohorts for run in cohort.runs}
    store = Store(options.out or RESULTS / sweep.name)

    def plan_missing(done: set[str]) -> Plan:
        started = [metadata["run_ids"] for metadata in store.started().values() if "run_ids" in metadata]
        return make_plan([run for run_id, run in mine.items() if run_id not in done], dataset, widest, started)

    if options.dry_run:
        plan = plan_missing(store.run_ids())
        where = f"on this machine's {device}"
        if device == "cpu":
            where = f"on {count(len(slots), 'core')}: about {format_seconds(plan.seconds(len(slots)))}"
        terminal.say(
            f"{sweep.name}: {count(len(mine), 'run')}, {plan.n_runs:,} to train in "
            f"{count(len(plan.cohorts), 'cohort')}, {count(plan.n_programs, 'program')} to compile, {where}"
        )
        return 0
    request = make_request(sweep, studies, dataset, program, code)
    with store.lock(shared=options.shard is not None), _copy(store, options, sweep) as copy, explained(copy.location):
        _check_folder(store, copy, request, terminal)
        store.folder.put(FILE_NAME, encode_request(request))
        job = Job(
            sweep.data, store.location, cache=True, device=device, ideas=request.ideas, ideas_hash=request.ideas_hash
        )
        train = _executor(options)
        failures: dict[str, str] = {}
        done = store.run_ids() if options.shard else _sound_runs(store, terminal)
        for _ in range(MAX_ROUNDS):  # More than one only where finished files are damaged while others are trained.
            plan = plan_missing(done | failures.keys())
            display = terminal.display(plan, len(mine) - plan.n_runs, plan.seconds(len(slots)))
            events = train(plan.cohorts, job, slots, lambda: bool(interruption))
            with interruption.deferred(), display as shown, contextlib.closing(events):
                for event in events:
                    shown.show(event)
                    if event.failure:
                        failures |= {run.run_id: event.failure for run in event.cohort.runs}
            if interruption:
                terminal.complain("stopped, everything so far is saved; the same command goes on from here")
                return interruption.exit_code
            if options.shard:
                break
            if copy is not store:
                for message in fetch(store, copy):
                    terminal.complain(message)
            if plan.cohorts:
                done = _sound_runs(copy, terminal)
            if done | failures.keys() >= mine.keys():
                break
        if options.shard:
            terminal.complain(describe_failures(by_reason(failures), len(mine)))
            n_done = len(mine) - len(failures)
            terminal.say(
                f"{count(n_done, 'run')} of this slice {'is' if n_done == 1 else 'are'} done; "
                "when all slices are, run without --shard"
            )
            return 1 if failures else 0
        failures |= dict.fromkeys(mine.keys() - done - failures.keys(), "its files were damaged after every training")
        store.drop_checkpoints_of(asked.keys() - failures.keys())
        for kept in {id(store): store, id(copy): copy}.values():
            write_failures(kept, failures)
        if len(failures) < len(asked):
            analyse(copy, dataset)
        if copy is not store:
            for message in copy_analysis(copy.folder, store.folder):
                terminal.complain(message)
            terminal.say(f"{store.location} is copied to {copy.root}, for the other commands")
        terminal.complain(describe_failures(read_failures(copy.root, asked.keys()), len(asked)))
        return 1 if failures else 0


@contextlib.contextmanager
def _copy(store: Store, options: RunOptions, sweep: SweepSpec) -> Iterator[Store]:
    """The store that tables are made from: the sweep's own, or a copy in a folder of this machine."""
    if isinstance(store.location, Path) or options.shard:
        yield store
    else:
        copy = Store(options.fetch_to or RESULTS / sweep.name)
        with copy.lock():
            yield copy


def _check_folder(store: Store, copy: Store, request: Request, terminal: Terminal) -> None:
    """A folder belongs to one sweep on one dataset.

    Raises:
        ValueError: it was made by another sweep, or on other data.
    """
    for folder in {store.location, copy.location}:
        if not isinstance(folder, Path):
            continue
        try:
            before = read_request(folder)
        except ValueError:  # None yet, or damaged: then its shards are all that counts.
            continue
        if before.data_hash != request.data_hash:
            raise ValueError(
                f"{folder} holds a sweep on other data ({before.data}, sha256 {before.data_hash[:12]}); "
                "give another --out"
            )
        left_out = len(before.run_ids - request.run_ids)
        if left_out:
            terminal.say(
                f"{folder} was asked for {count(left_out, 'run')} that this command leaves out: they stay there, "
                "and out of its tables"
            )


def _sound_runs(store: Store, terminal: Terminal) -> set[str]:
    """The runs that are done; what is damaged is set aside, which a slice may not do: another one may be writing."""
    contents = store.rows(columns=())
    for message in contents.damaged:
        terminal.complain(message)
    return set(contents.table["run_id"].to_pylist())


def _executor(options: RunOptions) -> Execute:
    if options.executor == "local":
        return execute
    from experiments.runner.ray_executor import on_ray  # Ray is an extra.

    return on_ray(options.address)


def format_seconds(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
