"""Cells of a grid with intervals over seeds, differences paired by seed, and studies of cells.

From rows alone, without JAX. Losses are in nats per token; intervals are 95 %.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from experiments.runner.rows import DIVERGED, Row, settings_of
from experiments.sweeps.ranges import Range
from mlp_lm.config import AXES, DEFAULTS

CONFIDENCE = 0.95
ALWAYS_NAMED = ("n_steps", "learning_rate", "schedule", "batch_size")


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
        return text if text.startswith("-") else f"+{text}"

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
        """Mean and interval of a column over the finished runs."""
        return estimate(row[column] for row in self.finished)


@dataclass(frozen=True)
class Study:
    """Cells that are compared with one another, best first, and the axes in which they differ.

    `ranges` are those of the axes whose values were drawn from one.
    """

    name: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @property
    def best(self) -> Cell:
        """The cell of the lowest mean dev loss."""
        return self.cells[0]

    @property
    def compares_schemes(self) -> bool:
        """Whether nothing but initialisation schemes, with and without batch norm, differ."""
        return "init" in self.axes and set(self.axes) <= {"init", "batch_norm"}

    def to_best(self, cell: Cell) -> Estimate:
        """A cell's dev loss minus that of the best one, paired by seed."""
        return paired_difference(cell, self.best)

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
        if max(len(cell.rows) for cell in self.cells) == 1:
            return "One seed each: a ranking without intervals, which another seed may turn round."
        return ""

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
    half = sample.std(ddof=1) / math.sqrt(len(sample)) * _t_quantile(len(sample) - 1)
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
        """Whether the observed value lies inside."""
        return self.p_value >= 1 - CONFIDENCE

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
    half = scale * _t_quantile(freedom)
    p_value = float(2 * stats.t.sf(abs(observed - mean) / scale, freedom)) if scale else float(observed == mean)
    return Prediction(mean, mean - half, mean + half, p_value)


@functools.cache  # A report of thousands of cells asks for few of them, and scipy is slow at each.
def _t_quantile(degrees_of_freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees_of_freedom))


def paired_difference(cell: Cell, reference: Cell, column: str = "dev_loss") -> Estimate:
    """`cell` minus `reference`, over the seeds that both finished: what their draws have in common cancels."""
    losses = {row["seed"]: row[column] for row in cell.finished}
    others = {row["seed"]: row[column] for row in reference.finished}
    return estimate(losses[seed] - others[seed] for seed in sorted(losses.keys() & others.keys()))


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
    return Study(name, varying, tuple(sorted(cells, key=_rank)), drawn)


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
            words.append(value)
        elif value is not False:
            words.append(f"{axis} {value:,}" if isinstance(value, int) else f"{axis} {value:g}")
    return ", ".join(words) or "the one configuration"


def _rank(cell: Cell) -> tuple:
    mean = cell.estimate("dev_loss").mean
    return cell.n_diverged > 0, math.isnan(mean), mean, repr(cell.settings)
