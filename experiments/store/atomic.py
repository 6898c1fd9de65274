"""Durable, verified replacement of a file.

At any moment, whatever is killed, a path holds its whole old content or its whole new content. What was
interrupted leaves at most a hidden temporary file beside it, which no reader opens.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 1 << 20

TOO_LARGE = errno.EFBIG  # Past the file system's limit, or the user's (ulimit -f).
FULL = {errno.ENOSPC, errno.EDQUOT, TOO_LARGE}  # Another try would not help.
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}
CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP}  # some network file systems


class Explained(OSError):
    """An error of storage whose text is one line that names the place and the remedy."""


class Damaged(ValueError):
    """A file is not what was written; the text is one line that names it."""


class DamagedRows(Damaged):
    """Rows were damaged after they were written, and are set aside: they must be computed again."""


class Fingerprint(NamedTuple):
    """Length and hash of a file: what a manifest promises about it."""

    bytes: int
    sha256: str


def fingerprint(data: bytes) -> Fingerprint:
    """Fingerprint of a file with this content."""
    return Fingerprint(len(data), hashlib.sha256(data).hexdigest())


def fingerprint_file(path: Path) -> Fingerprint:
    """Fingerprint of a file, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Fingerprint(file.tell(), digest)


def replace_file(path: Path, data: bytes) -> Fingerprint:
    """Put `data` at `path`: all of it or nothing, on the disk and reread before it takes the name."""
    make_folder(path.parent)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    written = fingerprint(data)
    try:
        _write_through(temporary, data)
        if fingerprint_file(temporary) != written:
            raise OSError(errno.EIO, "what was read back differs from what was written", str(path))
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return written


def remove_file(path: Path) -> None:
    """Remove a file, durably; a missing one is no error."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left; a writer that is still alive gets an error and loses nothing else."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename survives a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def explained(root: Path | str) -> Iterator[None]:
    """Turn the usual write errors into one line that names the folder and the remedy."""
    try:
        yield
    except Explained:
        raise
    except OSError as error:
        raise Explained(error.errno, f"{root}: {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    if error.errno == TOO_LARGE:
        return (
            "a file became larger than the file system or this user's limit (ulimit -f) allows; raise it or choose "
            "another folder and run the same command again, finished runs are kept"
        )
    if error.errno == errno.ENAMETOOLONG:
        return "a name is too long for this file system; choose another folder"
    if error.errno in FULL:
        return "no space left; free some and run the same command again, finished runs are kept"
    if error.errno in FORBIDDEN:
        return "cannot be written; change its permissions or choose another folder"
    if error.errno == errno.ENOENT:
        return "cannot be created there; choose another folder"
    if error.errno in NOT_A_FOLDER:
        return f"{error.filename} is a file where a folder should be; move it away or choose another folder"
    return f"{error.strerror or error}; run the same command again, finished runs are kept"


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest[:CHUNK_BYTES]) :]
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):  # So that rereading asks the disk, not the memory that the data came from.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
