"""Where a store keeps its files: whole files below one place, by names such as `shards/0123abcd.parquet`.

A folder of this machine, or of a file system that machines share, is here; object stores are in `object_folder`.
"""

import errno
import fcntl
import itertools
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.store.atomic import (
    Fingerprint,
    fingerprint_file,
    make_folder,
    remove_file,
    remove_temporaries,
    replace_file,
    sync_folder,
)

# What file systems without locks answer.
NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class Folder(Protocol):
    """What a store asks of the place that it writes to. A missing file raises FileNotFoundError."""

    concurrency: int  # Reads at a time: many where each one waits for a network.
    hashed_names: bool  # Whether the names of shards hold their hashes, since no lock keeps other writers away.

    def describe(self, name: str) -> str:
        """A file as messages call it."""

    def read(self, name: str, first: int | None = None) -> bytes:
        """The content of a file, or its first bytes."""

    def as_file(self, name: str) -> AbstractContextManager[Path]:
        """A file's content in a file of this machine, for as long as that is needed."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def fingerprint(self, name: str) -> Fingerprint:
        """Length and hash of a file's content."""

    def names(self, kind: str) -> list[str]:
        """The files directly in a folder (at the top for ""), sorted, without the folder's name."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file: all of it or nothing, and reread."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file where another writer has none; whether this is now what lies there."""

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is no error."""

    def set_aside(self, names: Sequence[str], label: str) -> str:
        """Move files, in this order, to a fresh folder below `damaged`, and say where that is."""

    def lock(self, kinds: Sequence[str], shared: bool) -> AbstractContextManager[None]:
        """Be the only writer, or one of several; before that, clear what killed writers left in these folders."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder, which need not exist yet; a link to one serves as well.

    Raises:
        ValueError: it can never be a folder.
    """

    root: Path
    concurrency = 1
    hashed_names = False

    def __post_init__(self) -> None:
        """Refuse what can never be a folder."""
        if self.root.is_symlink() and not self.root.exists():
            target = self.root.readlink()
            raise ValueError(f"{self.root} is a link to {target}, which does not exist: create it or remove the link")
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"{self.root} is a file, not a folder: move it away or choose another folder")

    def describe(self, name: str) -> str:
        """Its path."""
        return str(self.root / name)

    def read(self, name: str, first: int | None = None) -> bytes:
        """The content of a file, or its first bytes."""
        if first is None:
            return (self.root / name).read_bytes()
        with (self.root / name).open("rb") as file:
            return file.read(first)

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        """The file itself."""
        yield self.root / name

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.root / name).exists()

    def fingerprint(self, name: str) -> Fingerprint:
        """Length and hash of a file's content, which is read in pieces."""
        return fingerprint_file(self.root / name)

    def names(self, kind: str) -> list[str]:
        """The files in a folder."""
        folder = self.root / kind
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file()) if folder.is_dir() else []

    def put(self, name: str, data: bytes) -> None:
        """Write a file durably."""
        replace_file(self.root / name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file durably: the lock keeps other writers away."""
        self.put(name, data)
        return True

    def remove(self, name: str) -> None:
        """Remove a file durably."""
        remove_file(self.root / name)

    def set_aside(self, names: Sequence[str], label: str) -> str:
        """Move files to a fresh folder."""
        folder = self.root / fresh_name(label, self.exists)
        make_folder(folder.parent)
        folder.mkdir()
        for name in names:
            path = self.root / name
            with suppress(FileNotFoundError):
                path.replace(folder / path.name)
                sync_folder(path.parent)
        return str(folder)

    @contextmanager
    def lock(self, kinds: Sequence[str], shared: bool) -> Iterator[None]:
        """Hold the folder's lock file; else ValueError."""
        make_folder(self.root)
        with folder_lock(self.root / ".lock", shared):
            for kind in () if shared else kinds:
                remove_temporaries(self.root / kind)
            yield


def fresh_name(label: str, taken: Callable[[str], bool]) -> str:
    """`damaged/LABEL.N` with the first N that is not taken."""
    return next(name for n in itertools.count(1) if not taken(name := f"damaged/{label}.{n}"))


@contextmanager
def folder_lock(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; raises ValueError at once where somebody else holds it, or where it is a link.

    Any number may hold it `shared` (slices of one sweep on one folder), nobody beside an exclusive holder. The kernel
    releases it when its holder dies. Where the file system has no locks, the process id recorded in the file decides:
    good for one machine. The file is emptied only once it is held, and what a link leads to never is.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a link, and no lock is kept behind one: remove it") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a file: move it away")
        _acquire(descriptor, path, shared)
        _record(descriptor, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            _record(descriptor, "")
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, shared: bool) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 300, 0).decode(errors="replace").strip()
        if error.errno in NO_FLOCK and (shared or not _alive_here(holder)):
            return
        if error.errno not in NO_FLOCK and not isinstance(error, BlockingIOError):
            raise
        raise ValueError(
            f"{path.parent} is in use by another sweep ({holder or 'process unknown'}): "
            "wait until it ends, or choose another folder"
        ) from None


def _record(descriptor: int, holder: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


def _alive_here(holder: str) -> bool:
    match = re.fullmatch(r"process (\d+) on (.*)", holder)
    if match is None or match[2] != socket.gethostname():
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, and belongs to another user
    return True
