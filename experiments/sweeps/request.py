"""What a sweep's folder was last asked for, beside its shards: analysis needs nothing else."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from experiments.store.atomic import Damaged
from experiments.store.small_files import Content, as_type, read_small, seal, unseal
from experiments.sweeps.grids import SweepSpec
from experiments.sweeps.ranges import Range, make_range
from mlp_lm.config import AXES, RunConfig, check_name
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.ideas import load_ideas, loaded_ideas

FILE_NAME = "request.json"
FEWEST_SEEDS = 3  # Of a sweep that looks at its losses in between: the first look.


class Design(TypedDict, total=False):
    """How runs were chosen where they were not all at once, see `experiments.runner.stages`.

    The first three of a sweep that looked at its seeds, the others of one whose best went on with more steps.
    """

    until: float
    max_seeds: int
    first_seed: int
    then: int
    most_steps: int
    first: list[str]


@dataclass(frozen=True)
class Request:
    """A sweep as asked: its studies as lists of run ids, its data, and the command that asks for it again.

    `ideas` is the path of the ideas file of some of its runs, and `ideas_hash` the sha256 of that file; both may be
    empty. `ranges` are by study and axis those whose values were drawn, and `design` says how runs were chosen where
    they were not all at once (see `experiments.runner.stages`).
    """

    name: str
    title: str
    data: str
    data_hash: str
    command: str
    studies: Mapping[str, list[str]]
    ideas: str = ""
    ideas_hash: str = ""
    ranges: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)
    design: Design = field(default_factory=Design)

    @property
    def run_ids(self) -> set[str]:
        """All runs asked for."""
        return {run_id for runs in self.studies.values() for run_id in runs}

    def load_dataset(self) -> Dataset:
        """The dataset that the sweep was run on.

        Raises:
            ValueError: it cannot be had, or is no longer the same.
        """
        dataset = load_dataset(self.data)
        if dataset.sha256 != self.data_hash:
            raise ValueError(
                f"{self.data} has changed since the sweep (sha256 {dataset.sha256[:12]}, "
                f"then {self.data_hash[:12]}): bring the old one back or run the sweep again"
            )
        return dataset

    def load_ideas(self) -> None:
        """Have the entries of the sweep's ideas file in the tables, where its runs use one.

        A file of the same content that is loaded already (`--ideas`) serves, wherever it is.

        Raises:
            ValueError: the file cannot be had, or is no longer the same.
        """
        loaded = loaded_ideas()
        if not self.ideas or (loaded and loaded.sha256 == self.ideas_hash):
            return
        try:
            loaded = load_ideas(self.ideas)
        except ValueError as error:
            other = f" ({loaded.path} has another content)" if loaded else ""
            raise ValueError(f"{error}; if it was moved, name it with --ideas{other}") from None
        if loaded.sha256 != self.ideas_hash:
            raise ValueError(f"{self.ideas} has changed since the sweep: bring the old one back or run the sweep again")


def make_request(
    sweep: SweepSpec,
    studies: Mapping[str, Mapping[str, RunConfig]],
    dataset: Dataset,
    program: str = "experiments.sweep",
    code: str | None = None,
    design: Design | None = None,
) -> Request:
    """The request of a sweep, which this process's command line asks for, or Python code given as `code`."""
    command = code or shlex.join(["python", "-m", program, *sys.argv[1:]])
    listed = {study: list(runs) for study, runs in studies.items()}
    ideas = loaded_ideas() if any(run.ideas_hash for runs in studies.values() for run in runs.values()) else None
    return Request(
        _encodable(sweep.name),
        sweep.title,
        sweep.data,
        dataset.sha256,
        _encodable(command),
        listed,
        _encodable(str(ideas.path)) if ideas else "",
        ideas.sha256 if ideas else "",
        sweep.ranges,
        design or Design(),
    )


def _encodable(text: str) -> str:
    """Text in which bytes of a file name that are no UTF-8 are spelled out: no file could hold them otherwise."""
    return text.encode("utf-8", "backslashreplace").decode()


def encode_request(request: Request) -> bytes:
    """The content of the file FILE_NAME."""
    return seal(asdict(request))


def read_request(folder: Path) -> Request:
    """The request of a sweep's folder.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    path, content = folder / FILE_NAME, read_small(folder, FILE_NAME, unsealed=True)
    if content is None:
        raise ValueError(f"{path} is missing: {folder} is no sweep's folder, or run its sweep again")
    return _as_request(content, str(path))


def decode_request(data: bytes, name: str) -> Request:
    """The request that the content of the file FILE_NAME describes, which is called `name`; raises Damaged."""
    return _as_request(unseal(data, name, unsealed=True), name)


def _as_request(content: Content, name: str) -> Request:
    request = as_type(Request, content, name)
    try:
        _check_design(request.design)
        return replace(request, ranges={study: _checked(axes) for study, axes in request.ranges.items()})
    except ValueError as error:
        raise Damaged(f"{name} has another form ({error}): run its sweep again") from None


def _checked(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges as the fields' own numbers, whole or not; raises ValueError for those that no field can have."""
    for name in ranges:
        check_name("axis", name, AXES)
    return {name: make_range(name, **asdict(range_)) for name, range_ in ranges.items()}


def _check_design(design: Design) -> None:
    """Raise ValueError for a design that no sweep has."""
    for group in (("until", "max_seeds", "first_seed"), ("then", "most_steps", "first")):
        missing = [name for name in group if name not in design]
        if missing and len(missing) < len(group):
            raise ValueError(f"its design lacks {missing[0]}")
    if design.get("max_seeds", FEWEST_SEEDS) < FEWEST_SEEDS or design.get("then", 2) < 2:
        raise ValueError("its design has fewer seeds or rounds than any sweep")
