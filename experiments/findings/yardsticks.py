"""A word list's vocabulary and count models, kept beside the shards: a report then needs no word list."""

import json
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
