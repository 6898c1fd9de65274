"""Run a plan's cohorts in worker processes, one a core, and survive what happens to them."""

import contextlib
import hashlib
import importlib.metadata
import multiprocessing
import os
import platform
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from experiments.plan import Cohort, signature
from experiments.record import processor
from experiments.spec import RunSpec

BLOCK_WIDTH = 4  # mlp_lm.training.BLOCK_WIDTH, which imports JAX; a test holds them equal.
MAX_ATTEMPTS = 5
PROGRAMS_PER_WORKER = 200  # XLA keeps some 7 MB a program for good: then a fresh process goes on.
SINGLE_THREADED = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    data: str
    root: Path
    cache: Path | None = None


# What a worker tells, in tuples whose first item is one of these.
STEPS, DONE, FAILED, STOPPED = "steps", "done", "failed", "stopped"


@dataclass(frozen=True)
class Progress:
    """What the executor tells its caller: model-steps trained, and the rows or the failure of a cohort that ended."""

    cohort: Cohort
    model_steps: int = 0
    rows: tuple[dict[str, Any], ...] = ()
    failure: str = ""


def available_cores() -> tuple[int, ...]:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def compilation_cache() -> Path:
    """The user's own folder of compiled programs, apart for every jaxlib and processor they were compiled for."""
    target = hashlib.sha256(f"{platform.machine()} {processor()}".encode()).hexdigest()[:8]
    return user_cache_path("mlp-lm") / f"xla-{importlib.metadata.version('jaxlib')}-{target}"


def execute(
    cohorts: Sequence[Cohort], job: Job, cores: Sequence[int], stopping: Callable[[], bool] = lambda: False
) -> Iterator[Progress]:
    """Train cohorts, longest first, one pinned process a core; yields what happens, and often enough to look around.

    Once `stopping()` is true workers finish their segment, save a checkpoint and end. A worker that dies takes no
    cohort with it: its cohort is cut in half and tried again in a fresh process, up to five times.
    """
    pending = deque((cohort, 1) for cohort in cohorts)
    workers = [_Worker(core, job) for core in cores[: max(1, len(pending))]]
    try:
        while (pending and not stopping()) or any(worker.task for worker in workers):
            for worker in workers:
                if stopping():
                    worker.ask_to_stop()
                elif pending and not worker.task:
                    worker.give(*pending.popleft())
            for worker in _with_news(workers):
                yield from worker.news(pending)
    finally:
        for worker in workers:
            worker.end()


class _Process:
    """A worker process on one core, and our end of the pipe to it."""

    def __init__(self, core: int, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # A forked JAX deadlocks.
        self.connection, theirs = context.Pipe()
        self.programs: set[RunSpec] = set()
        with _environment(XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {SINGLE_THREADED}".strip()):
            self.process = context.Process(target=_work, args=(theirs, core, job), daemon=True)
            self.process.start()
        theirs.close()

    def serves(self, program: RunSpec) -> bool:
        """Whether it is alive and has room for one more program."""
        return self.process.is_alive() and len(self.programs | {program}) <= PROGRAMS_PER_WORKER

    def tell(self, message: Cohort | None) -> None:
        """Give it a cohort, or None: stop."""
        with contextlib.suppress(OSError):  # Dead already: reading from it will say so.
            self.connection.send(message)

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Worker:
    """One core's place, held by one process after another."""

    def __init__(self, core: int, job: Job) -> None:
        self.core, self.job = core, job
        self.task: tuple[Cohort, int] | None = None
        self.process: _Process | None = None
        self.told_to_stop = False

    def give(self, cohort: Cohort, attempt: int) -> None:
        """Start on a cohort, in a fresh process where need be."""
        program = signature(cohort.runs[0])
        if self.process is None or not self.process.serves(program):
            self.end()
            self.process = _Process(self.core, self.job)
        self.process.programs.add(program)
        self.task = (cohort, attempt)
        self.process.tell(cohort)

    def ask_to_stop(self) -> None:
        """Ask once for a checkpoint and an end."""
        if self.process and not self.told_to_stop:
            self.told_to_stop = True
            self.process.tell(None)

    def news(self, pending: deque[tuple[Cohort, int]]) -> Iterator[Progress]:
        """What the process told, or its death."""
        assert self.process and self.task
        cohort, attempt = self.task
        try:
            kind, content = self.process.connection.recv()
        except (EOFError, OSError):
            self.process.process.join()
            kind, content = FAILED, f"its process died ({_exit_reason(self.process.process.exitcode)})"
        if kind != STEPS:
            self.task = None
        if kind == STEPS:
            yield Progress(cohort, model_steps=content)
        elif kind == DONE:
            yield Progress(cohort, rows=tuple(content))
        elif kind == FAILED:
            self.end()
            yield from _retry(cohort, attempt, content, pending)

    def end(self) -> None:
        """End the process, if there is one."""
        if self.process:
            self.process.end()
            self.process = None


def _with_news(workers: Sequence[_Worker]) -> list[_Worker]:
    busy = {worker.process.connection: worker for worker in workers if worker.task and worker.process}
    ready = wait(list(busy), timeout=0.2)
    return [worker for connection, worker in busy.items() if connection in ready]


def _retry(cohort: Cohort, attempt: int, reason: str, pending: deque[tuple[Cohort, int]]) -> Iterator[Progress]:
    if attempt >= MAX_ATTEMPTS:
        yield Progress(cohort, failure=f"{reason}; tried {attempt} times")
    else:
        pending.extendleft((half, attempt + 1) for half in cohort.halves())
        yield Progress(cohort)


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
    return f"exit code {code}"


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


def _work(connection: Connection, core: int, job: Job) -> None:
    """A worker's life: pinned before JAX is imported, it trains what it is given until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent hears Ctrl-C and asks us.
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    import jax

    from experiments.cohort import Hooks, Stopped, train_cohort
    from experiments.store import Store

    jax.config.update("jax_platforms", "cpu")
    if job.cache:
        jax.config.update("jax_compilation_cache_dir", str(job.cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    store = Store(job.root)
    hooks = Hooks(lambda steps: connection.send((STEPS, steps)), connection.poll)
    with contextlib.suppress(EOFError, OSError):
        while (cohort := connection.recv()) is not None:
            try:
                connection.send((DONE, train_cohort(cohort, job.data, store, hooks)))
            except Stopped:
                connection.send((STOPPED, None))
                return
            except Exception as error:
                connection.send((FAILED, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"))
                return


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
