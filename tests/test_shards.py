"""The result store in fair weather: what goes in comes out, and what may not go in is refused with one line."""

import itertools
import json
import re
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import experiments.store.manifest
from experiments.store import encoding
from experiments.store.folder import LocalFolder
from experiments.store.shards import Store

COHORT, OTHER = "00c0ffee", "0123456789abcdef"
VERSION_1 = Path(__file__).parent / "test_shards_version_1"  # written by schema version 1: never rewrite it


def example_cohort(seed: int, run_count: int = 3, size: int = 50):
    """Rows and stacked weights of a cohort; equal seeds give equal cohorts."""
    draw = np.random.default_rng(seed)
    rows = [
        {"run_id": f"run-{seed}-{index}", "seed": index, "dev_loss": draw.normal(), "history": [2.5, index / 7]}
        for index in range(run_count)
    ]
    shapes = {"hidden.weight": (size, 4), "hidden.bias": (size,), "step": ()}
    return rows, {name: draw.normal(size=(run_count, *shape)).astype("f4") for name, shape in shapes.items()}


def write_example(store: Store, cohort_id: str, seed: int, **sizes: int) -> None:
    store.write(cohort_id, *example_cohort(seed, **sizes))


def losses(store: Store) -> dict[str, float]:
    table = store.rows().table
    return dict(zip(table["run_id"].to_pylist(), table["dev_loss"].to_pylist(), strict=True))


def weights_of(store: Store, run_id: str) -> dict[str, np.ndarray]:
    return store.weights({row["run_id"]: row for row in store.rows().table.to_pylist()}[run_id])


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_rows_and_weights_come_back(store):
    rows, tensors = example_cohort(1)
    store.write(COHORT, rows, tensors)
    table, damaged = store.rows()
    assert damaged == ()
    read = table.to_pylist()
    assert [{name: row[name] for name in rows[0]} for row in read] == rows
    assert [(row["cohort_id"], row["weights_index"]) for row in read] == [(COHORT, 0), (COHORT, 1), (COHORT, 2)]
    assert store.run_ids() == {"run-1-0", "run-1-1", "run-1-2"}
    for index, row in enumerate(read):
        assert {name: (array.dtype, array.tolist()) for name, array in store.weights(row).items()} == {
            name: (stack.dtype, stack[index].tolist()) for name, stack in tensors.items()
        }


def test_a_missing_folder_is_an_empty_store_and_stays_missing(store):
    assert store.rows().table.num_rows == 0
    assert store.run_ids() == set()
    assert store.load_checkpoint(COHORT) is None
    store.drop_checkpoint(COHORT)
    assert not store.root.exists()


def test_other_programs_can_read_the_shards_folder(store):
    write_example(store, COHORT, 1)
    write_example(store, OTHER, 2)
    assert pq.read_table(store.root / "shards").num_rows == 6


def test_writing_again_changes_no_byte_even_with_other_rows(store):
    write_example(store, COHORT, 1)
    before = {path: path.read_bytes() for path in store.root.rglob("*.*")}
    write_example(store, COHORT, 1)
    write_example(store, COHORT, 2)
    assert {path: path.read_bytes() for path in store.root.rglob("*.*")} == before


def test_equal_cohorts_are_equal_bytes_in_any_folder(tmp_path):
    stores = [Store(tmp_path / name) for name in "ab"]
    for store in stores:
        write_example(store, COHORT, 1)
    first, second = ([path.read_bytes() for path in sorted(store.root.rglob("*.*"))] for store in stores)
    assert len(first) == 3
    assert first == second


def test_later_columns_are_null_in_older_shards(store):
    store.write(COHORT, [{"run_id": "a", "loss": 1}], {})
    store.write(OTHER, [{"run_id": "b", "loss": 2.5, "gap": 0.1}, {"run_id": "c", "unseen": [1.0]}], {})
    rows = {row["run_id"]: row for row in store.rows().table.to_pylist()}
    values = {run_id: (row["loss"], row["gap"], row["unseen"]) for run_id, row in rows.items()}
    assert values == {"a": (1.0, None, None), "b": (2.5, 0.1, None), "c": (None, None, [1.0])}


@pytest.mark.parametrize(("nothing", "something"), [(None, 1.5), (None, "text"), ([], [1.5]), ([None], ["text"])])
@pytest.mark.parametrize("order", [1, -1])
def test_a_column_without_values_takes_its_type_from_other_shards(store, nothing, something, order):
    for cohort_id, value in list(zip((COHORT, OTHER), (nothing, something), strict=True))[::order]:
        store.write(cohort_id, [{"run_id": cohort_id, "x": value}], {})
    rows = {row["run_id"]: row["x"] for row in store.rows().table.to_pylist()}
    assert rows == {COHORT: nothing, OTHER: something}


