"""A store's files as objects of Amazon S3, of what speaks its protocol, or of Google Cloud Storage, through pyarrow.

An object is put whole or not at all, which replaces the rename; it is read back before it counts. There are no locks:
two sweeps at one address may train the same cohort, and the one that commits it first is kept.

Credentials come from where the clouds' own tools look: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the
machine's role; for Google, GOOGLE_APPLICATION_CREDENTIALS or the machine's account. AWS_ENDPOINT_URL, or the query
`?endpoint_override=HOST:PORT&scheme=http`, names a server that is not Amazon's.
"""

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from experiments.store.atomic import Explained, Fingerprint, fingerprint
from experiments.store.folder import Folder, LocalFolder, fresh_name

Location = Path | str  # A folder, or the address of a place in an object store.

SCHEMES = ("s3", "gs")
QUERY = {"s3": {"region", "endpoint_override", "scheme"}, "gs": {"endpoint_override", "scheme", "anonymous"}}
SAFE_KEY = re.compile(r"[\w!.*'()/-]*", re.ASCII)  # Which need no escape in any tool.

CONNECT_SECONDS, REQUEST_SECONDS, ATTEMPTS = 5.0, 20.0, 3  # Out of reach is known after a minute or so.
GOOGLE_SECONDS = 20

# What the libraries say, and what it means. Such errors are forbidden ones to callers: another try would not help.
NO_BUCKET = re.compile("NO_SUCH_BUCKET|[Bb]ucket .*(not found|not exist)")
DENIED = re.compile(
    "ACCESS_DENIED|FORBIDDEN|Forbidden|PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ACCESS_KEY|SIGNATURE|TOKEN|OAuth2|"
    "[Cc]redential|HTTP status 40[13]"
)
REMEDIES = {
    NO_BUCKET: "there is no such bucket; create it or name another one",
    DENIED: "access is denied; set credentials as the cloud's own tools take them, or choose another place",
}
LONGEST_REASON = 200


def parse_location(text: str) -> Location:
    """A path, or a checked address `s3://...` or `gs://...`, which stays text.

    Raises:
        ValueError: an address of another kind, or one that can't be.
    """
    if not re.match(r"[A-Za-z0-9+.-]+:/", text):
        return Path(text)
    check_address(text)
    return text


def open_folder(location: Location) -> Folder:
    """The place itself; raises ValueError or OSError where there can be none."""
    return LocalFolder(location) if isinstance(location, Path) else open_address(location)


def check_address(address: str) -> None:
    """Refuse what can be no place for a store, without going there.

    Raises:
        ValueError: another scheme, no bucket, credentials, unusual characters, or an unknown option.
    """
    parts = urlsplit(address)
    shown = f"{address[:200]!r}"
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{shown} is neither a folder nor s3://BUCKET/PREFIX nor gs://BUCKET/PREFIX; give one of them")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in an address; set them as the cloud's own tools take them")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}", parts.netloc):
        raise ValueError(f"{shown} names no bucket; give {parts.scheme}://BUCKET/PREFIX")
    segments = parts.path.strip("/").split("/")
    if parts.fragment or not SAFE_KEY.fullmatch(parts.path) or {".", ".."} & {*segments} or "" in segments[1:]:
        raise ValueError(f"{shown}: give a prefix of plain letters, digits and ! - _ . * ' ( ) between single slashes")
    if unknown := {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - QUERY[parts.scheme]:
        raise ValueError(f"{shown}: unknown option {min(unknown)!r}; known: {', '.join(sorted(QUERY[parts.scheme]))}")


def open_address(address: str) -> "ObjectFolder":
    """The folder at `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`, which need not exist yet.

    Raises:
        OSError: its region cannot be found out.
        ValueError: no such address.
    """
    check_address(address)
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query))
    shown = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    with _explained(shown):
        system = _s3(parts.netloc, options) if parts.scheme == "s3" else _google(options)
    return ObjectFolder(system, f"{parts.netloc}{parts.path}".rstrip("/"), shown)


