"""The result store of one sweep: immutable, checksummed files of finished cohorts.

    DIR/shards/<cohort_id>.parquet           one row a training run
    DIR/weights/<cohort_id>.safetensors      trained weights, stacked along a leading run axis
    DIR/manifests/<cohort_id>.json           length and sha256 of both, written last: the commit
    DIR/checkpoints/<cohort_id>.safetensors  a cohort in progress, with its own digest
    DIR/damaged/<cohort_id>.<n>/             what failed its checksum, set aside
    DIR/.lock                                held by the sweep that writes

What has no manifest does not exist. A weights file may be deleted (they are large): the rows stay good. Any
other change of a finished file is damage.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from experiments.store.atomic import (
    explained,
    fingerprint,
    fingerprint_file,
    make_folder,
    remove_file,
    remove_temporaries,
    replace_file,
    sync_folder,
)
from experiments.store.folder_lock import folder_lock
from experiments.store.manifest import (
    SCHEMA_VERSION,
    Damaged,
    canonical_json,
    damage_of,
    encode_manifest,
    read_manifest,
)
from experiments.store.row_table import Rows, cohort_table, decode_table, encode_table, unite
from experiments.store.tensor_file import as_arrays, encode_tensors, read_run, read_tensors, tensors_digest

COHORT_ID = re.compile(r"[0-9a-f]{8,64}")
SUFFIXES = {
    "manifests": ".json",
    "shards": ".parquet",
    "weights": ".safetensors",
    "checkpoints": ".safetensors",
}


class Contents(NamedTuple):
    """The sound rows of a store, and one message for each cohort that was found damaged and set aside."""

    table: pa.Table
    damaged: tuple[str, ...]


class Checkpoint(NamedTuple):
    """The state of a cohort in progress."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Store:
    """The results below one folder, which need not exist yet; a link to a folder serves as well.

    What cannot be written raises OSError, what is refused ValueError: one line that names path and remedy.
    """

    root: Path

    def __post_init__(self) -> None:
        """Refuse a root that can never be a folder."""
        if self.root.is_symlink() and not self.root.exists():
            target = self.root.readlink()
            raise ValueError(f"{self.root} is a link to {target}, which does not exist: create it or remove the link")
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"{self.root} is a file, not a folder: move it away or choose another folder")

    @contextmanager
    def lock(self, shared: bool = False) -> Iterator[None]:
        """Be the only sweep on this folder, or with `shared` one of its slices; else ValueError.

        An exclusive holder first removes the temporary files of killed writers.
        """
        with ExitStack() as held:
            with explained(self.root):
                make_folder(self.root)
                held.enter_context(folder_lock(self.root / ".lock", shared))
                for kind in () if shared else SUFFIXES:
                    remove_temporaries(self.root / kind)
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
        if not self._is_committed(cohort_id):
            self._commit(cohort_id, contents)
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
            messages = tuple(self._set_aside(cohort_id, reason) for cohort_id, reason in damage.items())
        else:
            messages = tuple(
                f"{reason}: left out, the next sweep computes its runs again" for reason in damage.values()
            )
        try:
            return Contents(unite(tables), messages)
        except pa.ArrowException as error:
            text = f"{self.root}: its shards disagree on the type of a column ({error}): use two folders"
            raise ValueError(text) from None

    def run_ids(self) -> set[str]:
        """The runs that are done and sound. It only reads: what is damaged stays for `rows` to set aside."""
        tables, _ = self._survey(columns=())
        return {run_id for table in tables for run_id in table["run_id"].to_pylist()}

    def cohort_rows(self, cohort_id: str) -> list[dict[str, Any]] | None:
        """The rows of a cohort that is done and sound, else None. It only reads."""
        try:
            rows: list[dict[str, Any]] = self._verified_shard(cohort_id, columns=None).to_pylist()
        except Damaged:
            return None
        return rows

    def begun(self) -> dict[str, dict[str, Any]]:
        """The cohorts in progress: by cohort id, the metadata of its checkpoint."""
        paths = sorted((self.root / "checkpoints").glob("*.safetensors"))
        found = {path.stem: self.load_checkpoint(path.stem) for path in paths if COHORT_ID.fullmatch(path.stem)}
        return {cohort_id: checkpoint.metadata for cohort_id, checkpoint in found.items() if checkpoint}

    def weights(self, run: str | Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Verified weights of a run, given by its row (reads its bytes only) or its id (reads the store).

        Raises ValueError where they are missing, or damaged: then their cohort is set aside.
        """
        row = self._row(run) if isinstance(run, str) else run
        path = self._path("weights", row["cohort_id"])
        if row["weights_sha256"] is None:
            raise ValueError(f"{self.root} has no weights of run {row['run_id']!r}: run it again, keeping them")
        if not path.exists():
            manifest = self._path("manifests", row["cohort_id"])
            raise ValueError(f"{path} is missing: bring it back, or delete {manifest} and run the sweep again")
        arrays = _run_or_none(path, row["weights_index"])
        if arrays is None or tensors_digest(arrays) != row["weights_sha256"]:
            raise ValueError(self._explain_mismatch(row["cohort_id"]))
        return arrays

    def save_checkpoint(self, cohort_id: str, tensors: Mapping[str, ArrayLike], metadata: Mapping[str, Any]) -> None:
        """Replace the checkpoint of a cohort in progress; `metadata` must be expressible in JSON."""
        path = self._path("checkpoints", cohort_id)
        arrays = as_arrays(tensors)
        as_it_will_be_read = json.loads(json.dumps(metadata))
        header = {"cohort_id": cohort_id, "metadata": as_it_will_be_read, "schema_version": SCHEMA_VERSION}
        seal = {"sha256": _checkpoint_digest(arrays, header)}
        with explained(self.root):
            replace_file(path, encode_tensors(arrays, header | seal))

    def load_checkpoint(self, cohort_id: str) -> Checkpoint | None:
        """The last checkpoint of a cohort; None if it has none, a damaged one, or one of another version."""
        path = self._path("checkpoints", cohort_id)
        if not path.exists():
            return None
        try:
            arrays, header = read_tensors(path)
            sound = header.pop("sha256") == _checkpoint_digest(arrays, header)
            ours = header["schema_version"] == SCHEMA_VERSION and header["cohort_id"] == cohort_id
            return Checkpoint(arrays, header["metadata"]) if sound and ours else None
        except Exception:  # a damaged header can provoke anything
            return None

    def drop_checkpoint(self, cohort_id: str) -> None:
        """Remove the checkpoint of a cohort, if it has one."""
        with explained(self.root):
            remove_file(self._path("checkpoints", cohort_id))

    def _path(self, kind: str, cohort_id: str) -> Path:
        if not COHORT_ID.fullmatch(cohort_id):
            raise ValueError(f"a cohort id is 8 to 64 hexadecimal digits in lower case, got {cohort_id[:80]!r}")
        return self.root / kind / f"{cohort_id}{SUFFIXES[kind]}"

    def _commit(self, cohort_id: str, contents: Mapping[str, bytes]) -> None:
        manifest = self._path("manifests", cohort_id)
        with explained(self.root):
            remove_file(manifest)  # a damaged cohort ends here; the new one begins with its new manifest
            files = {kind: replace_file(self._path(kind, cohort_id), data) for kind, data in contents.items()}
            replace_file(manifest, encode_manifest(cohort_id, files))

    def _survey(self, columns: Sequence[str] | None) -> tuple[list[pa.Table], dict[str, str]]:
        """The tables of the sound cohorts, and by cohort id what is wrong with the others."""
        tables, damage = [], {}
        manifests = (self.root / "manifests").glob("*.json")
        for cohort_id in sorted(path.stem for path in manifests if COHORT_ID.fullmatch(path.stem)):
            try:
                tables.append(self._verified_shard(cohort_id, columns))
            except Damaged as error:
                damage[cohort_id] = str(error)
        return tables, damage

    def _is_committed(self, cohort_id: str) -> bool:
        try:
            self._verified_shard(cohort_id, columns=())
        except Damaged:
            return False
        return True

    def _verified_shard(self, cohort_id: str, columns: Sequence[str] | None) -> pa.Table:
        files = read_manifest(self._path("manifests", cohort_id), cohort_id)
        weights, shard = self._path("weights", cohort_id), self._path("shards", cohort_id)
        with damage_of(weights):
            if "weights" in files and weights.exists() and fingerprint_file(weights) != files["weights"]:
                raise Damaged(f"{weights} does not match its checksum")
        with damage_of(shard):
            data = shard.read_bytes()
            if fingerprint(data) != files["shards"]:
                raise Damaged(f"{shard} does not match its checksum")
            return decode_table(data, columns)

    def _set_aside(self, cohort_id: str, reason: str) -> str:
        try:
            folder = _fresh_folder(self.root / "damaged", cohort_id)
            for kind in (
                "manifests",
                "shards",
                "weights",
            ):  # the manifest first: without it the rest is nothing
                path = self._path(kind, cohort_id)
                with suppress(FileNotFoundError):
                    path.replace(folder / path.name)
                    sync_folder(path.parent)
        except OSError as error:
            return f"{reason}: its runs count as not done (it could not be set aside: {error.strerror})"
        return f"{reason}: set aside in {folder}, the next sweep computes its runs again"

    def _row(self, run_id: str) -> dict[str, Any]:
        table, damaged = self.rows(columns=())
        index = table["run_id"].index(run_id).as_py()
        if index < 0:
            raise ValueError("; ".join([f"{self.root} has no run {run_id!r}: run the sweep", *damaged]))
        row: dict[str, Any] = table.slice(index, 1).to_pylist()[0]
        return row

    def _explain_mismatch(self, cohort_id: str) -> str:
        try:
            self._verified_shard(cohort_id, columns=())
        except Damaged as error:
            return self._set_aside(cohort_id, str(error))
        return f"{self._path('weights', cohort_id)} is sound but this row is not its own: read the rows again"


def _run_digests(arrays: Mapping[str, np.ndarray], run_count: int) -> list[str | None]:
    for name, array in arrays.items():
        if array.shape[:1] != (run_count,):
            raise ValueError(f"tensor {name!r} of shape {array.shape} needs a leading axis of {run_count} runs")
    runs = ({name: np.asarray(array[index]) for name, array in arrays.items()} for index in range(run_count))
    return [tensors_digest(run) if arrays else None for run in runs]


def _run_or_none(path: Path, index: int) -> dict[str, np.ndarray] | None:
    try:
        return read_run(path, index)
    except PermissionError as error:
        raise OSError(error.errno, f"{path}: cannot be read ({error.strerror})") from error
    except Exception:  # a damaged header can provoke anything
        return None


def _checkpoint_digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    return hashlib.sha256(tensors_digest(arrays).encode() + canonical_json(header)).hexdigest()


def _fresh_folder(parent: Path, name: str) -> Path:
    make_folder(parent)
    folders = (parent / f"{name}.{count}" for count in itertools.count(1))
    folder = next(folder for folder in folders if not folder.exists())
    folder.mkdir()
    return folder
