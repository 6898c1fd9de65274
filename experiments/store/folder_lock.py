"""One writer a folder: an advisory lock that the kernel releases when its holder dies, however it dies."""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_FLOCK = {
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOLCK,
    errno.EINVAL,
}  # file systems without locks


@contextmanager
def folder_lock(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; raises ValueError at once where somebody else holds it.

    Any number may hold it `shared` (slices of one sweep on one folder), nobody beside an exclusive holder.
    Where the file system has no locks, the process id recorded in the file decides: good for one machine.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
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
