"""A word list's vocabulary and count models, kept beside the shards: a report then needs no word list."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.findings.finished import material_of
from experiments.material import Material
from experiments.request import Request
from experiments.store.atomic import replace_file
from mlp_lm.yardstick import YardstickRow, yardstick

FILE_NAME = "yardsticks.json"
MAX_CONTEXT_LENGTH = 7


@dataclass(frozen=True)
class Yardsticks:
    """The tokens of a word list, and every family of count models at 1 to 7 context tokens."""

    data_hash: str
    tokens: tuple[str, ...]
    rows: tuple[YardstickRow, ...]

    @property
    def best(self) -> YardstickRow:
        """The count model of the lowest dev loss."""
        return min(self.rows, key=lambda row: row.dev_loss)

    @property
    def lengths(self) -> list[int]:
        """The numbers of context tokens."""
        return sorted({row.context_length for row in self.rows})

    @property
    def families(self) -> dict[str, list[YardstickRow]]:
        """Each family's models, by their number of context tokens."""
        names = dict.fromkeys(row.family for row in self.rows)
        rows = sorted(self.rows, key=lambda row: row.context_length)
        return {name: [row for row in rows if row.family == name] for name in names}

    @property
    def floors(self) -> dict[int, float]:
        """The train loss below which no model of so many context tokens comes."""
        return {row.context_length: row.floor for row in sorted(self.rows, key=lambda row: row.context_length)}

    @property
    def uniform(self) -> float:
        """The loss of a uniform guess."""
        return math.log(len(self.tokens))


def load_yardsticks(folder: Path, request: Request, material: Material | None = None) -> Yardsticks:
    """What is kept in a sweep's folder, or else computed from its word list and kept.

    Raises:
        ValueError: nothing is kept, and the word list cannot be had.
    """
    known = _read(folder / FILE_NAME)
    if known is not None and known.data_hash == request.data_hash:
        return known
    found = measure_yardsticks(material or material_of(request))
    replace_file(folder / FILE_NAME, json.dumps(asdict(found), ensure_ascii=False).encode())
    return found


def measure_yardsticks(material: Material) -> Yardsticks:
    """Fit the count models to the training words."""
    train, dev = (material.windows(part, MAX_CONTEXT_LENGTH) for part in ("train", "dev"))
    rows = yardstick(
        (train.contexts, train.targets), (dev.contexts, dev.targets), len(material.vocabulary), MAX_CONTEXT_LENGTH
    )
    return Yardsticks(material.corpus.sha256, material.vocabulary.tokens, tuple(rows))


def _read(path: Path) -> Yardsticks | None:
    try:
        told = json.loads(path.read_bytes())
        rows = tuple(YardstickRow(**row) for row in told["rows"])
        return Yardsticks(told["data_hash"], tuple(told["tokens"]), rows)
    except (OSError, KeyError, TypeError, ValueError):
        return None
