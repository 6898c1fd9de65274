"""What a sweep's folder was last asked for, beside its shards: analysis needs nothing else."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.material import Material, TextMaterial
from experiments.spec import RunSpec, SweepSpec

FILE_NAME = "request.json"


@dataclass(frozen=True)
class Request:
    """A sweep as asked: its studies as lists of run ids, its data, and the command that asks for it again."""

    name: str
    title: str
    data: str
    data_hash: str
    command: str
    studies: dict[str, list[str]]

    @property
    def run_ids(self) -> set[str]:
        """All runs asked for."""
        return {run_id for runs in self.studies.values() for run_id in runs}


def make_request(
    sweep: SweepSpec,
    studies: dict[str, dict[str, RunSpec]],
    material: Material | TextMaterial,
    program: str = "experiments.sweep",
) -> Request:
    """The request that this process's command line makes."""
    command = _encodable(shlex.join(["python", "-m", program, *sys.argv[1:]]))
    listed = {study: list(runs) for study, runs in studies.items()}
    return Request(_encodable(sweep.name), sweep.title, sweep.data, material.sha256, command, listed)


def _encodable(text: str) -> str:
    """Text in which bytes of a file name that are no UTF-8 are spelled out: no file could hold them otherwise."""
    return text.encode("utf-8", "backslashreplace").decode()


def encode_request(request: Request) -> bytes:
    """The content of the file FILE_NAME."""
    return json.dumps(asdict(request), indent=1).encode()


def read_request(folder: Path) -> Request:
    """The request of a sweep's folder.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    path = folder / FILE_NAME
    try:
        return Request(**json.loads(path.read_bytes()))
    except (OSError, TypeError, ValueError):
        raise ValueError(
            f"{path} is missing or damaged: {folder} is no sweep's folder, or run its sweep again"
        ) from None
