"""Run a plan's cohorts on a Ray cluster: one task a cohort, the same train function and rules as on one machine.

Tasks write to the store themselves: a folder that all machines share under one path, or an object store, for which
each machine has credentials of its own. A word list that is a file must be readable on all machines, too. Ray's own
retries are off: what died or failed is tried again by `Ledger`, which halves what memory can't hold.

What depends on a machine is judged by the tasks on it: the folder of compiled programs, and how many runs its
accelerator holds side by side. Two things are judged by the driver all the same, because they are needed before there
is a task: the kind of device, which decides how cohorts are cut (with an address `--device gpu` is believed, and
`auto` means the driver's own kind), and whether a sweep fits into memory at all, by the driver's own.
"""

import contextlib
import functools
import logging
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.running.execute import LOOK_SECONDS, SINGLE_THREADED, Execute, make_ledger
from experiments.running.hooks import Hooks
from experiments.running.ledger import Progress, Task
from experiments.running.plan import Cohort
from experiments.running.worker import (
    FAILED,
    RESUMED,
    STEPS,
    STOPPED,
    Failure,
    Fault,
    Job,
    Message,
    Train,
    failure_of,
    outcome,
)
from mlp_lm.corpus import DEFAULT_DATA, MAKEMORE_DATA
from mlp_lm.small_text import SMALL_TEXT
from mlp_lm.text import BROWN

TASKS_PER_PLACE = 2  # In flight: the next one waits at the cluster, the millionth one here.
LOST_DRIVER_SECONDS = 30.0
REACH_SECONDS = 5.0
NAMED_DATA = (DEFAULT_DATA, MAKEMORE_DATA, SMALL_TEXT, BROWN)  # Which no file's path is.

try:
    import ray
except ImportError as missing:
    raise ValueError(f"--executor ray needs Ray ({missing}); pip install 'mlp-lm[ray]'") from None


def on_ray(address: str | None = None) -> Execute:
    """An executor on the cluster at `address`, or on one that is started here and ends with it."""
    return functools.partial(_execute, address)


def _execute(
    address: str | None, cohorts: Sequence[Cohort], job: Job, cores: Sequence[int], stopping: Callable[[], bool]
) -> Generator[Progress]:
    ledger = make_ledger(cohorts, job)
    with _cluster(address, len(cores)):
        desk = _Desk(from_anywhere(job))
        while ledger.pending or desk.tasks:
            ending = stopping() or bool(ledger.hopeless)
            if ending and not desk.tasks:
                break
            if ending:
                desk.ask_to_stop()
            while ledger.pending and not ending and desk.has_room:
                desk.give(ledger.pending.popleft())
            for task, message in desk.news():
                yield from ledger.note(task, message)
    ledger.check()


def from_anywhere(job: Job) -> Job:
    """The job with whole paths: a worker's current folder is not ours."""
    root = job.root.absolute() if isinstance(job.root, Path) else job.root
    return replace(job, data=_absolute(job.data), root=root)


def _absolute(data: str) -> str:
    """A word list's file by its whole path, and the file or folder of `text:KIND:PATH`."""
    kind, colon, source = data.rpartition(":")
    for before, path in (("", data), (f"{kind}{colon}", source)):
        if path not in NAMED_DATA and path and Path(path).exists():
            return f"{before}{Path(path).absolute()}"
    return data


