"""Run a sweep: plan what is missing of it, train that, here or on many machines, and have its folder analysed."""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from experiments.runner.compilation_cache import unusable_cache
from experiments.runner.devices import DEVICES, choose_device, widest_batch, worker_slots
from experiments.runner.interrupt import Interruption
from experiments.runner.local_executor import Execute, execute
from experiments.runner.plan import Plan, check_feasible, make_plan, workers_that_fit
from experiments.runner.protocol import CannotContinue, Progress
from experiments.runner.rows import Row
from experiments.runner.stages import COLUMNS, AllAtOnce, Stages, Studies, breadth_first, what_fits
from experiments.runner.worker import Job
from experiments.store import Contents, Location, Store
from experiments.store.atomic import DamagedRows, explained
from experiments.store.mirror import analysis_files, copy_analysis, fetch
from experiments.store.small_files import by_reason, describe_failures, write_failures
from experiments.sweeps.grids import SweepSpec
from experiments.sweeps.ranges import drawn_shapes
from experiments.sweeps.request import FILE_NAME, Request, decode_request, encode_request, make_request
from experiments.sweeps.text import count
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Dataset

SLOWEST_DOUBT = 0.2  # A plan that was kept in less than this share of its time is not trusted to do so again.
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
        time: seconds that training may take (default: as long as it takes).
    """

    out: Location | None = None
    fetch_to: Path | None = None
    dry_run: bool = False
    workers: int | None = None
    device: str = "auto"
    shard: tuple[int, int] | None = None
    executor: str = "local"
    address: str | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

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
MAX_ROUNDS = 3  # Of training what was found damaged.
DAMAGED_EACH_TIME = "what is written there is damaged each time; choose another folder"


def _nothing(store: Store, dataset: Dataset) -> None:
    """Nothing needs to be prepared."""


def run_sweep(
    sweep: SweepSpec,
    dataset: Dataset,
    options: RunOptions,
    terminal: Terminal,
    interruption: Interruption,
    analyse: Analyse,
    program: str = "experiments.sweep",
    code: str | None = None,
    choose: Callable[[Studies], Stages] | None = None,
    prepare: Analyse = _nothing,
) -> int:
    """Train what is missing of a sweep, and have its folder analysed, where it has a run.

    Once workers train, `prepare` does beside them what of the analysis needs no results; its exceptions are left to the
    analysis. With `choose`, runs are chosen in stages, each by the rows of those before. With a limit of time every
    configuration gets one seed before any gets the next, and training ends in time, with everything saved.

    Its page names the command of this process, `python -m PROGRAM`, or the Python `code` that asked for it. Returns 0,
    1 where runs failed, 130 or 143 where it was interrupted.

    Raises:
        ValueError: a sweep that cannot be trained here, or a folder that holds another one.
        CannotContinue: workers can't start, or nothing can be stored.
    """
    everything = sweep.expand(dataset.sha256)
    stages = choose(everything) if choose else AllAtOnce(everything)
    store = Store(options.out or RESULTS / (sweep.folder or sweep.name))
    planner = Planner(dataset, store, options, options.choose_device())
    check_feasible(_runs_of(everything).values(), dataset, 1 if options.address else len(planner.slots), planner.widest)
    for caution in dataset.cautions:
        terminal.complain(caution)
    if planner.n_without_memory:
        held = count(len(planner.slots), "worker")
        terminal.complain(f"memory holds {held} beside this process, {planner.n_without_memory} fewer than asked for")
    if options.dry_run:
        _describe_plan(sweep, stages, planner, terminal)
        return 0

    def ask(studies: Studies) -> Request:
        return make_request(sweep, studies, dataset, program, code, stages.design)

    with store.lock(shared=options.shard is not None), _copy(store, options, sweep) as copy, explained(copy.location):
        for _ in range(MAX_ROUNDS):
            training = _train(stages, planner, ask, copy, terminal, interruption, partial(prepare, copy, dataset))
            asked, rows, failures = training.asked, training.rows, training.failures
            if interruption:
                terminal.complain("stopped, everything so far is saved; the same command goes on from here")
                return interruption.exit_code
            if options.shard:
                _describe_slice(training, terminal)
                return 1 if failures else 0
            n_left = len(asked.keys() - rows.keys() - failures.keys())
            if options.time is not None and n_left:
                left = f"{count(n_left, 'run')} of {len(asked):,} are left"
                if time.monotonic() < planner.deadline:
                    terminal.say(f"no other run fits into the time: {left}; the same command with more --time goes on")
                else:
                    terminal.say(f"the time is up: {left}; the same command goes on from here")
            store.drop_checkpoints_of(asked.keys() & rows.keys())
            for kept in {id(store): store, id(copy): copy}.values():
                write_failures(kept, failures)
            if copy is not store:
                for message in fetch(store, copy):
                    terminal.complain(message)
            before = analysis_files(copy.folder)
            try:
                if asked.keys() & rows.keys():
                    analyse(copy, dataset)
                break
            except DamagedRows as damage:  # Since they were trained.
                terminal.complain(str(damage))
        else:
            raise CannotContinue(f"{copy.location}: {DAMAGED_EACH_TIME}")
        if copy is not store:
            for name in set(before) - set(analysis_files(copy.folder)):  # A table that this request does not have.
                store.folder.remove(name)
            for message in copy_analysis(copy.folder, store.folder):
                terminal.complain(message)
    if copy is not store:
        terminal.say(f"{store.location} is copied to {copy.root}, for the other commands")
    terminal.complain(describe_failures(by_reason(failures), len(asked)))
    return 1 if failures else 0


class Planner:
    """Plans what is missing of a sweep, for one kind of device and the time that is given from now on."""

    def __init__(self, dataset: Dataset, store: Store, options: RunOptions, device: str) -> None:
        self.dataset, self.store, self.options, self.device = dataset, store, options, device
        self.widest, slots = widest_batch(device), worker_slots(device)[: options.workers]
        self.slots = slots[: workers_that_fit(len(slots))]
        self.n_without_memory = len(slots) - len(self.slots)
        self.deadline = math.inf if options.time is None else time.monotonic() + options.time

    def own(self, runs: Mapping[str, RunConfig]) -> Mapping[str, RunConfig]:
        """Of the runs of a sweep those of this process: all, or its slice of the cohorts, whatever is done already."""
        if not self.options.shard:
            return runs
        slice_ = make_plan(runs.values(), self.dataset, self.widest).slice(*self.options.shard)
        return {run.run_id: run for cohort in slice_.cohorts for run in cohort.runs}

    def missing(self, runs: Mapping[str, RunConfig], done: Collection[str], pace: float = 1.0) -> Plan:
        """What is missing of some runs; with a limit of time, of one seed each, and no more than fits.

        What has a checkpoint goes on first, whole. `pace` is how many times as long as planned training has taken so
        far.
        """
        started = [metadata["run_ids"] for metadata in self.store.started().values() if "run_ids" in metadata]

        def plan(chosen: Iterable[RunConfig]) -> Plan:
            return make_plan(chosen, self.dataset, self.widest, started)

        missing = {run_id: run for run_id, run in runs.items() if run_id not in done}
        if self.deadline == math.inf:
            return plan(missing.values())
        seconds = (self.deadline - time.monotonic()) / pace
        if seconds <= 0:
            return plan(())
        going_on: list[RunConfig] = []
        for run_ids in started:
            if missing.keys() >= set(run_ids):
                going_on += [missing.pop(run_id) for run_id in run_ids]
        new = breadth_first(list(missing.values()))
        return plan([*going_on, *what_fits(new, seconds, lambda some: self.seconds(plan([*going_on, *some])))])

    def seconds(self, plan: Plan) -> float:
        """A guess at the wall time of a plan on these cores."""
        return plan.seconds(len(self.slots))


@dataclass(frozen=True)
class Training:
    """What was trained: the runs that were asked for, those of them that are this process's own, and what became of
    them, as rows and as reasons for those that failed, all by run id."""

    asked: Mapping[str, RunConfig]
    own: Mapping[str, RunConfig]
    rows: Mapping[str, Row]
    failures: Mapping[str, str]


def _train(
    stages: Stages,
    planner: Planner,
    ask: Callable[[Studies], Request],
    copy: Store,
    terminal: Terminal,
    interruption: Interruption,
    prepare: Callable[[], object],
) -> Training:
    """Train, round after round, until every run that the stages want has its row or has failed.

    One round is enough where all runs are known from the start and none is damaged while it goes on. Training ends
    earlier where it is interrupted, or its time is over; a slice has one round.

    Raises:
        ValueError: the folder holds a sweep on other data.
        CannotContinue: workers can't start, or what they write is damaged each time.
    """
    options, store = planner.options, planner.store
    train = _executor(options)
    terminal.complain(unusable_cache())
    failures: dict[str, str] = {}
    asked_before: Collection[str] = ()
    n_again, pace = 0, 1.0
    while True:
        rows = {run_id: {} for run_id in store.run_ids()} if options.shard else _sound_rows(store, terminal)
        studies = stages.wanted(rows)
        asked = _runs_of(studies)
        own = planner.own(asked)
        request = ask(studies)
        if not asked_before:
            _check_folder(store, copy, request, rows.keys(), terminal)
        plan = planner.missing(own, rows.keys() | failures.keys(), pace)
        store.folder.put(FILE_NAME, encode_request(request))
        if asked_before and not plan.n_runs:
            return Training(asked, own, rows, failures)
        if asked_before == asked.keys() and options.time is None:  # What was damaged meanwhile is trained again.
            n_again += 1
            if n_again == MAX_ROUNDS:
                raise CannotContinue(f"{store.location}: {DAMAGED_EACH_TIME}")
        asked_before = asked.keys()
        job = Job(
            request.data,
            store.location,
            cache=True,
            device=planner.device,
            ideas=request.ideas,
            ideas_hash=request.ideas_hash,
        )
        planned, started = planner.seconds(plan), time.monotonic()
        display = terminal.display(plan, len(own.keys() & rows.keys()), planned)
        events = train(
            plan.cohorts, job, planner.slots, lambda: bool(interruption) or time.monotonic() > planner.deadline
        )
        with ThreadPoolExecutor() as beside, interruption.deferred(), display as shown, contextlib.closing(events):
            for n, event in enumerate(events):
                if n == 0 and not options.shard:  # Not before: workers start first.
                    beside.submit(prepare)
                shown.show(event)
                if event.failure:
                    failures |= {run.run_id: event.failure for run in event.cohort.runs}
        if interruption or options.shard:
            return Training(asked, own, rows, failures)
        if plan.n_runs:
            pace = max((time.monotonic() - started) / planned, SLOWEST_DOUBT)


def _describe_plan(sweep: SweepSpec, stages: Stages, planner: Planner, terminal: Terminal) -> None:
    """What a dry run prints: how much there is to train, on what, and about how long it takes."""
    chosen_in_stages = not isinstance(stages, AllAtOnce)
    rows = _rows_by_id(planner.store.rows(COLUMNS, set_aside=False)) if chosen_in_stages else {}
    own = planner.own(_runs_of(stages.wanted(rows)))
    plan = planner.missing(own, planner.store.run_ids())
    where = f"on this machine's {planner.device}"
    if planner.device == "cpu":
        where = f"on {count(len(planner.slots), 'core')}: about {format_seconds(planner.seconds(plan))}"
    terminal.say(
        f"{sweep.name}: {count(len(own), 'run')}, {plan.n_runs:,} to train in "
        f"{count(len(plan.cohorts), 'cohort')}, {count(plan.n_programs, 'program')} to compile, {where}"
    )
    if chosen_in_stages:
        terminal.say(f"{stages.describe()}; what is chosen next depends on the losses")
    if planner.options.time is not None:
        limit = format_seconds(planner.options.time)
        terminal.say(f"these fit into {limit}; every configuration gets one seed before any gets the next")
    drawn = {name for ranges in sweep.ranges.values() for name in drawn_shapes(ranges)}
    if drawn and plan.n_programs > 1:
        terminal.complain(
            f"values of {', '.join(sorted(drawn))} are drawn from a range, which makes "
            f"{count(plan.n_programs, 'program')} to compile; a list of few values makes fewer"
        )


def _describe_slice(training: Training, terminal: Terminal) -> None:
    terminal.complain(describe_failures(by_reason(training.failures), len(training.own)))
    n_done = len(training.own) - len(training.failures)
    terminal.say(
        f"{count(n_done, 'run')} of this slice {'is' if n_done == 1 else 'are'} done; "
        "when all slices are, run without --shard"
    )


def _runs_of(studies: Studies) -> dict[str, RunConfig]:
    return {run_id: run for runs in studies.values() for run_id, run in runs.items()}


@contextlib.contextmanager
def _copy(store: Store, options: RunOptions, sweep: SweepSpec) -> Iterator[Store]:
    """The store that tables are made from: the sweep's own, or a copy in a folder of this machine."""
    if isinstance(store.location, Path) or options.shard:
        yield store
    else:
        copy = Store(options.fetch_to or RESULTS / (sweep.folder or sweep.name))
        with copy.lock():
            yield copy


