"""The plan of a sweep: which runs share a compiled program, how they are handed out, what they need and will cost."""

import contextlib
import functools
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path

from mlp_lm.config import CPU_RUNS, DEFAULTS, RunConfig, run_batch_size
from mlp_lm.data.dataset import Dataset

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

COUNTED_PARTS = 3  # Training, dev and unseen dev words.
COPIES = 2  # On the host and on the device.
TRAINED_COPIES = 5  # Of the weights: themselves, gradient, the two moments of Adam and one in flight.
BYTES = 4  # Of a float32 and of an int32.
# Of processes before weights and windows, measured: a worker's with JAX and some compiled programs, and the driver's.
WORKER_BYTES, DRIVER_BYTES = 300 << 20, 100 << 20


@dataclass(frozen=True)
class Cohort:
    """Runs trained one batch after another by one compiled program, `batch_size` side by side, stored as one shard."""

    runs: tuple[RunConfig, ...]
    seconds: float
    batch_size: int = 1

    @functools.cached_property
    def cohort_id(self) -> str:
        """A content hash of the runs."""
        return hashlib.sha256("".join(run.run_id for run in self.runs).encode()).hexdigest()[:16]

    @functools.cached_property
    def program(self) -> RunConfig:
        """What is compiled for it."""
        return self.runs[0].program()

    def halves(self) -> tuple["Cohort", ...]:
        """Two cohorts of half the runs each, or this one if it cannot be cut."""
        middle = len(self.runs) // 2
        pieces = (self.runs[:middle], self.runs[middle:]) if middle else (self.runs,)
        return tuple(Cohort(piece, self.seconds / len(pieces), self.batch_size) for piece in pieces)


@dataclass(frozen=True)
class Plan:
    """What of a sweep is to be trained, the longest cohorts first."""

    cohorts: tuple[Cohort, ...] = ()

    @property
    def n_runs(self) -> int:
        """Runs to train."""
        return sum(len(cohort.runs) for cohort in self.cohorts)

    @property
    def n_programs(self) -> int:
        """Programs to compile."""
        return len({cohort.program for cohort in self.cohorts})

    @property
    def core_seconds(self) -> float:
        """A guess at the work, compilation included."""
        return sum(cohort.seconds for cohort in self.cohorts) + COMPILE_SECONDS * self.n_programs

    def seconds(self, n_workers: int) -> float:
        """A guess at the wall time."""
        longest = max((cohort.seconds for cohort in self.cohorts), default=0.0)
        return max(longest, self.core_seconds / n_workers)

    def slice(self, number: int, total: int) -> "Plan":
        """Slice `number` (from 1) of `total`: every `total`-th cohort."""
        return Plan(self.cohorts[number - 1 :: total])


def make_plan(runs: Iterable[RunConfig], dataset: Dataset, widest: int, started: Iterable[Sequence[str]] = ()) -> Plan:
    """Cut runs into cohorts of whole batches, the longest first, so that the last ones to finish are short.

    `widest` is how many runs the device trains side by side at the most. `started` are cohorts, as lists of run ids,
    that have a checkpoint: where all their runs are wanted they stay whole.
    """
    vocab_size = len(dataset.vocabulary)
    left = {run.run_id: run for run in runs}
    cohorts = []
    for ids in started:
        if ids and left.keys() >= set(ids):
            members = tuple(left.pop(run_id) for run_id in ids)
            seconds = sum(run_seconds(run, dataset) for run in members)
            cohorts.append(Cohort(members, seconds, run_batch_size(members[0], vocab_size, widest)))
    in_order = attrgetter(*DEFAULTS)
    companies: dict[tuple, list[RunConfig]] = defaultdict(list)
    for run in left.values():
        companies[run.company].append(run)
    groups = [(tuple(sorted(each, key=in_order)), run_seconds(each[0], dataset)) for each in companies.values()]
    total = sum(seconds * len(members) for members, seconds in groups)
    longest = min(LONGEST_COHORT, max(SHORTEST_COHORT, total / COHORTS_AT_LEAST))
    for members, seconds in groups:  # The same seconds for all runs of one company.
        size = run_batch_size(members[0], vocab_size, widest)
        n_runs = max(1, int(longest / (seconds * size))) * size
        for first in range(0, len(members), n_runs):
            piece = members[first : first + n_runs]
            cohorts.append(Cohort(piece, seconds * len(piece), size))
    return Plan(tuple(sorted(cohorts, key=lambda cohort: (-cohort.seconds, cohort.cohort_id))))


