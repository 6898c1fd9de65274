"""Timing by interleaved rounds: on a shared machine only ratios within a round mean anything. And the table's rows."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 11


@dataclass(frozen=True)
class Ratio:
    """A ratio's median and quartiles over rounds, and the median seconds of its two sides."""

    median: float
    low: float
    high: float
    numerator: float
    denominator: float


def seconds(work: Callable[[], object], units: float = 1.0) -> Callable[[], float]:
    """A contender: how long `work` takes for each of its `units`."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / units

    return timed


def alternate(
    slow: Callable[[], float], fast: Callable[[], float], rounds: int = ROUNDS, warm_up: bool = True
) -> Ratio:
    """How many times as long `slow` takes as `fast`, taken in turns, after a first time each that does not count."""
    if warm_up:
        slow(), fast()
    pairs = [(slow(), fast()) for _ in range(rounds)]
    low, median, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    return Ratio(median, low, high, statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs))


def median_seconds(timed: Callable[[], float], rounds: int = ROUNDS) -> float:
    """The median over some rounds, after a first time that does not count."""
    timed()
    return statistics.median(timed() for _ in range(rounds))


@dataclass(frozen=True)
class Row:
    """What was measured, against which target, and with what detail; a value of None is not measured."""

    what: str
    value: float | None
    unit: str
    target: str
    met: bool | None
    detail: str

    @classmethod
    def of_ratio(cls, what: str, ratio: Ratio, at_least: float) -> "Row":
        """A ratio that should be large."""
        detail = (
            f"quartiles {ratio.low:.3g} to {ratio.high:.3g}; "
            f"{format_duration(ratio.numerator)} against {format_duration(ratio.denominator)}"
        )
        return cls(what, ratio.median, "x", f">= {at_least:g}", ratio.median >= at_least, detail)

    @classmethod
    def at_most(cls, what: str, value: float, unit: str, limit: float, detail: str = "") -> "Row":
        """A figure that should be small."""
        target = f"<= {limit:g}" if unit == "x" else f"<= {limit:g} {unit}"
        return cls(what, value, unit, target, value <= limit, detail)

    @classmethod
    def stated(cls, what: str, value: float, unit: str, detail: str = "") -> "Row":
        """A figure without a target."""
        return cls(what, value, unit, "stated", None, detail)

    @classmethod
    def missing(cls, what: str, target: str, reason: str) -> "Row":
        """What could not be measured here."""
        return cls(what, None, "", target, None, reason)

    @property
    def cells(self) -> list[str]:
        """The row's cells as text."""
        met = {True: "yes", False: "no", None: "-"}[self.met]
        return [self.what, self.figure, self.target, met, self.detail]

    @property
    def figure(self) -> str:
        """The value with its unit."""
        return "-" if self.value is None else f"{self.value:.3g} {self.unit}"

    @property
    def result(self) -> str:
        """The figure, and whether it misses its target."""
        return f"{self.figure} (missed)" if self.met is False else self.figure


def format_duration(seconds: float) -> str:
    """Seconds in three digits: `1.25 s`, `64.1 ms`, `18.4 µs` or `350 ns`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
