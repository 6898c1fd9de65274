"""Sweeps that choose their runs in stages, each by the rows of the ones before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from experiments.runner.rows import DIVERGED, Row
from experiments.sweeps.request import Design
from mlp_lm.config import RunConfig

Studies = Mapping[str, Mapping[str, RunConfig]]  # By name, then by run id.
COLUMNS = ("seed", "dev_loss", "status")  # What a choice may depend on, beside the run id.


class Stages(Protocol):
    """Chooses what to run. A pure function of rows: resumed, or in a folder with other runs, it chooses the same."""

    @property
    def design(self) -> Design:
        """How it chooses, for the request of the folder: what a page needs to tell the same story."""

    def describe(self) -> str:
        """In words, for a dry run."""

    def wanted(self, rows: Mapping[str, Row]) -> Studies:
        """All runs that are wanted, given the rows so far, by run id; the sweep is over once each has one."""


@dataclass(frozen=True)
class AllAtOnce:
    """Every run of the sweep."""

    studies: Studies

    @property
    def design(self) -> Design:
        """Nothing is chosen."""
        return Design()

    def describe(self) -> str:
        """In words."""
        return "all runs at once"

    def wanted(self, rows: Mapping[str, Row]) -> Studies:
        """All of them, whatever the rows."""
        return self.studies


def by_configuration(runs: Mapping[str, RunConfig]) -> list[dict[int, str]]:
    """The runs of each configuration, as run ids by seed, in the order of the study."""
    groups: dict[RunConfig, dict[int, str]] = {}
    for run_id, config in runs.items():
        groups.setdefault(replace(config, seed=0), {})[config.seed] = run_id
    return list(groups.values())


def losses_of(run_ids: Mapping[int, str], rows: Mapping[str, Row]) -> dict[int, float | None]:
    """By seed, the dev losses that are known; None where a run diverged."""
    losses: dict[int, float | None] = {}
    for seed, run_id in run_ids.items():
        if run_id in rows:
            losses[seed] = None if rows[run_id]["status"] == DIVERGED else rows[run_id]["dev_loss"]
    return losses


def breadth_first(runs: Sequence[RunConfig]) -> list[RunConfig]:
    """The runs of the lowest seed, in an order that follows no axis: any part of them is spread over the grid."""
    lowest = min((run.seed for run in runs), default=0)
    return sorted((run for run in runs if run.seed == lowest), key=lambda run: run.run_id)


def what_fits(
    runs: Sequence[RunConfig], seconds: float, planned: Callable[[Sequence[RunConfig]], float]
) -> Sequence[RunConfig]:
    """The first of some runs, as many as `planned` to take no more than so many seconds; halves are tried."""
    if seconds <= 0:
        return []
    fits, too_many = 0, len(runs) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if planned(runs[:middle]) <= seconds else (fits, middle)
    return runs[:fits]
