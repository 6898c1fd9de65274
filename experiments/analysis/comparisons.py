"""Several comparisons with one reference: which differences are there, and which are none worth speaking of.

Differences are paired by seed. Each has two questions. Is it other than zero (a two-sided t-test)? Is it smaller than a
margin that was chosen beforehand (two one-sided t-tests, Schuirmann 1987)? A large p-value of the first does not answer
the second. The p-values of each question are adjusted for the number of comparisons made (Holm 1979), so that the
chance of even one false claim among them is at most 5 %. All this is about seeds: another list of names may differ,
and how much is what `over_words` says.

Where configurations are tuned, each at its own best learning rate or gain: a loss at a value that was chosen by that
loss is too low, and the lower the more values there were. So every seed is judged at the value that is best for the
other seeds, and differences stay paired by seed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit  # Student's t: scipy.stats takes a second to import.

from experiments.analysis.effects import axis_values, value_name
from experiments.analysis.studies import CONFIDENCE, Cell, Estimate, Study, estimate, paired_differences, rank_cells
from mlp_lm.config import DEFAULTS

MARGIN = 0.005  # Nats per token: less than the standard error of a dev loss over the choice of names, 0.0085.

LOWER, HIGHER, EQUIVALENT, UNRESOLVED = "lower", "higher", "equivalent", "unresolved"


@dataclass(frozen=True)
class Comparison:
    """A cell's dev loss minus the reference's.

    Attributes:
        cell: what is compared.
        difference: in nats per token, with the 95 % interval of this comparison alone.
        p_difference: that it is zero, adjusted for all comparisons.
        p_equivalence: that it is outside the margin, adjusted for all comparisons.
    """

    cell: Cell
    difference: Estimate
    p_difference: float
    p_equivalence: float

    @property
    def verdict(self) -> str:
        """LOWER or HIGHER, which a difference within the margin may be too; else EQUIVALENT; else UNRESOLVED."""
        if self.p_difference < 1 - CONFIDENCE:
            return LOWER if self.difference.mean < 0 else HIGHER
        return EQUIVALENT if self.p_equivalence < 1 - CONFIDENCE else UNRESOLVED

    @property
    def within_margin(self) -> bool:
        """Whether the difference is shown to be smaller than the margin, be it zero or not."""
        return self.p_equivalence < 1 - CONFIDENCE

    def columns(self) -> dict[str, Any]:
        """A table's columns."""
        adjusted = {"p_difference": self.p_difference, "p_equivalence": self.p_equivalence}
        verdict = {"within_margin": self.within_margin, "verdict": self.verdict}
        return {**self.difference.columns("difference"), "n_seeds": self.difference.n, **adjusted, **verdict}


def compare(cells: Iterable[Cell], reference: Cell, margin: float = MARGIN) -> list[Comparison]:
    """Each cell against the reference, which is itself left out; p-values are adjusted for all of them together.

    The reference should be chosen beforehand: the best of several cells is better than the rest by chance alone. A cell
    with fewer than two common seeds has p-values of NaN, and does not count.
    """
    compared = [(cell, paired_differences(cell, reference)) for cell in cells if cell is not reference]
    from_zero = holm([p_of_difference(differences) for _, differences in compared])
    outside = holm([p_of_equivalence(differences, margin) for _, differences in compared])
    return [
        Comparison(cell, estimate(differences), p, q)
        for (cell, differences), p, q in zip(compared, from_zero, outside, strict=True)
    ]


def reference_of(study: Study) -> Cell:
    """The configuration to compare the others of a study with: the default one where it ran, else the best one."""
    return next((cell for cell in study.cells if cell.finished and is_default(cell, study)), study.best)


def is_default(cell: Cell, study: Study) -> bool:
    """Whether a configuration has the default value on every axis of its study."""
    return all(cell.settings[axis] == DEFAULTS[axis] for axis in study.axes)


def why_reference(reference: Cell, study: Study) -> str:
    """Why the others are compared with this one, and what that does to the differences."""
    if is_default(reference, study):
        return "the default configuration"
    return "the best one: it was chosen by these losses, so that all differences are a little too large"


def comparison_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a configuration: its difference from the study's reference, and whether there is any."""
    for study in studies:
        reference = reference_of(study)
        for comparison in compare([cell for cell in study.cells if cell.finished], reference):
            if comparison.difference.n > 1:
                settings = {axis: comparison.cell.settings[axis] for axis in study.axes}
                yield {"study": study.name, **settings, "reference": study.label(reference), **comparison.columns()}


