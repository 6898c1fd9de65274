"""What a command shows: lines of text, and while it trains a bar, what is trained, and the best so far.

Where there is no terminal, a plain line now and then.
"""

import contextlib
import math
import sys
import time
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, track
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from experiments.cli.command import complain
from experiments.runner.plan import Plan
from experiments.runner.protocol import Progress
from experiments.runner.rows import DIVERGED, settings_of
from experiments.runner.run import format_seconds
from experiments.sweeps.text import count, printable
from mlp_lm.config import AXES

T = TypeVar("T")
LINE_SECONDS = 30.0
SHOWN_BEST = 3
TRUSTED_SHARE = 0.1  # Of the work: from then on the pace so far tells the time left, not the plan.


def stdout_console() -> Console:
    """For text and tables on stdout, in 80 columns where it is no terminal."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = 80
    return console


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], n_names: int = 1) -> None:
    """A table on stdout; its first `n_names` columns are names, the others numbers.

    Where it is too wide for the terminal its widest columns are wrapped, and nothing is cut.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < n_names else "right", overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(value)) for value in row))
    stdout_console().print(table)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on stderr that something goes on which takes a while, where that is a terminal."""
    console = Console(file=sys.stderr)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        yield


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a bar on stderr while they are worked on, where that is a terminal."""
    console = Console(file=sys.stderr)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


class CommandLine:
    """Text on stdout, messages on stderr in the name of a command."""

    def __init__(self, name: str) -> None:
        self.name = name

    def say(self, text: str) -> None:
        """A line on stdout."""
        print(printable(text), flush=True)

    def complain(self, message: str) -> None:
        """A line on stderr, if there is a message."""
        complain(self.name, message)

    def display(self, plan: Plan, n_done: int, seconds: float) -> AbstractContextManager["Display"]:
        """The display of a plan beside which `n_done` runs are done already."""
        return Display(plan, n_done, seconds)


class Quiet(CommandLine):
    """Keeps messages instead of printing them, for callers that raise; training is displayed all the same."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.messages: list[str] = []

    def say(self, text: str) -> None:
        """Keep a line."""
        self.messages.append(text)

    def complain(self, message: str) -> None:
        """Keep a message, if there is one."""
        if message:
            self.messages.append(message)


class Display(AbstractContextManager["Display"]):
    """Counts what is done. Time left comes from the plan's costs, corrected by how they have held of late."""

    def __init__(self, plan: Plan, n_done_before: int, seconds: float) -> None:
        """`seconds` is the plan's own guess at the time to come."""
        self.estimate = seconds
        self.n_runs = n_done_before + plan.n_runs
        self.n_done, self.best = n_done_before, float("inf")
        self.n_steps = self.n_resumed = 0
        self.total_cost = sum(
            cohort.seconds for cohort in plan.cohorts
        )  # Which steps make up; compiling shows in the pace.
        self.cost_done = self.cost_resumed = 0.0
        self.started = self.printed = time.monotonic()
        self.marks = [(0.0, self.started)]  # How much had been trained here at what time.
        self.console = Console(file=sys.stderr)
        self.bar = Bar(BarColumn(bar_width=None), console=self.console, expand=True)
        runs = [run for cohort in plan.cohorts for run in cohort.runs]
        self.task = self.bar.add_task("", total=max(sum(run.n_steps for run in runs), 1))
        self.axes = [axis for axis in AXES if len({getattr(run, axis) for run in runs}) > 1]
        self.now = ""
        self.cells: dict[tuple, tuple[dict[str, Any], list[float]]] = {}  # Settings and losses of those that finished.
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Display":
        if self.n_done and self.n_done < self.n_runs:
            self.console.print(f"{self.n_done} of {count(self.n_runs, 'run')} were here already", highlight=False)
        if self.console.is_terminal:
            self.live.start()
            self._refresh()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, event: Progress) -> None:
        """Count the steps of an event, and the runs that it finishes or gives up."""
        runs = event.cohort.runs
        self.n_steps += event.model_steps
        cost = event.model_steps * event.cohort.seconds / sum(run.n_steps for run in runs)
        self.cost_done += cost
        if event.resumed:  # Which tells nothing of the pace.
            self.n_resumed += event.model_steps
            self.cost_resumed += cost
        elif cost:
            self.marks.append((self.cost_done - self.cost_resumed, time.monotonic()))
        finished = [row for row in event.rows if row.get("status") != DIVERGED and row["dev_loss"] is not None]
        self.n_done += len(event.rows)
        self.best = min([self.best, *(row["dev_loss"] for row in finished)])
        self.now = self._describe(vars(runs[0]))
        for row in finished if self.axes else ():
            settings = {axis: settings_of(row)[axis] for axis in self.axes}
            self.cells.setdefault(tuple(settings.values()), (settings, []))[1].append(row["dev_loss"])
        if event.failure:
            text = f"gave up {count(len(runs), 'run')}: {printable(event.failure)}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._refresh()

    @property
    def seconds_left(self) -> float:
        """A guess, by the pace of the later half of what was trained here: workers start and compile before it."""
        here, left = self.cost_done - self.cost_resumed, self.total_cost - self.cost_done
        cost, since = self.marks[bisect(self.marks, (here / 2, math.inf)) - 1]
        by_plan = self.estimate * left / max(self.total_cost, 1e-9)
        by_pace = left * (time.monotonic() - since) / max(here - cost, 1e-9)
        trust = min(here / max(here + left, 1e-9) / TRUSTED_SHARE, 1.0)
        return max((1 - trust) * by_plan + trust * by_pace, 0.0)

    def line(self) -> str:
        """The state in one line."""
        pace = max(self.n_steps - self.n_resumed, 0) / max(time.monotonic() - self.started, 1e-9)
        best = f", best dev {self.best:.4f}" if self.best < float("inf") else ""
        return f"{self.n_done}/{self.n_runs} runs, {pace:,.0f} steps/s{best}, {format_seconds(self.seconds_left)} left"

    def best_so_far(self) -> list[str]:
        """A line each for the best configurations of those that finished, with intervals over their seeds so far."""
        from experiments.analysis.studies import estimate  # SciPy, once there is something to show.

        cells = ((estimate(losses), settings) for settings, losses in self.cells.values())
        several = sorted(cells, key=lambda cell: cell[0].mean)
        return [
            f"{place}. {loss} {count(loss.n, 'seed')}: {self._describe(settings)}"
            for place, (loss, settings) in enumerate(several[:SHOWN_BEST], start=1)
        ]

    def _describe(self, settings: dict[str, Any]) -> str:
        from experiments.analysis.studies import describe

        return printable(describe(settings, self.axes)) if self.axes else ""

    def _refresh(self) -> None:
        if self.console.is_terminal:
            self.bar.update(self.task, completed=self.n_steps)
            now = [f"now {self.now}"] if self.now else []
            lines = [self.line(), *now, *self.best_so_far()]
            texts = (Text(line, no_wrap=True, overflow="ellipsis") for line in lines)
            self.live.update(Group(self.bar, *texts), refresh=True)
        elif time.monotonic() - self.printed > LINE_SECONDS:
            self.printed = time.monotonic()
            self.console.print(self.line(), highlight=False)
