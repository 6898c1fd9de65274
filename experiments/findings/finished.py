"""A sweep's folder, opened to read what it has: the runs that were asked for, their data and their weights."""

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.findings.analysis import Row, Study, make_study
from experiments.findings.tables import printable
from experiments.material import Material, TextMaterial, load_data, load_material
from experiments.record import DIVERGED
from experiments.request import Request, read_request
from experiments.spec import near_match
from experiments.store import Contents, Store


@dataclass(frozen=True)
class Finished:
    """The rows of a sweep's folder, among those asked for."""

    store: Store
    request: Request
    rows: list[Row]

    @property
    def studies(self) -> tuple[Study, ...]:
        """The studies of the request, of the runs that are done; those without one are left out."""
        by_id = {row["run_id"]: row for row in self.rows}
        listed = {name: [by_id[i] for i in ids if i in by_id] for name, ids in self.request.studies.items()}
        return tuple(make_study(name, rows) for name, rows in listed.items() if rows)

    @property
    def best(self) -> Row:
        """The run of the lowest dev loss.

        Raises:
            ValueError: no run has finished with its weights kept.
        """
        return ranked(self.rows, f"{self.store.root} has no finished run with weights: run its sweep first")[0]

    def run(self, name: str) -> Row:
        """The run with this id, of which the first characters suffice where they fit only one.

        Raises:
            ValueError: no run, or several, are named so.
        """
        found = [row for row in self.rows if row["run_id"].startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{len(found)} runs in {self.store.root} start with {name!r}: give more of the id")
        ids = [row["run_id"] for row in self.rows]
        raise ValueError(f"{self.store.root} has no run {name!r}; {near_match(name, ids[:10])}")


def open_finished(folder: Path) -> Finished:
    """The runs of a sweep's folder that were asked for and are done.

    Raises:
        ValueError: not a sweep's folder.
    """
    request, store = read_request(folder), Store(folder)
    contents = store.rows(set_aside=False)
    for message in contents.damaged:
        print(printable(message), file=sys.stderr)
    return select_finished(store, request, contents)


def select_finished(store: Store, request: Request, contents: Contents) -> Finished:
    """Of a store's rows, those of the runs that were asked for."""
    by_id = {row["run_id"]: row for row in contents.table.to_pylist()}
    return Finished(store, request, [by_id[run_id] for run_id in sorted(request.run_ids & by_id.keys())])


def ranked(rows: list[Row], otherwise: str) -> list[Row]:
    """The rows that did not diverge and have weights, best on dev first.

    Raises:
        ValueError: there are none; the message is `otherwise`.
    """
    usable = [row for row in rows if row["status"] != DIVERGED and row["weights_sha256"] is not None]
    if not usable:
        raise ValueError(otherwise)
    return sorted(usable, key=lambda row: (row["dev_loss"], row["run_id"]))


def data_of(request: Request) -> Material | TextMaterial:
    """The word list or the running text that a sweep was run on.

    Raises:
        ValueError: it cannot be had, or is no longer the same.
    """
    material = load_data(request.data)
    if material.sha256 != request.data_hash:
        raise ValueError(
            f"{request.data} has changed since the sweep (sha256 {material.sha256[:12]}, "
            f"then {request.data_hash[:12]}): bring the old one back or run the sweep again"
        )
    return material


def material_of(request: Request) -> Material:
    """The word list that a sweep was run on.

    Raises:
        ValueError: it cannot be had, is no longer the same, or is running text.
    """
    load_material(request.data)  # Running text is refused first, however it may have changed.
    material = data_of(request)
    assert isinstance(material, Material)
    return material
