"""Sweeps that choose their runs in stages, each by the rows of the ones before.

The best third again at three times the steps, until one is left, is successive halving with another number (Jamieson
and Talwalkar 2016; Li et al. 2018, Hyperband, where rounds are called rungs). A short run is a guess at a long one, so
what changed rank between rounds is part of the answer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from experiments.runner.rows import DIVERGED, Row
from experiments.sweeps.request import Design
from mlp_lm.config import LARGEST_INT, RunConfig

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
    fits, too_many = 0, len(runs) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if planned(runs[:middle]) <= seconds else (fits, middle)
    return runs[:fits]


@dataclass(frozen=True)
class LongerStages:
    """After each round, the best 1 / `factor` of a study's configurations at `factor` times the steps.

    Until one is left, or the next round would have more than `most_steps`. Configurations with a diverged run do not go
    on; a round in which a run failed is not over, and no configuration of its study goes on.
    """

    studies: Studies
    factor: int
    most_steps: int = LARGEST_INT

    @property
    def design(self) -> Design:
        """What a page needs: by first study, the names of its rounds follow from `round_name`."""
        return {"then": self.factor, "most_steps": self.most_steps, "first": list(self.studies)}

    def describe(self) -> str:
        """In words."""
        return (
            f"the best of each {self.factor} configurations again with {self.factor} times the steps, until one is left"
        )

    def wanted(self, rows: Mapping[str, Row]) -> Studies:
        """All rounds that are over, and the next one."""
        chosen: dict[str, dict[str, RunConfig]] = {}
        for name, runs in self.studies.items():
            current, scale = dict(runs), 1
            while current:
                chosen[round_name(name, scale)] = current
                if not current.keys() <= rows.keys():
                    break
                scale *= self.factor
                current = self._next_round(current, rows)
        return chosen

    def _next_round(self, runs: Mapping[str, RunConfig], rows: Mapping[str, Row]) -> dict[str, RunConfig]:
        """The best configurations of a round that is over, with more steps; none where there is no next round."""
        means = []
        for place, group in enumerate(by_configuration(runs)):
            losses = [loss for loss in losses_of(group, rows).values() if loss is not None]
            if len(losses) == len(group):
                means.append((math.fsum(losses) / len(losses), place, group))
        kept = sorted(means)[: max(1, len(means) // self.factor)]
        configs = [runs[run_id] for _, _, group in kept for run_id in group.values()]
        longer = [
            replace(config, n_steps=self.factor * config.n_steps)
            for config in configs
            if self.factor * config.n_steps <= self.most_steps
        ]
        return {config.run_id: config for config in longer} if len(by_configuration(runs)) > 1 else {}


def round_name(study: str, scale: int) -> str:
    """The name of the study that holds a round at so many times the first steps."""
    return study if scale == 1 else f"{study}, {scale}x steps"
