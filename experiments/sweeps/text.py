"""Text of unknown origin made safe for a terminal, for Markdown and for a spreadsheet; tables as text."""

import csv
import html
import io
import re
from collections.abc import Sequence
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


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table whose columns line up; all but the first are right-aligned."""
    texts = [list(header), *[[inert(str(value)) for value in row] for row in rows]]
    widths = [max(3, *(len(text[i]) for text in texts)) for i in range(len(header))]
    rule = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
    return "\n".join(_line(text, widths) for text in (texts[0], rule, *texts[1:]))


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """CSV of rows that may have different columns; text that a spreadsheet would take for a formula is quoted."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: no_formula(value) for name, value in row.items()} for row in rows)
    return sink.getvalue()


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True))
    )
    return f"| {' | '.join([first, *rest])} |"


def html_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table, every text escaped."""

    def line(values: Sequence[Any], tag: str) -> str:
        cells = (f"<{tag}>{html.escape(printable(str(value)))}</{tag}>" for value in values)
        return f"<tr>{''.join(cells)}</tr>"

    return f"<table>{line(header, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
