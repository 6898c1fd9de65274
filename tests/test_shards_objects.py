"""The store in an object store: a real S3 client and server, and the faults that a folder is tried with.

`python -m tests.test_shards_objects ADDRESS NUMBER MOMENT` writes a cohort and SIGKILLs itself at a call.
"""

# ruff: noqa: F401, F811  (a fixture of another test module)

import http.server
import itertools
import os
import pickle
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import boto3
import numpy as np
import pytest
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore

from experiments.store import Store, mirror, object_folder
from experiments.store.atomic import Explained
from experiments.store.manifest import data_names
from experiments.store.object_folder import ObjectFolder
from experiments.store.small_files import seal
from tests import processes
from tests.objects import address
from tests.test_shards import COHORT, OTHER, example_cohort, losses, one_line, weights_of, write_example
from tests.test_shards_damaged import flipped

KINDS = ("shards", "weights", "manifests")


@pytest.fixture
def store(address) -> Store:
    return Store(address())


class Watched:
    """An object store that calls `before` and `after` around each call that changes it, with the call's number."""

    def __init__(self, store, before=lambda number: None, after=lambda number: None) -> None:
        self.store, self.before, self.after, self.numbers = store, before, after, itertools.count()

    def __getattr__(self, name):
        return getattr(self.store, name)

    def put(self, *arguments, **keywords):
        return self.change(self.store.put, *arguments, **keywords)

    def delete(self, *arguments):
        return self.change(self.store.delete, *arguments)

    def change(self, call, *arguments, **keywords):
        number = next(self.numbers)
        self.before(number)
        try:
            return call(*arguments, **keywords)
        finally:
            self.after(number)


def name_of(store: Store, kind: str) -> str:
    """The one object of a kind that the cohort has."""
    if kind == "manifests":
        return f"manifests/{COHORT}.json"
    (name,) = data_names(store.folder, kind, COHORT)
    return name


def in_memory(object_store) -> Store:
    """A store that is no server's."""
    store = Store("s3://bucket/memory")
    vars(store)["folder"] = ObjectFolder(object_store, store.location)
    return store


def watch(store: Store, **calls) -> Store:
    """The same place, through a watched object store."""
    other = Store(store.location)
    vars(other)["folder"] = replace(store.folder, store=Watched(store.folder.store, **calls))
    return other


def test_objects_are_the_files_of_a_folder_bit_for_bit(store, tmp_path):
    local = Store(tmp_path / "local")
    for one in (store, local):
        with one.lock():
            write_example(one, COHORT, 1)
            write_example(one, OTHER, 2)
    for kind in ("shards", "weights"):
        (path,) = local.root.glob(f"{kind}/{COHORT}.*")
        assert store.folder.read(name_of(store, kind)) == path.read_bytes()
    assert store.folder.read(name_of(store, "manifests")) == (local.root / name_of(store, "manifests")).read_bytes()
    assert store.rows() == local.rows()
    assert store.run_ids() == local.run_ids()
    np.testing.assert_array_equal(
        weights_of(store, "run-1-2")["hidden.weight"], weights_of(local, "run-1-2")["hidden.weight"]
    )
    assert store.cohort_rows(COHORT) == local.cohort_rows(COHORT)
    assert store.cohort_rows("0000abcd") is None


def test_an_empty_place_is_an_empty_store(store):
    assert store.rows().table.num_rows == 0
    assert store.started() == {}
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
    before = {name: store.folder.read(name) for name in (name_of(store, kind) for kind in KINDS)}
    write_example(store, COHORT, 2)
    assert {name: store.folder.read(name) for name in (name_of(store, kind) for kind in KINDS)} == before


def test_checkpoints_come_back_and_end_with_their_cohort(store):
    store.save_checkpoint(COHORT, {"w": np.zeros(3)}, {"step": 1})
    store.save_checkpoint(COHORT, {"w": np.ones(3)}, {"step": 2, "run_ids": ["a"]})
    tensors, metadata = store.load_checkpoint(COHORT)
    assert (tensors["w"].tolist(), metadata) == ([1, 1, 1], {"step": 2, "run_ids": ["a"]})
    assert store.started() == {COHORT: metadata}
    write_example(store, COHORT, 1)
    assert store.started() == {}


