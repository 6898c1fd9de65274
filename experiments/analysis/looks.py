"""Looks at the test part of a folder's data: each is counted, in a file to which lines are only ever added.

A choice made on dev is measured on test once. Whoever looks again has chosen with the test part in view, and a reader
should see how often that was. A line of LOOKS_FILE is one look as JSON, with a seal of its own.
"""

import hashlib
import json
import shlex
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.analysis.results import SweepResults
from experiments.store.atomic import Damaged, replace_file
from experiments.store.folder import folder_lock
from experiments.store.small_files import LOOKS_FILE, as_type, read_small

LOCK_FILE = ".looks.lock"  # Held while a look is added: two at once would leave one.
FIRST_FILE = "test.json"  # Of version 0.1.0: one look, or a list of them.


@dataclass(frozen=True)
class HeldOut:
    """One look at the test part: exact mean losses of some runs, each or together, in nats per token.

    Attributes:
        look: counts the looks in this folder from 1 on.
        what: what was measured, in words.
        data_hash: the dataset's.
        run_ids: the networks that it was measured of.
        losses: one a run or, if `together`, of what is made of them all.
        together: whether that is so.
        when: the time in UTC, to the second; empty for a look of version 0.1.0.
        command: what asked for it; empty for a look of version 0.1.0.
    """

    look: int
    what: str
    data_hash: str
    run_ids: list[str]
    losses: list[float]
    together: bool = False
    when: str = ""
    command: str = ""


def add_look(
    results: SweepResults, what: str, run_ids: list[str], losses: list[float], command: str, together: bool = False
) -> HeldOut:
    """Add a look to the folder's file, and return it; the same numbers of the same runs again are no second look.

    Raises:
        ValueError: the file is damaged, or another process is adding a look.
    """
    with folder_lock(results.folder / LOCK_FILE):
        looks = read_looks(results.folder)
        for known in looks:
            if (known.what, known.run_ids, known.losses) == (what, run_ids, losses):
                return known
        when = datetime.now(UTC).isoformat(timespec="seconds")
        look = HeldOut(len(looks) + 1, what, results.request.data_hash, run_ids, losses, together, when, command)
        path = results.folder / LOOKS_FILE
        before = path.read_bytes() if path.exists() else b""
        replace_file(path, before + _line(asdict(look)))
    return look


def read_looks(folder: Path) -> list[HeldOut]:
    """All looks at the test part in a folder, those of version 0.1.0 first.

    Raises:
        ValueError: a file of them is damaged, or lines are missing.
    """
    try:
        looks = _first_looks(folder)
        path = folder / LOOKS_FILE
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        looks += [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    except Damaged as error:
        raise ValueError(f"{error}, or bring the old one back: looks at the test part are counted there") from None
    if [look.look for look in looks] != list(range(1, len(looks) + 1)):
        raise ValueError(f"{path} lacks lines, or has one twice: bring the old one back")
    return looks


def describe_looks(looks: list[HeldOut]) -> str:
    """How often the test part was looked at, and at what."""
    if not looks:
        return "The test part was not looked at."
    each = "; ".join(f"look {look.look}, {look.what}" for look in looks)
    return f"The test part was looked at {len(looks)} time{'s' * (len(looks) > 1)} in this folder: {each}."


def this_command(program: str, arguments: list[str] | None) -> str:
    """The command line of a program that was called with these arguments, or with those of this process."""
    return shlex.join(["python", "-m", program, *(sys.argv[1:] if arguments is None else arguments)])


def _first_looks(folder: Path) -> list[HeldOut]:
    content = read_small(folder, FIRST_FILE, unsealed=True) or []
    if isinstance(content, dict):
        content = [{"look": 1, "what": "the winner", "data_hash": "", **content}]
    return as_type(list[HeldOut], content, str(folder / FIRST_FILE))


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(content | {"sha256": seal}, ensure_ascii=True).encode() + b"\n"


def _parse(line: bytes, name: str) -> HeldOut:
    try:
        content = json.loads(line)
        content.pop("sha256")
        if _line(content) != line:
            raise ValueError("it does not match its checksum")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        reason = error if type(error) is ValueError else "it is no look"
        raise Damaged(f"{name} is damaged ({reason}): run the command that wrote it again") from None
    return as_type(HeldOut, content, name)