def test_declared_types_hold_without_any_value(store):
    schema = pa.schema([("loss", pa.float32()), ("history", pa.list_(pa.float64())), ("absent", pa.int64())])
    store.write(COHORT, [{"run_id": "a", "loss": None, "history": []}], {}, schema=schema)
    table = store.rows().table
    assert [table.schema.field(name).type for name in schema.names] == schema.types


def test_columns_limit_what_is_read(store):
    write_example(store, COHORT, 1)
    names = set(store.rows(columns=["seed", "not a column"]).table.column_names)
    assert names == {"run_id", "cohort_id", "weights_index", "weights_sha256", "seed"}


def test_a_run_in_two_cohorts_is_kept_once_whatever_was_written_first(tmp_path):
    cohorts = [(COHORT, [{"run_id": "a", "x": 1}, {"run_id": "b", "x": 2}]), (OTHER, [{"run_id": "b", "x": 3}])]
    for number, order in enumerate(itertools.permutations(cohorts)):
        store = Store(tmp_path / str(number))
        for cohort_id, rows in order:
            store.write(cohort_id, rows, {})
        table = store.rows().table
        # Cohorts are read in the order of their ids, and 00c0ffee comes before 0123456789abcdef.
        assert list(zip(table["run_id"].to_pylist(), table["x"].to_pylist(), strict=True)) == [("a", 1), ("b", 2)]


def test_shards_that_disagree_on_a_type_are_named(store):
    store.write(COHORT, [{"run_id": "a", "x": 1}], {})
    store.write(OTHER, [{"run_id": "b", "x": "one"}], {})
    with pytest.raises(ValueError, match="disagree on the type") as error:
        store.rows()
    assert str(store.root) in one_line(error)