def run_seconds(config: RunConfig, dataset: Dataset) -> float:
    """A guess at the seconds of one core that a run takes, compilation apart."""
    program, vocab_size = config.program(), len(dataset.vocabulary)
    n_weights = program.architecture(vocab_size).n_weights
    if dataset.is_running_text:
        share = EVALUATED_TEXT
    else:
        share = DISTINCT_SHARE[config.block_size] if config.block_size < len(DISTINCT_SHARE) else MOST_DISTINCT
    evaluated = dataset.n_windows * share  # Contexts that an evaluation passes through.
    evaluation = 2 * n_weights * evaluated * (2 if config.batch_norm else 1) * SECONDS_PER_FLOP
    step = STEP_SECONDS + 6 * n_weights * (config.batch_size or evaluated) * SECONDS_PER_FLOP
    return config.n_steps * step + evaluation * config.n_evaluations


def check_feasible(runs: Iterable[RunConfig], dataset: Dataset, n_workers: int, widest: int) -> None:
    """Compare what runs need with the data and with this machine's memory, before anything starts.

    Raises:
        ValueError: a batch exceeds the training windows, or memory can't hold windows, counts or weights.
    """
    runs = list(runs)
    vocab_size = len(dataset.vocabulary)
    for run in {run.program(): run for run in runs}.values():
        dataset.check(run)
    memory = machine_memory() // n_workers
    for block_size in sorted({run.block_size for run in runs}):
        _check_data_fits(block_size, dataset, memory)

    def together(run: RunConfig) -> int:
        n = run_batch_size(run, vocab_size, widest)
        return n if widest == CPU_RUNS else min(n, len(runs))  # On a processor copies fill a batch.

    def weight_bytes(run: RunConfig) -> int:
        architecture, side_by_side = run.program().architecture(vocab_size), together(run)
        # Biases and norms are small beside the weights.
        return (
            TRAINED_COPIES * side_by_side * BYTES * (architecture.n_weights + vocab_size * architecture.embedding_dim)
        )

    needed, run = max(((weight_bytes(run), run) for run in runs), key=itemgetter(0))
    if needed > memory:
        side_by_side = together(run)
        raise ValueError(
            f"hidden_size {run.hidden_size}, embedding_dim {run.embedding_dim}, block_size {run.block_size}, "
            f"n_layers {run.n_layers}: {side_by_side} runs side by side need {_size(needed)}; a worker has "
            f"{_size(memory)}: give smaller ones, or fewer --workers"
        )


def workers_that_fit(n_workers: int) -> int:
    """How many of some workers this machine's memory can hold beside this process, before they train; at least one."""
    return max(1, min(n_workers, (machine_memory() - DRIVER_BYTES) // WORKER_BYTES))


def machine_memory(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory that this process may use: the machine's, or the least limit of the control groups it is in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return memory
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":  # Version 2.
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / place.strip("/")
        for group in (folder, *folder.parents[: len(folder.parents) - len(root.parents)]):
            with contextlib.suppress(OSError, ValueError):  # No such file, or `max`: no limit.
                memory = min(memory, int((group / name).read_text()))
    return memory


def _check_data_fits(block_size: int, dataset: Dataset, memory: int) -> None:
    vocab_size, n_windows = len(dataset.vocabulary), dataset.n_tokens
    if COPIES * BYTES * n_windows * block_size > memory:
        raise ValueError(
            f"block_size {block_size} makes {n_windows:,} windows of {_size(BYTES * n_windows * block_size)}; "
            f"a worker has {_size(memory)}: give a smaller one, or fewer --workers"
        )
    row = COPIES * COUNTED_PARTS * BYTES * vocab_size
    if dataset.is_running_text or row * n_windows <= memory:  # Text has no counts; else they fit.
        return
    words = {word for part in dataset.parts.values() for word in part}
    padded = ("." * block_size + "".join(word) for word in words)
    n_contexts = len({word[i : i + block_size] for word in padded for i in range(len(word) - block_size + 1)})
    if row * n_contexts > memory:
        raise ValueError(
            f"{dataset.name}: {n_contexts:,} distinct contexts of {block_size} tokens, each with counts for "
            f"a vocabulary of {vocab_size:,}, need {_size(row * n_contexts)}; a worker has {_size(memory)}: give a "
            "list of fewer words or different characters, a smaller block_size, or fewer --workers"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
