"""Runs to cohorts: which runs share a compiled program, how they are handed out, and what they will cost."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from experiments.material import DataSize
from experiments.spec import ADAM_EPSILON, RunSpec

# Short runs share a program with wider ones, because compiling costs more than padding; by a rule on the run alone, or
# a run's bits would depend on its company.
MERGED_STEPS = 5_000
MERGED_EMBEDDING_DIMS = (4, 16, 32)
MERGED_HIDDEN_SIZES = (32, 64, 128, 256, 512)

WIDE_BATCH = 32  # The largest batch for which a CPU's cache holds the widest block.
LARGE_VOCABULARY = 1_000  # Words, not characters: a run's weights alone fill a CPU's cache.
LARGE_SHARE = 64  # Of the widest block that a run with a large vocabulary takes.

# A cohort lasts long enough to hide the cost of a shard, and short enough to be shared out evenly at the end.
SHORTEST_COHORT, LONGEST_COHORT = 5.0, 30.0  # Seconds.
COHORTS_AT_LEAST = 50

# Measured on one AVX-512 core: the rates are rough, and progress corrects them as it goes.
COMPILE_SECONDS = 3.0
STEP_SECONDS = 6e-6
SECONDS_PER_FLOP = 12e-12
DISTINCT_SHARE = (0.0, 0.0002, 0.004, 0.03, 0.11, 0.2, 0.25, 0.27)  # Of windows, by block size; names.
MOST_DISTINCT = 0.28
EVALUATED_TEXT = 0.3  # Of running text's training windows, as many are evaluated.


WIDTHS = ("embedding_dim", "hidden_size")
VARIED = (
    "init",
    "gain",
    "learning_rate",
    "momentum",
    "adam_epsilon",
    "weight_decay",
    "dropout",
    "input_dropout",
    "seed",
)  # Beside widths.


@dataclass(frozen=True)
class Cohort:
    """Runs trained one after another by one compiled program, stored as one shard."""

    runs: tuple[RunSpec, ...]
    seconds: float

    @property
    def cohort_id(self) -> str:
        """A content hash of the runs."""
        return hashlib.sha256("".join(run.run_id for run in self.runs).encode()).hexdigest()[:16]

    def halves(self) -> tuple["Cohort", ...]:
        """Two cohorts of half the runs each, or this one if it cannot be cut."""
        middle = len(self.runs) // 2
        pieces = (self.runs[:middle], self.runs[middle:]) if middle else (self.runs,)
        return tuple(Cohort(piece, self.seconds / len(pieces)) for piece in pieces)


def padded_widths(run: RunSpec) -> tuple[int, int]:
    """Embedding dimension and hidden size of the program that trains this run."""
    if run.n_steps > MERGED_STEPS or run.init == "orthogonal" or run.drops:  # Dropout's draws depend on the width.
        return run.embedding_dim, run.hidden_size
    return (
        next((d for d in MERGED_EMBEDDING_DIMS if d >= run.embedding_dim), run.embedding_dim),
        next((h for h in MERGED_HIDDEN_SIZES if h >= run.hidden_size > 0), run.hidden_size),
    )


def block_width(run: RunSpec, widest: int, vocab_size: int) -> int:
    """Runs that one program trains side by side: fewer where batches are large or full, or vocabularies large."""
    if vocab_size > LARGE_VOCABULARY:
        return max(1, widest // LARGE_SHARE)
    return widest if 0 < run.batch_size <= WIDE_BATCH else max(1, widest // 2)


def signature(run: RunSpec) -> RunSpec:
    """What runs of one compiled program have in common: the run with all that a program may vary set to one value."""
    embedding_dim, hidden_size = padded_widths(run)
    return replace(
        run,
        embedding_dim=embedding_dim,
        hidden_size=hidden_size,
        init="normal",
        gain=1.0,
        learning_rate=1.0,
        seed=0,
        momentum=0.5 if run.momentum else 0.0,
        adam_epsilon=ADAM_EPSILON,
        weight_decay=0.5 if run.weight_decay else 0.0,
        dropout=0.5 if run.drops else 0.0,
        input_dropout=0.0,
    )


def n_weights(run: RunSpec, vocab_size: int) -> int:
    """Weights of a run's matrix products at the widths it is trained at; embedding, biases and norms not counted."""
    embedding_dim, hidden_size = padded_widths(run)
    features = run.block_size * embedding_dim
    hidden = features * hidden_size + (run.n_layers - 1) * hidden_size**2
    return hidden + hidden_size * vocab_size + (features * vocab_size if run.direct else 0)


