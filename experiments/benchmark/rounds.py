"""Timing by interleaved rounds: on a shared machine only ratios within a round mean anything."""

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


def alternate(slow: Callable[[], float], fast: Callable[[], float], rounds: int = ROUNDS) -> Ratio:
    """How many times as long `slow` takes as `fast`, taken in turns after one warm-up each."""
    slow(), fast()
    pairs = [(slow(), fast()) for _ in range(rounds)]
    low, median, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    return Ratio(median, low, high, statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs))
