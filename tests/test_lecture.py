"""The lecture, number by number: its published numbers, their comparison with ours, the command, page and notebook."""

import ast
import contextlib
import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from experiments.analysis.results import open_sweep
from experiments.analysis.studies import predict_one_more
from experiments.lecture import __main__ as command
from experiments.lecture import sections
from experiments.lecture.notebook import FILE, make_notebook
from experiments.lecture.published import (
    ANY,
    EQUAL,
    FACTS,
    LIST,
    NO_COUNTERPART,
    SEEDS,
    SHOWN,
    Fact,
    compare,
    judge,
)
from experiments.lecture.walk import SECTIONS, Walk
from experiments.report.build import write_report
from mlp_lm.data.dataset import load_dataset
from tests.cli import QUICK_XLA_FLAGS, trained_here
from tests.conftest import SHARED, needs_lecture_list

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "results" / "lecture"
LONGEST = 30  # Lines of a section that a student can still copy.

# What the lectures and their write-ups print, line by line and in order: the section, and words or numbers of the line.
LINES = (
    ("data", ["729 / 19,683 / 531,441"]),
    ("data", ["32,033", "27"]),
    ("data", ["32"]),
    ("data", ["228,146", "28,000"]),
    ("data", ["182,625 / 22,655 / 22,866", "182,441 / 22,902 / 22,803"]),
    ("data", ["trailing newline", "the dot first only by luck"]),
    ("bigram", ["2.45409"]),
    ("bigram", ["2.45436"]),
    ("bigram", ["2.8227", "3.2958"]),
    ("pieces", ["3,481", "3,418"]),
    ("pieces", ["lookup = one-hot"]),
    ("pieces", ["concatenating by position = reshaping"]),
    ("pieces", ["1.0000"]),
    ("pieces", ["17.7697", "16.4829"]),
    ("pieces", ["0.0900 / 0.2447 / 0.6652"]),
    ("pieces", ["102"]),
    ("five_names", ["17.7697 / 13.6564 / 11.2988 / 4.4147 / 3.9858 / 3.6028 / 0.3354", "0.2561"]),
    ("five_names", ["0.251475"]),
    ("all_names", ["19.5052 / 17.0845 / 10.7096 / 10.4076 / 7.6332"]),
    ("minibatches", ["approximate gradient and more steps"]),
    ("finder", ["1.006939", "0.1", "JavaScript port skips the first"]),
    ("longer", ["lowered tenfold when the loss plateaus"]),
    ("longer", ["30,000 steps at 0.1"]),
    ("changes", ["10,281", "10,000"]),
    ("changes", ["won't have much effect", "to prevent jitter", "seems to be the bottleneck"]),
    ("embedding", ["vowels", "q and the dot"]),
    ("large", ["2.1260", "2.1701"]),
    ("samples", ["5 sampled names", "20 sampled names"]),
    ("longer", ["4,108"]),
    ("initialisation", ["27.88", "3.322", "60.9 % / 1.0 % / 8.1 %", "passes no gradient back"]),
    ("schemes", ["1/sqrt(n)"]),
    ("schemes", ["2020"]),
    ("schemes", ["all zeros learns the letters' frequencies"]),
    ("deep", ["47,024", "3.2870", "0.63", "2.78 %"]),
    ("paper", ["30 dimensions, three words", "17,000 words, 100 tanh units", "70,000"]),
    ("paper", ["never seen", "near dog"]),
    # The table of initialisations after 200,000 steps.
    ("schemes", ["2.1245 / 2.1682", "2.07 / 2.13", "2.0356 / 2.1027", "2.0377 / 2.1070", "2.0668 / 2.1048"]),
)  # fmt: skip


class Said(NamedTuple):
    code: int
    output: str
    errors: str


def lecture(*arguments: str) -> Said:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = command.main(list(arguments))
    return Said(code, output.getvalue(), errors.getvalue())


