"""What trained models give beside their losses: sampled words, and the winner's test losses; kept in small files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.analysis.results import SweepResults
from experiments.analysis.studies import Cell
from experiments.runner.rows import Row
from experiments.store.atomic import replace_file

SAMPLES_FILE, TEST_FILE = "samples.json", "test.json"


@dataclass(frozen=True)
class Samples:
    """Words (or sentences) drawn from one run, and which of them are new: not in the training part."""

    run_id: str
    seed: int
    temperature: float
    words: list[str]
    new: list[bool]

    @property
    def n_new(self) -> int:
        """Words that are not in the training part."""
        return sum(self.new)

    @property
    def n_duplicates(self) -> int:
        """Words that were drawn before."""
        return len(self.words) - len(set(self.words))


def draw_samples(results: SweepResults, row: Row, n: int = 20, seed: int = 0, temperature: float = 1.0) -> Samples:
    """Draw words, or sentences of a running text, from a stored run."""
    from mlp_lm.sampling import sample_from  # JAX only where it is needed: reading samples starts without it.

    params, moments = results.load_model(row)
    words = sample_from(params, moments, results.dataset, n, seed, temperature)
    known = results.dataset.spelled("train")
    return Samples(row["run_id"], seed, temperature, words, [word not in known for word in words])


def keep_samples(results: SweepResults, rows: Sequence[Row]) -> None:
    """Have samples of those of these runs that keep weights in the sweep's folder; what is there already stays."""
    kept = read_samples(results.folder)
    missing = [row for row in rows if row["run_id"] not in kept and results.store.has_weights(row)]
    if missing:
        write_samples(results.folder, [*kept.values(), *(draw_samples(results, row) for row in missing)])


def write_samples(folder: Path, samples: Sequence[Samples]) -> None:
    """Save samples, in place of the last ones."""
    content = [asdict(one) for one in samples]
    replace_file(folder / SAMPLES_FILE, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_samples(folder: Path) -> dict[str, Samples]:
    """Run id to stored samples; none where the file is missing or damaged."""
    try:
        samples = [Samples(**entry) for entry in json.loads((folder / SAMPLES_FILE).read_bytes())]
    except (OSError, TypeError, ValueError):
        return {}
    return {one.run_id: one for one in samples}


@dataclass(frozen=True)
class HeldOut:
    """Exact test losses of a configuration's runs, in nats per token."""

    run_ids: list[str]
    losses: list[float]


def held_out_losses(results: SweepResults, cell: Cell) -> HeldOut | None:
    """A configuration's test losses, from the file of an earlier call where it is the same one.

    None where a run's weights are not there.
    """
    run_ids = [row["run_id"] for row in cell.finished]
    known = read_held_out(results.folder)
    if known is not None and known.run_ids == run_ids:
        return known
    if not all(results.store.has_weights(row) for row in cell.finished):
        return None
    from mlp_lm.training import exact_part_loss, part_examples  # JAX only where it is needed.

    examples = part_examples(results.dataset, cell.settings["block_size"], "test")
    models = (results.load_model(row) for row in cell.finished)
    measured = HeldOut(run_ids, [exact_part_loss(params, examples, moments) for params, moments in models])
    replace_file(results.folder / TEST_FILE, json.dumps(asdict(measured), indent=1).encode())
    return measured


def read_held_out(folder: Path) -> HeldOut | None:
    """The stored test losses, or None."""
    try:
        return HeldOut(**json.loads((folder / TEST_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
