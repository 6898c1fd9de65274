"""A store's files as objects of Amazon S3 or what speaks its protocol, of Google Cloud Storage or of Azure.

An object is put whole or not at all, which replaces the rename; it is read back before it counts. There is no lock: two
sweeps at one address may train the same cohort. That is why the name of a shard holds its hash, so that no writer
replaces another's, and why a manifest is put only where none lies: the first commit stays.

Credentials come from the environment or the machine's own role, as obstore takes them: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY.
AWS_ENDPOINT_URL, or the query `?endpoint_override=HOST:PORT&scheme=http`, names a server that is not Amazon's.
"""

import errno
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

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from experiments.store.atomic import Explained, Fingerprint, fingerprint
from experiments.store.folder import Folder, LocalFolder, fresh_name

Location = Path | str  # A folder, or the address of a place in an object store.

OPTIONS = {  # By scheme, what may follow the `?` of an address.
    "s3": {"region", "endpoint_override", "scheme"},
    "gs": {"endpoint_override", "scheme", "anonymous"},
    "az": {"account"},
}
SAFE_KEY = re.compile(r"[\w!.*'()/-]*", re.ASCII)  # Which need no escape in any tool.

# Out of reach is known after a minute or so. A request lasts as long as bytes come; what is sent counts as silence, so
# large objects go in parts of 5 MB, two at a time, which asks for half a megabyte a second.
CLIENT = {
    "allow_http": True,  # For servers that are named so: the clouds' own are https.
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=20),
    "timeout": timedelta(hours=1),
}
RETRIES = 2
PARTS_AT_A_TIME = 2

# What the clouds answer, and what to do. Such errors are forbidden ones to callers: another try would not help.
REMEDIES = {
    r"NoSuchBucket|ContainerNotFound|[Tt]he specified (bucket|container) does not exist": (
        "there is no such bucket; create it or name another one"
    ),
    r"[Rr]edirect|AuthorizationHeaderMalformed|incorrectly configured region": (
        "the bucket is in another region; set AWS_REGION or add ?region=REGION"
    ),
    "Account must be specified": "the storage account is missing; set AZURE_STORAGE_ACCOUNT_NAME or add ?account=NAME",
    "Encountered object with invalid path": "a name there is no path; remove it or choose another place",
    r"40[13] (Forbidden|Unauthorized)|AccessDenied|SignatureDoesNotMatch|[Cc]redential|OAuth2|token request|"
    r"169\.254\.|metadata\.google": (
        "access is denied; set credentials as the cloud's own tools take them, or choose another place"
    ),
}
LONGEST_REASON = 200


def parse_location(text: str) -> Location:
    """A path, or a checked address `s3://...`, `gs://...` or `az://...`, which stays text.

    Raises:
        ValueError: an address of another kind, one that can't be, or nothing.
    """
    if not text:
        raise ValueError("an empty path; give a folder")
    if not re.match(r"[A-Za-z0-9+.-]+:/", text):
        return Path(text)
    check_address(text)
    return text


def open_folder(location: Location) -> Folder:
    """The place itself, which need not exist yet; raises ValueError or OSError where there can be none."""
    if isinstance(location, Path):
        return LocalFolder(location)
    check_address(location)
    parts = urlsplit(location)
    options = dict(parse_qsl(parts.query))
    settings: dict[str, Any] = {
        "prefix": parts.path.strip("/"),
        "client_options": CLIENT,
        "retry_config": {"max_retries": RETRIES},
    }
    endpoint = options.get("endpoint_override")
    endpoint = endpoint and f"{options.get('scheme', 'https')}://{endpoint}"
    shown = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    with _explained(shown):
        if parts.scheme == "s3":
            settings |= {"aws_endpoint_url_s3": endpoint} if endpoint else {}
            settings |= {"region": options["region"]} if "region" in options else {}
            # One object at a time is what every server that speaks S3 can delete.
            return ObjectFolder(S3Store(parts.netloc, disable_bulk_delete=True, **settings), shown)
        if parts.scheme == "gs":
            settings |= {"base_url": endpoint} if endpoint else {}
            settings |= {"skip_signature": True} if options.get("anonymous") == "true" else {}
            return ObjectFolder(GCSStore(parts.netloc, **settings), shown)
        settings |= {"account_name": options["account"]} if "account" in options else {}
        return ObjectFolder(AzureStore(parts.netloc, **settings), shown)