def _check_folder(store: Store, copy: Store, request: Request, done: Collection[str], terminal: Terminal) -> None:
    """A folder belongs to one dataset; of runs that earlier requests asked for, say that they stay.

    Raises:
        ValueError: it holds a sweep on other data.
    """
    for kept in {id(store): store, id(copy): copy}.values():
        before, folder = _request_in(kept, terminal), kept.location
        if before:
            data = {(before.data, before.data_hash)}
        else:  # Its rows say what they were trained on, but for old ones.
            rows = kept.rows(("data", "data_hash"), set_aside=False).table.to_pylist()
            data = {(row["data"], row["data_hash"]) for row in rows if row["data_hash"]}
        for name, data_hash in data:
            if data_hash != request.data_hash:
                raise ValueError(
                    f"{folder} holds a sweep on other data ({name}, sha256 {data_hash[:12]}); give another --out"
                )
        if not before:
            continue
        left_out = len(before.run_ids.union(done) - request.run_ids)
        if left_out:
            terminal.say(
                f"{folder} was asked for {count(left_out, 'run')} that this command leaves out: they stay there, "
                "and out of its tables"
            )


def _request_in(store: Store, terminal: Terminal) -> Request | None:
    """What a store was last asked for; None where nothing was, or that is damaged, which is said."""
    if not store.folder.exists(FILE_NAME):
        return None
    try:
        return decode_request(store.folder.read(FILE_NAME), store.folder.describe(FILE_NAME))
    except ValueError as error:
        terminal.complain(str(error))
        return None


def _sound_rows(store: Store, terminal: Terminal) -> dict[str, Row]:
    """What is done, by run id; what is damaged is set aside, which a slice may not do: another one may be writing."""
    contents = store.rows(COLUMNS)
    for message in contents.damaged:
        terminal.complain(message)
    return _rows_by_id(contents)


def _rows_by_id(contents: Contents) -> dict[str, Row]:
    return {row["run_id"]: row for row in contents.table.to_pylist()}


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