def over_words(losses: Float[np.ndarray, " n"], words: Int[np.ndarray, " n"]) -> Estimate:
    """The mean over tokens, and its 95 % interval over the choice of words; `words[i]` is the word of token i.

    Words are drawn whole, with all their tokens, so the mean is a ratio of two sums (Cochran 1977, section 6.3): its
    standard error is sqrt(W / (W - 1) sum_w (L_w - n_w mean)^2) / n, for W words with summed losses L_w and n_w tokens.
    Of the differences of two models' losses the interval is paired. Seeds are held fixed.
    """
    _, index = np.unique(words, return_inverse=True)
    sums, lengths = np.bincount(index, losses), np.bincount(index)
    mean, n_words = float(losses.mean()), len(sums)
    if n_words < 2:
        return Estimate(mean, -math.inf, math.inf, n_words)
    error = math.sqrt(n_words / (n_words - 1) * ((sums - lengths * mean) ** 2).sum()) / len(losses)
    half = error * float(stdtrit(n_words - 1, (1 + CONFIDENCE) / 2))
    return Estimate(mean, mean - half, mean + half, n_words)


def over_seeds_and_words(losses: Float[np.ndarray, "seed n"], words: Int[np.ndarray, " n"]) -> tuple[Estimate, float]:
    """The mean over seeds and tokens, its 95 % interval over the choice of both, and the p-value of zero.

    Every seed meets every word: a crossed design, in which the mean varies with the seeds, with the words, and with
    what a seed does to a word. The variance between the means of seeds holds the last of these, and so does that
    between words, so that it is taken off their sum once (Cameron, Gelbach and Miller 2011, for two clusterings);
    degrees of freedom are Satterthwaite's (1946). The interval is never narrower than that over seeds alone or over
    words alone, and p never smaller. As in `over_words`, words are drawn whole.

    Args:
        losses: of two seeds or more; of differences of two models' losses, paired by seed, the interval is paired.
        words: that of each token. A single one leaves the interval infinite, and p NaN.
    """
    _, index = np.unique(words, return_inverse=True)
    lengths, mean = np.bincount(index), float(losses.mean())
    n_seeds, n_words = len(losses), len(lengths)
    if n_words < 2:
        return Estimate(mean, -math.inf, math.inf, n_seeds), math.nan
    sums = np.stack([np.bincount(index, of_seed) for of_seed in losses])
    parts = (sums - lengths * mean) * n_words / len(words)  # Each word's share in the mean, which is their mean.
    by_seed, by_word = parts.mean(axis=1), parts.mean(axis=0)
    rest = parts - by_seed[:, None] - by_word
    of_seeds, of_words = by_seed.var(ddof=1) / n_seeds, by_word.var(ddof=1) / n_words
    of_both = (rest**2).sum() / ((n_seeds - 1) * (n_words - 1) * n_seeds * n_words)
    variance = max(of_seeds + of_words - of_both, of_seeds, of_words)
    uncertainty = of_seeds**2 / (n_seeds - 1) + of_words**2 / (n_words - 1)
    freedom = variance**2 / uncertainty if uncertainty else n_seeds - 1
    candidates = ((of_seeds, n_seeds - 1), (of_words, n_words - 1), (variance, freedom))
    half = max(math.sqrt(v) * float(stdtrit(df, (1 + CONFIDENCE) / 2)) for v, df in candidates)
    p = max(2 * float(stdtr(df, -abs(mean) / math.sqrt(v))) if v else float(mean == 0) for v, df in candidates)
    return Estimate(mean, mean - half, mean + half, n_seeds), p


def p_of_difference(differences: Sequence[float]) -> float:
    """The two-sided p-value of Student's t-test of a mean of zero; NaN for fewer than two values."""
    if len(differences) < 2:
        return math.nan
    return float(2 * _t_tail(differences, 0.0, -1.0 if np.mean(differences) < 0 else 1.0))


def p_of_equivalence(differences: Sequence[float], margin: float) -> float:
    """The p-value of two one-sided t-tests that the mean lies within ± margin; NaN for fewer than two values.

    Below 0.05 exactly where the 90 % interval lies within the margin.
    """
    if len(differences) < 2:
        return math.nan
    return float(max(_t_tail(differences, -margin, 1.0), _t_tail(differences, margin, -1.0)))


