"""A disk that is full or read-only, and a folder that somebody else uses: one clear line, and nothing corrupted."""

# ruff: noqa: F401, F811  (a fixture of another test module)

import errno
import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.store.atomic import FULL
from experiments.store.folder import folder_lock
from experiments.store.shards import Store
from tests.test_shards import COHORT, OTHER, losses, one_line, store, write_example

ROOT = Path(__file__).parent.parent
HOLD = """
import sys
from pathlib import Path
from experiments.store.shards import Store
with Store(Path(sys.argv[1])).lock(shared=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


def failing(call: str, number: int, code: int):
    """A stand-in for `os.call` whose call `number` fails with an error code."""
    original, counter = getattr(os, call), itertools.count()

    def maybe_fail(*arguments, **keywords):
        if next(counter) == number:
            raise OSError(code, os.strerror(code))
        return original(*arguments, **keywords)

    return maybe_fail


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "again"),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_fails_at_any_call(store, monkeypatch, call, code, text):
    write_example(store, OTHER, 2)
    calls = {"write": 3, "replace": 3, "fsync": 6}[call]  # 3 files; their content and their folder are synced
    for number in range(calls):
        with monkeypatch.context() as broken, pytest.raises(OSError, match=text) as error:
            broken.setattr(os, call, failing(call, number, code))
            write_example(store, COHORT, 1)
        assert str(store.root) in one_line(error)
        assert error.value.errno == code
        assert not list(store.root.rglob("*.tmp"))
        committed = call == "fsync" and number == calls - 1  # only the durability of the last name is in doubt
        assert len(losses(store)) == (6 if committed else 3)
    write_example(store, COHORT, 1)
    assert len(losses(store)) == 6
    assert not (store.root / "damaged").exists()


def test_writes_that_take_a_few_bytes_at_a_time(store, monkeypatch):
    really_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: really_write(descriptor, data[:100]))
    write_example(store, COHORT, 1)
    assert len(losses(store)) == 3


def test_a_disk_that_writes_other_bytes(store, monkeypatch):
    really_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: really_write(descriptor, b"\0" * len(data)))
    with pytest.raises(OSError, match="read back differs") as error:
        write_example(store, COHORT, 1)
    one_line(error)
    assert store.run_ids() == set()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_written(store, monkeypatch, code):
    write_example(store, OTHER, 2)
    really_open = os.open

    def read_only(path, flags, *mode, **keywords):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(code, os.strerror(code), str(path))
        return really_open(path, flags, *mode, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    for refused in (lambda: write_example(store, COHORT, 1), lambda: store.save_checkpoint(COHORT, {}, {})):
        with pytest.raises(OSError, match="cannot be written; change its permissions") as error:
            refused()
        assert str(store.root) in one_line(error)
    with pytest.raises(OSError, match="cannot be written"), store.lock():
        pass
    assert len(losses(store)) == 3


def test_a_limit_on_the_size_of_files(tmp_path):
    """The kernel's own answer, which is taken for a full disk: another try would not help."""
    out = subprocess.run(
        ["sh", "-c", 'ulimit -f 64; "$0" -c "$1" "$2"', sys.executable, SETTING + TRY_TO_WRITE, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    message, counts = out.stdout.splitlines()
    assert f"{tmp_path}: a file became larger than" in message
    assert counts == "0 0 0"
    assert errno.EFBIG in FULL


def in_private_mounts(script: str, folder: Path, python: str) -> str:
    """Run a shell script where it may mount things that nobody else sees; what it prints."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount file systems")
    folder.mkdir()
    command = ["unshare", "-m", "sh", "-ec", script, sys.executable, str(folder), python]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SETTING = """
import sys
from pathlib import Path
from experiments.store.shards import Store
from tests.test_shards import COHORT, OTHER, write_example
store = Store(Path(sys.argv[1]))
"""
TRY_TO_WRITE = """
try:
    write_example(store, COHORT, 1, size=60_000)
except OSError as error:
    print(error)
print(len(store.rows().table), len(store.rows().damaged), len(list(store.root.rglob("*.tmp"))))
"""


def test_a_really_full_disk(tmp_path):
    fill = SETTING + "write_example(store, OTHER, 2, size=20_000)\n" + TRY_TO_WRITE
    # Cohorts of 1 and of 3 MB (3 runs, 5 numbers of 4 bytes a unit) on a disk of 2 MB.
    out = in_private_mounts('mount -t tmpfs -o size=2m none "$1"; "$0" -c "$2" "$1"', tmp_path / "full", fill)
    message, counts = out.splitlines()
    assert f"{tmp_path / 'full'}: no space left" in message
    assert counts == "3 0 0"


def test_a_really_read_only_folder_with_damage_in_it(tmp_path):
    write_example(Store(tmp_path / "results"), OTHER, 2)
    write_example(Store(tmp_path / "results"), "dada" * 4, 3)
    (tmp_path / "results" / "shards" / f"{'dada' * 4}.parquet").write_bytes(b"PAR1")
    shell = f'mount --bind "{tmp_path}/results" "$1"; mount -o remount,ro,bind "$1"; "$0" -c "$2" "$1"'
    out = in_private_mounts(shell, tmp_path / "bound", SETTING + TRY_TO_WRITE + "print(store.rows().damaged[0])")
    message, counts, damaged = out.splitlines()
    assert f"{tmp_path / 'bound'}: cannot be written; change its permissions" in message
    assert counts == "3 1 0"
    assert "could not be set aside" in damaged


def test_forbidden_reading_is_an_error_and_not_damage(store, monkeypatch):
    write_example(store, COHORT, 1)

    def forbidden(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(OSError, match="cannot be read") as error:
        store.rows()
    one_line(error)
    assert not (store.root / "damaged").exists()


class Holder:
    """Another process that holds the lock of a store."""

    def __init__(self, store: Store, *shared: str) -> None:
        command = [sys.executable, "-c", HOLD, str(store.root), *shared]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self) -> subprocess.Popen:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_the_second_of_two_sweeps_is_refused_until_the_first_is_gone(store):
    with Holder(store) as first:
        with pytest.raises(ValueError, match="in use by another sweep") as error, store.lock():
            pass
        assert f"process {first.pid} on {socket.gethostname()}" in one_line(error)
        assert str(store.root) in str(error.value)
        with pytest.raises(ValueError, match="in use"), store.lock(shared=True):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with store.lock():
            pass


def test_slices_share_and_a_whole_sweep_waits_for_them(store):
    with Holder(store, "shared"):
        with store.lock(shared=True):
            pass
        with pytest.raises(ValueError, match="in use"), store.lock():
            pass
    with store.lock():
        pass


def test_the_lock_is_free_after_an_error_and_errors_pass_unchanged(store):
    full = OSError(errno.ENOSPC, "somewhere else")
    with pytest.raises(OSError, match="somewhere else") as error, store.lock():
        raise full
    assert error.value is full
    with store.lock(), pytest.raises(ValueError, match="in use"), store.lock():
        pass


def test_without_locks_in_the_file_system_the_recorded_process_decides(tmp_path, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    path, here = tmp_path / ".lock", socket.gethostname()
    with folder_lock(path), pytest.raises(ValueError, match=f"process {os.getpid()}"), folder_lock(path):
        pass
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for nobody in ("", "nonsense", f"process {ended.pid} on {here}", f"process {os.getpid()} on elsewhere"):
        path.write_text(nobody)
        with folder_lock(path):
            pass


def test_what_a_link_in_the_place_of_the_lock_leads_to_is_left_alone(store, tmp_path):
    store.root.mkdir()
    (tmp_path / "precious").write_text("mine")
    for lead in ("precious", "missing"):
        (store.root / ".lock").unlink(missing_ok=True)
        (store.root / ".lock").symlink_to(tmp_path / lead)
        for shared in (False, True):
            with pytest.raises(ValueError, match=r"\.lock is a link.*remove it") as error, store.lock(shared):
                pass
            one_line(error)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "missing").exists()


def test_what_is_no_file_in_the_place_of_the_lock_is_refused(store):
    store.root.mkdir()
    os.mkfifo(store.root / ".lock")
    with pytest.raises(ValueError, match=r"\.lock is not a file"), store.lock():
        pass


def test_the_record_of_a_holder_outlives_who_is_refused(store):
    with store.lock():
        record = (store.root / ".lock").read_text()
        with pytest.raises(ValueError, match="in use"), store.lock():
            pass
        assert (store.root / ".lock").read_text() == record != ""


def test_temporary_files_go_with_the_next_holder_and_are_never_read(store):
    write_example(store, COHORT, 1)
    store.save_checkpoint(OTHER, {"w": np.ones(3)}, {})
    left = [folder / f".{COHORT}.x.1.00.tmp" for folder in store.root.iterdir()]
    for path in left:
        path.write_bytes(b"torn")
    assert len(losses(store)) == 3
    with store.lock(shared=True):
        assert all(path.exists() for path in left)  # another slice may be writing them
    with store.lock():
        assert not any(path.exists() for path in left)
    assert len(left) == 4
    assert len(losses(store)) == 3
