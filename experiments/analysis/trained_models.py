"""What trained models give beside their losses: sampled words, and the winner's test losses; kept in small files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.analysis.looks import HeldOut, add_look, read_looks
from experiments.analysis.results import SweepResults, read_kept, say
from experiments.analysis.studies import Cell
from experiments.runner.rows import DIVERGED, Row
from experiments.store.atomic import replace_file
from experiments.store.small_files import write_small
from mlp_lm.data.dataset import PARTS, Dataset

SAMPLES_FILE = "samples.json"


@dataclass(frozen=True)
class Samples:
    """Words (or sentences) drawn from one run, and which of them are new: not in the training part.

    Of several runs together, `run_id` are their ids with a blank between.
    """

    run_id: str
    seed: int
    temperature: float
    words: list[str]
    new: list[bool]

    def __post_init__(self) -> None:
        """Refuse what is not one answer a word."""
        if len(self.words) != len(self.new) or not self.words:
            raise ValueError(f"{len(self.words)} words, and {len(self.new)} are said to be new or not")

    @property
    def n_new(self) -> int:
        """Words that are not in the training part."""
        return sum(self.new)

    @property
    def n_duplicates(self) -> int:
        """Words that were drawn before."""
        return len(self.words) - len(set(self.words))


def draw_samples(results: SweepResults, row: Row, n: int = 20, seed: int = 0, temperature: float = 1.0) -> Samples:
    """Draw words, or sentences of a running text, from a stored run.

    Raises:
        ValueError: it diverged, or its weights or its data cannot be had.
    """
    from mlp_lm.sampling import sample_from  # JAX only where it is needed: reading samples starts without it.

    if row["status"] == DIVERGED:
        raise ValueError(f"run {row['run_id']} diverged, so that it has no words; give another run")
    params, moments = results.load_model(row)
    words = sample_from(params, moments, results.dataset, n, seed, temperature)
    return _samples(results, [row], words, seed, temperature)


def draw_samples_together(
    results: SweepResults,
    rows: Sequence[Row],
    orders: Sequence[int] = (),
    n: int = 20,
    seed: int = 0,
    temperature: float = 1.0,
) -> Samples:
    """Draw from the average of stored runs or, with `orders`, from its log-linear mixture with count models.

    The weights of the mixture are fitted to dev.

    Raises:
        ValueError: their weights or their data cannot be had.
    """
    from experiments.analysis.ensembles import log_linear_mixture
    from mlp_lm.mixtures import log_average
    from mlp_lm.sampling import sample_from_mixture

    dataset = results.dataset
    block_size = max([*orders, *(row["block_size"] for row in rows)])
    if orders:
        mixture = log_linear_mixture(results, rows, orders)
        log_distributions = mixture.mixed(mixture.fit(dataset.windows("dev", block_size)))
    else:
        log_distributions = log_average([results.load_model(row) for row in rows])
    words = sample_from_mixture(log_distributions, dataset, block_size, n, seed, temperature)
    return _samples(results, rows, words, seed, temperature)


def _samples(results: SweepResults, rows: Sequence[Row], words: list[str], seed: int, temperature: float) -> Samples:
    known = results.dataset.spelled("train")
    run_ids = " ".join(row["run_id"] for row in rows)
    return Samples(run_ids, seed, temperature, words, [word not in known for word in words])


def new_word_lists(results: SweepResults, folder: Path) -> dict[str, Path]:
    """Where `write_word_lists` will write each part: `train.txt`, `dev.txt` and `test.txt`.

    Raises:
        ValueError: a running text, or one of the files exists already.
    """
    if results.is_running_text:
        raise ValueError(f"{results.folder} is of running text, whose sentences are no list of words; leave out --out")
    paths = {part: folder / f"{part}.txt" for part in PARTS}
    if existing := next((path for path in paths.values() if path.exists()), None):
        raise ValueError(f"{existing} is there already; give --out another folder")
    return paths


def write_word_lists(dataset: Dataset, words: Sequence[str], paths: Mapping[str, Path]) -> None:
    """Write the parts of a list, one word a line, with these words added to the training part.

    A network that is trained on these files learns from the models that the words were drawn from (sequence-level
    distillation, Kim and Rush 2016), and is evaluated on the same dev and test words as they were.
    """
    added = {"train": [word for word in words if word]}  # A list has no empty word.
    for part, path in paths.items():
        lines = [*map("".join, dataset.parts[part]), *added.get(part, ())]
        replace_file(path, "".join(f"{line}\n" for line in lines).encode())


def keep_samples(results: SweepResults, rows: Sequence[Row]) -> None:
    """Have samples of those of these runs that keep weights in the sweep's folder; what is there already stays."""
    kept = read_samples(results.folder)
    missing = [row for row in rows if row["run_id"] not in kept and results.store.has_weights(row)]
    if missing:
        write_samples(results.folder, [*kept.values(), *(draw_samples(results, row) for row in missing)])


def write_samples(folder: Path, samples: Sequence[Samples]) -> None:
    """Save samples, in place of the last ones."""
    write_small(folder, SAMPLES_FILE, [asdict(one) for one in samples])


def read_samples(folder: Path) -> dict[str, Samples]:
    """Run id to stored samples; none where the file is missing or damaged."""
    return {one.run_id: one for one in read_kept(list[Samples], folder, SAMPLES_FILE) or []}


def look_at_test(results: SweepResults, cell: Cell, what: str) -> HeldOut | None:
    """A configuration's test losses; a second call for the same runs is no second look.

    None where a run's weights are not there.
    """
    run_ids = [row["run_id"] for row in cell.finished]
    if known := next((one for one in read_looks(results.folder) if one.run_ids == run_ids and not one.together), None):
        return known
    if not all(results.store.has_weights(row) for row in cell.finished):
        say(f"{results.folder} lacks weights of {what}: its test loss is left out")
        return None
    from mlp_lm.training import exact_part_loss, part_examples  # JAX only where it is needed.

    examples = part_examples(results.dataset, cell.settings["block_size"], "test")
    models = (results.load_model(row) for row in cell.finished)
    losses = [exact_part_loss(params, examples, moments) for params, moments in models]
    return add_look(results, what, run_ids, losses, results.request.command)
