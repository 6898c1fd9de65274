"""The numbers of a page, and the table cells that they come from.

Pages carry no references: those would be longer than the text. A file in tests/cells/ has a line for each number of a
page, in the page's order:

    1.9633 ± 0.0030 = summary(rank=1).dev_loss
    28 % = 1 - table1(model="MLP1").test / table1(model="modified Kneser-Ney, n = 5").test
    1.993 = published

On the left is the number as the page has it, on the right an expression of cells, or one of KINDS. A table is named by
its file; called with columns it gives the one row that has these values, `column` gives all values of a column, and
`published` and the others need no cell. `python -m tests.quoted_numbers PAGE CELLS` drafts such a file: what only one
cell could be is filled in, a whole number is taken for a setting, and the rest is to be chosen by hand.
"""

import csv
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.store.small_files import unseal

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "tests" / "cells"

KINDS = {
    "published": "printed elsewhere; the page names where",
    "setting": "chosen by whoever gave the command",
    "definition": "what a name or a formula says",
    "size": "follows from the architecture or the data alone",
    "elsewhere": "of another page of this project, which the sentence links",
    "criterion": "a target or a level that was set beforehand",
    "history": "of how the results were made: times and counts that no table keeps; the page says so",
}

FUNCTIONS = {
    "sum": sum,
    "min": min,
    "max": max,
    "len": len,
    "log": math.log,
    "exp": math.exp,
    "float": float,
    "map": map,
}
NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?(?<!,)"
QUOTED = re.compile(rf"(?<![\w.^-])({NUMBER})(?: ± (\d[\d,]*(?:\.\d+)?))?( ?%)?(?![\w^])(?!\.\d)")
IN_CODE = re.compile(r"`([+-]?\d[\d,.]*(?: ± [\d.]+)?(?: %)?)`")
# Not prose: blocks of code, comments, targets of links, pictures, and code that is no number.
CODE = re.compile(
    r"```.*?```|<!--.*?-->|^    .*?$|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|`[^`]*`",
    re.DOTALL | re.MULTILINE,
)
UNITS = (
    "hidden units|units|dimensions|characters?|tokens?|words?|layers?|seeds|steps|windows|runs|examples|passes|cores?"
)
NAMES = "context of|batch of|block size|decay of|dropout of|size|section|Lecture|lecture|part|Table|Python|version"
# What needs no line: years, levels of confidence, settings beside their names, and ordinal numbers of things.
NO_CELL = (
    re.compile(r"(?<![\d.])(?:19|20)\d\d(?!\d|,\d|\.\d)"),
    re.compile(r"95 %"),
    re.compile(rf"(?<![\w.,`]){NUMBER}(?:(?:,| to| or| and|-) {NUMBER})*[ -](?:{UNITS})\b"),
    re.compile(rf"\b(?:{NAMES}|n =) {NUMBER}(?:(?:,| to| or| and|-) {NUMBER})*(?! ±)"),
    re.compile(r"\{[\d, ]+\}"),
)


@dataclass(frozen=True)
class Quote:
    """A number as a page has it, and where."""

    text: str
    line: int

    @cached_property
    def value(self) -> float:
        """As a float, a percentage as a share."""
        return float(self._match[1].replace(",", "")) * self.unit

    @cached_property
    def half(self) -> float | None:
        """Half the interval, if there is one."""
        return None if self._match[2] is None else float(self._match[2].replace(",", "")) * self.unit

    @cached_property
    def unit(self) -> float:
        """What 1 stands for."""
        return 0.01 if self._match[3] else 1.0

    @cached_property
    def step(self) -> float:
        """The last digit's worth."""
        return self.unit * 10.0 ** -len(self._match[1].partition(".")[2])

    @cached_property
    def _match(self) -> re.Match[str]:
        match = QUOTED.fullmatch(self.text)
        assert match is not None
        return match

    def agrees(self, actual: "Cell | float") -> bool:
        """Whether this is `actual`, rounded."""
        cell = actual if isinstance(actual, Cell) else Cell(float(actual))
        near = [_near(self.value, cell.value, self.step)]
        if self.half is not None:
            near.append(_near(self.half, cell.half, self.step))
        return all(near)


