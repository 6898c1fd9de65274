"""A sweep in an object store and its copy in a folder, which is where tables and pages are made and looked at."""

import re

from experiments.store.folder import Folder
from experiments.store.shards import Store

FOLDERS = ("", "tables", "figures")  # What analysis writes, besides files at the top.
ANALYSIS = re.compile(r"\w[\w.-]*\.(json|html|csv|md|png|svg)", re.ASCII)


def fetch(source: Store, target: Store) -> tuple[str, ...]:
    """Copy the finished cohorts that are not in `target` yet, verified, and the files of analysis.

    Returns a message for each cohort that was found damaged in `source`, where it is set aside.
    """
    messages = target.adopt(source)
    copy_analysis(source.folder, target.folder)
    return messages


def copy_analysis(source: Folder, target: Folder) -> None:
    """Copy what is made from the shards: the request, the failures, tables, figures and the page."""
    for kind in FOLDERS:
        for name in filter(ANALYSIS.fullmatch, source.names(kind)):
            path = f"{kind}/{name}" if kind else name
            target.put(path, source.read(path))
