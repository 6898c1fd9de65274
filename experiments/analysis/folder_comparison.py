"""The same configurations in several sweeps' folders, side by side and paired by seed, and folders merged into one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.analysis.results import SweepResults, say
from experiments.analysis.studies import Cell, Estimate, Study, make_study, paired_difference
from experiments.runner.rows import Row
from experiments.store import Store
from experiments.sweeps.request import FILE_NAME, Design, Request, encode_request

VERIFIED = ("dev_loss", "train_loss", "dev_unseen_loss", "status")


@dataclass(frozen=True)
class Side:
    """A configuration in one folder.

    Attributes:
        dev: its dev loss there.
        difference: minus that of the first folder, over the seeds that both have.
        n_equal: how many of those runs are the same run with the same dev loss.
    """

    dev: Estimate
    difference: Estimate
    n_equal: int


@dataclass(frozen=True)
class Comparison:
    """The configurations that several folders have in common: a study of those of the first one, and a line each."""

    folders: tuple[Path, ...]
    study: Study
    lines: tuple[tuple[Cell, tuple[Side | None, ...]], ...]

    @property
    def n_apart(self) -> int:
        """How many differences have an interval without 0."""
        return sum(side.difference.low > 0 or side.difference.high < 0 for side in self.differences)

    @property
    def differences(self) -> list[Side]:
        """The sides with a difference whose interval says something: two seeds or more."""
        return [side for _, sides in self.lines for side in sides[1:] if side and side.difference.n > 1]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a configuration and folder, for a table."""
        for cell, sides in self.lines:
            for folder, side in zip(self.folders, sides, strict=True):
                if side:
                    columns: dict[str, Any] = {axis: cell.settings[axis] for axis in self.study.axes}
                    columns |= {"folder": str(folder), "n_seeds": side.dev.n, **side.dev.columns("dev_loss")}
                    yield columns | side.difference.columns("difference") | {"n_equal": side.n_equal}


def compare(several: Sequence[SweepResults]) -> Comparison:
    """Compare the configurations of the first folder that another one has too, best first.

    Configurations are equal where all hyper-parameters are; data and code may differ, and then so may runs of one seed.

    Raises:
        ValueError: no folder shares a configuration with the first one.
    """
    studies = (make_study("", results.rows) for results in several)
    by_folder = [{tuple(cell.settings.values()): cell for cell in study.cells} for study in studies]
    common = [key for key in by_folder[0] if any(key in cells for cells in by_folder[1:])]
    if not common:
        names = " and ".join(str(results.folder) for results in several)
        raise ValueError(f"{names} have no configuration in common; see their tables/summary.md")
    rows = [row for key in common for row in by_folder[0][key].rows]
    study = make_study("common", rows)
    lines = []
    for cell in study.cells:
        key = tuple(cell.settings.values())
        lines.append((cell, tuple(_side(cells.get(key), cell) for cells in by_folder)))
    return Comparison(tuple(results.folder for results in several), study, tuple(lines))


def _side(cell: Cell | None, reference: Cell) -> Side | None:
    if cell is None:
        return None
    losses = {row["run_id"]: row["dev_loss"] for row in reference.finished}
    n_equal = sum(losses.get(row["run_id"]) == row["dev_loss"] for row in cell.finished)
    return Side(cell.estimate("dev_loss"), paired_difference(cell, reference), n_equal)


def merge(several: Sequence[SweepResults], out: Path, command: str) -> Store:
    """One folder with the runs of all; a run that two folders have must have the same numbers in both.

    What is damaged in one of them is said, and left out.

    Raises:
        ValueError: other data, other ideas, or a run with two results.
    """
    first = several[0]
    with_ideas = next((results for results in several if results.request.ideas_hash), first)
    known: dict[str, tuple[Row, Path]] = {}
    for results in several:
        for what, name, holder in (("data", "data_hash", first), ("an ideas file", "ideas_hash", with_ideas)):
            mine, theirs = getattr(holder.request, name), getattr(results.request, name)
            if mine != theirs and (name == "data_hash" or theirs):
                raise ValueError(
                    f"{holder.folder} and {results.folder} are on different {what} (sha256 {mine[:12]} and "
                    f"{theirs[:12]}): merge folders of one"
                )
        for row in results.rows:
            other, where = known.setdefault(row["run_id"], (row, results.folder))
            for column in VERIFIED:
                if row[column] != other[column]:
                    raise ValueError(
                        f"run {row['run_id']} has {column} {other[column]} in {where} and {row[column]} in "
                        f"{results.folder}: made by other code or on another device, so keep them apart"
                    )
    store = Store(out)
    with store.lock():
        for results in several:
            for message in store.adopt(results.store, set_aside=False):
                say(message)
        store.folder.put(FILE_NAME, encode_request(_merged_request(several, command)))
    return store


def _merged_request(several: Sequence[SweepResults], command: str) -> Request:
    requests = [results.request for results in several]
    studies: dict[str, list[str]] = {}
    for request in requests:
        for name, run_ids in request.studies.items():
            studies[name] = list(dict.fromkeys([*studies.get(name, []), *run_ids]))
    with_ideas = next((request for request in requests if request.ideas), requests[0])
    return replace(
        requests[0],
        title=" + ".join(dict.fromkeys(request.title for request in requests)),
        command=command,
        studies=studies,
        ideas=with_ideas.ideas,
        ideas_hash=with_ideas.ideas_hash,
        ranges={name: ranges for request in requests for name, ranges in request.ranges.items()},
        design=Design(),
    )
