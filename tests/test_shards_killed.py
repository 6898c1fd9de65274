"""A writer killed at any step of a write leaves all of a cohort or nothing of it.

One child process holds the imports and forks a writer for each kill, which SIGKILLs itself before, in the middle
of or after its n-th call into the file system: `python -m tests.test_shards_killed FOLDER ACTION` is that child.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.store.shards import Store
from tests.test_shards import COHORT, OTHER, example_cohort, losses, write_example

CALLS = ("write", "fsync", "replace", "unlink")
ONE_FILE = ["write", "fsync", "replace", "fsync"]  # the temporary, its content, the rename, the folder
ROOT = Path(__file__).parent.parent


def in_progress(store: Store) -> None:
    write_example(store, OTHER, 2)
    store.save_checkpoint(COHORT, {"w": np.zeros(5000)}, {"chunk": 1})


def damaged(store: Store) -> None:
    write_example(store, COHORT, 3)
    shard = store.root / "shards" / f"{COHORT}.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    in_progress(store)


def save_second_checkpoint(store: Store) -> None:
    store.save_checkpoint(COHORT, {"w": np.ones(5000)}, {"chunk": 2})


def write_cohort(store: Store) -> None:
    write_example(store, COHORT, 1)


def set_aside(store: Store) -> None:
    store.rows()


WEIGHTS_SHARD_MANIFEST, REMOVE = ONE_FILE * 3, ["unlink", "fsync"]
ACTIONS = {  # by name: what was there, what is killed, and its calls
    "write": (in_progress, write_cohort, [*WEIGHTS_SHARD_MANIFEST, *REMOVE]),
    "write over damage": (damaged, write_cohort, [*REMOVE, *WEIGHTS_SHARD_MANIFEST, *REMOVE]),
    "set aside": (damaged, set_aside, ["fsync", *["replace", "fsync"] * 3]),
    "checkpoint": (in_progress, save_second_checkpoint, ONE_FILE),
}


def interpose(on_call) -> None:
    """Let `on_call(name, original, *arguments)` stand in for every call that changes the disk."""
    for name in CALLS:
        setattr(os, name, partial(on_call, name, getattr(os, name)))


def calls_of(action, store: Store) -> list[str]:
    """The calls of an action, in order, found out in a fork."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        really_write = os.write

        def record(name, original, *arguments, **keywords):
            really_write(writer, f"{name} ".encode())
            return original(*arguments, **keywords)

        interpose(record)
        action(store)
        os._exit(0)
    os.wait()
    os.close(writer)
    return os.read(reader, 10_000).decode().split()


def kill_during(action, store: Store, number: int, moment: str) -> int:
    """Run an action in a fork that kills itself at its call `number`; the signal that ended it."""
    child = os.fork()
    if child == 0:
        counter = itertools.count()

        def maybe_die(name, original, *arguments, **keywords):
            if next(counter) != number:
                return original(*arguments, **keywords)
            if moment == "middle":
                original(arguments[0], arguments[1][: len(arguments[1]) // 2])
            try:
                if moment == "after":
                    original(*arguments, **keywords)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)

        interpose(maybe_die)
        action(store)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def moments_of(call: str) -> list[str]:
    return ["before", "middle", "after"] if call == "write" else ["before", "after"]


def kill_everywhere(base: Path, name: str) -> dict[str, object]:
    """Leave one folder for each kill; the calls that an action makes, and the exit codes."""
    prepare, action, _ = ACTIONS[name]
    prepare(Store(base / "prepared"))
    shutil.copytree(base / "prepared", base / "recorded")
    calls = calls_of(action, Store(base / "recorded"))
    codes = []
    for number, call in enumerate(calls):
        for moment in moments_of(call):
            folder = base / f"{number:02d}-{call}-{moment}"
            shutil.copytree(base / "prepared", folder)
            codes.append(kill_during(action, Store(folder), number, moment))
    return {"calls": calls, "codes": codes}


@pytest.fixture(scope="module", params=ACTIONS)
def killed(request, tmp_path_factory):
    """The name of an action, a folder where it ran to its end, and one folder for each kill."""
    base = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.test_shards_killed", str(base), request.param]
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert report["calls"] == ACTIONS[request.param][2]
    folders = sorted(path for path in base.iterdir() if path.name[0].isdigit())
    assert len(folders) == sum(len(moments_of(call)) for call in report["calls"])
    assert report["codes"] == [-signal.SIGKILL] * len(folders)
    return request.param, base / "recorded", folders


def file_bytes(root: Path) -> dict[str, bytes]:
    kinds = ("manifests", "shards", "weights")
    return {path.name: path.read_bytes() for kind in kinds for path in (root / kind).iterdir()}


def chunk_of_checkpoint(store: Store) -> int | None:
    checkpoint = store.load_checkpoint(COHORT)
    if checkpoint is None:
        return None
    chunk = checkpoint.metadata["chunk"]
    assert set(checkpoint.tensors["w"]) == {chunk - 1}
    return chunk


def test_all_or_nothing_is_read_and_writing_again_completes_it(killed):
    action, complete, folders = killed
    write_cohort(Store(complete))
    other = {row["run_id"]: row["dev_loss"] for row in example_cohort(2)[0]}
    whole = other | {row["run_id"]: row["dev_loss"] for row in example_cohort(1)[0]}
    seen, chunks = set(), set()
    for folder in folders:
        store = Store(folder)
        read = losses(store)
        assert read in (other, whole), folder
        assert store.run_ids() == set(read)
        chunks.add(chunk_of_checkpoint(store))
        assert read == whole or chunk_of_checkpoint(store) is not None
        assert (store.root / "damaged").exists() <= (action in ("write over damage", "set aside")), folder
        seen.add(len(read))
        with store.lock():
            write_cohort(store)
        assert losses(store) == whole
        assert not list(folder.rglob("*.tmp"))
        assert file_bytes(folder) == file_bytes(complete), folder
    assert seen == ({len(other), len(whole)} if action.startswith("write") else {len(other)})
    assert chunks == ({None, 1} if action.startswith("write") else {1} if action == "set aside" else {1, 2})


if __name__ == "__main__":
    print(json.dumps(kill_everywhere(Path(sys.argv[1]), sys.argv[2])))
