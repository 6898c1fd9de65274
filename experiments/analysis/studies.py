"""Cells of a grid with intervals over seeds, differences paired by seed, and studies of cells.

From rows alone, without JAX. Losses are in nats per token; intervals are 95 %.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: scipy.stats takes a second to import.

from experiments.runner.rows import DIVERGED, Row, settings_of
from experiments.sweeps.ranges import Range
from mlp_lm.config import AXES, DEFAULTS

CONFIDENCE = 0.95
ALWAYS_NAMED = ("n_steps", "learning_rate", "schedule", "batch_size")
AMBIGUOUS = ("draw", "output_bias")  # Axes whose values say little without their names.


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds and its 95 % interval (Student's t); the interval is infinite for one seed."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval; 0 where a single seed gives none."""
        return (self.high - self.low) / 2 if math.isfinite(self.low) else 0.0

    def columns(self, name: str) -> dict[str, float]:
        """A table's columns: the mean under this name, its interval as `name_low` and `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}

    def signed(self) -> str:
        """As text, with a sign."""
        text = str(self)
        return text if text.startswith("-") else f"+{text}"  # A dash stands for none.

    def __str__(self) -> str:
        if self.n == 0:
            return "-"
        return f"{self.mean:.4f}" if self.n == 1 else f"{self.mean:.4f} ± {self.half:.4f}"


@dataclass(frozen=True)
class Cell:
    """The runs of one configuration, which differ in their seed only."""

    settings: dict[str, Any]
    rows: tuple[Row, ...]

    @property
    def finished(self) -> tuple[Row, ...]:
        """The runs that did not diverge."""
        return tuple(row for row in self.rows if row["status"] != DIVERGED)

    @property
    def n_diverged(self) -> int:
        """How many did."""
        return len(self.rows) - len(self.finished)

    def estimate(self, column: str) -> Estimate:
        """Mean and interval of a column over the finished runs that have it: a split may be empty."""
        return estimate(row[column] for row in self.finished if row[column] is not None)


@dataclass(frozen=True)
class Study:
    """Cells that are compared with one another, best first, and the axes in which they differ.

    `ranges` are those of the axes whose values were drawn from one.
    """

    name: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @functools.cached_property
    def followers(self) -> dict[str, str]:
        """Axes whose values another one settles, as zipped ones do, and that axis; none of values that were drawn."""
        found: dict[str, str] = {}
        for axis in () if self.ranges else reversed(self.axes):
            leaders = (other for other in self.axes if other != axis and other not in found)
            leader = next((other for other in leaders if self._settles(other, axis)), None)
            found |= {axis: leader} if leader else {}
        return found

    @property
    def factors(self) -> tuple[str, ...]:
        """The axes that vary of their own: all but `followers`."""
        return tuple(axis for axis in self.axes if axis not in self.followers)

    @property
    def in_step(self) -> str:
        """In words, which axes follow which, or nothing."""
        return ", ".join(f"{axis} in step with {leader}" for axis, leader in reversed(self.followers.items()))

    def _settles(self, axis: str, other: str) -> bool:
        """Whether cells with the same value of `axis` have the same value of `other`."""
        pairs = {(cell.settings[axis], cell.settings[other]) for cell in self.cells}
        return len(pairs) == len({value for value, _ in pairs})

    @property
    def best(self) -> Cell:
        """The cell of the lowest mean dev loss among those without a diverged run, if there are any."""
        return self.cells[0]

    @property
    def compares_schemes(self) -> bool:
        """Whether nothing but initialisation schemes, with and without batch norm, differ."""
        return "init" in self.axes and set(self.axes) <= {"init", "batch_norm"}

    def to_best(self, cell: Cell) -> Estimate:
        """A cell's dev loss minus that of the best one, paired by seed."""
        return paired_difference(cell, self.best)

    def is_close(self, cell: Cell) -> bool:
        """Whether a cell cannot be distinguished from the best one: no interval of their difference excludes 0."""
        difference = self.to_best(cell)
        return not (difference.low > 0 or difference.high < 0)

    def to_best_words(self, cell: Cell) -> str:
        """The difference to the best cell for a table; nothing is best where every run diverged."""
        return "best" if cell is self.best and cell.finished else self.to_best(cell).signed()

    @property
    def shown_as(self) -> str:
        """What a figure shows of each cell, for its subtitle."""
        several = any(len(cell.finished) > 1 for cell in self.cells)
        return "mean and 95 % interval over seeds" if several else "one seed each, so no intervals"

    @property
    def fixed(self) -> str:
        """In words, what all cells share: length, rate, schedule and batch, and what differs from the defaults."""
        settings = self.cells[0].settings
        shared = [name for name in AXES if name not in self.axes]
        always = [name for name in ALWAYS_NAMED if name in shared]
        others = [name for name in shared if name not in ALWAYS_NAMED and settings[name] != DEFAULTS[name]]
        return describe(settings, [*always, *others])

    @property
    def caution(self) -> str:
        """What makes the ranking of this study weak, or nothing."""
        sentences = []
        if max(len(cell.rows) for cell in self.cells) == 1:
            sentences.append("One seed each: a ranking without intervals, which another seed may turn round.")
        if self.in_step:
            sentences.append(f"With {self.in_step}, their effects cannot be told apart.")
        rates = sorted({cell.settings["learning_rate"] for cell in self.cells})
        best = self.best.settings["learning_rate"]
        if "learning_rate" in self.factors and self.best.finished and best in (rates[0], rates[-1]):
            edge = "lowest" if best == rates[0] else "highest"
            sentences.append(f"The best learning rate, {best:g}, is the {edge} one tried: a better one may lie beyond.")
        return " ".join(sentences)

    def label(self, cell: Cell) -> str:
        """A cell in words, by the axes that vary."""
        return describe(cell.settings, self.axes)


