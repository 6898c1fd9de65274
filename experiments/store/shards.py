"""The result store of one sweep, in a folder or an object store: immutable, checksummed files of finished cohorts.

    DIR/shards/<cohort_id>.parquet           one row a training run
    DIR/weights/<cohort_id>.safetensors      trained weights, stacked along a leading run axis
    DIR/manifests/<cohort_id>.json           length and sha256 of both, written last: the commit
    DIR/checkpoints/<cohort_id>.safetensors  a cohort in progress, with its own digest
    DIR/damaged/<cohort_id>.<n>/             what failed its checksum, set aside
    DIR/.lock                                held by the sweep that writes

In an object store, where there is no lock, shards and weights are named <cohort_id>/<hash>.parquet and .safetensors.
What has no manifest does not exist. A weights file may be deleted (they are large): the rows stay good. Any
other change of a finished file is damage.
"""

import errno
import functools
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from experiments.store.atomic import Damaged, Explained, Fingerprint, explained, fingerprint
from experiments.store.encoding import (
    Rows,
    as_arrays,
    cohort_table,
    decode_table,
    encode_table,
    encode_tensors,
    read_metadata,
    read_run,
    read_tensors,
    tensors_digest,
    unite,
)
from experiments.store.folder import Folder
from experiments.store.manifest import (
    SCHEMA_VERSION,
    SUFFIXES,
    canonical_json,
    cohort_ids,
    damage_of,
    data_name,
    data_names,
    decode_manifest,
    each,
    encode_manifest,
    file_name,
    locate,
)
from experiments.store.object_folder import Location, open_folder

COMMIT_ATTEMPTS = 3
CHECKPOINTS = "checkpoints"

Promises = Mapping[str, Fingerprint]


class Contents(NamedTuple):
    """The sound rows of a store, and one message for each cohort that was damaged, and so set aside."""

    table: pa.Table
    damaged: tuple[str, ...]


