"""Run a plan's cohorts on a Ray cluster: one task a cohort, the same train function and rules as on one machine.

Tasks write to the store themselves: a folder that all machines share under one path, or an object store, for which
each machine has credentials of its own. A word list that is a file must be readable on all machines, too. Ray's own
retries are off: what died or failed is tried again by `Ledger`, which halves what memory can't hold; half as many tasks
go on then.

What depends on a machine is judged by the tasks on it: the folder of compiled programs, and how many runs its
accelerator holds side by side. Two things are judged by the driver all the same, because they are needed before there
is a task: the kind of device, which decides how cohorts are cut (with an address `--device gpu` is believed, and
`auto` means the driver's own kind), and whether a sweep fits into memory at all, by the driver's own.
"""

import contextlib
import functools
import logging
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.runner.local_executor import LOOK_SECONDS, Execute, make_ledger
from experiments.runner.plan import Cohort
from experiments.runner.protocol import (
    FAILED,
    RESUMED,
    STEPS,
    STOPPED,
    Failure,
    Fault,
    Hooks,
    Message,
    Progress,
    Task,
    Train,
    failure_of,
    first_line,
    outcome,
)
from experiments.runner.worker import Job
from mlp_lm.data.dataset import absolute_source
from mlp_lm.settings import SINGLE_THREADED

TASKS_PER_SLOT = 2  # In flight: the next one waits at the cluster, the millionth one here.
LOST_DRIVER_SECONDS = 30.0
REACH_SECONDS = 5.0

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
        driver = _Driver(from_anywhere(job))
        while ledger.pending or driver.tasks:
            ending = stopping() or bool(ledger.hopeless)
            if ending and not driver.tasks:
                break
            if ending:
                driver.ask_to_stop()
            while ledger.pending and not ending and driver.has_room:
                driver.give(ledger.next_task(driver.tasks.values()))
            for task, message in driver.receive():
                if message[0] == FAILED and message[1].fault is Fault.MEMORY:
                    driver.give_fewer()
                yield from ledger.note(task, message)
    ledger.check()


def from_anywhere(job: Job) -> Job:
    """The job with absolute paths: a worker may have another current folder."""
    root = job.root.absolute() if isinstance(job.root, Path) else job.root
    return replace(job, data=absolute_source(job.data), root=root)


class _Driver:
    """The driver's side: the tasks in flight, and the actor to which they send messages while they run."""

    def __init__(self, job: Job) -> None:
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.messages_actor: Any = ray.remote(_Messages).options(num_cpus=0, scheduling_strategy=here).remote()
        # A task holds a core, or a whole accelerator where the job trains on those.
        self.resource = "GPU" if job.device == "gpu" else "CPU"
        self.task = _train.options(num_cpus=0, num_gpus=1) if job.device == "gpu" else _train
        if job.device == "gpu" and ray.cluster_resources().get("GPU", 0) < 1:  # A task would wait for ever.
            raise ValueError("this Ray cluster has no GPU; add a machine that has one, or give --device cpu")
        self.job, self.tasks = job, dict[Any, Task]()
        self.most = sys.maxsize  # Tasks in flight.
        self.asked_to_stop = False

    @property
    def has_room(self) -> bool:
        """Whether the cluster, as it is now, should have one more task."""
        return len(self.tasks) < min(self.most, TASKS_PER_SLOT * self._n_slots)

    @property
    def _n_slots(self) -> int:
        return max(1, int(ray.cluster_resources().get(self.resource, 1)))

    def give_fewer(self) -> None:
        """Where memory ran out: let half as many tasks go on, once those in flight have ended."""
        self.most = max(1, min(self.most, self._n_slots) // 2)

    def give(self, task: Task) -> None:
        """Hand a task to the cluster."""
        self.tasks[self.task.remote(task.cohort, task.attempt, self.job, self.messages_actor)] = task

    def ask_to_stop(self) -> None:
        """Ask once: tasks that run learn it with their next message, one that begins later returns at once."""
        if self.asked_to_stop:
            return
        self.asked_to_stop = True
        ray.get(self.messages_actor.stop.remote())

    def receive(self) -> Iterator[tuple[Task, Message]]:
        """Messages of the tasks that run, and results of those that ended."""
        by_name = {(task.cohort.cohort_id, task.attempt): task for task in self.tasks.values()}
        for name, message in ray.get(self.messages_actor.take.remote()):
            if name in by_name:
                yield by_name[name], message
        ended, _ = (
            ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=LOOK_SECONDS) if self.tasks else ([], [])
        )
        for reference in ended:
            yield self.tasks.pop(reference), _result(reference)


class _Messages:
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
class _Reporter:
    """What a task reports: one call a stretch, whose answer says whether to stop."""

    messages_actor: Any
    name: tuple[str, int]
    stopping: bool = False

    def send(self, message: Message | None) -> None:
        try:
            answer = self.messages_actor.put.remote(self.name, message)
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
def _train(cohort: Cohort, attempt: int, job: Job, messages_actor: Any) -> Message:
    reporter = _Reporter(messages_actor, (cohort.cohort_id, attempt))
    reporter.send(None)
    if reporter.stopping:
        return STOPPED, None
    try:
        train = _started(job)
    except Exception as error:
        return FAILED, Failure(Fault.START, f"no worker can start ({failure_of(error).reason})")
    hooks = Hooks(
        lambda steps: reporter.send((STEPS, steps)),
        lambda steps: reporter.send((RESUMED, steps)),
        lambda: reporter.stopping,
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
        return FAILED, Failure(Fault.MEMORY, f"Ray ended its process for want of memory ({first_line(error)})")
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
                f"no Ray cluster at {address or 'this machine'} ({first_line(error)}); start one"
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
