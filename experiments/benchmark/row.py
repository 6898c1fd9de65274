"""One row of the benchmark's table."""

from dataclasses import dataclass

from experiments.benchmark.rounds import Ratio


@dataclass(frozen=True)
class Row:
    """What was measured, against which target, and with what detail."""

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
            f"{_seconds(ratio.numerator)} against {_seconds(ratio.denominator)}"
        )
        return cls(what, ratio.median, "x", f">= {at_least:g}", ratio.median >= at_least, detail)

    @classmethod
    def at_most(cls, what: str, value: float, unit: str, limit: float, detail: str = "") -> "Row":
        """A figure that should be small."""
        return cls(what, value, unit, f"<= {limit:g}", value <= limit, detail)

    @property
    def cells(self) -> list[str]:
        """The row's cells as text."""
        value = "-" if self.value is None else f"{self.value:.3g} {self.unit}"
        met = {True: "yes", False: "no", None: "-"}[self.met]
        return [self.what, value, self.target, met, self.detail]


def missing(what: str, target: str, reason: str) -> Row:
    """A row that could not be measured here."""
    return Row(what, None, "", target, None, reason)


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"
