"""Whatever the small files say, a page is right or the command ends in one line: no traceback, no other page."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis.ensembles import EnsembleRow
from experiments.analysis.trained_models import Samples, write_samples
from experiments.bengio2003.table import Measured, _read_measured
from experiments.report.__main__ import main as report
from experiments.report.sections import Section, write_sections
from experiments.store.atomic import Damaged
from experiments.store.small_files import as_type, read_small, seal, write_small
from tests.synthetic import synthetic_folder, synthetic_rows

EXAMPLES = 25  # For each file.
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
    """A sweep's folder with every small file that a report reads."""
    rows = synthetic_rows({"hidden_size": (10, 20)}, 2, lambda hidden_size: 2.1)
    folder = synthetic_folder(tmp_path_factory.mktemp("sweep"), {"size": rows})
    ids = [row["run_id"] for row in rows]
    write_samples(folder, [Samples(ids[0], 0, 1.0, ["ann", "zed"], [False, True])])
    write_sections(folder, [Section("A title", ids[:1], "text", ("a", "b"), [("1", "2")])])
    write_small(
        folder, "test.json", [{"look": 1, "what": "x", "data_hash": "", "run_ids": ids[:2], "losses": [2.1, 2.2]}]
    )
    write_small(folder, "ensembles.json", [asdict(EnsembleRow("2 runs", "", None, 2, 9, 1.9, 2.0, None, ids[:2]))])
    write_small(folder, "failures.json", {"0" * 16: "why"})
    assert report([str(folder)]) == 0
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


@pytest.mark.parametrize("name", FILES)
def test_any_value_in_place_of_any_other_is_read_or_refused_in_one_line(name, folder, capsys):
    sound = (folder / name).read_bytes()
    content = read_small(folder, name, unsealed=True)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.sampled_from(list(places(content))), values)
    def check(path, value):
        changed = put(content, path, value)
        if not isinstance(changed, dict | list):
            changed = [changed]
        try:
            data = seal(changed)
        except ValueError:  # No JSON at all: more digits than Python reads.
            data = json.dumps(changed).encode() if "e400" not in repr(changed) else b"[]"
        (folder / name).write_bytes(data)
        code = report([str(folder)])
        said = capsys.readouterr().err
        assert code in (0, 2) and said.count("\n") == (code == 2), said

    try:
        check()
    finally:
        (folder / name).write_bytes(sound)


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
