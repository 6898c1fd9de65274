"""Sampled words of a sweep's runs, kept beside its shards so that a report needs no JAX."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from experiments.findings.analysis import Row
from experiments.material import Material, TextMaterial
from experiments.store import Store
from experiments.store.atomic import replace_file
from mlp_lm.vocabulary import BOUNDARY_ID

FILE_NAME = "samples.json"


@dataclass(frozen=True)
class Samples:
    """Words drawn from one run, and which of them are new: not in the training list."""

    run_id: str
    seed: int
    temperature: float
    words: list[str]
    new: list[bool]

    @property
    def n_new(self) -> int:
        """Words that are not in the training list."""
        return sum(self.new)

    @property
    def n_duplicates(self) -> int:
        """Words that were drawn before."""
        return len(self.words) - len(set(self.words))


def draw_samples(
    store: Store, row: Row, material: Material, n: int = 20, seed: int = 0, temperature: float = 1.0
) -> Samples:
    """Draw words from a stored run."""
    # JAX only where it is needed: reading samples starts without it.
    from experiments.findings.trained import load_model
    from mlp_lm.sampling import sample_words

    params, moments = load_model(store, row, material)
    words = sample_words(params, moments, material.vocabulary, row["block_size"], n, seed, temperature)
    known = set(material.split.train)
    return Samples(row["run_id"], seed, temperature, words, [word not in known for word in words])


def draw_sentences(
    store: Store, row: Row, material: TextMaterial, n: int = 12, seed: int = 0, temperature: float = 1.0
) -> list[str]:
    """Draw sentences from a stored run, each begun after the end of some sentence of the training part.

    Raises:
        ValueError: as mlp_lm.sampling.check_draw.
    """
    from experiments.findings.trained import load_model
    from mlp_lm.sampling import check_draw, sample_sentences

    check_draw(n, seed, temperature, len(material.vocabulary))
    params, _ = load_model(store, row, material)
    contexts = material.windows("train", row["block_size"]).contexts
    ends = np.flatnonzero(contexts[:, -1] == BOUNDARY_ID)  # At least one: a text begins after a boundary.
    starts = contexts[np.random.default_rng(seed).choice(ends, n)]
    return sample_sentences(params, material.vocabulary, starts, seed, temperature)


def keep_samples(store: Store, rows: Sequence[Row], material: Material) -> None:
    """Have samples of those of these runs that keep weights in the store's folder; what is there already stays."""
    kept = read_samples(store.root)
    missing = [row for row in rows if row["run_id"] not in kept and row["weights_sha256"] is not None]
    if missing:
        drawn = {row["run_id"]: draw_samples(store, row, material) for row in missing}
        write_samples(store.root, [*kept.values(), *drawn.values()])


def write_samples(folder: Path, samples: Sequence[Samples]) -> None:
    """Save samples, in place of the last ones."""
    told = [asdict(one) for one in samples]
    replace_file(folder / FILE_NAME, json.dumps(told, indent=1, ensure_ascii=False).encode())


def read_samples(folder: Path) -> dict[str, Samples]:
    """Run id to stored samples; none where the file is missing or damaged."""
    try:
        found = [Samples(**entry) for entry in json.loads((folder / FILE_NAME).read_bytes())]
    except (OSError, TypeError, ValueError):
        return {}
    return {one.run_id: one for one in found}