def p_text(p: float) -> str:
    """A p-value for a table."""
    return "below 0.0001" if p < 0.0001 else f"{p:.4f}"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): the chance of one below 0.05 by luck is at most 5 %.

    NaNs, tests that could not be made, stay and do not count.
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _t_tail(values: Sequence[float], bound: float, side: float) -> float:
    """The chance of a mean so far beyond `bound`, above it (side 1) or below it (-1), if the true mean were there."""
    sample = np.asarray(values, float)
    error, distance = sample.std(ddof=1) / math.sqrt(len(sample)), side * (sample.mean() - bound)
    if error == 0:
        return 0.0 if distance > 0 else 0.5 if distance == 0 else 1.0
    return float(stdtr(len(sample) - 1, -distance / error))


TUNABLE = ("learning_rate", "gain")  # Of which a configuration may have its own, and be no other for that.
FEWEST_VALUES = 3  # Of an axis that is worth tuning.


def tune(cells: Sequence[Cell]) -> Cell:
    """The best of some configurations, judged without its own choice.

    Its settings are those of the lowest mean dev loss, and the row of a seed is that of the configuration with the
    lowest mean over the other seeds; where there is one seed alone, it is judged by its own choice. Configurations in
    which a seed diverged or is missing are no candidates, unless all are.
    """
    seeds = sorted({row["seed"] for cell in cells for row in cell.finished})
    candidates = [cell for cell in cells if len(cell.finished) == len(seeds)] or list(cells)
    losses = {id(cell): {row["seed"]: row["dev_loss"] for row in cell.finished} for cell in candidates}

    def best_without(left_out: int | None) -> Cell:
        def mean(cell: Cell) -> float:
            others = [loss for seed, loss in losses[id(cell)].items() if seed != left_out]
            return sum(others) / len(others) if others else float("inf")

        return min(candidates, key=mean)

    best = best_without(None)
    if len(seeds) < 2:
        return best
    chosen = (row for seed in seeds for row in best_without(seed).finished if row["seed"] == seed)
    return Cell(best.settings, tuple(chosen) or best.rows)


def tuned_study(study: Study, tuned: Sequence[str]) -> Study:
    """The same study with the best values of the axes `tuned` for each combination of its other axes."""
    others = tuple(axis for axis in study.axes if axis not in tuned)
    cells = [tune(group) for group in _groups(study, others).values()]
    return replace(study, name=f"{study.name}, tuned", axes=others, cells=rank_cells(cells))


def tunings(study: Study) -> list[tuple[str, ...]]:
    """The axes of a study that are worth tuning: each one, and all together."""
    worth = [axis for axis in TUNABLE if axis in study.axes and axis not in study.ranges]
    worth = [axis for axis in worth if len(axis_values(study, axis)) >= FEWEST_VALUES]
    alone = [(axis,) for axis in worth]
    return [each for each in (*alone, *([tuple(worth)] if len(worth) > 1 else [])) if set(each) < set(study.axes)]


def tolerated(cells: Sequence[Cell]) -> list[Cell]:
    """Those of some configurations that are not shown to be worse than the best of them, with Holm's correction."""
    best = rank_cells(cells)[0]
    worse = {id(c.cell) for c in compare(cells, best) if c.verdict == HIGHER or c.cell.n_diverged}
    return [cell for cell in cells if id(cell) not in worse]


def tuned_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a tuning of a study and combination of its other axes: the best values, what they give, and the rest.

    `at_edge`: a best value is the lowest or highest that was tried. `tolerated`: the values that are not shown to be
    worse than the best.
    """
    for study in studies:
        for tuned in tunings(study):
            result = tuned_study(study, tuned)
            groups = _groups(study, result.axes)
            ends = {axis: (axis_values(study, axis)[0], axis_values(study, axis)[-1]) for axis in tuned}
            for rank, cell in enumerate(result.cells, start=1):
                group = groups[tuple(cell.settings[axis] for axis in result.axes)]
                near = [" x ".join(value_name(c.settings[axis]) for axis in tuned) for c in tolerated(group)]
                yield {
                    "study": study.name,
                    "tuned": " x ".join(tuned),
                    "rank": rank,
                    **{axis: cell.settings[axis] for axis in study.axes},
                    "at_edge": any(cell.settings[axis] in ends[axis] for axis in tuned),
                    "tolerated": ", ".join(near),
                    "n_seeds": len(cell.finished),
                    **cell.estimate("dev_loss").columns("dev_loss"),
                    **result.to_best(cell).columns("difference_to_best"),
                }


def _groups(study: Study, axes: Sequence[str]) -> dict[tuple, list[Cell]]:
    """A study's cells by their values of some axes; within each, in the order of the others."""
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    varying = [axis for axis in study.axes if axis not in axes]
    for cell in sorted(study.cells, key=lambda cell: [cell.settings[axis] for axis in varying]):
        groups[tuple(cell.settings[axis] for axis in axes)].append(cell)
    return groups
