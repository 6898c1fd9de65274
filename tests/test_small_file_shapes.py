"""Whatever the small files say, a page is right or the command ends in one line: no traceback, no other page."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from experiments.analysis.ensembles import EnsembleRow
from experiments.analysis.results import open_sweep
from experiments.analysis.trained_models import HeldOut, Samples, write_samples
from experiments.bengio2003.table import Measured, _read_measured
from experiments.report.__main__ import main as report
from experiments.report.sections import Section, write_sections
from experiments.runner.stages import round_name
from experiments.store.atomic import Damaged
from experiments.store.small_files import as_type, read_small, seal, write_small
from experiments.sweeps.ranges import Range
from experiments.sweeps.request import read_request
from tests.synthetic import synthetic_folder, synthetic_rows, write_request

FILES = (
    "request.json",
    "baselines.json",
    "samples.json",
    "sections.json",
    "test.json",
    "ensembles.json",
    "failures.json",
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A sweep's folder with every small file that a report reads: ranges, looks at seeds, rounds, and a failed run."""
    rows = synthetic_rows({"hidden_size": (10, 20)}, 3, lambda hidden_size: 2.1, 0.01)
    folder = synthetic_folder(tmp_path_factory.mktemp("sweep"), {"size": rows})
    ids = [row["run_id"] for row in rows]
    request = replace(
        read_request(folder),
        studies={"size": [*ids, "0" * 16], round_name("size", 3): ids[:3]},
        ranges={"size": {"hidden_size": Range(10, 20)}},
        design={"until": 0.1, "max_seeds": 3, "first_seed": 0, "then": 3, "most_steps": 900, "first": ["size"]},
    )
    write_request(folder, request)
    write_samples(folder, [Samples(ids[0], 0, 1.0, ["ann", "zed"], [False, True])])
    write_sections(folder, [Section("A title", ids[:1], "text", ("a", "b"), [("1", "2")])])
    best = [row["run_id"] for row in open_sweep(folder).studies[0].best.finished]
    write_small(folder, "test.json", [asdict(HeldOut(1, "winner of size", "", best, [2.1, 2.2, 2.3]))])
    write_small(folder, "ensembles.json", [asdict(EnsembleRow("2 runs", "", None, 2, 9, 1.9, 2.0, None, ids[:2]))])
    write_small(folder, "failures.json", {"0" * 16: "out of luck"})
    assert report([str(folder)]) == 0
    page = (folder / "report.html").read_text()
    for shown in ("how many seeds", "the best again", "zed", "A title", "look 1", "2 runs", "out of luck"):
        assert shown in page, shown
    return folder


def places(content, path=()):
    """The paths to every value in a JSON document."""
    yield path
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in children:
        yield from places(value, (*path, key))


def put(content, path, value):
    """The same document with another value at a path."""
    if not path:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[path[0]] = put(content[path[0]], path[1:], value)
    return changed


def check_any_value(name: str, folder: Path, capsys, n_examples: int) -> None:
    sound = (folder / name).read_bytes()
    content = read_small(folder, name)
    capsys.readouterr()

    @settings(max_examples=n_examples, deadline=None)
    @given(st.sampled_from(list(places(content))), values)
    def check(path, value):
        changed = put(content, path, value)
        data = seal(changed if isinstance(changed, dict | list) else [changed])
        (folder / name).write_bytes(data)
        code = report([str(folder)])
        said = capsys.readouterr().err
        lines = said.splitlines()  # What is damaged, and why there is then no page.
        assert len(lines) <= 1 if code == 0 else (code == 2 and 1 <= len(lines) <= 2), said
        assert all(str(folder) in line or line.startswith("report: ") for line in lines), said
        event("read" if not said else "left out, and said" if code == 0 else "refused")

    try:
        check()
    finally:
        (folder / name).write_bytes(sound)


@pytest.mark.parametrize("name", FILES)
def test_any_value_in_place_of_any_other_is_read_or_refused_in_one_line(name, folder, capsys):
    check_any_value(name, folder, capsys, 25)


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_many_values_in_place_of_any_other_are_read_or_refused_in_one_line(name, folder, capsys):
    check_any_value(name, folder, capsys, 250)


@given(values)
def test_measured_perplexities_of_another_form_are_measured_again(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("measured")
    sound = {"0" * 16: asdict(Measured(*map(float, range(7))))}
    write_small(folder, "measured.json", sound)
    assert list(_read_measured(folder)) == list(sound)
    try:
        write_small(folder, "measured.json", {"0" * 16: value})
    except ValueError:
        return
    assert _read_measured(folder) == {}


def test_the_message_names_file_place_and_remedy():
    with pytest.raises(
        Damaged, match=r"x/test.json has another form \(Expected `int`, got `str` - at `\$\[1\]`\): run"
    ) as error:
        as_type(list[int], [1, "2"], "x/test.json")
    assert "\n" not in str(error.value)
