"""Words to context windows, and windows to distinct contexts with counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mlp_lm.vocabulary import BOUNDARY_ID, Vocabulary


@dataclass(frozen=True)
class Windows:
    """Every position of a word list as an example: `contexts [n, block]`, oldest token first, and `targets [n]`."""

    contexts: Int[np.ndarray, "n block"]
    targets: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class CountedContexts:
    """Distinct contexts, and how often each split saw each target after each of them.

    `contexts [m, block]` are the distinct contexts of all the splits together; `counts [split, m, vocab]`.
    A split's exact loss is a count-weighted sum over the m distinct contexts, whatever its number of windows.
    """

    contexts: Int[np.ndarray, "m block"]
    counts: Float[np.ndarray, "split m vocab"]

    @property
    def totals(self) -> Float[np.ndarray, " split"]:
        """Number of windows of each split."""
        return self.counts.sum(axis=(1, 2))


def slide_windows(words: Sequence[str], vocabulary: Vocabulary, block_size: int) -> Windows:
    """The windows of `words`: each token and the closing boundary, after the `block_size` tokens before it.

    Raises:
        ValueError: block_size below 1, or a token outside the vocabulary.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    # One long line of ids, each word led by block_size boundaries; its windows that start inside one word are ours.
    line = [i for word in words for i in (*[BOUNDARY_ID] * block_size, *vocabulary.encode(word), BOUNDARY_ID)]
    starts = np.ones(len(line), dtype=bool)
    lengths = np.array([len(word) for word in words], dtype=np.int64) + block_size + 1
    ends = np.cumsum(lengths)
    for k in range(block_size):
        starts[ends - 1 - k] = False
    positions = np.flatnonzero(starts)
    ids = np.array(line, dtype=np.int32)
    return Windows(ids[positions[:, None] + np.arange(block_size)], ids[positions + block_size])


def count_contexts(splits: Sequence[Windows], vocab_size: int) -> CountedContexts:
    """Compress the windows of several splits to their common distinct contexts."""
    everything = np.concatenate([split.contexts for split in splits])
    contexts, index = np.unique(everything, axis=0, return_inverse=True)
    counts = np.zeros((len(splits), len(contexts), vocab_size), dtype=np.float32)
    owner = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    np.add.at(counts, (owner, index, np.concatenate([split.targets for split in splits])), 1.0)
    return CountedContexts(contexts, counts)
