"""How workers and whoever hands out cohorts speak with each other, and what becomes of cohorts that failed.

The same rules for every executor.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from experiments.runner.plan import Cohort
from experiments.runner.rows import Row
from experiments.store.atomic import FORBIDDEN, FULL
from mlp_lm.config import RunConfig

# Messages of a worker are pairs whose first item is one of these.
STEPS, RESUMED, DONE, FAILED, STOPPED = "steps", "resumed", "done", "failed", "stopped"

Rows = list[Row]
Message = tuple[str, Any]

MAX_ATTEMPTS = 5
SINGLE_RUN_ATTEMPTS = 2  # Of an exception, which mostly comes again.


class Fault(StrEnum):
    """Why a cohort was not trained: it decides what is tried next."""

    DEATH = "death"  # The process is gone: killed, crashed, its machine lost.
    MEMORY = "memory"  # It said that memory ran out.
    STORAGE = "storage"  # Reading or writing failed, and may succeed another time.
    ERROR = "error"  # An exception: mostly the same one again.
    START = "start"  # It never came to train.
    UNWRITABLE = "unwritable"  # Full or forbidden: no result can be kept.


HOPELESS = (Fault.START, Fault.UNWRITABLE)


class Failure(NamedTuple):
    """A fault, and its reason in one line."""

    fault: Fault
    reason: str


class Stopped(Exception):
    """Training was asked to stop; what was done is in a checkpoint."""


@dataclass(frozen=True)
class Hooks:
    """Calls that training makes between two stretches. Steps are counted over all runs of a cohort (model-steps)."""

    on_steps: Callable[[int], None] = lambda model_steps: None  # Trained just now.
    on_resume: Callable[[int], None] = lambda model_steps: None  # Of a checkpoint: trained before.
    should_stop: Callable[[], bool] = lambda: False


Train = Callable[[Cohort, Hooks], Rows]


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
    fault = Fault.STORAGE if isinstance(error, OSError) else Fault.ERROR
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        fault = Fault.MEMORY
    return Failure(fault, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def first_line(error: BaseException) -> str:
    """What an exception says, without the number that an OSError puts first."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = error.strerror
    lines = text.strip().splitlines()
    return lines[0][:500] if lines else ""


class CannotContinue(Exception):
    """No cohort can be trained or stored; the message says why."""


@dataclass(frozen=True)
class Progress:
    """What an executor yields: model-steps trained, and the rows or the failure of a cohort that ended."""

    cohort: Cohort
    model_steps: int = 0  # Negative where work was lost.
    resumed: bool = False  # Whether these steps were trained by an earlier process.
    rows: tuple[dict[str, Any], ...] = ()
    failure: str = ""


@dataclass
class Task:
    """A cohort handed out for the n-th time, and the model-steps reported so far."""

    cohort: Cohort
    attempt: int = 1
    model_steps: int = 0


class Ledger:
    """Takes note of every message about a task.

    `stored` looks up the rows of a cohort that is in the store. `forget` drops the checkpoint of one that was cut in
    pieces: nothing resumes from it, and the next sweep would plan the cohort whole again.
    """

    def __init__(
        self,
        cohorts: Iterable[Cohort],
        stored: Callable[[Cohort], Rows | None],
        forget: Callable[[Cohort], None] = lambda cohort: None,
    ) -> None:
        self.pending = deque(Task(cohort) for cohort in cohorts)
        self.hopeless = ""
        self._stored, self._forget = stored, forget
        self._errors: Counter[str] = Counter()
        self._compiled: set[RunConfig] = set()  # Programs of cohorts that are done: kept, or in the worker's memory.

    def next_task(self, others: Iterable[Task]) -> Task:
        """Take the next pending task, but rather one whose program none of the `others` is the first to compile."""
        compiling = {task.cohort.program for task in others} - self._compiled
        place = next((i for i, task in enumerate(self.pending) if task.cohort.program not in compiling), 0)
        task = self.pending[place]
        del self.pending[place]
        return task

    def note(self, task: Task, message: Message) -> Iterator[Progress]:
        """What a message of a task means for the caller; a failed task may be pending again, in pieces."""
        kind, content = message
        if kind in (STEPS, RESUMED):
            task.model_steps += content
            yield Progress(task.cohort, model_steps=content, resumed=kind == RESUMED)
        elif kind == DONE:
            self._compiled.add(task.cohort.program)
            yield Progress(task.cohort, rows=tuple(content))
        elif kind == FAILED:
            yield from self._failed(task, content)
        elif kind == STOPPED:  # From its checkpoint again, unless everything stops.
            self.pending.append(Task(task.cohort, task.attempt))
            yield Progress(task.cohort, model_steps=-task.model_steps, resumed=True)

    def check(self) -> None:
        """Raise CannotContinue if nothing can be trained or stored."""
        if self.hopeless:
            raise CannotContinue(self.hopeless)

    def _failed(self, task: Task, failure: Failure) -> Iterator[Progress]:
        rows = self._stored(task.cohort)
        if rows is not None:  # It died between storing its rows and sending them.
            yield Progress(task.cohort, rows=tuple(rows))
            return
        yield Progress(task.cohort, model_steps=-task.model_steps, resumed=True)
        if failure.fault in HOPELESS:
            self.hopeless = failure.reason
            return
        again = self._next_tasks(task, failure)
        if len(again) > 1:
            self._forget(task.cohort)
        self.pending.extendleft(reversed(again))
        if not again:
            yield Progress(task.cohort, failure=f"{failure.reason}; tried {_times(task.attempt)}")

    def _next_tasks(self, task: Task, failure: Failure) -> list[Task]:
        """Nothing, the same cohort again, or its halves.

        A death is tried once more whole, because its checkpoint is there; after that, and at once where memory ran
        out, in halves. An exception is cornered by halving, down to the run that raises it; but one that was seen
        five times is not one run's, and is tried no more.
        """
        if failure.fault is Fault.ERROR:
            self._errors[failure.reason] += 1
            alone = len(task.cohort.runs) == 1 and task.attempt >= SINGLE_RUN_ATTEMPTS
            if alone or self._errors[failure.reason] > MAX_ATTEMPTS:
                return []
        if task.attempt >= MAX_ATTEMPTS:
            return []
        whole = failure.fault is Fault.STORAGE or (failure.fault is Fault.DEATH and task.attempt == 1)
        pieces = (task.cohort,) if whole else task.cohort.halves()
        return [Task(piece, task.attempt + 1) for piece in pieces]


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