def run_seconds(run: RunSpec, size: DataSize) -> float:
    """A guess at the seconds of one core that a run takes, compilation apart."""
    weights, distinct = n_weights(run, size.vocab_size), size.n_windows * _distinct_share(run, size)
    evaluation = 2 * weights * distinct * (2 if run.batch_norm else 1) * SECONDS_PER_FLOP
    batch = run.batch_size or distinct
    return run.n_steps * (STEP_SECONDS + 6 * weights * batch * SECONDS_PER_FLOP) + evaluation * run.n_evaluations


def _distinct_share(run: RunSpec, size: DataSize) -> float:
    """Contexts that an evaluation passes through, as a share of the training windows."""
    if size.vocab_size > LARGE_VOCABULARY:
        return EVALUATED_TEXT
    return DISTINCT_SHARE[run.block_size] if run.block_size < len(DISTINCT_SHARE) else MOST_DISTINCT


def plan(
    runs: Iterable[RunSpec], size: DataSize, widest: int, begun: Iterable[Sequence[str]] = ()
) -> tuple[Cohort, ...]:
    """Cut runs into cohorts of whole blocks, the longest first, so that the last ones to finish are short.

    `begun` are cohorts, as lists of run ids, that have a checkpoint: where all their runs are wanted they stay whole.
    """
    left = {run.run_id: run for run in runs}
    cohorts = [_cohort(tuple(left.pop(i) for i in ids), size) for ids in begun if ids and left.keys() >= set(ids)]
    groups = [(members, run_seconds(members[0], size)) for members in _groups(left.values())]
    total = sum(seconds * len(members) for members, seconds in groups)
    longest = min(LONGEST_COHORT, max(SHORTEST_COHORT, total / COHORTS_AT_LEAST))
    for members, seconds in groups:  # The same seconds for all runs of one program.
        width = block_width(members[0], widest, size.vocab_size)
        n_runs = max(1, int(longest / (seconds * width))) * width
        cohorts += [Cohort(piece, seconds * len(piece)) for piece in _batched(members, n_runs)]
    return tuple(sorted(cohorts, key=lambda cohort: (-cohort.seconds, cohort.cohort_id)))


def plan_seconds(cohorts: Iterable[Cohort], n_workers: int) -> float:
    """A guess at the wall time of a plan, compilation included."""
    cohorts = tuple(cohorts)
    longest = max((cohort.seconds for cohort in cohorts), default=0.0)
    work = sum(cohort.seconds for cohort in cohorts) + COMPILE_SECONDS * n_programs(cohorts)
    return max(longest, work / n_workers)


def n_programs(cohorts: Iterable[Cohort]) -> int:
    """How many programs a plan compiles."""
    return len({signature(cohort.runs[0]) for cohort in cohorts})


def _cohort(runs: tuple[RunSpec, ...], size: DataSize) -> Cohort:
    return Cohort(runs, sum(run_seconds(run, size) for run in runs))


def _groups(runs: Iterable[RunSpec]) -> Iterable[tuple[RunSpec, ...]]:
    """The runs of each program, in an order of their own."""
    groups: dict[tuple, list[RunSpec]] = defaultdict(list)
    for run in runs:
        groups[_program_key(run)].append(run)
    return (tuple(sorted(members, key=_varied)) for members in groups.values())


_static = attrgetter(*(f.name for f in fields(RunSpec) if f.name not in (*WIDTHS, *VARIED)))
_varied = attrgetter(*VARIED, *WIDTHS)


def _program_key(run: RunSpec) -> tuple:
    """Equal where `signature` is, and quicker: a million runs are planned in seconds."""
    return _static(run), padded_widths(run), run.momentum > 0, run.weight_decay > 0, run.drops


def _batched(runs: tuple[RunSpec, ...], size: int) -> Iterable[tuple[RunSpec, ...]]:
    return (runs[i : i + size] for i in range(0, len(runs), size))
