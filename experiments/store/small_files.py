"""The small JSON files beside the shards: the request, the failures, samples, baselines and the like.

Each carries a seal, the sha256 of what it says, so that a flipped bit or an edited digit is noticed. The last key of
an object is `sha256`; a list is wrapped, as `{"content": [...], "sha256": ...}`.
"""

import errno
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from experiments.store.atomic import Damaged, Explained, replace_file
from experiments.store.shards import Store

Content = dict[str, Any] | list[Any]
T = TypeVar("T")

FAILURES = "failures.json"
LOOKS_FILE = "test_looks.jsonl"  # Each line has a seal of its own (experiments.analysis.looks).
SMALL_FILES = (  # All that a sweep keeps beside its shards, and so all that is copied with it.
    "baselines.json", "ensembles.json", FAILURES, "measured.json", "request.json", "samples.json", "sections.json",
    "test.json",
)  # fmt: skip


def write_small(folder_path: Path, name: str, content: Content) -> None:
    """Replace a small file: all of it or nothing.

    Raises:
        OSError: it cannot be written.
        ValueError: the content is not the same after a detour through JSON.
    """
    replace_file(folder_path / name, seal(content))


def read_small(folder_path: Path, name: str, unsealed: bool = False) -> Content | None:
    """What a small file says, or None where there is none; `unsealed` also accepts one of an older version, unsealed.

    Raises:
        Damaged: it is not what was written.
        OSError: it cannot be read.
    """
    path = folder_path / name
    try:
        return unseal(path.read_bytes(), str(path), unsealed)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EIO:
            raise Damaged(f"{path} cannot be read ({error.strerror}): run the command that wrote it again") from error
        raise Explained(error.errno, f"{path}: cannot be read ({error.strerror})") from error


def read_as(kind: type[T], folder_path: Path, name: str, unsealed: bool = False) -> T | None:
    """What a small file says, as a type: a dataclass, or lists and dictionaries of them; None where there is no file.

    Raises:
        Damaged: it is not what was written, or of another form.
        OSError: it cannot be read.
    """
    content = read_small(folder_path, name, unsealed)
    return None if content is None else as_type(kind, content, str(folder_path / name))


def as_type(kind: type[T], content: Content, name: str) -> T:
    """Content of a small file as a type; raises Damaged, which calls the file `name` and says what is where."""
    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        reason = error if isinstance(error, msgspec.ValidationError) else "it is too deep"
        raise Damaged(f"{name} has another form ({reason}): run the command that wrote it again") from None


def seal(content: Content) -> bytes:
    """The bytes of a small file; raises ValueError where JSON would change the content."""
    try:
        text = _text(content)
        if _text(json.loads(text)) != text:
            raise ValueError("two of its keys are one in JSON")
        body = content if isinstance(content, dict) else {"content": content}
        if "sha256" in body:
            raise ValueError("the key sha256 is the seal's own")
        return _text({**body, "sha256": _digest(content)}).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"this cannot be kept as JSON: {error}") from error


def unseal(data: bytes, name: str, unsealed: bool = False) -> Content:
    """What the bytes of a small file say; raises Damaged, which calls the file `name`. See `read_small`."""
    try:
        body = json.loads(data)
        if isinstance(body, dict) and body:
            *keys, last = body
            content = {key: body[key] for key in keys}
            candidates: list[Content] = [content]
            if keys == ["content"] and isinstance(content["content"], list):
                candidates.append(content["content"])
            for candidate in candidates:
                if body[last] == _digest(candidate):  # The seal, though a bit of its key or of a space may be flipped.
                    if seal(candidate) == data:
                        return candidate
                    raise ValueError("it does not match its checksum")
        if not unsealed or not isinstance(body, dict | list) or "sha256" in body:
            raise ValueError("it does not match its checksum")
        return body
    except (ValueError, RecursionError) as error:
        reason = error if type(error) is ValueError else "it is no JSON"
        raise Damaged(f"{name} is damaged ({reason}): run the command that wrote it again") from error


def write_failures(store: Store, reasons: Mapping[str, str]) -> None:
    """Keep the reason of every failed run, by run id, in place of what an earlier sweep left."""
    if reasons:
        store.folder.put(FAILURES, seal(dict(sorted(reasons.items()))))
    else:
        store.folder.remove(FAILURES)


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """The run ids of each reason, of the reason of each run id."""
    groups: dict[str, list[str]] = {}
    for run_id, reason in reasons.items():
        groups.setdefault(reason, []).append(run_id)
    return groups


def describe_failures(groups: Mapping[str, Collection[str]], n_asked: int) -> str:
    """`3 of 40 runs failed: REASON (2 runs); REASON (1 run)`, or nothing where none did."""
    if not groups:
        return ""
    n_failed = sum(len(runs) for runs in groups.values())
    reasons = "; ".join(f"{reason} ({len(runs)} run{'s' * (len(runs) > 1)})" for reason, runs in groups.items())
    return f"{n_failed} of {n_asked} runs failed: {reasons}. The same command tries them again."


def _text(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)


def _digest(content: Any) -> str:
    return hashlib.sha256(_text(content).encode(errors="surrogatepass")).hexdigest()
