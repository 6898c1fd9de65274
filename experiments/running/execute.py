"""Run a plan's cohorts in worker processes, one a core, and survive what happens to them."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import wait

from experiments.running.ledger import Ledger, Progress, Task
from experiments.running.plan import Cohort, signature
from experiments.running.worker import FAILED, RESUMED, STEPS, Failure, Fault, Job, Message, work
from experiments.spec import RunSpec
from experiments.store import Store

PROGRAMS_PER_WORKER = 200  # XLA keeps some 7 MB a program for good: then a fresh process goes on.
SINGLE_THREADED = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
LOOK_SECONDS = 0.2  # Between two looks at whether to stop.


Execute = Callable[[Sequence[Cohort], Job, Sequence[int | None], Callable[[], bool]], Generator[Progress]]


def available_cores() -> tuple[int, ...]:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def places_of(device: str) -> tuple[int | None, ...]:
    """Where workers stand: one on each core, or a single one that holds all local accelerators."""
    return available_cores() if device == "cpu" else (None,)


def execute(
    cohorts: Sequence[Cohort], job: Job, cores: Sequence[int | None], stopping: Callable[[], bool] = lambda: False
) -> Generator[Progress]:
    """Train cohorts, longest first, one pinned process a core; yields what happens, and often enough to look around.

    Once `stopping()` is true workers finish their segment, save a checkpoint and end. A worker that dies takes no
    cohort with it: `Ledger` tells what is tried again.

    Raises:
        CannotContinue: workers can't start, or nothing can be stored.
    """
    ledger = make_ledger(cohorts, job)
    places = [_Place(core, job) for core in cores]
    try:
        while ledger.pending or any(place.task for place in places):
            ending = stopping() or bool(ledger.hopeless)
            if ending and not any(place.task for place in places):
                break
            for place in places:
                if ending:
                    place.ask_to_stop()
                elif ledger.pending and not place.task:
                    place.give(ledger.pending.popleft())
            for place in _with_news(places):
                yield from place.news(ledger)
    finally:
        for place in places:
            place.end()
    ledger.check()


def make_ledger(cohorts: Sequence[Cohort], job: Job) -> Ledger:
    """A ledger that looks into the job's store."""
    store = Store(job.root)
    return Ledger(
        cohorts,
        lambda cohort: store.cohort_rows(cohort.cohort_id),
        lambda cohort: store.drop_checkpoint(cohort.cohort_id),
    )


class _Process:
    """A worker process on one core, and our end of the pipe to it."""

    def __init__(self, core: int | None, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # A forked JAX deadlocks.
        self.connection, theirs = context.Pipe()
        self.programs: set[RunSpec] = set()
        flags = f"{os.environ.get('XLA_FLAGS', '')} {SINGLE_THREADED}".strip()
        self.process = context.Process(target=work, args=(theirs, core, job), daemon=True)
        with _environment(XLA_FLAGS=flags), _blocked_signals():
            self.process.start()
        theirs.close()

    def serves(self, program: RunSpec) -> bool:
        """Whether it is alive and has room for one more program."""
        return self.process.is_alive() and len(self.programs | {program}) <= PROGRAMS_PER_WORKER

    def tell(self, message: Cohort | None) -> None:
        """Give it a cohort, or None: stop."""
        with contextlib.suppress(OSError):  # Dead already: reading from it will say so.
            self.connection.send(message)

    def hear(self) -> Message:
        """Its next message, or that it died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return FAILED, Failure(Fault.DEATH, f"its process died ({_exit_reason(self.process.exitcode)})")

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Place:
    """One core's place, held by one process after another."""

    def __init__(self, core: int | None, job: Job) -> None:
        self.core, self.job = core, job
        self.task: Task | None = None
        self.process: _Process | None = None
        self.told_to_stop = False

    def give(self, task: Task) -> None:
        """Start on a task, in a fresh process where need be."""
        program = signature(task.cohort.runs[0])
        if self.process is None or not self.process.serves(program):
            self.end()
            self.process = _Process(self.core, self.job)
        self.process.programs.add(program)
        self.task = task
        self.process.tell(task.cohort)

    def ask_to_stop(self) -> None:
        """Ask once for a checkpoint and an end."""
        if self.process and not self.told_to_stop:
            self.told_to_stop = True
            self.process.tell(None)

    def news(self, ledger: Ledger) -> Iterator[Progress]:
        """What the process told, or its death."""
        assert self.process and self.task
        task, message = self.task, self.process.hear()
        if message[0] not in (STEPS, RESUMED):
            self.task = None
        if message[0] == FAILED and message[1].fault is not Fault.ERROR:
            self.end()
        yield from ledger.note(task, message)

    def end(self) -> None:
        """End the process, if there is one."""
        if self.process:
            self.process.end()
            self.process = None


def _with_news(places: Sequence[_Place]) -> list[_Place]:
    busy = {place.process.connection: place for place in places if place.task and place.process}
    ready = wait(list(busy), timeout=LOOK_SECONDS)
    return [place for connection, place in busy.items() if connection in ready]


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
    return f"exit code {code}"


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """A process started meanwhile is deaf to Ctrl-C and SIGTERM until it says otherwise; ours wait until the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
