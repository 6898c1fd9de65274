"""How a store names its files, and how it goes through them."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from experiments.store.folder import Folder

Found = TypeVar("Found")

COHORT_ID = re.compile(r"[0-9a-f]{8,64}")
SUFFIXES = {
    "manifests": ".json",
    "shards": ".parquet",
    "weights": ".safetensors",
    "checkpoints": ".safetensors",
}


def file_name(kind: str, cohort_id: str) -> str:
    """The name of a cohort's file, such as `shards/0123abcd.parquet`.

    Raises:
        ValueError: no cohort id, so that no name leads elsewhere.
    """
    if not COHORT_ID.fullmatch(cohort_id):
        raise ValueError(f"a cohort id is 8 to 64 hexadecimal digits in lower case, got {cohort_id[:80]!r}")
    return f"{kind}/{cohort_id}{SUFFIXES[kind]}"


def cohort_ids(folder: Folder, kind: str) -> list[str]:
    """The cohorts that have a file of this kind, sorted; foreign files are left out."""
    suffix = SUFFIXES[kind]
    stems = (name.removesuffix(suffix) for name in folder.names(kind) if name.endswith(suffix))
    return sorted(stem for stem in stems if COHORT_ID.fullmatch(stem))


def each(folder: Folder, call: Callable[[str], Found], ids: Sequence[str]) -> list[Found]:
    """Each result, in order; several calls at a time where they wait for a network."""
    if folder.concurrency == 1:
        return [call(cohort_id) for cohort_id in ids]
    with ThreadPoolExecutor(folder.concurrency) as pool:
        return list(pool.map(call, ids))
