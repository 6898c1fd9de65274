"""The runs that a sweep gave up, and why: kept beside the shards until a later sweep on the folder has trained them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from experiments.store import Store

FILE_NAME = "failures.json"


def write_failures(store: Store, reasons: Mapping[str, str]) -> None:
    """Keep the reason of every failed run, by run id, in place of what an earlier sweep left."""
    if reasons:
        store.folder.put(FILE_NAME, json.dumps(reasons, indent=1, sort_keys=True).encode())
    else:
        store.folder.remove(FILE_NAME)


def read_failures(folder: Path, run_ids: Collection[str]) -> dict[str, list[str]]:
    """By reason, those of the runs that were given up; nothing where the file is missing or damaged."""
    try:
        reasons = json.loads((folder / FILE_NAME).read_bytes())
        return by_reason({run_id: str(reasons[run_id]) for run_id in sorted(reasons.keys() & run_ids)})
    except (OSError, ValueError, AttributeError):
        return {}


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """The reasons by run id, turned round."""
    groups: dict[str, list[str]] = {}
    for run_id, reason in reasons.items():
        groups.setdefault(reason, []).append(run_id)
    return groups


def describe_failures(groups: Mapping[str, Collection[str]], n_asked: int) -> str:
    """`3 of 40 runs failed: REASON (2 runs); REASON (1 run)`, or nothing where none did."""
    if not groups:
        return ""
    n_failed = sum(len(runs) for runs in groups.values())
    told = "; ".join(f"{reason} ({len(runs)} run{'s' * (len(runs) > 1)})" for reason, runs in groups.items())
    return f"{n_failed} of {n_asked} runs failed: {told}. The same command tries them again."
