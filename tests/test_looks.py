"""Looks at the test part are counted, one line each, and none is lost."""

import json

import pytest

from experiments.analysis.looks import LOCK_FILE, LOOKS_FILE, add_look, read_looks
from experiments.analysis.results import open_sweep
from experiments.report.__main__ import main as report
from experiments.store import Store
from experiments.store.folder import folder_lock
from experiments.store.mirror import copy_analysis
from experiments.store.small_files import write_small
from tests.synthetic import synthetic_folder, synthetic_rows


@pytest.fixture
def results(tmp_path):
    rows = synthetic_rows({"hidden_size": (10, 20)}, 2, lambda hidden_size: 2.1)
    return open_sweep(synthetic_folder(tmp_path, {"size": rows}))


def look(results, *losses: float, what: str = "size 10"):
    return add_look(results, what, [row["run_id"] for row in results.rows[:2]], list(losses), "python -m it --test")


def test_a_look_is_one_more_line_and_the_lines_before_stay(results):
    path = results.folder / LOOKS_FILE
    for number in range(1, 4):
        before = path.read_bytes() if path.exists() else b""
        assert look(results, 2.0, number).look == number
        assert path.read_bytes().startswith(before)
        assert path.read_bytes().count(b"\n") == number
    seen = read_looks(results.folder)
    assert [one.losses for one in seen] == [[2.0, 1], [2.0, 2], [2.0, 3]]
    assert {one.data_hash for one in seen} == {results.request.data_hash}
    assert all(one.command and one.when for one in seen)


def test_the_same_numbers_of_the_same_runs_are_no_second_look(results):
    assert look(results, 2.0, 2.5) == look(results, 2.0, 2.5)
    assert look(results, 2.0, 2.5, what="both together").look == 2
    assert len(read_looks(results.folder)) == 2


@pytest.mark.parametrize("several", [False, True])
def test_looks_of_older_folders_come_first(results, several):
    ids = [row["run_id"] for row in results.rows]
    old = {"run_ids": ids[:2], "losses": [2.1, 2.2]}
    each = [{"look": number, "what": "x", "data_hash": "", **old} for number in (1, 2)]
    write_small(results.folder, "test.json", each if several else old)
    assert look(results, 2.0, 2.5).look == (3 if several else 2)
    assert read_looks(results.folder)[0].losses == [2.1, 2.2]


@pytest.mark.parametrize("damage", ["digit", "cut", "gone", "twice"])
def test_damage_is_noticed(results, damage):
    for loss in (2.25, 2.5, 2.75):
        look(results, loss)
    path = results.folder / LOOKS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = {
        "digit": [lines[0], lines[1].replace(b"2.5", b"2.4"), lines[2]],
        "cut": [*lines[:2], lines[2][:-9]],
        "gone": lines[1:],
        "twice": [*lines, lines[2]],
    }
    path.write_bytes(b"".join(damaged[damage]))
    with pytest.raises(ValueError, match=LOOKS_FILE):
        read_looks(results.folder)


def test_a_look_is_refused_while_another_is_added(results):
    look(results, 2.0, 2.5)
    with folder_lock(results.folder / LOCK_FILE), pytest.raises(ValueError, match="in use"):
        look(results, 2.1, what="a second one")
    assert look(results, 2.1, what="a second one").look == 2


def test_a_report_names_every_look(results):
    assert report([str(results.folder)]) == 0
    page = results.folder / "report.html"
    assert "was not looked at" in page.read_text("utf-8")
    look(results, 2.0, 2.5)
    look(results, 2.0, what="both together")
    assert report([str(results.folder)]) == 0
    assert "2 times in this folder: look 1, size 10; look 2, both together." in page.read_text("utf-8")


def test_looks_are_copied_with_a_sweep(results, tmp_path_factory):
    look(results, 2.0, 2.5)
    target = Store(tmp_path_factory.mktemp("copy"))
    assert copy_analysis(results.store.folder, target.folder) == ()
    assert read_looks(target.root) == read_looks(results.folder)
    (line,) = (target.root / LOOKS_FILE).read_text("ascii").splitlines()
    assert json.loads(line)["look"] == 1
    look(results, 2.1, what="a second one")  # Which the copy does not know.
    assert copy_analysis(target.folder, results.store.folder) == ()
    assert len(read_looks(results.folder)) == 2
    look(open_sweep(target.root), 2.2, what="another second one")
    (message,) = copy_analysis(target.folder, results.store.folder)
    assert "other looks at the test part" in message and len(read_looks(results.folder)) == 2
