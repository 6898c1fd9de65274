"""The numbers in the words of results/*/README.md come from the tables beside them."""

from pathlib import Path

import pytest

from tests.quoted_numbers import quotes, unfounded

RESULTS = Path(__file__).parents[1] / "results"
READMES = sorted(path for path in RESULTS.glob("*/README.md") if list((path.parent / "tables").glob("*.csv")))

TABLE = """kind,dev_loss,dev_loss_low,dev_loss_high,share
cell,2.17709,2.17445,2.17973,0.83049
test,2.1721,,,
"""


@pytest.mark.skipif(not READMES, reason="no results/NAME/README.md with tables is there yet")
@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_every_quoted_number_is_in_a_table(readme):
    text = readme.read_text("utf-8")
    assert quotes(text), "a README of results quotes its numbers in backquotes"
    assert unfounded(text, (readme.parent / "tables").glob("*.csv")) == []


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "summary.csv"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    "text", ["`2.1771`", "`2.177`", "`2.1771 ± 0.0026`", "`83.0 %`", "about 9.99, `x = 9.99`", "`200`"]
)
def test_founded_quotes_pass(table, text):
    assert unfounded(text, [table]) == []


@pytest.mark.parametrize(
    "text", ["`2.1772`", "`2.19` and `2.2`", "`2.1771 ± 0.0027`", "`2.1721 ± 0.0026`", "`83.1 %`", "`0.8 %`"]
)
def test_unfounded_quotes_are_found(table, text):
    assert len(unfounded(text, [table])) == 1
