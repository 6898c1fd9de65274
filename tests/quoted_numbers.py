"""Numbers that a text quotes from tables.

A quoted number stands alone in backquotes: a loss `2.1771`, with half its interval `2.1771 ± 0.0026`, or a share
`83.0 %`. It must be some cell of a table, rounded to as many digits; half intervals are those of columns X_low, X_high.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

NUMBER = r"[+-]?\d+\.\d+"
QUOTED = re.compile(rf"`({NUMBER})(?: ± ({NUMBER}))?( %)?`")


def unfounded(text: str, tables: Iterable[Path]) -> list[str]:
    """What a text quotes that no table has."""
    cells = [cell for path in tables for cell in table_numbers(path)]
    return [quote[0] for quote in QUOTED.finditer(text) if not _is_founded(quote, cells)]


def quotes(text: str) -> list[str]:
    """What a text quotes."""
    return [quote[0] for quote in QUOTED.finditer(text)]


def table_numbers(path: Path) -> Iterator[tuple[float, float]]:
    """Every number of a CSV file, with half the width of its interval (NaN where it has none)."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                value = _number(text)
                if not math.isnan(value):
                    yield value, (_number(row.get(f"{name}_high")) - _number(row.get(f"{name}_low"))) / 2


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _is_founded(quote: re.Match, cells: Iterable[tuple[float, float]]) -> bool:
    value, half, percent = quote.groups()
    factor = 100 if percent else 1
    return any(_agrees(value, factor * cell) and (half is None or _agrees(half, width)) for cell, width in cells)


def _agrees(quoted: str, value: float) -> bool:
    digits = len(quoted.split(".")[1])
    # Two ways to round a tie.
    return math.isfinite(value) and abs(float(quoted) - value) <= 0.5 * 10**-digits + 1e-9
