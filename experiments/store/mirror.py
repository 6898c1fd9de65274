"""A sweep in an object store and its copy in a folder, which is where tables and pages are made and looked at."""

import re

from experiments.store.atomic import Damaged
from experiments.store.folder import Folder
from experiments.store.shards import Store
from experiments.store.small_files import LOOKS_FILE, SMALL_FILES, unseal

# By folder, what an analysis writes, by names that fit any file system. Whatever else lies there stays there.
ANALYSIS = {
    "": re.compile("|".join(map(re.escape, ("report.html", LOOKS_FILE, *SMALL_FILES)))),
    "tables": re.compile(r"\w[\w.-]{0,150}\.(csv|md)", re.ASCII),
    "figures": re.compile(r"\w[\w.-]{0,150}\.png", re.ASCII),
}


def fetch(source: Store, target: Store) -> tuple[str, ...]:
    """Copy the finished cohorts that are not in `target` yet, verified, and the files of analysis.

    Returns a message for each cohort that was damaged in `source`, where it is set aside, and for each damaged small
    file, which is left out.
    """
    return (*target.adopt(source), *copy_analysis(source.folder, target.folder))


def _goes_on(looks: bytes, target: Folder) -> bool:
    """Whether these looks at the test part are those that the target has, and perhaps more.

    Raises:
        Damaged: either has looks that the other does not know.
    """
    own = target.read(LOOKS_FILE) if target.exists(LOOKS_FILE) else b""
    if looks.startswith(own):
        return True
    if own.startswith(looks):
        return False
    raise Damaged(f"{target.describe(LOOKS_FILE)} has other looks at the test part")


def copy_analysis(source: Folder, target: Folder) -> tuple[str, ...]:
    """Copy what is made from the shards: the small files, verified, tables, figures and the page.

    Returns a message for each small file that is damaged, and so left out.
    """
    messages = []
    for path in analysis_files(source):
        data = source.read(path)
        try:
            if path in SMALL_FILES:
                unseal(data, source.describe(path), unsealed=True)
            if path != LOOKS_FILE or _goes_on(data, target):
                target.put(path, data)
        except Damaged as damage:
            messages.append(f"{damage}; it is not copied")
    return tuple(messages)


def analysis_files(folder: Folder) -> list[str]:
    """The files of analysis in a folder, such as `tables/summary.csv`."""
    return [
        f"{kind}/{name}" if kind else name
        for kind, pattern in ANALYSIS.items()
        for name in filter(pattern.fullmatch, folder.names(kind))
    ]
