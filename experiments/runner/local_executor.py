"""Run a plan's cohorts in worker processes, one a core, and survive what happens to them."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from experiments.runner.devices import claimed_cores
from experiments.runner.plan import Cohort
from experiments.runner.protocol import (
    FAILED,
    RESUMED,
    STEPS,
    CannotContinue,
    Failure,
    Fault,
    Ledger,
    Message,
    Progress,
    Task,
)
from experiments.runner.worker import Job
from experiments.store import Store
from mlp_lm.config import RunConfig
from mlp_lm.settings import HOST_XLA_FLAGS, SINGLE_THREADED, clean_environment

PROGRAMS_PER_WORKER = 200  # XLA keeps some 7 MB a program for good: then a fresh process goes on.
ENDING_SECONDS = 10.0  # For a process that has closed its pipe; then it is killed.
LOOK_SECONDS = 0.2  # Between two looks at whether to stop.


Execute = Callable[[Sequence[Cohort], Job, Sequence[int | None], Callable[[], bool]], Generator[Progress]]


def execute(
    cohorts: Sequence[Cohort], job: Job, slots: Sequence[int | None], stopping: Callable[[], bool] = lambda: False
) -> Generator[Progress]:
    """Train cohorts, longest first, one pinned process a slot; yields what happens, and often enough to look around.

    Once `stopping()` is true workers finish their stretch, save a checkpoint and end. A worker that dies takes no
    cohort with it: `Ledger` decides what is tried again. Where memory runs out, half as many workers go on.

    Raises:
        CannotContinue: workers can't start, or nothing can be stored.
    """
    with claimed_cores(slots) as cores:
        yield from _execute_on(cores, make_ledger(cohorts, job), job, stopping)


def _execute_on(
    cores: Sequence[int | None], ledger: Ledger, job: Job, stopping: Callable[[], bool]
) -> Generator[Progress]:
    workers = [_Slot(core, job) for core in cores]
    most = len(workers)
    try:
        while ledger.pending or any(worker.task for worker in workers):
            ending = stopping() or bool(ledger.hopeless)
            if ending and not any(worker.task for worker in workers):
                break
            n_busy = sum(worker.task is not None for worker in workers)
            for worker in workers:
                if ending:
                    worker.ask_to_stop()
                elif ledger.pending and not worker.task and n_busy < most:
                    worker.give(ledger.next_task(other.task for other in workers if other.task))
                    n_busy += 1
                elif not worker.task and n_busy >= most:
                    worker.end()  # The others need its memory.
            busy = {worker.process.connection: worker for worker in workers if worker.task and worker.process}
            ready = wait(list(busy), timeout=LOOK_SECONDS)
            for worker in [worker for connection, worker in busy.items() if connection in ready]:
                yield from worker.receive(ledger)
                if worker.out_of_memory:
                    most, worker.out_of_memory = max(1, most // 2), False
    finally:
        for worker in workers:
            worker.end()
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
    """A worker process on one core, and the driver's end of the pipe to it.

    It is started as a module of its own, so that neither a notebook nor a script without a `__main__` guard is run
    again in it, and it ends with this process, whose end of the pipe `alive` it watches.
    """

    def __init__(self, core: int | None, job: Job) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        watched, self._alive = multiprocessing.Pipe(duplex=False)
        self.programs: set[RunConfig] = set()
        environment = clean_environment(os.environ) | {
            "XLA_FLAGS": SINGLE_THREADED if job.device == "cpu" else HOST_XLA_FLAGS,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "MLP_LM_PIPE": str(theirs.fileno()),
            "MLP_LM_ALIVE": str(watched.fileno()),
        }
        try:
            with _blocked_signals():
                self.process = subprocess.Popen(
                    # -P: what lies in the current folder must not hide a module, where the caller's path has it not.
                    [sys.executable, "-P", "-c", "from experiments.runner.worker import main; main()"],
                    env=environment,
                    pass_fds=(theirs.fileno(), watched.fileno()),
                    stdin=subprocess.DEVNULL,
                )
        except OSError as error:
            self.connection.close()
            self._alive.close()
            raise CannotContinue(f"no worker can start ({error.strerror}); give fewer --workers") from error
        finally:
            theirs.close()
            watched.close()
        for message in (core, job):
            self._send(message)

    def serves(self, program: RunConfig) -> bool:
        """Whether it is alive and has room for one more program."""
        return self.process.poll() is None and len(self.programs | {program}) <= PROGRAMS_PER_WORKER

    def train(self, cohort: Cohort) -> None:
        """Give it a cohort."""
        self.programs.add(cohort.program)
        self._send(cohort)

    def stop(self) -> None:
        """Ask it to save and end."""
        self._send(None)

    def receive(self) -> Message:
        """Its next message, or that it died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return FAILED, Failure(Fault.DEATH, f"its process died ({self._end_in_words()})")

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self._alive.close()

    def _end_in_words(self) -> str:
        try:
            code = self.process.wait(timeout=ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return "it fell silent"
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"{name}, perhaps for want of memory" if -code == signal.SIGKILL else name

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # Dead already: reading from it will say so.
            self.connection.send(message)


class _Slot:
    """One core, held by one process after another."""

    def __init__(self, core: int | None, job: Job) -> None:
        self.core, self.job = core, job
        self.task: Task | None = None
        self.process: _Process | None = None
        self.stopping = self.out_of_memory = False

    def give(self, task: Task) -> None:
        """Start on a task, in a fresh process where need be."""
        if self.process is None or not self.process.serves(task.cohort.program):
            self.end()
            self.process = _Process(self.core, self.job)
        self.task = task
        self.process.train(task.cohort)

    def ask_to_stop(self) -> None:
        """Ask once for a checkpoint and an end."""
        if self.process and not self.stopping:
            self.stopping = True
            self.process.stop()

    def receive(self, ledger: Ledger) -> Iterator[Progress]:
        """Pass the process's next message, or its death, to the ledger."""
        assert self.process and self.task
        task, message = self.task, self.process.receive()
        if message[0] not in (STEPS, RESUMED):
            self.task = None
        if message[0] == FAILED and message[1].fault is not Fault.ERROR:
            killed = self.process.process.poll() == -signal.SIGKILL
            self.end()
            # One kill may be anybody's; the second of a cohort is most likely the kernel's, which needs memory.
            self.out_of_memory = message[1].fault is Fault.MEMORY or (killed and task.attempt > 1)
            if message[1].fault is Fault.DEATH:  # Perhaps of a cached program: the next process does without.
                self.job = replace(self.job, cache=False)
        yield from ledger.note(task, message)

    def end(self) -> None:
        """End the process, if there is one."""
        if self.process:
            self.process.end()
            self.process = None


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """A process started meanwhile ignores Ctrl-C and SIGTERM until it says otherwise; the driver's own wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
