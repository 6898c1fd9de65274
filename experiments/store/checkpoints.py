"""The state of cohorts in progress: one file each, with its own digest, replaced as training goes on."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.store.atomic import Explained
from experiments.store.folder import Folder
from experiments.store.manifest import SCHEMA_VERSION, canonical_json, cohort_ids, each, file_name
from experiments.store.tensor_file import as_arrays, encode_tensors, read_metadata, read_tensors, tensors_digest

KIND = "checkpoints"


class Checkpoint(NamedTuple):
    """The state of a cohort in progress."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def save_checkpoint(
    folder: Folder, cohort_id: str, tensors: Mapping[str, ArrayLike], metadata: Mapping[str, Any]
) -> None:
    """Replace the checkpoint of a cohort; `metadata` must be expressible in JSON."""
    name, arrays = file_name(KIND, cohort_id), as_arrays(tensors)
    as_it_will_be_read = json.loads(json.dumps(metadata))
    header = {"cohort_id": cohort_id, "metadata": as_it_will_be_read, "schema_version": SCHEMA_VERSION}
    folder.put(name, encode_tensors(arrays, header | {"sha256": _digest(arrays, header)}))


def load_checkpoint(folder: Folder, cohort_id: str) -> Checkpoint | None:
    """The last checkpoint of a cohort; None if it has none, a damaged one, or one of another version."""
    name = file_name(KIND, cohort_id)
    if not folder.exists(name):
        return None
    try:
        with folder.as_file(name) as path:
            arrays, header = read_tensors(path)
        sound = header.pop("sha256") == _digest(arrays, header)
        return Checkpoint(arrays, header["metadata"]) if sound and _is_current(header, cohort_id) else None
    except Explained:
        raise
    except Exception:  # a damaged header can provoke anything
        return None


def load_metadata(folder: Folder) -> dict[str, dict[str, Any]]:
    """By cohort id, the metadata of every checkpoint. Tensors are not read, and so the digest is not verified."""
    ids = cohort_ids(folder, KIND)
    metadata = zip(ids, each(folder, functools.partial(_metadata, folder), ids), strict=True)
    return {cohort_id: entry for cohort_id, entry in metadata if entry is not None}


def _metadata(folder: Folder, cohort_id: str) -> dict[str, Any] | None:
    try:
        header = read_metadata(functools.partial(folder.read, file_name(KIND, cohort_id)))
        return dict(header["metadata"]) if _is_current(header, cohort_id) else None
    except Explained:
        raise
    except Exception:  # a damaged header can provoke anything
        return None


def _is_current(header: Mapping[str, Any], cohort_id: str) -> bool:
    return bool(header["schema_version"] == SCHEMA_VERSION and header["cohort_id"] == cohort_id)


def _digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    return hashlib.sha256(tensors_digest(arrays).encode() + canonical_json(header)).hexdigest()
