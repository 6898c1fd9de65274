"""What a sweep keeps in small files beside its shards, read for an analysis; what is damaged is said and left out."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from experiments.store.atomic import Damaged
from experiments.store.small_files import FAILURES, by_reason, read_as
from experiments.sweeps.text import printable

T = TypeVar("T")


def say(message: str) -> None:
    """What the reader of a folder should know, on stderr, whether that is a terminal or a notebook."""
    print(printable(message), file=sys.stderr)


def read_kept(kind: type[T], folder: Path, name: str, unsealed: bool = False) -> T | None:
    """What a small file says, as a type; None where it is missing, or damaged, which is said in one line."""
    try:
        return read_as(kind, folder, name, unsealed)
    except (OSError, Damaged) as error:
        say(str(error))
        return None


def read_failures(folder: Path, run_ids: Collection[str]) -> dict[str, list[str]]:
    """By reason, those of the runs that were given up."""
    reasons = read_kept(dict[str, str], folder, FAILURES, unsealed=True) or {}
    return by_reason({run_id: reasons[run_id] for run_id in sorted(reasons.keys() & run_ids)})
