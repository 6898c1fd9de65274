"""Laws of the small sealed files: what is written comes back, and no flipped bit or edited digit goes unnoticed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis.results import read_failures
from experiments.store import Store
from experiments.store.atomic import Damaged
from experiments.store.small_files import (
    SMALL_FILES,
    describe_failures,
    read_small,
    seal,
    unseal,
    write_failures,
    write_small,
)

NAME = "request.json"
EXAMPLE = {"name": 'Æ "x"\n', "rates": [0.1, 1e-300, -0.0], "runs": {"0123456789abcdef": 17, "b": None}, "last": "9"}
EXAMPLES = (EXAMPLE, [EXAMPLE, [], 3], {}, [], {"content": [1]})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)
contents = st.lists(json_values, max_size=4) | st.dictionaries(
    st.text(st.characters(codec="utf-8")).filter(lambda key: key != "sha256"), json_values, max_size=4
)


@settings(max_examples=200, deadline=None)
@given(contents, st.booleans())
def test_what_is_sealed_comes_back(content, unsealed):
    assert unseal(seal(content), NAME, unsealed) == content


@pytest.mark.parametrize("content", EXAMPLES)
def test_what_is_written_comes_back_in_the_order_of_its_keys(tmp_path, content):
    write_small(tmp_path, NAME, content)
    assert json.dumps(read_small(tmp_path, NAME)) == json.dumps(content)
    assert [*json.loads((tmp_path / NAME).read_bytes())][-1] == "sha256"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def assert_flips_are_noticed(folder: Path, content, n_flips: int) -> None:
    write_small(folder, NAME, content)
    sound = (folder / NAME).read_bytes()
    bits = np.random.default_rng(5).permutation(8 * len(sound))[:n_flips]
    for bit in bits:
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / NAME).write_bytes(flipped)
        for unsealed in (False, True):
            with pytest.raises(Damaged) as error:
                read_small(folder, NAME, unsealed=unsealed)
            assert re.fullmatch(rf"{re.escape(str(folder / NAME))} is damaged \(.*\): run .* again", str(error.value))


@pytest.mark.parametrize("content", EXAMPLES[:2])
def test_a_flipped_bit_is_noticed(tmp_path, content):
    assert_flips_are_noticed(tmp_path, content, 40)


@pytest.mark.long
@pytest.mark.parametrize("content", EXAMPLES)
def test_most_flipped_bits_are_noticed(tmp_path, content):
    assert_flips_are_noticed(tmp_path, content, 400)


@pytest.mark.parametrize("content", EXAMPLES)
def test_every_flipped_bit_of_the_seal_is_noticed(tmp_path, content):
    """The name of its key and the digest: where a file might pass for one that never had a seal."""
    sound = seal(content)
    for bit in range(8 * sound.rindex(b'"sha256"'), 8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            unseal(bytes(flipped), NAME, unsealed=True)


def test_an_edited_digit_a_cut_and_another_spelling_are_noticed(tmp_path):
    write_small(tmp_path, NAME, EXAMPLE)
    sound = (tmp_path / NAME).read_bytes()
    for damage in (sound.replace(b"17", b"18"), sound[:-1], b"", json.dumps(json.loads(sound)).encode()):
        (tmp_path / NAME).write_bytes(damage)
        with pytest.raises(Damaged):
            read_small(tmp_path, NAME, unsealed=True)


@pytest.mark.parametrize(
    "data",
    [b"nonsense", b"\xff", b"3", b'"text"', b"null", b"[" * 100_000, b"[" + b"9" * 5_000 + b"]", b'{"sha256": 3}'],
    ids=lambda data: data[:8],
)
@pytest.mark.parametrize("unsealed", [False, True])
def test_what_is_no_small_file_is_damage(tmp_path, data, unsealed):
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(Damaged) as error:
        read_small(tmp_path, NAME, unsealed=unsealed)
    assert str(tmp_path / NAME) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_an_older_version_is_read_only_where_that_is_asked_for(tmp_path):
    for content in (EXAMPLE, [EXAMPLE], {"data_hash": "0" * 64}, {"words": ["\ud800"]}):
        (tmp_path / NAME).write_text(json.dumps(content))
        assert read_small(tmp_path, NAME, unsealed=True) == content
        with pytest.raises(Damaged, match="does not match its checksum"):
            read_small(tmp_path, NAME)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in (Path(__file__).parents[1] / "results").glob("*/*.json") if path.name in SMALL_FILES),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_published_files_have_their_seals(path):
    assert read_small(path.parent, path.name)


def test_a_missing_file_is_none(tmp_path):
    assert read_small(tmp_path, NAME) is None
    assert read_small(tmp_path / "nowhere", NAME, unsealed=True) is None


@pytest.mark.parametrize(
    "content",
    [{1: "a", "1": "b"}, {"sha256": "x"}, {"x": "\ud800"}, {"x": object()}, [10**5_000]],
    ids=["two keys", "seal", "surrogate", "object", "digits"],
)
def test_what_json_would_change_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="cannot be kept as JSON"):
        write_small(tmp_path, NAME, content)
    assert list(tmp_path.iterdir()) == []


def test_failures_come_back_by_reason_and_go_with_the_next_sweep(tmp_path):
    store = Store(tmp_path)
    write_failures(store, {"b": "out of luck", "a": "out of luck", "c": "disk", "d": "not asked for"})
    groups = read_failures(tmp_path, {"a", "b", "c"})
    assert groups == {"out of luck": ["a", "b"], "disk": ["c"]}
    assert describe_failures(groups, 40).startswith("3 of 40 runs failed: out of luck (2 runs); disk (1 run).")
    path = tmp_path / "failures.json"
    path.write_bytes(path.read_bytes().replace(b"disk", b"risk"))
    assert read_failures(tmp_path, {"a", "b", "c"}) == {}
    path.write_text('{"a": "of an older version"}')
    assert read_failures(tmp_path, {"a"}) == {"of an older version": ["a"]}
    write_failures(store, {})
    assert list(tmp_path.iterdir()) == []
    assert describe_failures(read_failures(tmp_path, {"a"}), 40) == ""