class Checkpoint(NamedTuple):
    """The state of a cohort in progress."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Store:
    """The results below one folder, or at one address of an object store; it need not exist yet.

    What cannot be written raises OSError, what is refused ValueError: one line that names path and remedy.
    """

    location: Location

    def __post_init__(self) -> None:
        """Refuse a place that can never hold results."""
        with explained(self.location):
            _ = self.folder

    def __reduce__(self) -> tuple[type["Store"], tuple[Location]]:
        """To another process goes the address alone: that one opens it, with its own credentials."""
        return Store, (self.location,)

    @functools.cached_property
    def folder(self) -> Folder:
        """Where the files are."""
        return open_folder(self.location)

    @property
    def root(self) -> Path:
        """The folder of this machine: what reads or writes other files than the store's own asks for it.

        Raises:
            ValueError: the store is elsewhere.
        """
        if isinstance(self.location, Path):
            return self.location
        raise ValueError(f"{self.location} is no folder: python -m experiments.fetch copies it into one")

    @contextmanager
    def lock(self, shared: bool = False) -> Iterator[None]:
        """Be the only sweep on this folder, or with `shared` one of its slices; else ValueError.

        An exclusive holder first removes the temporary files of killed writers. An object store knows no locks: it is
        tried whether it can be written.
        """
        with ExitStack() as held:
            with explained(self.location):
                held.enter_context(self.folder.lock(("", "tables", "figures", *SUFFIXES), shared))
            yield

    def write(
        self,
        cohort_id: str,
        rows: Rows,
        tensors: Mapping[str, ArrayLike],
        schema: pa.Schema | None = None,
    ) -> None:
        """Commit a finished cohort and drop its checkpoint; one that is there already, and sound, stays as it is.

        Every row needs a text `run_id` of its own, every array a leading axis with one entry a row; no
        arrays, no weights kept. `schema` declares types of columns (others are inferred), so that a column of
        nothing but None has its type.
        """
        arrays = as_arrays(tensors)
        table = cohort_table(cohort_id, rows, _run_digests(arrays, len(rows)), schema)
        contents = {"shards": encode_table(table)}
        if arrays:
            run_ids = table["run_id"].to_pylist()
            contents["weights"] = encode_tensors(arrays, {"run_ids": run_ids, "schema_version": SCHEMA_VERSION})
        promises = {kind: fingerprint(data) for kind, data in contents.items()}
        with explained(self.location):
            commit(self.folder, cohort_id, contents, promises)
        self.drop_checkpoint(cohort_id)

    def rows(self, columns: Sequence[str] | None = None, set_aside: bool = True) -> Contents:
        """All rows of finished cohorts, by cohort id, every file verified; damaged cohorts are set aside.

        Who does not hold the lock leaves them where they are (`set_aside` False): a sweep may be writing.

        Columns that a shard lacks are null there. Where cohorts share a run id, the first has its row.
        `columns` limits what is read beside `run_id` and the store's own `cohort_id`, `weights_index` and
        `weights_sha256`.
        """
        tables, damage = self._survey(columns)
        if set_aside:
            messages = tuple(move_damaged(self.folder, *damaged) for damaged in damage.items())
        else:
            messages = tuple(map(_left_out, damage.values()))
        try:
            return Contents(unite(tables), messages)
        except pa.ArrowException as error:
            text = f"{self.location}: its shards disagree on the type of a column ({error}): use two folders"
            raise ValueError(text) from None

    def run_ids(self) -> set[str]:
        """The runs that are done and sound. It only reads: what is damaged stays for `rows` to set aside."""
        tables, _ = self._survey(columns=())
        return {run_id for table in tables for run_id in table["run_id"].to_pylist()}

    def cohort_rows(self, cohort_id: str) -> list[dict[str, Any]] | None:
        """The rows of a cohort that is done and sound, else None. It only reads."""
        table = shard_or_damage(self.folder, cohort_id, None)
        rows: list[dict[str, Any]] | None = None if isinstance(table, Damaged) else table.to_pylist()
        return rows

    def started(self) -> dict[str, dict[str, Any]]:
        """The cohorts in progress: by cohort id, the metadata of its checkpoint.

        Tensors are not read, and so the digest is not verified.
        """
        ids = cohort_ids(self.folder, CHECKPOINTS)
        metadata = zip(ids, each(self.folder, self._metadata_or_none, ids), strict=True)
        return {cohort_id: entry for cohort_id, entry in metadata if entry is not None}

    def has_weights(self, row: Mapping[str, Any]) -> bool:
        """Whether the weights of the run with this row were kept, and are still there."""
        return row["weights_sha256"] is not None and bool(data_names(self.folder, "weights", row["cohort_id"]))

    def weights(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Verified weights of the run that has this row.

        Raises ValueError where they are missing, or damaged: then their cohort is set aside.
        """
        cohort_id = row["cohort_id"]
        if row["weights_sha256"] is None:
            raise ValueError(f"{self.location} has no weights of run {row['run_id']!r}: run it again, keeping them")
        weights, manifest = (self.folder.describe(file_name(kind, cohort_id)) for kind in ("weights", "manifests"))
        names = data_names(self.folder, "weights", cohort_id)
        for name in names:
            arrays = self._run_or_none(name, row["weights_index"])
            if arrays is not None and tensors_digest(arrays) == row["weights_sha256"]:
                return arrays
        if not names:
            raise ValueError(f"{weights} is missing: bring it back, or delete {manifest} and run the sweep again")
        damage = shard_or_damage(self.folder, cohort_id, ())
        if isinstance(damage, Damaged):
            raise ValueError(move_damaged(self.folder, cohort_id, str(damage)))
        raise ValueError(f"{weights} is sound but this row is not its own: read the rows again")

    def adopt(self, other: "Store", set_aside: bool = True) -> tuple[str, ...]:
        """Commit what is finished in another store and not here; returns a message for each cohort damaged there.

        What is damaged there is set aside, so that the next sweep computes it again; or left where it is, as who does
        not hold that store's lock must.
        """
        adopt = functools.partial(self._adopt, other.folder, set_aside=set_aside)
        messages = each(other.folder, adopt, cohort_ids(other.folder, "manifests"))
        return tuple(message for message in messages if message)

    def save_checkpoint(self, cohort_id: str, tensors: Mapping[str, ArrayLike], metadata: Mapping[str, Any]) -> None:
        """Replace the checkpoint of a cohort in progress; `metadata` must be expressible in JSON."""
        arrays, as_it_will_be_read = as_arrays(tensors), json.loads(json.dumps(metadata))
        header = {"cohort_id": cohort_id, "metadata": as_it_will_be_read, "schema_version": SCHEMA_VERSION}
        sealed = encode_tensors(arrays, header | {"sha256": _checkpoint_digest(arrays, header)})
        with explained(self.location):
            self.folder.put(file_name(CHECKPOINTS, cohort_id), sealed)

    def load_checkpoint(self, cohort_id: str) -> Checkpoint | None:
        """The last checkpoint of a cohort; None if it has none, a damaged one, or one of another version."""
        name = file_name(CHECKPOINTS, cohort_id)
        if not self.folder.exists(name):
            return None
        try:
            with self.folder.as_file(name) as path:
                arrays, header = read_tensors(path)
            sound = header.pop("sha256") == _checkpoint_digest(arrays, header)
            return Checkpoint(arrays, header["metadata"]) if sound and _is_current(header, cohort_id) else None
        except Explained:
            raise
        except Exception:  # a damaged header can provoke anything
            return None

    def drop_checkpoint(self, cohort_id: str) -> None:
        """Remove the checkpoint of a cohort, if it has one."""
        with explained(self.location):
            self.folder.remove(file_name(CHECKPOINTS, cohort_id))

    def drop_checkpoints_of(self, run_ids: Collection[str]) -> None:
        """Remove the checkpoints of cohorts that have one of these runs, which are done: nobody resumes from them.

        Such cohorts were cut otherwise, and their runs finished in others.
        """
        done = set(run_ids)
        for cohort_id, metadata in self.started().items():
            if not done.isdisjoint(metadata.get("run_ids", ())):
                self.drop_checkpoint(cohort_id)

    def _adopt(self, other: Folder, cohort_id: str, set_aside: bool) -> str | None:
        if is_committed(self.folder, cohort_id):
            return None
        try:
            promises = read_promises(other, cohort_id)
            kinds = [kind for kind in promises if kind != "weights" or locate(other, kind, cohort_id, promises[kind])]
            contents = {kind: read_verified(other, kind, cohort_id, promises[kind]) for kind in kinds}
        except Damaged as error:
            return move_damaged(other, cohort_id, str(error)) if set_aside else _left_out(str(error))
        with explained(self.location):
            commit(self.folder, cohort_id, contents, promises)
        return None

    def _survey(self, columns: Sequence[str] | None) -> tuple[list[pa.Table], dict[str, str]]:
        """The tables of the sound cohorts, and by cohort id what is wrong with the others."""
        ids = cohort_ids(self.folder, "manifests")
        tables, damage = [], {}
        for cohort_id, shard in zip(
            ids, each(self.folder, lambda cohort_id: shard_or_damage(self.folder, cohort_id, columns), ids), strict=True
        ):
            if isinstance(shard, Damaged):
                damage[cohort_id] = str(shard)
            else:
                tables.append(shard)
        return tables, damage

    def _metadata_or_none(self, cohort_id: str) -> dict[str, Any] | None:
        try:
            header = read_metadata(functools.partial(self.folder.read, file_name(CHECKPOINTS, cohort_id)))
            return dict(header["metadata"]) if _is_current(header, cohort_id) else None
        except Explained:
            raise
        except Exception:  # a damaged header can provoke anything
            return None

    def _run_or_none(self, name: str, index: int) -> dict[str, np.ndarray] | None:
        try:
            with self.folder.as_file(name) as path:
                return read_run(path, index)
        except Explained:
            raise
        except PermissionError as error:
            raise Explained(error.errno, f"{self.folder.describe(name)}: cannot be read ({error.strerror})") from error
        except Exception:  # a damaged header can provoke anything
            return None


