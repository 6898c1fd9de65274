"""The store in an object store: a real S3 client and server, and the faults that a folder is tried with.

`python -m tests.test_shards_objects ADDRESS NUMBER MOMENT` writes a cohort and SIGKILLs itself at a call.
"""

# ruff: noqa: F401, F811  (a fixture of another test module)

import itertools
import os
import pickle
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

from experiments.store import Store, mirror
from experiments.store.atomic import Explained
from experiments.store.small_files import seal
from tests import processes
from tests.objects import address
from tests.test_shards import COHORT, OTHER, example_cohort, losses, one_line, weights_of, write_example
from tests.test_shards_damaged import flipped

NAMES = {
    "shards": f"shards/{COHORT}.parquet",
    "weights": f"weights/{COHORT}.safetensors",
    "manifests": f"manifests/{COHORT}.json",
}


@pytest.fixture
def store(address) -> Store:
    return Store(address())


class Watched:
    """A file system that calls `before` and `after` around everything that changes it, with the number of the call."""

    def __init__(self, system, before=lambda number: None, after=lambda number: None) -> None:
        self.system, self.before, self.after, self.numbers = system, before, after, itertools.count()

    def __getattr__(self, name):
        return getattr(self.system, name)

    def delete_file(self, path):
        number = next(self.numbers)
        self.before(number)
        try:
            self.system.delete_file(path)
        finally:
            self.after(number)

    def open_output_stream(self, path):
        return WatchedStream(self, self.system.open_output_stream(path), next(self.numbers))


class WatchedStream:
    def __init__(self, watched: Watched, stream, number: int) -> None:
        self.watched, self.stream, self.number = watched, stream, number

    def __enter__(self):
        self.watched.before(self.number)
        return self

    def write(self, data) -> None:
        self.stream.write(data)

    def __exit__(self, *_):
        self.stream.close()
        self.watched.after(self.number)


def watch(store: Store, **calls) -> Store:
    """The same place, seen through a watched file system."""
    other = Store(store.location)
    vars(other)["folder"] = replace(store.folder, system=Watched(store.folder.system, **calls))
    return other


def test_objects_are_the_files_of_a_folder_bit_for_bit(store, tmp_path):
    local = Store(tmp_path / "local")
    for one in (store, local):
        with one.lock():
            write_example(one, COHORT, 1)
            write_example(one, OTHER, 2)
    for path in local.root.rglob("*.*"):
        if path.name != ".lock":
            assert store.folder.read(str(path.relative_to(local.root))) == path.read_bytes()
    assert store.rows() == local.rows()
    assert store.run_ids() == local.run_ids()
    np.testing.assert_array_equal(
        weights_of(store, "run-1-2")["hidden.weight"], weights_of(local, "run-1-2")["hidden.weight"]
    )
    assert store.cohort_rows(COHORT) == local.cohort_rows(COHORT)
    assert store.cohort_rows("0000abcd") is None


def test_an_empty_place_is_an_empty_store(store):
    assert store.rows().table.num_rows == 0
    assert store.begun() == {}
    assert store.load_checkpoint(COHORT) is None
    store.drop_checkpoint(COHORT)


def test_a_store_travels_to_other_processes(store):
    write_example(store, COHORT, 1)
    assert losses(pickle.loads(pickle.dumps(store))) == losses(store)


def test_a_folder_that_is_asked_of_an_object_store(store):
    with pytest.raises(ValueError, match=r"experiments\.fetch") as error:
        _ = store.root
    assert store.location in one_line(error)


def test_writing_again_changes_nothing(store):
    write_example(store, COHORT, 1)
    before = {kind: store.folder.read(name) for kind, name in NAMES.items()}
    write_example(store, COHORT, 2)
    assert {kind: store.folder.read(name) for kind, name in NAMES.items()} == before


def test_checkpoints_come_back_and_end_with_their_cohort(store):
    store.save_checkpoint(COHORT, {"w": np.zeros(3)}, {"step": 1})
    store.save_checkpoint(COHORT, {"w": np.ones(3)}, {"step": 2, "run_ids": ["a"]})
    tensors, metadata = store.load_checkpoint(COHORT)
    assert (tensors["w"].tolist(), metadata) == ([1, 1, 1], {"step": 2, "run_ids": ["a"]})
    assert store.begun() == {COHORT: metadata}
    write_example(store, COHORT, 1)
    assert store.begun() == {}


