"""Seeds one look at a time: more of them only for configurations whose comparison is still open.

Looks at 3, 5, 8, 12, 20 and 32 seeds are planned beforehand. At each, every two configurations that are left are
compared by their differences paired by seed, and one that is behind the best is dropped. The probability of any false
statement that one is behind another, over all looks and all pairs, is at most 5 %:

- Each look may spend an equal part of the 5 % (a spending function, Lan and DeMets 1983, bounded by the sum over looks,
  which needs nothing about how looks depend on each other).
- Within a look, Holm's step-down procedure (Holm 1979) over all pairs of configurations that the study began with, less
  the pairs that were distinguished and of which one was dropped. While nothing false was said, those that are left hold
  all true hypotheses, so that the bound by the sum over these holds at every look.
- With 3 seeds a variance is hardly known. Where six or more configurations are left, variances of differences are
  moderated by one another: raised to a weighted mean with the typical one (never lowered), with degrees of freedom from
  how alike the variances are (Smyth 2004, section 4). This part is approximate: it is checked by simulation.

The sweep ends when all differences of those left are known within ± the width, by intervals that hold together with
95 % over all pairs and looks (Bonferroni), when one is left, or when the seeds run out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from scipy import special  # scipy.stats takes a second to import.

from experiments.analysis.studies import CONFIDENCE, Estimate, Study
from experiments.runner.rows import Row
from experiments.runner.stages import Studies, by_configuration, losses_of
from experiments.sweeps.request import Design

LOOKS = (3, 5, 8, 12, 20, 32)
MOST_PRIOR = 3  # Times a variance's own degrees of freedom: one noisy configuration among quiet ones costs no more.
FEWEST_MODERATED = 6  # Configurations, of which variances are alike or not.
BEHIND, FAILED, BEST, KNOWN, OUT_OF_SEEDS, OPEN = "behind", "diverged", "best", "known", "out of seeds", "open"


@dataclass(frozen=True)
class Verdict:
    """Why a configuration got no more seeds.

    Attributes:
        reason: BEHIND another, FAILED, the only one left (BEST), KNOWN within the width, OUT_OF_SEEDS or still OPEN.
        n_seeds: how many it got.
        to_best: its loss minus that of the best at that look, paired by seed, with the interval of that look.
        best: the place of the best at that look.
    """

    reason: str
    n_seeds: int
    to_best: Estimate
    best: int


@dataclass
class Outcome:
    """What is known after some looks.

    Attributes:
        verdicts: by place.
        n_wanted: by place, the number of seeds wanted so far.
        finished: whether no look is left to be taken.
    """

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    n_wanted: dict[int, int] = field(default_factory=dict)
    finished: bool = False


def planned_looks(max_seeds: int) -> tuple[int, ...]:
    """The numbers of seeds at which a sweep of at most so many looks."""
    return (*(n for n in LOOKS if n < max_seeds), max_seeds)


def decide(losses: Sequence[Mapping[int, float | None]], width: float, max_seeds: int, first_seed: int = 0) -> Outcome:
    """What follows from the losses of some configurations, by seed (None: diverged), at all looks that can be taken.

    Seeds beyond a look do not enter it, nor do those of a configuration that was dropped.
    """
    looks, outcome, left = planned_looks(max_seeds), Outcome(), list(range(len(losses)))
    n_open = math.comb(len(losses), 2)  # Pairs, but for those that were distinguished and are not tested again.
    n_pairs = n_open
    for n_seeds in looks:
        seeds = range(first_seed, first_seed + n_seeds)
        outcome.n_wanted |= dict.fromkeys(left, n_seeds)
        if any(seed not in losses[place] for place in left for seed in seeds):
            return outcome
        for place in [place for place in left if any(losses[place][seed] is None for seed in seeds)]:
            outcome.verdicts[place] = Verdict(FAILED, n_seeds, Estimate(math.nan, math.nan, math.nan, 0), place)
            left.remove(place)
        if not left:
            break
        table = np.array([[losses[place][seed] for seed in seeds] for place in left], float)
        level = (1 - CONFIDENCE) / len(looks)
        differences, errors, freedom = compare_pairs(table)
        halves = errors * -special.stdtrit(freedom, level / max(n_pairs, 1) / 2)
        apart = step_down(differences, errors, freedom, level, n_open)
        best = int(table.mean(axis=1).argmin())
        to_best = {
            place: Estimate(d, d - half, d + half, n_seeds)
            for place, d, half in zip(left, differences[:, best].tolist(), halves[:, best].tolist(), strict=True)
        }
        stay = [i for i in range(len(left)) if not apart[i, best]]
        # Pairs that stay are tested again, so that each pair is taken off once.
        n_open -= int(apart.sum() - apart[np.ix_(stay, stay)].sum()) // 2
        is_known = float(halves[np.ix_(stay, stay)].max()) <= width
        last = n_seeds == looks[-1]
        reason = BEST if len(stay) == 1 else KNOWN if is_known else OUT_OF_SEEDS if last else OPEN
        for i, place in enumerate(left):
            outcome.verdicts[place] = Verdict(reason if i in stay else BEHIND, n_seeds, to_best[place], left[best])
        left = [left[i] for i in stay]
        if reason != OPEN:
            break
    outcome.finished = True
    return outcome


def compare_pairs(
    table: Float[np.ndarray, "cell seed"],
) -> tuple[Float[np.ndarray, "cell cell"], Float[np.ndarray, "cell cell"], float]:
    """Of all pairs: mean differences (row minus column), their standard errors, and the degrees of freedom."""
    n_cells, n_seeds = table.shape
    freedom = float(n_seeds - 1)
    pairwise = table[:, None] - table[None, :]
    variances = pairwise.var(axis=2, ddof=1)
    if n_cells >= FEWEST_MODERATED:
        # What is common to a seed goes, by a median, so that no single noisy configuration enters the others.
        residuals = table - table.mean(axis=1, keepdims=True)
        residuals = residuals - np.median(residuals, axis=0)
        prior = prior_freedom(residuals.var(axis=1, ddof=1), freedom)
        prior = min(prior, MOST_PRIOR * freedom)
        if prior > 0:
            logs = np.log(np.maximum(variances[np.triu_indices(n_cells, 1)], np.finfo(float).tiny))
            offset = special.digamma(freedom / 2) - math.log(freedom / 2)
            typical = math.exp(float(np.median(logs)) - offset)
            variances = np.maximum(variances, (prior * typical + freedom * variances) / (prior + freedom))
            freedom += prior
    np.fill_diagonal(variances, 0)
    return pairwise.mean(axis=2), np.sqrt(variances / n_seeds), freedom


def prior_freedom(variances: Float[np.ndarray, " cell"], freedom: float) -> float:
    """How many degrees of freedom the likeness of some variances is worth (Smyth 2004, section 6.2).

    The variance of the logarithm of a sample variance is trigamma(freedom / 2), and more by trigamma(prior / 2) where
    the true variances differ.
    """
    logs = np.log(np.maximum(variances, np.finfo(float).tiny))
    excess = float(logs.var(ddof=1)) - float(special.polygamma(1, freedom / 2))
    if excess <= 0:
        return math.inf
    # trigamma falls from infinity to 0: halve the interval of the logarithm.
    low, high = -10.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if special.polygamma(1, math.exp(middle)) > excess else (low, middle)
    return 2 * math.exp(low)


def step_down(
    differences: Float[np.ndarray, "cell cell"],
    errors: Float[np.ndarray, "cell cell"],
    freedom: float,
    level: float,
    n_open: int,
) -> Bool[np.ndarray, "cell cell"]:
    """Which pairs are distinguished by Holm's procedure, as a symmetric table of truth values.

    `n_open` is the number of pairs of the study not distinguished so far, those of dropped configurations among them.
    """
    apart = np.zeros(differences.shape, bool)
    rows, columns = np.triu_indices(len(differences), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_values = np.nan_to_num(np.abs(differences[rows, columns]) / errors[rows, columns])
    p_values = 2 * special.stdtr(freedom, -t_values)
    for n_rejected, pair in enumerate(np.argsort(p_values)):
        if p_values[pair] > level / max(n_open - n_rejected, 1):
            break
        apart[rows[pair], columns[pair]] = apart[columns[pair], rows[pair]] = True
    return apart


@dataclass(frozen=True)
class SeedStages:
    """Seeds for the configurations of each study, until differences are known within ± `width` or seeds run out.

    `studies` hold every configuration with all of its `max_seeds` seeds from `first_seed` on.
    """

    studies: Studies
    width: float
    max_seeds: int
    first_seed: int = 0

    @property
    def design(self) -> Design:
        """What `read_outcomes` needs."""
        return {"until": self.width, "max_seeds": self.max_seeds, "first_seed": self.first_seed}

    def describe(self) -> str:
        """In words."""
        looks = ", ".join(map(str, planned_looks(self.max_seeds)))
        return f"looks at {looks} seeds, until differences are known within ±{self.width:g}"

    def wanted(self, rows: Mapping[str, Row]) -> Studies:
        """The seeds of all looks that were taken, and of the next one."""
        chosen = {}
        for name, runs in self.studies.items():
            groups = by_configuration(runs)
            outcome = decide([losses_of(group, rows) for group in groups], self.width, self.max_seeds, self.first_seed)
            ids = {
                group[self.first_seed + i] for place, group in enumerate(groups) for i in range(outcome.n_wanted[place])
            }
            chosen[name] = {run_id: config for run_id, config in runs.items() if run_id in ids}
        return chosen


def outcome_of(study: Study, design: Design) -> Outcome | None:
    """What was decided in a study, from its rows and the design in its request; None where seeds had no looks."""
    if "until" not in design:
        return None
    rows = {row["run_id"]: row for cell in study.cells for row in cell.rows}
    losses = [losses_of({row["seed"]: row["run_id"] for row in cell.rows}, rows) for cell in study.cells]
    return decide(losses, design["until"], design["max_seeds"], design["first_seed"])