def _run_digests(arrays: Mapping[str, np.ndarray], run_count: int) -> list[str | None]:
    for name, array in arrays.items():
        if array.shape[:1] != (run_count,):
            raise ValueError(f"tensor {name!r} of shape {array.shape} needs a leading axis of {run_count} runs")
    runs = ({name: np.asarray(array[index]) for name, array in arrays.items()} for index in range(run_count))
    return [tensors_digest(run) if arrays else None for run in runs]


def _is_current(header: Mapping[str, Any], cohort_id: str) -> bool:
    return bool(header["schema_version"] == SCHEMA_VERSION and header["cohort_id"] == cohort_id)


def _checkpoint_digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    return hashlib.sha256(tensors_digest(arrays).encode() + canonical_json(header)).hexdigest()


def commit(folder: Folder, cohort_id: str, contents: Mapping[str, bytes], promises: Promises) -> None:
    """Write a cohort's files, by kind; they exist once their manifest does. A sound one that is there already stays.

    Another writer may train the same cohort where there is no lock, or where two slices overlap. Its rows differ in
    their wall times, so that one's manifest might come to stand beside the other's shard. In an object store it cannot:
    the names of shards hold their hashes, and a manifest is put only where none lies. In a folder, who commits last
    looks again.
    """
    manifest = file_name("manifests", cohort_id)
    for _ in range(COMMIT_ATTEMPTS):
        has_manifest = folder.exists(manifest)
        if is_committed(folder, cohort_id):
            break
        if has_manifest:
            folder.remove(manifest)  # A damaged cohort ends here; the new one begins with its new manifest.
        for kind, data in contents.items():
            folder.put(data_name(folder, kind, cohort_id, promises[kind]), data)
        folder.create(manifest, encode_manifest(cohort_id, promises))
    else:
        if not is_committed(folder, cohort_id):
            raise OSError(errno.EBUSY, f"the files of cohort {cohort_id} change while they are written")
    if folder.hashed_names:
        _remove_unpromised(folder, cohort_id)


