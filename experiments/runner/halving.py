"""The best third again at three times the steps, until one is left: successive halving with another number.

Jamieson and Talwalkar 2016; Li et al. 2018 (Hyperband), where rounds are called rungs. A short run is a guess at a long
one, so what changed rank between rounds is part of the answer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.runner.rows import Row
from experiments.runner.stages import Studies, by_configuration, losses_of
from experiments.sweeps.request import Design
from mlp_lm.config import LARGEST_INT, RunConfig


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