@given(
    run_ids=st.lists(st.from_regex(encoding.RUN_ID_TEXT, fullmatch=True), min_size=1, max_size=4, unique=True),
    values=st.lists(st.none() | st.floats(), min_size=4, max_size=4),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_run_ids_and_numbers_are_only_data(tmp_path, run_ids, values):
    shutil.rmtree(tmp_path / "results", ignore_errors=True)
    store = Store(tmp_path / "results")
    store.write(COHORT, [{"run_id": run_id, "x": x} for run_id, x in zip(run_ids, values, strict=False)], {})
    table = store.rows().table
    assert table["run_id"].to_pylist() == run_ids
    # repr tells NaN and -0.0 apart from what they would compare as.
    assert list(map(repr, table["x"].to_pylist())) == list(map(repr, values[: len(run_ids)]))
    assert {path.name for path in store.root.iterdir()} == {"shards", "manifests"}


HOSTILE_RUN_IDS = [
    "",
    "..",
    "../x",
    "/etc/passwd",
    "a.b",
    "a\0b",
    "a\n",
    "x" * 65,
    "-rf",
    "\x1b[31m",
    "C:\\x",
    "ａ",
    "a b",
]


@pytest.mark.parametrize("run_id", HOSTILE_RUN_IDS)
def test_hostile_run_ids_are_refused_and_in_a_shard_they_are_damage(store, run_id, monkeypatch):
    with pytest.raises(ValueError, match="run_id of its own") as error:
        store.write(COHORT, [{"run_id": run_id}], {})
    one_line(error)
    assert not store.root.exists()
    with monkeypatch.context() as careless:  # A folder from elsewhere, whose checksums are right.
        careless.setattr(encoding, "RUN_ID_TEXT", re.compile(".*", re.DOTALL))
        store.write(COHORT, [{"run_id": "sound"}, {"run_id": run_id}], {})
        assert store.run_ids() == {"sound", run_id}
    assert store.run_ids() == set()
    assert len(store.rows().damaged) == 1


HOSTILE_COHORT_IDS = [
    *("", "../x", "/etc/passwd", "0123456\0", "a" * 300, "-0123456", "0123456", "0123456g", "ABCDEF01"),
    *("01234567\n", "０１２３４５６７", "01234567/..", "a" * 65),
]


@pytest.mark.parametrize("cohort_id", HOSTILE_COHORT_IDS)
def test_hostile_cohort_ids_are_refused(store, cohort_id):
    row = {"run_id": "a", "cohort_id": cohort_id, "weights_index": 0, "weights_sha256": "0"}
    for refused in (
        lambda: store.write(cohort_id, [{"run_id": "a"}], {}),
        lambda: store.save_checkpoint(cohort_id, {}, {}),
        lambda: store.load_checkpoint(cohort_id),
        lambda: store.drop_checkpoint(cohort_id),
        lambda: store.weights(row),
    ):
        with pytest.raises(ValueError, match="hexadecimal") as error:
            refused()
        one_line(error)
    assert not store.root.exists()


ONE = [{"run_id": "a"}]


@pytest.mark.parametrize(
    ("rows", "tensors", "reason"),
    [
        ([], {}, "at least one row"),
        ([{"x": 1}], {}, "run_id of its own"),
        ([{"run_id": 7}], {}, "run_id of its own"),
        ([{"run_id": "a"}, {"run_id": "a"}], {}, "run_id of its own"),
        ([{"run_id": "\ud800"}], {}, "run_id of its own"),
        ([{"run_id": "a", "x": 1}, {"run_id": "b", "x": "one"}], {}, "'x' cannot be stored"),
        ([{"run_id": "a", "x": 2**70}], {}, "'x' cannot be stored"),
        ([{"run_id": "a", "x": object()}], {}, "'x' cannot be stored"),
        ([{"run_id": "a", "x": {}}], {}, "cannot be stored"),
        ([{"run_id": "a", "weights_index": 0}], {}, "store's own"),
        (ONE, {"w": np.ones((2, 3))}, "leading axis of 1 runs"),
        (ONE, {"w": np.float32(1)}, "leading axis of 1 runs"),
        (ONE, {"w": np.array([object()])}, "cannot be stored"),
        (ONE, {"w": np.array(["text"])}, "cannot be stored"),
        (ONE, {"__metadata__": np.ones(1)}, "__metadata__"),
    ],
)
def test_rows_and_tensors_that_cannot_be_stored_are_refused(store, rows, tensors, reason):
    with pytest.raises(ValueError, match=reason) as error:
        store.write(COHORT, rows, tensors)
    one_line(error)
    assert not store.root.exists()


def test_a_value_outside_its_declared_type_is_refused(store):
    with pytest.raises(ValueError, match="'x' cannot be stored"):
        store.write(COHORT, [{"run_id": "a", "x": 1.5}], {}, schema=pa.schema([("x", pa.int64())]))


@pytest.mark.parametrize(
    "stack",
    [
        np.arange(24, dtype="f4").reshape(4, 3, 2).T,  # not contiguous
        np.arange(6, dtype=">i4").reshape(2, 3),  # big-endian
        np.zeros((2, 0, 5), "f8"),
        np.array([True, False]),
        np.array([1e-3, 7], ml_dtypes.bfloat16),
        np.array([[2**63, 1], [0, 5]], "u8"),
        np.array([1j, 2], "c8"),
    ],
)
def test_every_kind_of_array_comes_back(store, stack):
    store.write(COHORT, [{"run_id": f"{index}"} for index in range(2)], {"w": stack.astype(stack.dtype)[:2]})
    for index in range(2):
        read = weights_of(store, str(index))["w"]
        np.testing.assert_array_equal(read, stack[index])
        assert read.dtype == stack.dtype.newbyteorder("=")


def test_weights_can_be_deleted_or_never_kept_and_rows_stay(store):
    write_example(store, COHORT, 1)
    store.write(OTHER, [{"run_id": "light"}], {})
    (store.root / "weights" / f"{COHORT}.safetensors").unlink()
    assert store.run_ids() == {"run-1-0", "run-1-1", "run-1-2", "light"}
    assert store.rows().damaged == ()
    for run_id, reason in (("run-1-0", "is missing: bring it back"), ("light", "no weights")):
        with pytest.raises(ValueError, match=reason) as error:
            weights_of(store, run_id)
        assert str(store.root) in one_line(error)


def test_a_row_of_another_reading_is_told_and_nothing_is_set_aside(store):
    write_example(store, COHORT, 1)
    row = store.rows().table.to_pylist()[0]
    with pytest.raises(ValueError, match="read the rows again"):
        store.weights(row | {"weights_index": 1})
    assert len(store.run_ids()) == 3


def test_checkpoints_come_back_and_end_with_their_cohort(store):
    tensors = {"key": np.array([1, 2], "u4"), "step": np.int32(7), "w": np.ones((2, 3), "f4")}
    metadata = {"chunk": 3, "rates": [0.1, float("inf")], 10: "ten", 9: "nine", "name": 'a"\n\ud800'}
    store.save_checkpoint(COHORT, {}, {"chunk": 2})
    store.save_checkpoint(COHORT, tensors, metadata)
    read = store.load_checkpoint(COHORT)
    assert read.metadata == json.loads(json.dumps(metadata))
    assert {name: (array.dtype, array.tolist()) for name, array in read.tensors.items()} == {
        name: (np.asarray(value).dtype, np.asarray(value).tolist()) for name, value in tensors.items()
    }
    assert store.load_checkpoint(OTHER) is None
    assert store.run_ids() == set()
    write_example(store, COHORT, 1)
    assert store.load_checkpoint(COHORT) is None


def test_a_checkpoint_under_another_name_is_none(store):
    store.save_checkpoint(COHORT, {"w": np.ones(2)}, {})
    folder = store.root / "checkpoints"
    shutil.copy(folder / f"{COHORT}.safetensors", folder / f"{OTHER}.safetensors")
    assert store.load_checkpoint(OTHER) is None


def test_version_1_is_readable_for_ever(tmp_path):
    shutil.copytree(VERSION_1, tmp_path / "results")
    store = Store(tmp_path / "results")
    store.write(COHORT, [{"run_id": "newer", "later_column": 1.5}], {})
    table, damaged = store.rows()
    assert damaged == ()
    rows = {row["run_id"]: row for row in table.to_pylist()}
    # As `write` was given them when version 1 was the newest.
    assert (rows["a"]["dev_loss"], rows["a"]["history"], rows["a"]["later_column"]) == (2.125, [3.5, 2.25], None)
    assert (rows["b"]["dev_loss"], rows["b"]["history"]) == (None, [])
    assert weights_of(store, "a")["w"].tolist() == [0, 1, 2]
    assert weights_of(store, "b")["w"].tolist() == [3, 4, 5]


def test_an_older_version_is_read_by_a_newer_program(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments.store.manifest, "SCHEMA_VERSION", 2)
    test_version_1_is_readable_for_ever(tmp_path)


def test_a_newer_version_is_refused_and_left_alone(store, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(experiments.store.manifest, "SCHEMA_VERSION", 2)
        write_example(store, COHORT, 1)
    before = sorted(store.root.rglob("*"))
    for refused in (store.rows, store.run_ids, lambda: write_example(store, COHORT, 1)):
        with pytest.raises(ValueError, match=r"schema version 2.*update the program") as error:
            refused()
        assert f"{COHORT}.json" in one_line(error)
    assert sorted(store.root.rglob("*")) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(ValueError, match="is a file, not a folder") as error:
        Store(tmp_path / "results")
    one_line(error)
    with pytest.raises(OSError, match="a file where a folder should be") as error:
        write_example(Store(tmp_path / "results" / "below"), COHORT, 1)
    one_line(error)


def test_a_file_in_the_place_of_a_folder_of_the_store_is_named(store):
    store.root.mkdir()
    (store.root / "weights").write_text("mine")
    with pytest.raises(OSError, match="weights is a file where a folder should be") as error:
        write_example(store, COHORT, 1)
    one_line(error)
    assert store.run_ids() == set()


def test_a_link_to_a_folder_serves_and_a_dangling_one_is_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="elsewhere, which does not exist") as error:
        Store(link)
    one_line(error)
    (tmp_path / "elsewhere").mkdir()
    write_example(Store(link), COHORT, 1)
    assert losses(Store(tmp_path / "elsewhere")) == {row["run_id"]: row["dev_loss"] for row in example_cohort(1)[0]}


def test_foreign_files_are_ignored(store):
    write_example(store, COHORT, 1)
    for kind in ("manifests", "shards", "weights"):
        for name in ("notes.json", f"{COHORT} (1).json", f"._{COHORT}.json", ".x.1.00.tmp", f"{OTHER}.parquet"):
            (store.root / kind / name).write_text("not ours")
    assert store.rows().damaged == ()
    assert len(store.run_ids()) == 3


def test_what_is_begun_is_told_without_reading_tensors(store, monkeypatch):
    store.save_checkpoint(COHORT, {"w": np.zeros(100_000)}, {"run_ids": ["a", "b"]})
    store.save_checkpoint(OTHER, {"w": np.zeros(100_000)}, {"run_ids": ["c"]})
    (store.root / "checkpoints" / f"{'bad0' * 4}.safetensors").write_bytes(b"\xff" * 100)
    read, really_read = [], LocalFolder.read

    def counted(*arguments):
        read.append(len(data := really_read(*arguments)))
        return data

    monkeypatch.setattr(LocalFolder, "read", counted)
    assert store.started() == {COHORT: {"run_ids": ["a", "b"]}, OTHER: {"run_ids": ["c"]}}
    assert sum(read) < 2_000  # Of 1.6 MB.


def test_checkpoints_whose_runs_were_finished_in_other_cohorts_go(store):
    for cohort_id, run_ids in ((COHORT, ["a", "b"]), (OTHER, ["c", "d"])):
        store.save_checkpoint(cohort_id, {"w": np.ones(2)}, {"run_ids": run_ids})
    store.save_checkpoint("0000abcd", {"w": np.ones(2)}, {"of": "another program"})
    store.drop_checkpoints_of({"b", "x"})
    assert store.started().keys() == {OTHER, "0000abcd"}
