"""Where a store is: a folder's path, or the address of a place in an object store."""

import re
from pathlib import Path

from experiments.store.folder import Folder, LocalFolder
from experiments.store.object_folder import check_address, open_address

Location = Path | str


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
