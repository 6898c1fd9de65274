"""Ranges of numbers, and points that fill them evenly: `--learning-rate 0.01:1:log --points 32`."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp_lm.config import AXES, DEFAULTS, NAMES, Role

DEFAULT_POINTS = 16
MAX_POINTS = 65_536
SOBOL_SEED = 42
DIGITS = 6  # Of a drawn number: enough for any run, and no machine's own rounding enters a run id.
PROGRAM_ROLES = (Role.SHAPE, Role.WIDTH)


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`; with `log`, spaced evenly by their ratios.

    For whole-number fields both ends are included.

    Raises:
        ValueError: not two finite numbers in order, or `log` from zero or below.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (self.low, self.high)):
            raise ValueError(f"a range goes from a number to a number, got {self.low!r} and {self.high!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range goes from a lower to a higher number, got {self}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with log starts above 0, got {self}; leave :log out or raise its lower end")

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.low:g}:{self.high:g}{':log' if self.log else ''}"

    def value(self, share: float, is_whole: bool) -> float:
        """The number that lies this share (from 0 to below 1) of the way up."""
        high = self.high + 1 if is_whole else self.high
        value = self.low * (high / self.low) ** share if self.log else self.low + share * (high - self.low)
        if is_whole:
            return min(max(math.floor(value), int(self.low)), int(self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), float(self.low)), float(self.high))

    def share(self, value: float) -> float:
        """How far up a number lies, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def parse_range(name: str, text: str) -> Range | None:
    """The range that a text such as `0.01:1:log` means; None for a text that is no range.

    Raises:
        ValueError: a range that makes no sense, or of a field that has none.
    """
    if ":" not in text or isinstance(DEFAULTS[name], str | bool):
        return None
    try:
        low, high, is_log = re.fullmatch("([^:]+):([^:]+)(:log)?", text).groups()  # type: ignore[union-attr]
        ends = float(low), float(high)
    except (AttributeError, ValueError):
        raise ValueError(f"{name} {text[:60]!r} is no range; give low:high or low:high:log") from None
    return make_range(name, *ends, log=is_log is not None)


def make_range(name: str, low: Any, high: Any, log: Any = False) -> Range:
    """A range of a field's values.

    Raises:
        ValueError: a field without an order, or ends that its values cannot have.
    """
    default = DEFAULTS[name]
    if isinstance(default, str | bool):
        raise ValueError(f"{name} has no range; list its values")
    if not isinstance(log, bool):
        raise ValueError(f"log of {name}'s range must be True or False, got {log!r}")
    try:
        range_ = Range(low, high, log)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if isinstance(default, int):
        if low != int(low) or high != int(high):
            raise ValueError(f"{name} counts in whole numbers; give whole ends, got {range_}")
        return Range(int(low), int(high), log)
    return Range(float(low), float(high), log)


def draw_points(ranges: Mapping[str, Range], n_points: int) -> list[dict[str, Any]]:
    """The first points of a scrambled Sobol sequence over some fields' ranges, as settings.

    The sequence is seeded, so the first N of 2N points are those of N: more points extend a sweep. Points that whole
    numbers make equal are one. (Sobol' 1967; scrambled as in Matoušek 1998, section 3.)

    Raises:
        ValueError: no point, or more than the sequence is meant for.
    """
    if not 1 <= n_points <= MAX_POINTS:
        raise ValueError(f"points must be from 1 to {MAX_POINTS:,}, got {n_points}")
    from scipy.stats import qmc  # SciPy is slow to import, and few sweeps draw points.

    names = [name for name in AXES if name in ranges]  # In whatever order they were given.
    sequence = qmc.Sobol(len(names), rng=np.random.default_rng(SOBOL_SEED))
    shares = sequence.random_base2(math.ceil(math.log2(n_points)))[:n_points]
    points = [
        tuple(
            ranges[name].value(share, isinstance(DEFAULTS[name], int))
            for name, share in zip(names, row.tolist(), strict=True)
        )
        for row in shares
    ]
    return [dict(zip(names, point, strict=True)) for point in dict.fromkeys(points)]


def drawn_shapes(ranges: Mapping[str, Range]) -> list[str]:
    """The fields, among those with a range, whose every value may need a program of its own."""
    return [name for role in PROGRAM_ROLES for name in NAMES[role] if name in ranges]