class _Desk:
    """The driver's side: the tasks in flight, and the mailbox through which they speak while they run."""

    def __init__(self, job: Job) -> None:
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.mailbox: Any = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        # A task holds a core, or a whole accelerator where the job trains on those.
        self.resource = "GPU" if job.device == "gpu" else "CPU"
        self.task = _train.options(num_cpus=0, num_gpus=1) if job.device == "gpu" else _train
        if job.device == "gpu" and ray.cluster_resources().get("GPU", 0) < 1:  # A task would wait for ever.
            raise ValueError("this Ray cluster has no GPU; add a machine that has one, or give --device cpu")
        self.job, self.tasks = job, dict[Any, Task]()
        self.told_to_stop = False

    @property
    def has_room(self) -> bool:
        """Whether the cluster, as it is now, should have one more task."""
        return len(self.tasks) < max(1, TASKS_PER_PLACE * int(ray.cluster_resources().get(self.resource, 1)))

    def give(self, task: Task) -> None:
        """Hand a task to the cluster."""
        self.tasks[self.task.remote(task.cohort, task.attempt, self.job, self.mailbox)] = task

    def ask_to_stop(self) -> None:
        """Ask once: tasks that run hear it from the mailbox, one that begins later returns at once."""
        if self.told_to_stop:
            return
        self.told_to_stop = True
        ray.get(self.mailbox.stop.remote())

    def news(self) -> Iterator[tuple[Task, Message]]:
        """What tasks told, and those that ended."""
        by_name = {(task.cohort.cohort_id, task.attempt): task for task in self.tasks.values()}
        for name, message in ray.get(self.mailbox.take.remote()):
            if name in by_name:
                yield by_name[name], message
        ended, _ = (
            ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=LOOK_SECONDS) if self.tasks else ([], [])
        )
        for reference in ended:
            yield self.tasks.pop(reference), _result(reference)


class _Mailbox:
    def __init__(self) -> None:
        self.messages: list[tuple[tuple[str, int], Message]] = []
        self.stopping = False

    def put(self, name: tuple[str, int], message: Message | None) -> bool:
        """Leave a message; whether to stop."""
        if message:
            self.messages.append((name, message))
        return self.stopping

    def take(self) -> list[tuple[tuple[str, int], Message]]:
        messages, self.messages = self.messages, []
        return messages

    def stop(self) -> None:
        self.stopping = True


@dataclass
class _Voice:
    """A task's end of the mailbox: one call a segment, whose answer says whether to stop."""

    mailbox: Any
    name: tuple[str, int]
    stopping: bool = False

    def tell(self, message: Message | None) -> None:
        try:
            answer = self.mailbox.put.remote(self.name, message)
            # A task whose main thread waits gives its core away meanwhile: a third one would train on two cores.
            self.stopping = _other_thread().submit(_wait_for, answer).result()
        except ray.exceptions.RayError:  # The driver is gone: save and end.
            self.stopping = True


def _wait_for(answer: Any) -> bool:
    stopping: bool = ray.get(answer, timeout=LOST_DRIVER_SECONDS)
    return stopping


@functools.cache
def _other_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1)


@ray.remote(num_cpus=1, max_retries=0)
def _train(cohort: Cohort, attempt: int, job: Job, mailbox: Any) -> Message:
    voice = _Voice(mailbox, (cohort.cohort_id, attempt))
    voice.tell(None)
    if voice.stopping:
        return STOPPED, None
    try:
        train = _started(job)
    except Exception as error:
        return FAILED, Failure(Fault.START, f"no worker can start ({failure_of(error).reason})")
    hooks = Hooks(
        lambda steps: voice.tell((STEPS, steps)),
        lambda steps: voice.tell((RESUMED, steps)),
        lambda: voice.stopping,
    )
    return outcome(train, cohort, hooks)


@functools.cache
def _started(job: Job) -> Train:
    """The train function, made once in a worker process, which Ray uses for many tasks."""
    return job.start(job)


def _result(reference: Any) -> Message:
    try:
        message: Message = ray.get(reference)
        return message
    except ray.exceptions.OutOfMemoryError as error:
        return FAILED, Failure(Fault.MEMORY, f"Ray ended its process for want of memory ({_first_line(error)})")
    except ray.exceptions.RayError as error:
        return FAILED, Failure(Fault.DEATH, f"its process or machine was lost ({type(error).__name__})")


@contextlib.contextmanager
def _cluster(address: str | None, n_cpus: int) -> Iterator[None]:
    environment = {"env_vars": {"XLA_FLAGS": SINGLE_THREADED}}
    size: dict[str, Any] = {} if address else {"num_cpus": n_cpus, "include_dashboard": False}
    already = ray.is_initialized()
    if not already:
        try:
            _check_reachable(address)
            ray.init(
                address or "local", runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **size
            )
        except (OSError, RuntimeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"no Ray cluster at {address or 'this machine'} ({_first_line(error)}); start one"
            ) from None
    try:
        yield
    finally:
        if not already:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Ray itself knocks for minutes, and then ends the process."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), REACH_SECONDS).close()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