@dataclass(frozen=True)
class Cell:
    """A number of a table, and half the width of its interval (NaN where it has none)."""

    value: float
    half: float = math.nan

    def __float__(self) -> float:
        return self.value

    def __add__(self, other: Any) -> float:
        return self.value + float(other)

    def __sub__(self, other: Any) -> float:
        return self.value - float(other)

    def __rsub__(self, other: Any) -> float:
        return float(other) - self.value

    def __mul__(self, other: Any) -> float:
        return self.value * float(other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> float:
        return self.value / float(other)

    def __rtruediv__(self, other: Any) -> float:
        return float(other) / self.value

    def __neg__(self) -> "Cell":
        return Cell(-self.value, self.half)

    def __lt__(self, other: Any) -> bool:
        return self.value < float(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > float(other)


@dataclass(frozen=True)
class TableRow:
    """A row of a table, whose columns are attributes."""

    columns: dict[str, str]

    def __getattr__(self, name: str) -> Cell:
        if name not in self.columns:
            raise AttributeError(f"no column {name!r} among {', '.join(self.columns)}")
        low, high = (_number(self.columns.get(f"{name}_{end}")) for end in ("low", "high"))
        return Cell(_number(self.columns[name]), (high - low) / 2)


@dataclass(frozen=True)
class Table:
    """A CSV file."""

    path: Path

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """Its rows, as text."""
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def select(self, **wanted: Any) -> list[TableRow]:
        """The rows that have these values."""
        return [
            TableRow(row) for row in self.rows if all(_same(row.get(name), value) for name, value in wanted.items())
        ]

    def __call__(self, **wanted: Any) -> TableRow:
        rows = self.select(**wanted)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows of {self.path.name} have {wanted}")
        return rows[0]

    def column(self, name: str, **wanted: Any) -> list[Cell]:
        """A column of the rows that have these values."""
        return [getattr(row, name) for row in self.select(**wanted)]


def quotes(text: str) -> list[Quote]:
    """The numbers of a page that need a line, in order."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    text = CODE.sub(blank, IN_CODE.sub(r" \1 ", text))
    for pattern in NO_CELL:
        text = pattern.sub(blank, text)
    return [Quote(match[0], text.count("\n", 0, match.start()) + 1) for match in QUOTED.finditer(text)]


def problems(page: Path, cells: Path) -> list[str]:
    """What is wrong with a page or with the file of its cells, a line each."""
    actual = quotes(page.read_text("utf-8"))
    lines = [line for line in cells.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    for quote, line in zip(actual, lines, strict=False):
        if line.partition(" = ")[0] != quote.text:
            return [f"line {quote.line} has {quote.text!r}, and {cells.name} goes on with {line!r}"]
    if len(actual) != len(lines):
        return [f"{page.name} has {len(actual)} numbers, and {cells.name} {len(lines)} lines: {(actual + lines)[-1]}"]
    names: dict[str, Any] = {**_small_files(page.parent), **tables(page.parent)}
    wrong = []
    for quote, line in zip(actual, lines, strict=True):
        source = line.partition(" = ")[2].strip()
        if source in KINDS:
            continue
        try:
            value = eval(source, {"__builtins__": FUNCTIONS} | names)
        except Exception as error:  # Whatever is wrong with a line is said beside it.
            wrong.append(f"line {quote.line}: {line!r}: {error}")
            continue
        if not quote.agrees(value):
            wrong.append(f"line {quote.line}: {quote.text!r} is {value} by {source!r}")
    return wrong


def tables(folder: Path) -> dict[str, Table]:
    """The tables of a page's folder, by name; those of another folder have it before their name."""
    own = [path for where in (folder, folder / "tables") for path in sorted(where.glob("*.csv"))]
    named = {}
    for path in sorted((ROOT / "results").rglob("*.csv")):
        study, *_ = path.relative_to(ROOT / "results").parts
        named[_identifier(f"{study}_{path.stem}")] = Table(path)
    return named | {_identifier(path.stem): Table(path) for path in own}


def _small_files(folder: Path) -> dict[str, Any]:
    """What the sealed files beside a page say, by name."""
    kept = {}
    for path in folder.glob("*.json"):
        content = unseal(path.read_bytes(), path.name, unsealed=True)
        kept[_identifier(path.stem)] = content
    return kept


def draft(page: Path) -> Iterator[str]:
    """A file of cells: with the one cell that a number could be, or with those that it could be."""
    every = list(_own_cells(page))
    for quote in quotes(page.read_text("utf-8")):
        matching = [] if quote.step == 1 else [one for one in every if quote.agrees(one[-1])][:4]
        sources = [f"{name}({_key(table, row)}).{column}" for name, table, row, column, _ in matching]
        yield f"{quote.text} = {' || '.join(sources) or ('setting' if quote.step == 1 else '?')}"


def unfounded(page: Path) -> list[str]:
    """Of a page without a file of cells: the numbers in backquotes that no table beside it has."""
    every = [cell for *_, cell in _own_cells(page)]
    actual = [Quote(match[1], 0) for match in IN_CODE.finditer(page.read_text("utf-8")) if "." in match[1]]
    return [one.text for one in actual if not any(map(one.agrees, every))]


def _own_cells(page: Path) -> Iterator[tuple[str, Table, dict[str, str], str, Cell]]:
    """Every cell of the tables in a page's folder, with its table, row and column."""
    for name, table in tables(page.parent).items():
        if page.parent in table.path.parents:
            for row in table.rows:
                for column in row:
                    if not column.endswith(("_low", "_high")):
                        yield name, table, row, column, getattr(TableRow(row), column)


def _key(table: Table, row: dict[str, str]) -> str:
    """The first columns that tell a row from all others, without those that are measured or tell nothing."""
    key: dict[str, str] = {}
    left = len(table.rows)
    for column, value in row.items():
        if left > 1 and f"{column}_low" not in row and (n := len(table.select(**key, **{column: value}))) < left:
            key[column], left = value, n
    return ", ".join(f"{name}={value if _is_number(value) else repr(value)}" for name, value in key.items())


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _same(text: str | None, value: Any) -> bool:
    if text is None:
        return False
    return text == str(value) or (_is_number(text) and _is_number(str(value)) and float(text) == float(value))


def _is_number(text: str) -> bool:
    return not math.isnan(_number(text))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _near(quoted: float, value: float, step: float) -> bool:
    return math.isfinite(value) and abs(quoted - value) <= 0.5 * step * (1 + 1e-6)  # Two ways to round a tie.


if __name__ == "__main__":
    Path(sys.argv[2]).write_text("\n".join(draft(Path(sys.argv[1]))) + "\n")
