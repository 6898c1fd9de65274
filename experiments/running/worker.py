"""What trains a cohort away from the command line: a process of this machine, or a task of a cluster."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from experiments.running.compilation_cache import compilation_cache, use_compilation_cache
from experiments.running.devices import use_device, widest_block
from experiments.running.hooks import Hooks, Stopped
from experiments.running.plan import Cohort
from experiments.store import Location, Store
from experiments.store.atomic import FORBIDDEN, FULL

# What a worker tells, in pairs whose first item is one of these.
STEPS, RESUMED, DONE, FAILED, STOPPED = "steps", "resumed", "done", "failed", "stopped"

Rows = list[dict[str, Any]]
Train = Callable[[Cohort, Hooks], Rows]
Message = tuple[str, Any]


class Fault(StrEnum):
    """Why a cohort was not trained: it decides what is tried next."""

    DEATH = "death"  # The process is gone: killed, crashed, its machine lost.
    MEMORY = "memory"  # It said that memory ran out.
    STORAGE = "storage"  # Reading or writing failed, and may succeed another time.
    ERROR = "error"  # An exception: mostly the same one again.
    START = "start"  # It never came to train.
    UNWRITABLE = "unwritable"  # Full or forbidden: no result can be kept.


class Failure(NamedTuple):
    """A fault, and its reason in one line."""

    fault: Fault
    reason: str


def start_jax(job: "Job") -> Train:
    """Import JAX, for the job's device, and return the function that trains cohorts."""
    from experiments.running.cohort import train_cohort

    use_device(job.device)
    if job.cache:
        use_compilation_cache(compilation_cache())
    store, widest = Store(job.root), widest_block(job.device)
    return lambda cohort, hooks: train_cohort(cohort, job.data, store, hooks, widest)


@dataclass(frozen=True)
class Job:
    """What every worker needs to know. `start` is called once in each, and must be importable there.

    What depends on a worker's own machine it finds out itself: the folder of compiled programs (used where `cache`),
    and how many runs a block on its `device` holds at the most.
    """

    data: str
    root: Location
    cache: bool = False
    start: Callable[["Job"], Train] = start_jax
    device: str = "cpu"


def work(connection: Connection, core: int | None, job: Job) -> None:
    """A worker process's life: pinned before JAX is imported, it trains what it is given until its parent is gone."""
    _leave_signals_to_parent()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    with contextlib.suppress(EOFError, OSError):  # The parent is gone.
        train = _start(connection, job)
        hooks = Hooks(
            lambda steps: connection.send((STEPS, steps)),
            lambda steps: connection.send((RESUMED, steps)),
            connection.poll,
        )
        while train and (cohort := connection.recv()) is not None:
            connection.send(outcome(train, cohort, hooks))


def outcome(train: Train, cohort: Cohort, hooks: Hooks) -> Message:
    """Train a cohort; what came of it, whatever that is."""
    try:
        return DONE, train(cohort, hooks)
    except Stopped:
        return STOPPED, None
    except Exception as error:
        return FAILED, failure_of(error)


def failure_of(error: BaseException) -> Failure:
    """An exception as a fault and one line."""
    text = first_line(error)
    if isinstance(error, OSError) and error.errno in FULL | FORBIDDEN:
        return Failure(Fault.UNWRITABLE, text)
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Failure(_fault_of(error, text), reason)


def first_line(error: BaseException) -> str:
    """What an exception says, without the number that an OSError puts first."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = error.strerror
    lines = text.strip().splitlines()
    return lines[0][:500] if lines else ""


def _fault_of(error: BaseException, text: str) -> Fault:
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return Fault.MEMORY
    return Fault.STORAGE if isinstance(error, OSError) else Fault.ERROR


def _start(connection: Connection, job: Job) -> Train | None:
    try:
        return job.start(job)
    except Exception as error:
        connection.send((FAILED, Failure(Fault.START, f"no worker can start ({failure_of(error).reason})")))
        return None


def _leave_signals_to_parent() -> None:
    # A terminal's Ctrl-C and a batch system's SIGTERM reach the whole group: the parent asks us to save and stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # Blocked by whoever spawned us.


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