def page_rows() -> list[dict[str, str]]:
    with (PAGE / "numbers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("section", "printed"), LINES, ids=[f"{i}-{section}" for i, (section, _) in enumerate(LINES)])
def test_every_line_of_the_lecture_is_a_fact_of_its_section(section, printed):
    facts = [fact for fact in FACTS if fact.section == section]
    for text in printed:
        assert any(text == fact.printed or text in fact.what for fact in facts), text


def test_facts_are_of_sections_that_exist_and_stand_in_their_order():
    assert list(dict.fromkeys(fact.section for fact in FACTS)) == [name for name in SECTIONS if name != "ladder"]


@pytest.mark.parametrize("values", [[2.0, 2.1, 2.3], [5.0, 5.1]])
def test_a_prediction_interval_is_wider_than_the_sample_and_holds_its_mean(values):
    interval = predict_one_more(values, 0.0)
    low, high = interval.low, interval.high
    assert low < min(values) and max(values) < high
    assert (low + high) / 2 == pytest.approx(np.mean(values))


def test_a_prediction_interval_of_four_seeds_holds_the_next_one_with_95_percent():
    draws = np.random.default_rng(0).standard_normal((4000, 5))
    intervals = [predict_one_more(row[:4], row[4]) for row in draws]
    share = np.mean([one.low <= row[4] <= one.high for one, row in zip(intervals, draws, strict=True)])
    assert share == np.mean([one.holds for one in intervals])
    assert share == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 4000))


def fact(printed: str, check, **rest) -> Fact:
    return Fact("data", "x", "a number", printed, check, **rest)


def test_a_number_agrees_within_its_tolerance_and_not_beyond():
    assert judge(fact("2.45", 1e-2), 2.4599).agrees
    line = judge(fact("2.45", 1e-2), 2.4601)
    assert not line.agrees and "differs by 0.0101" in line.verdict
    assert judge(fact("1,234 / 5", EQUAL), [1234, 5]).agrees
    assert not judge(fact("1,234 / 5", EQUAL), [1234, 6]).agrees


def test_where_a_source_is_wrong_ours_is_held_against_the_true_value():
    line = judge(fact("28,000", EQUAL, true="228,146", note="a digit is missing"), 228_146)
    assert line.agrees and line.verdict == "the source is wrong: a digit is missing"
    assert not judge(fact("28,000", EQUAL, true="228,146"), 28_000).agrees


def test_a_single_run_agrees_if_it_lies_where_one_more_of_ours_would():
    seeds = [2.10, 2.12, 2.11, 2.13]
    interval = predict_one_more(seeds, 0.0)
    low, high = interval.low, interval.high
    assert judge(fact(f"{(low + high) / 2:.4f}", SEEDS), seeds).agrees
    outside = judge(fact(f"{high + 0.01:.4f}", SEEDS), seeds)
    assert outside.agrees is False and "outside" in outside.verdict
    # 0.63 stands for anything from 0.625 to 0.635.
    assert judge(fact("0.63", SEEDS), [0.6350, 0.6352, 0.6351]).agrees


def test_other_words_have_no_counterpart_of_numbers_that_are_the_lists_own():
    (line,) = (line for line in compare("data", {"names": 7}, (ANY,)) if line.fact.key == "names")
    assert (line.ours, line.verdict, line.agrees) == ("7", NO_COUNTERPART, None)
    assert judge(fact("a plot", SHOWN, of=LIST), (True, "seen"), comparable=False).agrees is None


@pytest.mark.parametrize("section", ["pieces", "five_names"])
def test_the_embedded_list_gives_the_lectures_five_names(section):
    walk = Walk(load_dataset(), None)
    lines = walk.compare(section, walk.measure(section))
    assert lines and all(line.agrees for line in lines), lines


@needs_lecture_list
@pytest.mark.parametrize("section", ["data", "bigram", "all_names", "initialisation"])
def test_the_lectures_list_gives_the_lectures_numbers(section):
    walk = Walk(load_dataset(str(Path(SHARED) / "names.txt")), None)
    lines = walk.compare(section, walk.measure(section))
    assert lines and all(line.agrees for line in lines), [line for line in lines if not line.agrees]