def estimate(values: Iterable[float]) -> Estimate:
    """Mean and Student's t interval of a sample."""
    sample = np.array(list(values), dtype=float)
    if len(sample) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if len(sample) == 1:
        return Estimate(float(sample[0]), -math.inf, math.inf, 1)
    half = sample.std(ddof=1) / math.sqrt(len(sample)) * t_quantile(len(sample) - 1)
    mean = float(sample.mean())
    return Estimate(mean, mean - half, mean + half, len(sample))


@dataclass(frozen=True)
class Prediction:
    """Where one more value of a sample is expected: its mean, and an interval of 95 % probability.

    `p_value` is that of a value which was observed: two-sided, of Student's t.
    """

    mean: float
    low: float
    high: float
    p_value: float

    @property
    def holds(self) -> bool:
        """Whether the observed value lies inside; an interval without bounds holds every value."""
        return not self.p_value < 1 - CONFIDENCE

    def columns(self, name: str) -> dict[str, float]:
        """A table's columns: the mean under this name, the interval as `name_low` and `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def predict_one_more(values: Iterable[float], observed: float) -> Prediction:
    """The prediction interval of one more draw of a normal sample, beside one that was observed.

    mean ± t(0.975, n - 1) s sqrt(1 + 1/n) (Hahn and Meeker 1991, section 4.2); infinite for fewer than two values.
    """
    sample = np.array(list(values), dtype=float)
    mean = float(sample.mean()) if len(sample) else math.nan
    if len(sample) < 2:
        return Prediction(mean, -math.inf, math.inf, math.nan)
    freedom = len(sample) - 1
    scale = float(sample.std(ddof=1)) * math.sqrt(1 + 1 / len(sample))
    half = scale * t_quantile(freedom)
    p_value = float(2 * stdtr(freedom, -abs(observed - mean) / scale)) if scale else float(observed == mean)
    return Prediction(mean, mean - half, mean + half, p_value)


@functools.cache
def t_quantile(degrees_of_freedom: int) -> float:
    """The quantile of Student's t that half of a 95 % interval is a multiple of."""
    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))


