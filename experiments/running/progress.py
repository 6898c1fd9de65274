"""What a sweep shows while it trains: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from experiments.running.plan import COMPILE_SECONDS, Cohort, n_programs

LINE_SECONDS = 30.0
TRUSTED_SHARE = 0.1  # Of the work: from then on the pace so far tells the time left, not the plan.


class Display:
    """Counts what is done. Time left comes from the plan's costs, corrected by how they have held so far."""

    def __init__(self, cohorts: Iterable[Cohort], n_done_before: int, estimate: float) -> None:
        """`estimate` is the plan's own guess at the seconds to come."""
        cohorts = tuple(cohorts)
        self.estimate = estimate
        self.n_runs = n_done_before + sum(len(cohort.runs) for cohort in cohorts)
        self.n_done, self.best = n_done_before, float("inf")
        self.n_steps = self.n_resumed = 0
        self.total_steps = sum(run.n_steps for cohort in cohorts for run in cohort.runs)
        self.total_cost = sum(cohort.seconds for cohort in cohorts) + COMPILE_SECONDS * n_programs(cohorts)
        self.cost_done = 0.0
        self.started = self.printed = time.monotonic()
        self.console = Console(stderr=True)
        self.bar = Progress(BarColumn(), TextColumn("{task.description}"), console=self.console)
        self.task = self.bar.add_task("", total=max(self.total_steps, 1))

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.bar.start()
            self._show()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.bar.stop()

    def steps(self, cohort: Cohort, model_steps: int, resumed: bool = False) -> None:
        """Some runs have gone on by so many steps in all, or back; `resumed` ones tell nothing of the pace."""
        self.n_steps += model_steps
        self.n_resumed += model_steps if resumed else 0
        self.cost_done += model_steps * _cost_per_step(cohort)
        self._show()

    def runs(self, dev_losses: Iterable[float | None]) -> None:
        """Runs are finished and stored."""
        losses = list(dev_losses)
        self.n_done += len(losses)
        self.best = min([self.best, *(loss for loss in losses if loss is not None)])
        self._show()

    def failed(self, cohort: Cohort, reason: str) -> None:
        """A cohort was given up."""
        self.console.print(f"gave up {len(cohort.runs)} runs: {reason}", markup=False, highlight=False, soft_wrap=True)

    @property
    def seconds_left(self) -> float:
        """A guess."""
        elapsed = time.monotonic() - self.started
        share = self.cost_done / max(self.total_cost, 1e-9)
        by_plan = self.estimate * (1 - share)
        by_pace = elapsed * (1 - share) / max(share, 1e-9)
        trust = min(share / TRUSTED_SHARE, 1.0)
        return (1 - trust) * by_plan + trust * by_pace

    def line(self) -> str:
        """The state in one line."""
        pace = max(self.n_steps - self.n_resumed, 0) / max(time.monotonic() - self.started, 1e-9)
        best = f", best dev {self.best:.4f}" if self.best < float("inf") else ""
        return f"{self.n_done}/{self.n_runs} runs, {pace:,.0f} steps/s{best}, {format_seconds(self.seconds_left)} left"

    def _show(self) -> None:
        if self.console.is_terminal:
            self.bar.update(self.task, completed=self.n_steps, description=self.line())
        elif time.monotonic() - self.printed > LINE_SECONDS:
            self.printed = time.monotonic()
            self.console.print(self.line(), highlight=False)


def _cost_per_step(cohort: Cohort) -> float:
    return cohort.seconds / sum(run.n_steps for run in cohort.runs)


def format_seconds(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