def test_sections_use_public_names_alone_and_are_short_enough_to_copy():
    tree = ast.parse(Path(sections.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    own = {node.module for node in imports if node.module.split(".")[0] in ("mlp_lm", "experiments")}
    assert own == {"mlp_lm", "experiments"}
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name in SECTIONS:
        first, last = functions[name].body[1], functions[name].body[-1]  # After the docstring.
        assert 5 <= last.end_lineno - first.lineno + 1 <= LONGEST, name


def test_what_a_text_says_of_the_lectures_words_alone_names_them():
    """It stands on the page of any words."""
    for _, function in SECTIONS.values():
        for sentence in re.split(r"(?<=[.:]) ", " ".join(function.__doc__.split())):
            if re.search("PyTorch|32 windows|published study|this repository", sentence):
                assert re.search("lecture's|their", sentence), sentence


@pytest.fixture(scope="module")
def own_walk(few_words, tmp_path_factory):
    """A quick walk on a list of one's own, and what its command printed."""
    folder = tmp_path_factory.mktemp("lecture")
    words = folder / "my_words.txt"
    words.write_text("\n".join(few_words))
    with trained_here():
        said = lecture("--data", str(words), "--out", str(folder / "runs"), "--quick")
    assert said.code == 0, said.errors
    return words, folder / "runs", said.output


def test_own_words_get_the_walk_without_published_numbers(own_walk):
    _, runs, output = own_walk
    page = (runs / "lecture" / "README.md").read_text()
    for title, _ in SECTIONS.values():
        assert title in output and f"## {title}" in page
    for printed in ("32,033", "17.7697", "2.1701", "2.0377", "28,000", NO_COUNTERPART):
        assert printed not in page and printed not in output
    assert "my_words.txt" in page and str(runs) not in page
    assert "A quick walk" in page
    assert "5 ln 5 / 32" not in page


def test_the_page_opens_offline_with_its_figures_and_code(own_walk):
    html = (own_walk[1] / "lecture" / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', html) and "<script" not in html
    figures = sorted((own_walk[1] / "lecture" / "figures").iterdir())
    assert html.count("data:image/png;base64,") == len(figures) >= 8
    for name in SECTIONS:
        assert f"def {name}(" in html


def test_the_runs_are_a_sweep_like_any_other(own_walk):
    assert write_report(own_walk[1]).read_text().count("longer") and len(open_sweep(own_walk[1]).rows) == 22


def test_the_notebook_runs_from_top_to_bottom(own_walk, monkeypatch, tmp_path):
    words, runs, _ = own_walk
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XLA_FLAGS", QUICK_XLA_FLAGS)  # What the walk has compiled is read from the cache.
    notebook = make_notebook(str(words), out=str(runs), quick=True)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert len(shown) == len(SECTIONS)
    assert all(re.search("<table>|<img", output["data"]["text/html"]) for output in shown)


def test_the_committed_notebook_is_what_the_sections_make_and_holds_its_outputs():
    notebook = nbformat.read(FILE, 4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in make_notebook().cells]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output.output_type for output in outputs] == ["execute_result"] * len(SECTIONS)
    assert FILE.stat().st_size < 1_000_000
    assert "/root" not in FILE.read_text() and "/tmp" not in FILE.read_text()


def test_the_published_page_has_a_line_for_every_fact():
    rows = page_rows()
    titles = {name: title for name, (title, _) in SECTIONS.items()}
    asked = [(titles[fact.section], fact.what, fact.printed) for fact in FACTS]
    # The CSV file has a quote before what a spreadsheet would run.
    assert [(row["section"], row["what"].lstrip("'"), row["printed"]) for row in rows] == asked
    page = (PAGE / "README.md").read_text()
    for row in rows:
        assert row["ours"] and row["ours"].lstrip("'") in page.replace("\\|", "|")


def test_the_published_page_says_of_every_difference_what_it_is():
    different = [row for row in page_rows() if row["agreement"].startswith(("differs", "outside", "not seen"))]
    assert len(different) < 8
    assert (PAGE / "README.md").read_text().count("no counterpart:") == 0


def test_running_text_and_short_lists_are_refused_in_one_line(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(["anna", "otto"] * 6))
    for arguments, parts in ((("--data", "small"), ("small", "running text", "--data FILE")),
                             (("--data", str(short)), ("fewer than a batch of 128", "longer list"))):  # fmt: skip
        said = lecture(*arguments)
        assert (said.code, said.output) == (2, "") and said.errors.count("\n") == 1
        assert all(part in said.errors for part in parts)


def test_without_network_the_embedded_list_is_named(monkeypatch):
    def refuse(*_):
        raise ValueError("names.txt could not be downloaded")

    monkeypatch.setattr(command, "load_dataset", refuse)
    said = lecture()
    assert said.code == 2 and "--data ssa2018" in said.errors and said.errors.count("\n") == 1
