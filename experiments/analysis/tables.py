"""Tables as aligned Markdown, as CSV, and as HTML for a notebook."""

import csv
import html
import io
from collections.abc import Sequence
from typing import Any

from experiments.sweeps.text import inert, no_formula, printable


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
