"""Text of unknown origin, made safe for a terminal, for Markdown and for a spreadsheet."""

import re
from typing import Any

SURROGATES = range(0xD800, 0xE000)  # No file can hold them.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # A spreadsheet would run such a text.


def printable(text: str) -> str:
    """Text for a terminal: what would move its cursor, or turn its direction, is written as an escape."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def code(text: str) -> str:
    """Text as code in Markdown, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence, blank = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{blank}{printable(text)}{blank}{fence}"


def inert(text: str) -> str:
    """Text as text in a Markdown table or heading: no column, no HTML."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def no_formula(value: Any) -> Any:
    """A value that a spreadsheet takes for text, where it is text."""
    if isinstance(value, str):
        value = "".join(printable(c) if c == "\r" or ord(c) in SURROGATES else c for c in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def percent(share: float) -> str:
    """A share in per cent; a rounding error below zero is zero."""
    return f"{max(100 * share, 0.0):.1f} %"


def count(n: int, noun: str) -> str:
    """`1 run` or `2 runs`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
