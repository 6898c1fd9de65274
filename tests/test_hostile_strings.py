"""Strings that would do harm if they were believed: inert, or refused with one line, wherever they go."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from experiments.analysis.summary import as_markdown, write_summary
from experiments.store import Store
from experiments.store.atomic import Damaged
from experiments.sweeps.catalog import SWEEPS
from experiments.sweeps.request import Request, make_request, read_request
from experiments.sweeps.text import code, csv_text, inert, markdown_table, printable
from mlp_lm.data.dataset import load_dataset
from tests.cli import sweep, sweep_here
from tests.synthetic import write_request

HOSTILE = {
    "formula": "=HYPERLINK('http://x')",
    "formula with plus": "+1+cmd|'/c calc'!A0",
    "formula with minus": "-2+3",
    "formula with at": "@SUM(1)",
    "formula after a tab": "\t=1",
    "formula after a return": "\r=1",
    "quotes and commas": 'a","b',
    "newline": "a\nb",
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "entity": "&lt;b&gt;",
    "attribute end": "'\" onload=alert(1)",
    "Markdown table": "a | b |\n| --- |",
    "Markdown link": "[x](javascript:alert(1))",
    "backticks": "```\n# x `y`",
    "red": "\x1b[31mred\x1b[0m",
    "clear the screen": "\x1b[2J\x1b[H",
    "window title": "\x1b]0;owned\x07",
    "bell and backspace": "\x07safe\x08\x08\x08\x08evil",
    "C1 control": "\x9b31m",
    "right-to-left override": "txt.\u202egnp",
    "zero width": "a\u200bb\u2066c",
    "rich markup": "[bold red]x[/]",
    "broken mathematics": "$\\badcmd$ _{",
    "lone surrogate": "a\udc80b",
    "format": "{0.__class__} %s %n",
    "300 characters": "x" * 300,
}
each = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())


@each
def test_csv_gives_the_text_back_and_runs_nothing(text):
    (row,) = csv.DictReader(io.StringIO(csv_text([{"n": 1, "text": text}]), newline=""))
    kept = "".join(printable(c) if c in "\r\udc80" else c for c in text)  # Which no CSV file can hold.
    assert row["text"] in (kept, "'" + kept)
    csv_text([{"text": text}]).encode()
    assert not row["text"].startswith(("=", "+", "-", "@", "\t", "\r"))


@each
def test_markdown_has_no_second_column_no_html_and_no_escape(text):
    lines = markdown_table(["text", "n"], [[text, 1]]).splitlines()
    assert len(lines) == 3
    assert len(re.split(r"(?<!\\)\|", lines[2])) == 4  # Two cells, three bars.
    assert "<" not in lines[2]
    assert inert(text).isprintable()


@each
def test_code_ends_where_it_should(text):
    fence = re.match("`+", code(text))[0]
    assert code(text).endswith(fence)
    assert fence not in code(text)[len(fence) : -len(fence)]


@each
def test_a_terminal_shows_it_and_obeys_nothing(text):
    assert printable(text).isprintable()
    printable(text).encode()  # No surrogate is left.


@each
def test_names_of_sweeps_data_files_and_folders_in_error_messages(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flags in (
        [text],
        ["--data", text, "smoke"],
        ["--config", text],
        ["--init", text],
        ["--out", "/dev/null/" + text],
    ):
        said = sweep(*flags)
        assert (said.code, said.output) == (2, ""), flags
        assert said.errors.removesuffix("\n").isprintable(), flags
    assert list(tmp_path.iterdir()) == []


NAMES = {
    "parent": "../x",
    "absolute": "/x",
    "NUL": "a\0b",
    "leading minus": "-rf",
    "300 characters": "x" * 300,
    "newline": "a\nb",
    "colour": "\x1b[31mred",
    "dot": ".",
    "two dots": "..",
    "script": "<script>alert(1)</script>",
    "quote": "a'b\"c",
    "shell": "$(touch owned); `touch owned` | x",
    "blank": " ",
    "device of another system": "CON",
    "right-to-left override": "a\u202eb",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_sweep_file_of_any_name_writes_nowhere_else(name, tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    try:
        (inside / f"{name}.toml").write_text("[[study]]\nn_steps = 20\nn_evaluations = 1\n")
        before = set(tmp_path.rglob("*"))
    except (OSError, ValueError):
        before = set(tmp_path.rglob("*"))
    said = sweep(f"--config={name}.toml", "--dry-run")
    assert said.code in (0, 2)
    assert said.errors.removesuffix("\n").isprintable()
    assert said.output.removesuffix("\n").isprintable()
    assert set(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    words = folder / "words.txt"
    words.write_text("\n".join(text for text in HOSTILE.values() if text.isprintable() and "." not in text) * 5)
    said = sweep_here(
        "smoke", "--data", str(words), "--out", str(folder / "out"), "--hidden-size", "4", "8", "--n-steps", "20"
    )
    assert said.code == 0, said.errors
    return folder / "out"


def summarise_as(folder: Path, **changes) -> str:
    """The summary of a finished sweep whose request says something else."""
    store, request = Store(folder), read_request(folder)
    write_request(folder, replace(request, **changes))
    try:
        return as_markdown(write_summary(store, load_dataset(request.data)))
    finally:
        write_request(folder, request)


def test_summary_and_figures_of_a_sweep_with_hostile_names(finished):
    run_ids = next(iter(read_request(finished).studies.values()))[:1]
    texts = [text for text in HOSTILE.values() if "\udc80" not in text]  # No TOML file holds that one.
    everything = " ".join(texts)
    before = set(finished.parent.rglob("*"))
    shown = summarise_as(
        finished,
        name=everything,
        title=everything,
        command=everything,
        studies=dict.fromkeys(texts, run_ids),
    )
    assert shown.replace("\n", "").isprintable()
    assert "<" not in shown.replace(code(everything), "")
    new = set(finished.parent.rglob("*")) - before
    assert len(new) == len(texts)  # A figure each, here and nowhere else.
    assert all(path.parent == finished / "figures" and len(path.name.encode()) < 256 for path in new)
    assert all(plt.imread(path).ndim == 3 for path in new)


def test_a_command_with_bytes_that_are_no_utf_8_can_be_stored(finished, monkeypatch):
    monkeypatch.setattr("sys.argv", ["sweep", "--out", os.fsdecode(b"\xff")])
    request = make_request(SWEEPS["smoke"], {}, load_dataset(read_request(finished).data))
    assert request.command == "python -m experiments.sweep --out '\\udcff'"
    request.command.encode()


def test_names_that_differ_in_case_only_get_files_of_their_own(finished):
    runs = next(iter(read_request(finished).studies.values()))
    for path in (finished / "figures").glob("*"):
        path.unlink()
    summarise_as(finished, studies={"Size": runs, "size": runs, "SIZE": runs})
    names = [path.name.lower() for path in (finished / "figures").glob("*curves*")]
    assert len(names) == len(set(names)) == 3


def test_a_request_of_another_kind_is_refused(tmp_path):
    for content in ("", "null", "[]", "{}", json.dumps({"name": "x"}), "\0"):
        (tmp_path / "request.json").write_text(content)
        with pytest.raises(Damaged, match=r"is damaged|has another form"):
            read_request(tmp_path)
    assert Request.__dataclass_fields__


def test_weights_and_checkpoints_are_read_without_pickle():
    sources = [
        p.read_text()
        for folder in ("mlp_lm", "experiments")
        for p in (Path(__file__).parents[1] / folder).rglob("*.py")
    ]
    assert sources
    assert not [
        s
        for s in sources
        if re.search(r"\b(pickle|joblib|shelve|marshal|allow_pickle|torch\.load)\b", s.split('"""', 2)[-1])
    ]