def damages(sound: bytes):
    yield from (sound[:length] for length in (0, 4, 100, len(sound) // 2, len(sound) - 1))
    yield from (flipped(sound, int(bit)) for bit in np.random.default_rng(7).integers(8 * len(sound), size=10))


@pytest.mark.parametrize("kind", NAMES)
def test_truncated_and_flipped_objects_are_detected_set_aside_and_made_good(store, kind):
    write_example(store, OTHER, 2)
    write_example(store, COHORT, 1)
    sound = store.folder.read(NAMES[kind])
    for number, damage in enumerate(damages(sound), start=1):
        store.folder.put(NAMES[kind], damage)
        assert len(store.run_ids()) == 3
        table, (message,) = store.rows()
        assert set(table["cohort_id"].to_pylist()) == {OTHER}
        assert f"{store.location}/{NAMES[kind]} does not match its checksum" in message
        assert f"set aside in {store.location}/damaged/{COHORT}.{number}" in message
        set_aside = store.folder.names(f"damaged/{COHORT}.{number}")
        assert len(set_aside) == 3
        assert damage in [store.folder.read(f"damaged/{COHORT}.{number}/{name}") for name in set_aside]
        assert store.rows().damaged == ()
        write_example(store, COHORT, 1)
        assert store.folder.read(NAMES[kind]) == sound
    assert len(losses(store)) == 6


def test_a_lost_object_and_damaged_checkpoints(store):
    write_example(store, COHORT, 1)
    store.folder.remove(NAMES["shards"])
    assert "missing" in store.rows().damaged[0]
    store.save_checkpoint(COHORT, {"w": np.ones(3)}, {"step": 1})
    name = f"checkpoints/{COHORT}.safetensors"
    sound = store.folder.read(name)
    for damage in (b"", sound[:-1], flipped(sound, 8 * len(sound) - 1), b"\xff" * 100):
        store.folder.put(name, damage)
        assert store.load_checkpoint(COHORT) is None


def test_a_store_out_of_reach_is_an_error_and_never_damage(store):
    write_example(store, COHORT, 1)
    store.save_checkpoint(OTHER, {}, {"step": 1})
    row = store.rows().table.to_pylist()[0]

    def unreachable(*_):
        raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation:\ncurlCode: 7")

    lost = watch(store)
    lost.folder.system.open_input_file = unreachable
    for call in (
        lost.rows, lost.run_ids, lost.begun, lambda: lost.cohort_rows(COHORT), lambda: lost.weights(row),
        lambda: lost.load_checkpoint(OTHER), lambda: write_example(lost, COHORT, 1),
    ):  # fmt: skip
        with pytest.raises(Explained, match=r"out of reach .*check address and network") as error:
            call()
        assert store.location in one_line(error)
    assert len(losses(store)) == 3


def test_an_object_that_comes_back_otherwise_is_not_believed(store):
    bad = watch(store)

    class Forgetful(WatchedStream):
        def write(self, data) -> None:
            self.stream.write(b"\0" * len(data))

    bad.folder.system.open_output_stream = lambda path: Forgetful(
        bad.folder.system, store.folder.system.open_output_stream(path), 0
    )
    with pytest.raises(OSError, match="read back differs") as error:
        write_example(bad, COHORT, 1)
    one_line(error)
    assert store.run_ids() == set()


@pytest.mark.parametrize("number", range(4))
def test_a_second_writer_at_any_moment_leaves_one_sound_cohort(store, number):
    """Rows of one cohort differ in their wall times: one writer's manifest beside the other's shard would be damage."""
    (rows, tensors), wrote = example_cohort(1), []

    def second_writer(call: int) -> None:
        if call == number and not wrote:
            wrote.append(call)
            Store(store.location).write(COHORT, [row | {"wall_seconds": 2.0} for row in rows], tensors)

    watch(store, before=second_writer).write(COHORT, [row | {"wall_seconds": 1.0} for row in rows], tensors)
    assert wrote == [number]
    table, damaged = store.rows()
    assert damaged == ()
    assert set(table["wall_seconds"].to_pylist()) in ({1.0}, {2.0})


CALLS = ("remove the manifest", "put the shard", "put the weights", "put the manifest", "remove the checkpoint")


@pytest.mark.parametrize("number", range(len(CALLS)), ids=CALLS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_writer_killed_between_puts_leaves_all_or_nothing(store, number, moment):
    write_example(store, OTHER, 2)
    store.save_checkpoint(COHORT, {"w": np.zeros(3)}, {"step": 1})
    with processes.started("-m", "tests.test_shards_objects", store.location, str(number), moment) as process:
        _, errors = process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGKILL, errors
    committed = number > 3 or (number == 3 and moment == "after")
    assert len(losses(store)) == (6 if committed else 3)
    assert store.rows().damaged == ()
    assert store.load_checkpoint(COHORT) is not None or (number, moment) == (4, "after")
    write_example(store, COHORT, 1)
    assert len(losses(store)) == 6
    assert store.begun() == {}


def test_fetch_copies_what_a_sweep_writes_and_nothing_else(store, tmp_path):
    write_example(store, COHORT, 1)
    own = {
        "report.html": b"<p>", "tables/summary.csv": b"a,b", "tables/width_1.md": b"|", "figures/map.png": b"png",
        "request.json": seal({"name": "x"}), "samples.json": b"[1]",
    }  # fmt: skip
    foreign = ("README.md", "notes.json", "a.svg", "tables/x.html", "figures/x.svg", f"tables/{'n' * 300}.csv", ".x.md")
    for name, data in {**own, **dict.fromkeys(foreign, b"not ours")}.items():
        store.folder.put(name, data)
    edited = seal({"loss": 2.125}).replace(b"2.125", b"2.025")
    store.folder.put("test.json", edited)
    (tmp_path / "README.md").write_text("mine")
    target = Store(tmp_path)
    (message,) = mirror.fetch(store, target)
    assert message.startswith(f"{store.location}/test.json is damaged (it does not match its checksum)")
    assert "\n" not in message
    assert losses(target) == losses(store)
    stores = {"shards", "weights", "manifests"}
    copied = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.parent.name not in stores}
    assert copied == {*own, "README.md"}
    assert all((tmp_path / name).read_bytes() == data for name, data in own.items())
    assert (tmp_path / "README.md").read_text() == "mine"


def main(location: str, number: str, moment: str) -> None:
    def die(call: int) -> None:
        if call == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    write_example(watch(Store(location), **{moment: die}), COHORT, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