def damages(sound: bytes):
    yield from (sound[:length] for length in (0, 4, 100, len(sound) // 2, len(sound) - 1))
    yield from (flipped(sound, int(bit)) for bit in np.random.default_rng(7).integers(8 * len(sound), size=10))


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_flipped_objects_are_detected_set_aside_and_made_good(store, kind):
    write_example(store, OTHER, 2)
    write_example(store, COHORT, 1)
    name = name_of(store, kind)
    sound = store.folder.read(name)
    for number, damage in enumerate(damages(sound), start=1):
        store.folder.put(name, damage)
        assert len(store.run_ids()) == 3
        table, (message,) = store.rows()
        assert set(table["cohort_id"].to_pylist()) == {OTHER}
        assert f"{store.location}/{name} does not match its checksum" in message
        assert f"set aside in {store.location}/damaged/{COHORT}.{number}" in message
        set_aside = store.folder.names(f"damaged/{COHORT}.{number}")
        assert len(set_aside) == 3
        assert damage in [store.folder.read(f"damaged/{COHORT}.{number}/{moved}") for moved in set_aside]
        assert store.rows().damaged == ()
        write_example(store, COHORT, 1)
        assert store.folder.read(name) == sound
    assert len(losses(store)) == 6


def test_a_lost_object_and_damaged_checkpoints(store):
    write_example(store, COHORT, 1)
    store.folder.remove(name_of(store, "shards"))
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
        raise GenericError("Generic S3 error: HTTP error: error sending request\n\nDebug source:\nGeneric {")

    lost = watch(store)
    lost.folder.store.get = unreachable
    for call in (
        lost.rows, lost.run_ids, lost.started, lambda: lost.cohort_rows(COHORT), lambda: lost.weights(row),
        lambda: lost.load_checkpoint(OTHER), lambda: write_example(lost, COHORT, 1),
    ):  # fmt: skip
        with pytest.raises(Explained, match=r"out of reach \(Generic S3 error.*\); check address and network") as error:
            call()
        assert store.location in one_line(error)
    assert len(losses(store)) == 3


def test_an_object_that_comes_back_otherwise_is_not_believed(store):
    bad = watch(store)

    def forgetful(name, data, **keywords):
        store.folder.store.put(name, b"\0" * len(data), **keywords)

    bad.folder.store.put = forgetful
    with pytest.raises(OSError, match="read back differs") as error:
        write_example(bad, COHORT, 1)
    one_line(error)
    assert store.run_ids() == set()


CALLS = ("put the shard", "put the weights", "put the manifest", "remove the checkpoint")


@pytest.mark.parametrize("server", ["s3", "memory"])
@pytest.mark.parametrize("number", range(len(CALLS)), ids=CALLS)
def test_of_two_writers_the_first_to_commit_is_kept_whole(store, server, number):
    """Rows of one cohort differ in their wall times: one writer's manifest beside the other's shard would be damage."""
    place = store if server == "s3" else in_memory(MemoryStore())
    (rows, tensors), written = example_cohort(1), []

    def second_writer(call: int) -> None:
        if call == number and not written:
            written.append(call)
            place.write(COHORT, [row | {"wall_seconds": 2.0} for row in rows], tensors)

    watch(place, before=second_writer).write(COHORT, [row | {"wall_seconds": 1.0} for row in rows], tensors)
    assert written == [number]
    table, damaged = place.rows()
    assert damaged == ()
    first_to_commit = 1.0 if CALLS[number] == "remove the checkpoint" else 2.0
    assert table["wall_seconds"].to_pylist() == [first_to_commit] * 3
    for kind in ("shards", "weights"):
        name_of(place, kind)  # There is one: the loser's are gone.


def test_many_writers_at_once_leave_one_sound_cohort():
    place = in_memory(MemoryStore())
    rows, tensors = example_cohort(1)

    def write(number: int) -> None:
        place.write(COHORT, [row | {"wall_seconds": float(number)} for row in rows], tensors)

    with ThreadPoolExecutor(8) as pool:
        for outcome in [pool.submit(write, number) for number in range(8)]:
            # Who reads back what the winner has cleared away fails, and would be tried again.
            assert outcome.exception() is None or "read back differs" in str(outcome.exception())
    table, damaged = place.rows()
    assert (len(table), damaged) == (3, ())
    assert len(set(table["wall_seconds"].to_pylist())) == 1


@pytest.mark.parametrize("server", ["s3", "memory", "local"])
def test_what_is_created_is_never_replaced(store, server, tmp_path):
    servers = {"s3": store.folder.store, "memory": MemoryStore(), "local": LocalStore(tmp_path)}
    folder = ObjectFolder(servers[server], "s3://bucket/x")
    assert folder.create("manifests/x.json", b"first")
    assert not folder.create("manifests/x.json", b"other")
    assert folder.create("manifests/x.json", b"first")  # As after an answer that was lost.
    assert folder.read("manifests/x.json") == b"first"


def test_a_place_that_an_older_version_wrote_is_read_and_left_as_it_is(store, tmp_path):
    """Its names held no hashes."""
    local = Store(tmp_path / "local")
    write_example(local, COHORT, 1)
    names = [f"shards/{COHORT}.parquet", f"weights/{COHORT}.safetensors", f"manifests/{COHORT}.json"]
    for name in names:
        store.folder.put(name, (local.root / name).read_bytes())
    write_example(store, COHORT, 2)
    assert store.rows() == local.rows()
    for kind, name in zip(("shards", "weights"), names, strict=False):
        assert name_of(store, kind) == name
    weights = weights_of(local, "run-1-2")["hidden.weight"]
    np.testing.assert_array_equal(weights_of(store, "run-1-2")["hidden.weight"], weights)
    copy = Store(tmp_path / "copy")
    copy.adopt(store)
    assert copy.rows() == local.rows()
    store.folder.put(names[0], b"")
    assert len(store.rows().damaged) == 1
    write_example(store, COHORT, 1)
    assert losses(store) == losses(local)


@pytest.mark.parametrize("number", range(len(CALLS)), ids=CALLS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_writer_killed_between_puts_leaves_all_or_nothing(store, number, moment):
    write_example(store, OTHER, 2)
    store.save_checkpoint(COHORT, {"w": np.zeros(3)}, {"step": 1})
    with processes.started("-m", "tests.test_shards_objects", store.location, str(number), moment) as process:
        _, errors = process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGKILL, errors
    committed = number > 2 or (number == 2 and moment == "after")
    assert len(losses(store)) == (6 if committed else 3)
    assert store.rows().damaged == ()
    assert store.load_checkpoint(COHORT) is not None or (number, moment) == (3, "after")
    rows, tensors = example_cohort(1)
    store.write(COHORT, [row | {"wall_seconds": 3.0} for row in rows], tensors)
    assert len(losses(store)) == 6
    assert store.started() == {}
    name_of(store, "shards")  # There is one: what the killed writer left is gone.


def test_a_large_object_goes_in_parts_and_comes_back(store):
    write_example(store, COHORT, 1, size=400_000)  # 24 MB of weights; a part has 5.
    np.testing.assert_array_equal(
        weights_of(store, "run-1-2")["hidden.bias"], example_cohort(1, size=400_000)[1]["hidden.bias"][2]
    )


PREFIXES = ("", "/plain", "/a/b-c_d.e", "/!*'()")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_the_name_that_was_given(address, prefix):
    address()
    folder = Store(f"s3://bucket{prefix}").folder
    folder.put("tables/x.csv", b"1")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    key = f"{prefix}/tables/x.csv".removeprefix("/")
    assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == b"1"
    assert folder.names("tables") == ["x.csv"]
    folder.remove("tables/x.csv")


ANSWERS = {  # What clouds answer where something is wrong, and what is said then.
    "no bucket": (404, "<Error><Code>NoSuchBucket</Code></Error>", "there is no such bucket; create it"),
    "no container": (404, "<Error><Code>ContainerNotFound</Code></Error>", "there is no such bucket; create it"),
    "no right": (403, "<Error><Code>AccessDenied</Code></Error>", "access is denied; set credentials"),
    "wrong key": (401, "", "access is denied; set credentials"),
    "another region": (301, "<Error><Code>PermanentRedirect</Code></Error>", "in another region; set AWS_REGION"),
    "nonsense": (400, "<Error>\x1b[31m</Error>", "out of reach ("),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_server_refuses_is_one_line_with_the_remedy(address, answer):
    address()
    status, body, remedy = ANSWERS[answer]

    class Answering(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode() if self.command != "HEAD" else b"")

        do_GET = do_HEAD = do_PUT = answer

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = Store(f"s3://bucket/x?scheme=http&endpoint_override=127.0.0.1:{server.server_address[1]}")
        for call in (store.run_ids, lambda: write_example(store, COHORT, 1)):
            with pytest.raises(Explained) as error:
                call()
            assert one_line(error).startswith(f"[Errno {error.value.errno}] s3://bucket/x: ")
            assert remedy in str(error.value)
            assert str(error.value).isprintable()
        server.shutdown()


def test_a_silent_server_is_given_up(address, monkeypatch):
    address()
    monkeypatch.setitem(object_folder.CLIENT, "read_timeout", timedelta(seconds=0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = Store(f"s3://bucket/x?scheme=http&endpoint_override=127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Explained, match=r"out of reach .*after 2 retries"):
            store.run_ids()


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