@dataclass(frozen=True)
class ObjectFolder:
    """The objects whose names start with `base`, a bucket and a prefix; messages call it `shown`."""

    system: fs.FileSystem
    base: str
    shown: str
    concurrency = 16

    def describe(self, name: str) -> str:
        """Its address."""
        return f"{self.shown}/{name}"

    def read(self, name: str, first: int | None = None) -> bytes:
        """The content of an object, or its first bytes."""
        with _explained(self.shown), self.system.open_input_file(self._path(name)) as file:
            data: bytes = file.read(first)
            return data

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        """A temporary copy."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.read(name))
            file.flush()
            yield Path(file.name)

    def exists(self, name: str) -> bool:
        """Whether there is such an object, or a longer name below it."""
        with _explained(self.shown):
            return self.system.get_file_info(self._path(name)).type != fs.FileType.NotFound

    def fingerprint(self, name: str) -> Fingerprint:
        """Length and hash of an object's content."""
        return fingerprint(self.read(name))

    def names(self, kind: str) -> list[str]:
        """The objects directly below a name."""
        with _explained(self.shown):
            found = self.system.get_file_info(fs.FileSelector(self._path(kind), allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def put(self, name: str, data: bytes) -> None:
        """Put an object, and read it back."""
        with _explained(self.shown), self.system.open_output_stream(self._path(name)) as stream:
            stream.write(data)
        if self.fingerprint(name) != fingerprint(data):
            raise Explained(
                errno.EIO, f"{self.describe(name)}: what was read back differs from what was put; run it again"
            )

    def remove(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        with suppress(FileNotFoundError), _explained(self.shown):
            self.system.delete_file(self._path(name))

    def set_aside(self, names: Sequence[str], label: str) -> str:
        """Copy objects to fresh names, and delete each once it is copied."""
        folder = fresh_name(label, self.exists)
        for name in names:
            if self.exists(name):
                with _explained(self.shown):
                    self.system.copy_file(self._path(name), self._path(f"{folder}/{Path(name).name}"))
                self.remove(name)
        return self.describe(folder)

    @contextmanager
    def lock(self, kinds: Sequence[str], shared: bool) -> Iterator[None]:
        """There is no lock. But this is where a sweep starts: a bucket that cannot be used is told now."""
        probe = f".probe.{secrets.token_hex(4)}"
        self.put(probe, b"")
        self.remove(probe)
        yield

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}".rstrip("/")


def _s3(bucket: str, options: dict[str, str]) -> fs.FileSystem:
    """Amazon's store, or at an endpoint of its own one that needs no region."""
    endpoint = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.rpartition("://")
    settings: dict[str, Any] = {"region": options.get("region")}
    if host:
        settings |= {"endpoint_override": host.rstrip("/"), "scheme": options.get("scheme") or scheme or "https"}
    elif not settings["region"]:
        settings["region"] = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        **settings,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # A small object is a single put.
    )


def _google(options: dict[str, str]) -> fs.FileSystem:
    settings: dict[str, Any] = {name: options[name] for name in ("endpoint_override", "scheme") if name in options}
    anonymous = options.get("anonymous") == "true"
    return fs.GcsFileSystem(anonymous=anonymous, **settings, retry_time_limit=timedelta(seconds=GOOGLE_SECONDS))


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """Turn a library's error into one line; only a missing object stays what it is."""
    try:
        yield
    except (FileNotFoundError, Explained):
        raise
    except (OSError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        for pattern, remedy in REMEDIES.items():
            if re.search(pattern, text):
                raise Explained(errno.EACCES, f"{shown}: {remedy}") from error
        reason = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
        raise Explained(
            errno.ECONNABORTED,
            f"{shown}: out of reach ({reason}); check address and network, and run the same command again, finished "
            "runs are kept",
        ) from error
