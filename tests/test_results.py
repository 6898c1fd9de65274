"""The numbers of README.md and of results/*/README.md come from the tables beside them."""

from pathlib import Path

import pytest

from experiments.analysis.results import load_baselines
from experiments.sweeps.request import read_request
from tests.quoted_numbers import CELLS, ROOT, problems, quotes, unfounded

PAGES = {path.stem: ROOT / "README.md" if path.stem == "README" else ROOT / "results" / path.stem / "README.md"
         for path in sorted(CELLS.glob("*.txt"))}  # fmt: skip
OTHERS = sorted(
    page
    for page in (ROOT / "results").glob("*/README.md")
    if page.parent.name not in PAGES and list((page.parent / "tables").glob("*.csv"))
)

TABLE = """kind,rank,dev_loss,dev_loss_low,dev_loss_high,share,n
cell,1,2.17709,2.17445,2.17973,0.83049,66675
test,,2.1721,,,,
"""
PAGE = """One network has `2.1771 ± 0.0026` on dev, of 200 hidden units, in 2003 (`tables/a_1.csv`), where MLP9
has 83 %.

    python -m it --n 7

66,675 weights, 2.5 nats; see [3.3](http://3.3/4).
"""
LINES = (
    "2.1771 ± 0.0026 = summary(rank=1).dev_loss",
    "83 % = summary(kind='cell').share",
    "66,675 = summary(rank=1).n",
    "2.5 = 2 * summary(rank=1).dev_loss - 1.85418",
    "3.3 = published",
)


def test_the_pages_that_carry_claims_have_their_cells_named():
    assert PAGES.keys() >= {"README", "best", "grid", "bengio2003-closed", "learning-rate"}


@pytest.mark.parametrize("name", PAGES)
def test_every_number_of_a_page_is_its_cell(name):
    assert problems(PAGES[name], CELLS / f"{name}.txt") == []


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.parent.name)
def test_every_number_in_backquotes_of_another_page_is_in_a_table(page):
    assert unfounded(page) == []


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/request.json")), ids=lambda path: path.parent.name)
def test_a_published_report_needs_no_data(path):
    assert load_baselines(path.parent, read_request(path.parent)).rows
    assert (path.parent / "report.html").exists()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "summary.csv").write_text(TABLE)
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def actual(folder: Path, *lines: str) -> list[str]:
    (folder / "cells.txt").write_text("\n".join(lines))
    return problems(folder / "README.md", folder / "cells.txt")


def test_names_settings_years_code_and_links_are_no_claims():
    assert [one.text for one in quotes(PAGE)] == ["2.1771 ± 0.0026", "83 %", "66,675", "2.5", "3.3"]
    assert [one.text for one in quotes("of 2003, with p = 0.2036")] == ["0.2036"]


def test_a_page_whose_cells_are_named_passes(folder):
    assert actual(folder, "# a remark", *LINES) == []


@pytest.mark.parametrize(
    ("i", "line", "said"),
    [
        (0, "2.1771 ± 0.0026 = summary(kind='test').dev_loss", "is Cell"),  # Another row, without an interval.
        (0, "2.1771 ± 0.0026 = summary(rank=1).share", "is Cell"),
        (0, "2.1771 ± 0.0026 = summary(rank=2).dev_loss", "0 rows of summary.csv"),
        (1, "83 % = summary(kind='cell').shares", "no column 'shares'"),
        (1, "84 % = summary(kind='cell').share", "goes on with"),
        (2, "66,675 = summary(rank=1).n + 1", "is 66676"),
        (3, "2.5 = guessed", "guessed"),
    ],
)
def test_a_number_that_is_not_its_cell_is_found(folder, i, line, said):
    lines = [*LINES[:i], line, *LINES[i + 1 :]]
    (problem,) = actual(folder, *lines)
    assert said in problem


@pytest.mark.parametrize("text", ["2.1770 ± 0.0026", "2.1771 ± 0.0027", "2.178"])
def test_a_rounding_error_is_found(folder, text):
    (folder / "README.md").write_text(PAGE.replace("2.1771 ± 0.0026", text))
    (problem,) = actual(folder, f"{text} = summary(rank=1).dev_loss", *LINES[1:])
    assert text in problem


def test_a_number_in_backquotes_that_no_table_has_is_found(folder):
    assert unfounded(folder / "README.md") == []
    (folder / "README.md").write_text(PAGE.replace("0.0026", "0.0027") + "`2.19`, `83.0 %`")
    assert unfounded(folder / "README.md") == ["2.1771 ± 0.0027", "2.19"]


def test_a_number_more_or_less_is_found(folder):
    assert len(actual(folder, *LINES[:-1])) == 1
    assert len(actual(folder, *LINES, "9.9 = published")) == 1
