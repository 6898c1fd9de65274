"""Runs to cohorts: which runs share a compiled program, how they are handed out, and what they will cost."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from experiments.spec import RunSpec

# Short runs share a program with wider ones, because compiling costs more than padding; by a rule on the run alone, or
# a run's bits would depend on its company.
MERGED_STEPS = 5_000
MERGED_EMBEDDING_DIMS = (4, 16, 32)
MERGED_HIDDEN_SIZES = (32, 64, 128, 256, 512)

WIDE_BATCH = 32  # The largest batch for which a CPU's cache holds the widest block.

# A cohort lasts long enough to hide the cost of a shard, and short enough to be shared out evenly at the end.
SHORTEST_COHORT, LONGEST_COHORT = 5.0, 30.0  # Seconds.
COHORTS_AT_LEAST = 50

# Measured on one AVX-512 core: the rates are rough, and progress corrects them as it goes.
COMPILE_SECONDS = 3.0
STEP_SECONDS = 6e-6
SECONDS_PER_FLOP = 12e-12
DISTINCT_SHARE = (0.0, 0.0002, 0.004, 0.03, 0.11, 0.2, 0.25, 0.27)  # Of windows, by block size; names.
MOST_DISTINCT = 0.28


WIDTHS = ("embedding_dim", "hidden_size")
VARIED = ("init", "gain", "learning_rate", "momentum", "weight_decay", "seed")  # Of one program, beside widths.


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
    if run.n_steps > MERGED_STEPS or run.init == "orthogonal":
        return run.embedding_dim, run.hidden_size
    return (
        next((d for d in MERGED_EMBEDDING_DIMS if d >= run.embedding_dim), run.embedding_dim),
        next((h for h in MERGED_HIDDEN_SIZES if h >= run.hidden_size > 0), run.hidden_size),
    )


def block_width(run: RunSpec, widest: int) -> int:
    """Runs that one program trains side by side: half of the widest block where batches are large or full."""
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
        weight_decay=0.5 if run.weight_decay else 0.0,
    )


def run_seconds(run: RunSpec, n_windows: int) -> float:
    """A guess at the seconds of one core that a run takes, compilation apart."""
    embedding_dim, hidden_size = padded_widths(run)
    features, vocab = run.block_size * embedding_dim, 27
    weights = features * hidden_size + (run.n_layers - 1) * hidden_size**2 + hidden_size * vocab
    weights += features * vocab if run.direct else 0
    share = DISTINCT_SHARE[run.block_size] if run.block_size < len(DISTINCT_SHARE) else MOST_DISTINCT
    evaluation = 2 * weights * n_windows * share * (2 if run.batch_norm else 1) * SECONDS_PER_FLOP
    batch = run.batch_size or n_windows * share
    return run.n_steps * (STEP_SECONDS + 6 * weights * batch * SECONDS_PER_FLOP) + evaluation * run.n_evaluations


def plan(
    runs: Iterable[RunSpec], n_windows: int, widest: int, begun: Iterable[Sequence[str]] = ()
) -> tuple[Cohort, ...]:
    """Cut runs into cohorts of whole blocks, the longest first, so that the last ones to finish are short.

    `begun` are cohorts, as lists of run ids, that have a checkpoint: where all their runs are wanted they stay whole.
    """
    left = {run.run_id: run for run in runs}
    cohorts = [_cohort(tuple(left.pop(i) for i in ids), n_windows) for ids in begun if ids and left.keys() >= set(ids)]
    groups = [(members, run_seconds(members[0], n_windows)) for members in _groups(left.values())]
    total = sum(seconds * len(members) for members, seconds in groups)
    longest = min(LONGEST_COHORT, max(SHORTEST_COHORT, total / COHORTS_AT_LEAST))
    for members, seconds in groups:  # The same seconds for all runs of one program.
        width = block_width(members[0], widest)
        size = max(1, int(longest / (seconds * width))) * width
        cohorts += [Cohort(piece, seconds * len(piece)) for piece in _batched(members, size)]
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


def _cohort(runs: tuple[RunSpec, ...], n_windows: int) -> Cohort:
    return Cohort(runs, sum(run_seconds(run, n_windows) for run in runs))


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
    return _static(run), padded_widths(run), run.momentum > 0, run.weight_decay > 0


def _batched(runs: tuple[RunSpec, ...], size: int) -> Iterable[tuple[RunSpec, ...]]:
    return (runs[i : i + size] for i in range(0, len(runs), size))