def check_address(address: str) -> None:
    """Refuse what can be no place for a store, without going there.

    Raises:
        ValueError: another scheme, no bucket, credentials, unusual characters, or an unknown option.
    """
    parts = urlsplit(address)
    shown = f"{address[:200]!r}"
    if parts.scheme not in OPTIONS:
        raise ValueError(
            f"{shown} is neither a folder nor s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX; "
            "give one of them"
        )
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in an address; set them as the cloud's own tools take them")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}", parts.netloc):
        raise ValueError(f"{shown} names no bucket; give {parts.scheme}://BUCKET/PREFIX")
    segments = parts.path.strip("/").split("/")
    if parts.fragment or not SAFE_KEY.fullmatch(parts.path) or {".", ".."} & {*segments} or "" in segments[1:]:
        raise ValueError(f"{shown}: give a prefix of plain letters, digits and ! - _ . * ' ( ) between single slashes")
    if unknown := {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - OPTIONS[parts.scheme]:
        known = ", ".join(sorted(OPTIONS[parts.scheme]))
        raise ValueError(f"{shown}: unknown option {min(unknown)!r}; known: {known}")


@dataclass(frozen=True)
class ObjectFolder:
    """The objects of a bucket below a prefix; messages call the place `shown`."""

    store: ObjectStore
    shown: str
    concurrency = 16
    hashed_names = True

    def describe(self, name: str) -> str:
        """Its address."""
        return f"{self.shown}/{name}"

    def read(self, name: str, first: int | None = None) -> bytes:
        """The content of an object, or its first bytes."""
        with _explained(self.shown):
            answer = self.store.get(name)
            return bytes(answer.bytes()) if first is None else next(iter(answer.stream(first)), b"")[:first]

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        """A temporary copy."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.read(name))
            file.flush()
            yield Path(file.name)

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        with suppress(FileNotFoundError), _explained(self.shown):
            self.store.head(name)
            return True
        return False

    def fingerprint(self, name: str) -> Fingerprint:
        """Length and hash of an object's content."""
        return fingerprint(self.read(name))

    def names(self, kind: str) -> list[str]:
        """The objects directly below a name."""
        with _explained(self.shown):
            objects = self.store.list_with_delimiter(kind or None)["objects"]
        return sorted(entry["path"].rpartition("/")[2] for entry in objects)

    def put(self, name: str, data: bytes) -> None:
        """Put an object, and read it back."""
        with _explained(self.shown):
            self.store.put(name, data, max_concurrency=PARTS_AT_A_TIME)
        self._compare(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object where none lies, and read it back; whether this is now what lies there."""
        try:
            with _explained(self.shown):
                self.store.put(name, data, mode="create")
        except FileExistsError:
            return self.read(name) == data  # It may be our own, whose answer was lost on the way.
        self._compare(name, data)
        return True

    def remove(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        with suppress(FileNotFoundError), _explained(self.shown):
            self.store.delete(name)

    def set_aside(self, names: Sequence[str], label: str) -> str:
        """Copy objects to fresh names, and delete each once it is copied."""
        folder = fresh_name(label, lambda name: bool(self.names(name)))
        for name in names:
            with suppress(FileNotFoundError), _explained(self.shown):
                self.store.copy(name, f"{folder}/{Path(name).name}")
                self.store.delete(name)
        return self.describe(folder)

    @contextmanager
    def lock(self, kinds: Sequence[str], shared: bool) -> Iterator[None]:
        """There is no lock. But a sweep starts here, and a bucket that cannot be used is refused now."""
        probe = f".probe.{secrets.token_hex(4)}"
        self.put(probe, b"")
        self.remove(probe)
        yield

    def _compare(self, name: str, data: bytes) -> None:
        with suppress(FileNotFoundError):
            if self.fingerprint(name) == fingerprint(data):
                return
        raise Explained(errno.EIO, f"{self.describe(name)}: what was read back differs from what was put; run it again")


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """Turn an error of obstore into one line; an object that is missing, or lies there already, stays what it is."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, f"{shown}: another object lies there") from error
    except (BaseError, OSError) as error:
        summary = " ".join(str(error).split("Debug source")[0].split())
        text = "".join(character if character.isprintable() else "?" for character in summary)
        for pattern, remedy in REMEDIES.items():
            if re.search(pattern, text):
                raise Explained(errno.EACCES, f"{shown}: {remedy}") from error
        if isinstance(error, FileNotFoundError):
            raise
        reason = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
        raise Explained(
            errno.ECONNABORTED,
            f"{shown}: out of reach ({reason}); check address and network, and run the same command again, finished "
            "runs are kept",
        ) from error
