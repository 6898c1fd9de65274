"""What trains a cohort away from the command line: a process of this machine, or a task of a cluster."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.devices import use_device, widest_batch
from experiments.runner.protocol import FAILED, RESUMED, STEPS, Failure, Fault, Hooks, Train, failure_of, outcome
from experiments.store import Location, Store
from mlp_lm.data.dataset import load_dataset
from mlp_lm.ideas import load_ideas


def start_jax(job: "Job") -> Train:
    """Import JAX, for the job's device, and return the function that trains cohorts."""
    from experiments.runner.trainer import train_cohort

    use_device(job.device)
    if job.cache:
        use_compilation_cache()
    if job.ideas and load_ideas(job.ideas).sha256 != job.ideas_hash:
        raise ValueError(f"{job.ideas} has changed since the sweep was planned: bring it back or start anew")
    dataset, store = load_dataset(job.data), Store(job.root)
    # A machine with less memory than the planner's trains fewer runs side by side.
    widest = widest_batch(job.device)
    return lambda cohort, hooks: train_cohort(
        replace(cohort, batch_size=min(cohort.batch_size, widest)), dataset, store, hooks
    )


@dataclass(frozen=True)
class Job:
    """What every worker needs to know. `start` is called once in each, and must be importable there.

    Data and ideas are known by what loads them: each worker reads them itself. What depends on a worker's own machine
    it finds out itself, too: the folder of compiled programs (used where `cache`), and how many runs its `device`
    holds.
    """

    data: str
    root: Location
    cache: bool = False
    start: Callable[["Job"], Train] = start_jax
    device: str = "cpu"
    ideas: str = ""
    ideas_hash: str = ""


def main() -> None:
    """A worker process's life: pinned before JAX is imported, it trains what it is given until its parent is gone.

    It is started by `local_executor` with the descriptors of two pipes, over which the parent first sends its job.
    """
    connection, alive = (Connection(int(os.environ[name])) for name in ("MLP_LM_PIPE", "MLP_LM_ALIVE"))
    # A terminal's Ctrl-C and a batch system's SIGTERM reach the whole group: the parent asks us to save and stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # Blocked by whoever started us.
    threading.Thread(target=_die_with_parent, args=(alive,), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # The parent is gone.
        _serve(connection)


def _serve(connection: Connection) -> None:
    core = connection.recv()
    train = _start(connection, core)
    if train is None:
        return
    hooks = Hooks(
        lambda steps: connection.send((STEPS, steps)),
        lambda steps: connection.send((RESUMED, steps)),
        connection.poll,
    )
    while (cohort := connection.recv()) is not None:
        connection.send(outcome(train, cohort, hooks))


def _start(connection: Connection, core: int | None) -> Train | None:
    """The train function of the job that the parent sends; None after a failure, which was sent to the parent."""
    try:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        job: Job = connection.recv()
        return job.start(job)
    except Exception as error:  # An OSError too: a dataset or a store that cannot be reached.
        connection.send((FAILED, Failure(Fault.START, f"no worker can start ({failure_of(error).reason})")))
        return None


def _die_with_parent(alive: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        alive.recv()  # Nothing is ever sent: the pipe ends with the parent, however that ends.
    os._exit(1)