def paired_difference(cell: Cell, reference: Cell, column: str = "dev_loss") -> Estimate:
    """`cell` minus `reference`, over the seeds that both finished: what their draws have in common cancels."""
    return estimate(paired_differences(cell, reference, column))


def paired_differences(cell: Cell, reference: Cell, column: str = "dev_loss") -> list[float]:
    """`cell` minus `reference`, seed by seed, where both finished and have the column: a split may be empty."""
    losses, others = ({row["seed"]: row[column] for row in each.finished} for each in (cell, reference))
    common = sorted(losses.keys() & others.keys())
    return [losses[seed] - others[seed] for seed in common if None not in (losses[seed], others[seed])]


def make_study(name: str, rows: Sequence[Row], ranges: Mapping[str, Range] | None = None) -> Study:
    """Group rows into cells and rank them: by mean dev loss, cells with diverged runs last."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(settings_of(row).values())].append(row)
    cells = [
        Cell(dict(zip(AXES, key, strict=True)), tuple(sorted(members, key=lambda row: row["seed"])))
        for key, members in groups.items()
    ]
    varying = tuple(axis for axis in AXES if len({cell.settings[axis] for cell in cells}) > 1)
    drawn = {axis: range_ for axis, range_ in (ranges or {}).items() if axis in varying}
    return Study(name, varying, rank_cells(cells), drawn)


def rank_cells(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells by mean dev loss, lowest first; those with diverged runs are last."""
    return tuple(sorted(cells, key=_rank))


def best_study(studies: Iterable[Study]) -> Study | None:
    """The study whose best configuration has the lowest dev loss; None where no run finished."""
    candidates = [study for study in studies if study.best.finished]
    return min(candidates, key=lambda study: study.best.estimate("dev_loss").mean, default=None)


def describe(settings: dict[str, Any], axes: Sequence[str]) -> str:
    """Settings in words: `hidden_size 300, batch_norm`."""
    words = []
    for axis in axes:
        value = settings[axis]
        if value is True:
            words.append(axis)
        elif isinstance(value, str):
            words.append(f"{axis} {value}" if axis in AMBIGUOUS else value)
        elif value is not False:
            words.append(f"{axis} {number(value)}")
    return ", ".join(words) or ", ".join(f"no {axis}" for axis in axes) or "the one configuration"


def perplexity_of(loss: float) -> float:
    """exp(loss), and infinity where that is beyond floating point."""
    return math.exp(loss) if loss < 700 else math.inf


def number(value: float) -> str:
    """A setting: whole numbers with all their digits, others with four."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


class Labels(NamedTuple):
    """What tells some cells apart: a heading, one text a cell below it, and in words what they share of the axes."""

    heading: str
    texts: list[str]
    shared: str


def label_cells(cells: Sequence[Cell], axes: Sequence[str]) -> Labels:
    """Labels as short as they can be: numbers alone, below the names of their axes, where only numbers differ."""
    varying = [axis for axis in axes if len({cell.settings[axis] for cell in cells}) > 1]
    others = [axis for axis in axes if axis not in varying] if len(cells) > 1 else []
    shared = f"all with {describe(cells[0].settings, others)}" if others else ""
    named = varying or list(axes)
    if any(isinstance(cell.settings[axis], str | bool) for cell in cells for axis in named):
        return Labels("", [describe(cell.settings, named) for cell in cells], shared)
    heading = ", ".join(axis.replace("_", " ") for axis in named)
    texts = [", ".join(number(cell.settings[axis]) for axis in named) or "the one" for cell in cells]
    return Labels(heading, texts, shared)


def _rank(cell: Cell) -> tuple:
    mean = cell.estimate("dev_loss").mean
    return cell.n_diverged > 0, math.isnan(mean), mean, repr(cell.settings)
