"""The files of finished cohorts: written with the manifest last, and verified whenever they are read."""

import errno
from collections.abc import Mapping, Sequence

import pyarrow as pa

from experiments.store.atomic import Fingerprint, fingerprint
from experiments.store.folder import Folder
from experiments.store.manifest import Damaged, damage_of, decode_manifest, encode_manifest
from experiments.store.names import file_name
from experiments.store.row_table import decode_table

COMMIT_ATTEMPTS = 3

Promises = Mapping[str, Fingerprint]


def commit(folder: Folder, cohort_id: str, contents: Mapping[str, bytes], promises: Promises) -> None:
    """Write a cohort's files, by kind; they exist once their manifest does.

    Another writer of the same cohort may come between where there is no lock. Its rows differ in their wall times, so
    that one's manifest might stand beside the other's shard: who commits last looks again.
    """
    manifest = file_name("manifests", cohort_id)
    for _ in range(COMMIT_ATTEMPTS):
        folder.remove(manifest)  # a damaged cohort ends here; the new one begins with its new manifest
        for kind, data in contents.items():
            folder.put(file_name(kind, cohort_id), data)
        folder.put(manifest, encode_manifest(cohort_id, promises))
        if is_committed(folder, cohort_id):
            return
    raise OSError(errno.EBUSY, f"the files of cohort {cohort_id} change while they are written")


def is_committed(folder: Folder, cohort_id: str) -> bool:
    """Whether a cohort is finished, and sound."""
    return not isinstance(shard_or_damage(folder, cohort_id, ()), Damaged)


def shard_or_damage(folder: Folder, cohort_id: str, columns: Sequence[str] | None) -> pa.Table | Damaged:
    """A cohort's rows, all files verified, or what is wrong with one; weights may be missing."""
    try:
        promises, weights = read_promises(folder, cohort_id), file_name("weights", cohort_id)
        with damage_of(folder.describe(weights)):
            if "weights" in promises and folder.exists(weights) and folder.fingerprint(weights) != promises["weights"]:
                return _mismatch(folder, weights)
        data = read_verified(folder, "shards", cohort_id, promises)
        with damage_of(folder.describe(file_name("shards", cohort_id))):
            return decode_table(data, columns)
    except Damaged as damage:
        return damage


def read_promises(folder: Folder, cohort_id: str) -> Promises:
    """What a cohort's manifest promises of each kind of file; raises Damaged, and ValueError for a newer version."""
    name = file_name("manifests", cohort_id)
    with damage_of(folder.describe(name)):
        data = folder.read(name)
    return decode_manifest(data, cohort_id, folder.describe(name))


def read_verified(folder: Folder, kind: str, cohort_id: str, promises: Promises) -> bytes:
    """A file's content; raises Damaged where it is not what was promised."""
    name = file_name(kind, cohort_id)
    with damage_of(folder.describe(name)):
        data = folder.read(name)
    if fingerprint(data) != promises[kind]:
        raise _mismatch(folder, name)
    return data


def move_damaged(folder: Folder, cohort_id: str, reason: str) -> str:
    """Move a damaged cohort out of the way; returns the message about it."""
    # The manifest first: without it the rest is nothing.
    names = [file_name(kind, cohort_id) for kind in ("manifests", "shards", "weights")]
    try:
        place = folder.set_aside(names, cohort_id)
    except OSError as error:
        return f"{reason}: its runs count as not done (it could not be set aside: {error.strerror})"
    return f"{reason}: set aside in {place}, the next sweep computes its runs again"


def _mismatch(folder: Folder, name: str) -> Damaged:
    return Damaged(f"{folder.describe(name)} does not match its checksum")
