"""The names of a cohort's files, and the manifest, which promises their content.

A manifest is one line of JSON with sorted keys and the sha256 of itself without that field. Every future
schema version must keep that much: it is how a flipped bit in `schema_version` is known for damage.
"""

import errno
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from experiments.store.atomic import Damaged, Explained, Fingerprint
from experiments.store.folder import Folder

SCHEMA_VERSION = 1

COHORT_ID = re.compile(r"[0-9a-f]{8,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SUFFIXES = {
    "manifests": ".json",
    "shards": ".parquet",
    "weights": ".safetensors",
    "checkpoints": ".safetensors",
}

Result = TypeVar("Result")


def file_name(kind: str, cohort_id: str) -> str:
    """The name of a cohort's file, such as `shards/0123abcd.parquet`.

    Raises:
        ValueError: no cohort id, so that no name leads elsewhere.
    """
    if not COHORT_ID.fullmatch(cohort_id):
        raise ValueError(f"a cohort id is 8 to 64 hexadecimal digits in lower case, got {cohort_id[:80]!r}")
    return f"{kind}/{cohort_id}{SUFFIXES[kind]}"


def data_name(folder: Folder, kind: str, cohort_id: str, promise: Fingerprint) -> str:
    """The name to write a promised file to, such as `shards/0123abcd/HASH.parquet` where writers may meet."""
    name = file_name(kind, cohort_id)
    return f"{kind}/{cohort_id}/{promise.sha256[:16]}{SUFFIXES[kind]}" if folder.hashed_names else name


def locate(folder: Folder, kind: str, cohort_id: str, promise: Fingerprint) -> str | None:
    """The name under which a promised file lies, without a hash where an older version wrote it; None if it is gone."""
    names = (data_name(folder, kind, cohort_id, promise), file_name(kind, cohort_id))
    return next(filter(folder.exists, dict.fromkeys(names)), None)


def data_names(folder: Folder, kind: str, cohort_id: str) -> list[str]:
    """All files of a kind that lie there for a cohort, those of killed writers included."""
    plain = file_name(kind, cohort_id)
    hashed = [f"{kind}/{cohort_id}/{name}" for name in folder.names(f"{kind}/{cohort_id}")]
    return [*filter(folder.exists, [plain]), *hashed]


def cohort_ids(folder: Folder, kind: str) -> list[str]:
    """The cohorts that have a file of this kind, sorted; foreign files are left out."""
    suffix = SUFFIXES[kind]
    stems = (name.removesuffix(suffix) for name in folder.names(kind) if name.endswith(suffix))
    return sorted(stem for stem in stems if COHORT_ID.fullmatch(stem))


def each(folder: Folder, call: Callable[[str], Result], ids: Sequence[str]) -> list[Result]:
    """Each result, in order; several calls at a time where they wait for a network."""
    if folder.concurrency == 1:
        return [call(cohort_id) for cohort_id in ids]
    with ThreadPoolExecutor(folder.concurrency) as pool:
        return list(pool.map(call, ids))


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The one spelling of a value, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def encode_manifest(cohort_id: str, files: Mapping[str, Fingerprint]) -> bytes:
    """The content of a manifest; `files` maps the kind of a file to its fingerprint."""
    promises = {kind: promise._asdict() for kind, promise in files.items()}
    return _sealed({"cohort_id": cohort_id, "files": promises, "schema_version": SCHEMA_VERSION})


def decode_manifest(data: bytes, cohort_id: str, name: str) -> dict[str, Fingerprint]:
    """The promised fingerprints; raises Damaged, or ValueError where a newer program wrote it. Texts say `name`."""
    body = _unsealed(data)
    if body is None or body.get("cohort_id") != cohort_id:
        raise Damaged(f"{name} does not match its checksum")
    if isinstance(version := body.get("schema_version"), int) and version > SCHEMA_VERSION:
        raise ValueError(
            f"{name} has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
            "update the program or choose another folder"
        )
    try:
        promises = {kind: Fingerprint(**promise) for kind, promise in body["files"].items()}
        if {"shards"} <= promises.keys() <= {"shards", "weights"} and all(
            SHA256.fullmatch(promise.sha256) for promise in promises.values()
        ):
            return promises
    except (AttributeError, KeyError, TypeError):
        pass
    raise Damaged(f"{name} is no manifest")  # Its checksum is right: whoever wrote it meant it.


@contextmanager
def damage_of(name: str) -> Iterator[None]:
    """Missing, or unreadable for the disk or for Parquet, is damage; forbidden or out of reach is not."""
    try:
        yield
    except Explained:
        raise
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EIO):
            raise Explained(error.errno, f"{name}: cannot be read ({error.strerror})") from error
        raise Damaged(f"{name} is missing or unreadable") from error


def _sealed(body: Mapping[str, Any]) -> bytes:
    return canonical_json({**body, "sha256": hashlib.sha256(canonical_json(body)).hexdigest()})


def _unsealed(data: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(data)
        body.pop("sha256")
        return body if _sealed(body) == data else None
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None