def is_committed(folder: Folder, cohort_id: str) -> bool:
    """Whether a cohort is finished, and sound."""
    return not isinstance(shard_or_damage(folder, cohort_id, ()), Damaged)


def shard_or_damage(folder: Folder, cohort_id: str, columns: Sequence[str] | None) -> pa.Table | Damaged:
    """A cohort's rows, all files verified, or what is wrong with one; weights may be missing."""
    try:
        promises = read_promises(folder, cohort_id)
        weights = locate(folder, "weights", cohort_id, promises["weights"]) if "weights" in promises else None
        if weights is not None:
            with damage_of(folder.describe(weights)):
                if folder.fingerprint(weights) != promises["weights"]:
                    return _mismatch(folder, weights)
        data = read_verified(folder, "shards", cohort_id, promises["shards"])
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


def read_verified(folder: Folder, kind: str, cohort_id: str, promise: Fingerprint) -> bytes:
    """A file's content; raises Damaged where it is not what was promised."""
    name = locate(folder, kind, cohort_id, promise) or file_name(kind, cohort_id)
    with damage_of(folder.describe(name)):
        data = folder.read(name)
    if fingerprint(data) != promise:
        raise _mismatch(folder, name)
    return data


def move_damaged(folder: Folder, cohort_id: str, reason: str) -> str:
    """Move a damaged cohort out of the way; returns the message about it."""
    # The manifest first: without it the rest is nothing.
    names = [file_name("manifests", cohort_id)]
    try:
        names += [name for kind in ("shards", "weights") for name in data_names(folder, kind, cohort_id)]
        place = folder.set_aside(names, cohort_id)
    except OSError as error:
        return f"{reason}: its runs count as not done (it could not be set aside: {error.strerror})"
    return f"{reason}: set aside in {place}, the next sweep computes its runs again"


def _left_out(reason: str) -> str:
    return f"{reason}: left out, the next sweep computes its runs again"


def _mismatch(folder: Folder, name: str) -> Damaged:
    return Damaged(f"{folder.describe(name)} does not match its checksum")


def _remove_unpromised(folder: Folder, cohort_id: str) -> None:
    """Remove what killed writers of a committed cohort left, and who came second: no manifest can name it now."""
    with suppress(Damaged):  # Set aside meanwhile, and then somebody writes it anew.
        for kind, promise in read_promises(folder, cohort_id).items():
            promised = locate(folder, kind, cohort_id, promise)
            for name in data_names(folder, kind, cohort_id):
                if promised is not None and name != promised:
                    folder.remove(name)
