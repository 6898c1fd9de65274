"""Whether a sweep can be trained on its data and on this machine, found out before anything starts."""

import os
from collections.abc import Callable, Iterable
from operator import itemgetter

from experiments.material import Material, TextMaterial
from experiments.running.plan import n_weights, padded_widths
from experiments.spec import RunSpec

COUNTED_PARTS = 3  # Training, dev and unseen dev words.
COPIES = 2  # On the host and on the device.
TRAINED_COPIES = 5  # Of the weights: themselves, gradient, the two moments of Adam and one in flight.
BYTES = 4  # Of a float32 and of an int32.


def check_feasible(
    runs: Iterable[RunSpec], material: Material | TextMaterial, n_workers: int, width_of: Callable[[RunSpec], int]
) -> None:
    """Compare what runs need with the data and with this machine's memory.

    `width_of(run)` is how many like it train side by side.

    Raises:
        ValueError: a batch exceeds the training windows, or memory can't hold windows, counts or weights.
    """
    runs = list(runs)
    largest = max(run.batch_size for run in runs)
    if largest > material.size.n_windows:
        raise ValueError(
            f"batch_size {largest} exceeds the {material.size.n_windows} training windows of {material.name}; "
            "give a smaller one, or 0 for all of them"
        )
    memory = machine_memory() // n_workers
    for block_size in sorted({run.block_size for run in runs}):
        _check_data(block_size, material, memory)
    needs = [(TRAINED_COPIES * width_of(run) * weight_bytes(run, material.size.vocab_size), run) for run in runs]
    needed, run = max(needs, key=itemgetter(0))
    if needed > memory:
        raise ValueError(
            f"hidden_size {run.hidden_size}, embedding_dim {run.embedding_dim}, block_size {run.block_size}, "
            f"n_layers {run.n_layers}: {width_of(run)} runs side by side need {_size(needed)}; a worker has "
            f"{_size(memory)}: give smaller ones, or fewer --workers"
        )


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def weight_bytes(run: RunSpec, vocab_size: int) -> int:
    """Bytes of a run's weights at the widths it is trained at; biases and norms are small beside them."""
    return BYTES * (vocab_size * padded_widths(run)[0] + n_weights(run, vocab_size))


def _check_data(block_size: int, material: Material | TextMaterial, memory: int) -> None:
    vocab_size, n_windows = material.size.vocab_size, material.n_tokens
    if COPIES * BYTES * n_windows * block_size > memory:
        raise ValueError(
            f"block_size {block_size} makes {n_windows:,} windows of {_size(BYTES * n_windows * block_size)}; "
            f"a worker has {_size(memory)}: give a smaller one, or fewer --workers"
        )
    row = COPIES * COUNTED_PARTS * BYTES * vocab_size
    if isinstance(material, TextMaterial) or row * n_windows <= memory:  # Text has no counts; else they fit.
        return
    n_contexts = _n_distinct_contexts(material, block_size)
    if row * n_contexts > memory:
        raise ValueError(
            f"{material.name}: {n_contexts:,} distinct contexts of {block_size} tokens, each with counts for "
            f"a vocabulary of {vocab_size:,}, need {_size(row * n_contexts)}; a worker has {_size(memory)}: give a "
            "list of fewer words or different characters, a smaller block_size, or fewer --workers"
        )


def _n_distinct_contexts(material: Material, block_size: int) -> int:
    contexts: set[str] = set()
    for word in set(material.corpus.words):
        padded = "." * block_size + word
        contexts.update(padded[i : i + block_size] for i in range(len(word) + 1))
    return len(contexts)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
