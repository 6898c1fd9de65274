"""Exact losses of whole splits, and exact batch-norm moments and gradients of the whole training split.

Two kinds of examples answer the same questions: distinct contexts with counts, for small vocabularies, and windows, for
running text, where hardly a context occurs twice. Both are cut into chunks; the first split is training.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from mlp_lm.config import LARGE_VOCABULARY
from mlp_lm.data.dataset import CountedContexts, Windows
from mlp_lm.large_vocabulary import blockwise_window_losses
from mlp_lm.loss import counted_cross_entropy, window_losses
from mlp_lm.model import Leaf, Moments, Params, forward

CHUNK = 512  # Contexts evaluated at once: more thrash the cache, fewer leave the processor waiting.
WINDOW_CHUNK = 256  # Windows of running text evaluated at once.


@struct.dataclass
class EvaluationSet:
    """Distinct contexts in chunks, the last one filled with contexts of count zero.

    contexts: `[chunk, 512, block]`. counts: `[chunk, split, 512, vocab]`. totals: `[split]`, the splits' windows.
    """

    contexts: Leaf
    counts: Leaf
    totals: Leaf

    @classmethod
    def of(cls, counted: CountedContexts) -> "EvaluationSet":
        """Cut counted contexts into chunks."""
        n_splits, m, vocab = counted.counts.shape
        filling = -m % CHUNK
        contexts = np.pad(counted.contexts, ((0, filling), (0, 0))).reshape(-1, CHUNK, counted.contexts.shape[1])
        counts = np.pad(counted.counts, ((0, 0), (0, filling), (0, 0))).reshape(n_splits, -1, CHUNK, vocab)
        return cls(jnp.asarray(contexts), jnp.asarray(counts.swapaxes(0, 1)), jnp.asarray(counted.totals))

    @property
    def chunks(self) -> tuple[Any, ...]:
        """What is mapped over."""
        return self.contexts, self.counts

    def summed_losses(self, chunk: tuple[Any, ...], params: Params, moments: Any) -> Float[Array, " split"]:
        """Each split's sum over one chunk, in nats."""
        contexts, counts = chunk
        return counted_cross_entropy(params, contexts, counts, moments)

    def training_counts(self, chunk: tuple[Any, ...]) -> Float[Array, " size"]:
        """How often training has each context of a chunk."""
        return chunk[1][0].sum(axis=1)


@struct.dataclass
class EvaluationWindows:
    """Windows in chunks, the last one filled with windows of weight zero.

    contexts: `[chunk, 256, block]`. targets: `[chunk, 256]`. weights: `[chunk, split, 256]`, how often each split holds
    each window. totals: `[split]`, the splits' windows.
    """

    contexts: Leaf
    targets: Leaf
    weights: Leaf
    totals: Leaf

    @classmethod
    def of(cls, windows: Windows, weights: Float[np.ndarray, "split n"]) -> "EvaluationWindows":
        """Cut windows into chunks."""
        filling = -len(windows) % WINDOW_CHUNK
        contexts = np.pad(windows.contexts, ((0, filling), (0, 0))).reshape(-1, WINDOW_CHUNK, windows.contexts.shape[1])
        padded = np.pad(np.asarray(weights, np.float32), ((0, 0), (0, filling)))
        return cls(
            jnp.asarray(contexts),
            jnp.asarray(np.pad(windows.targets, (0, filling)).reshape(-1, WINDOW_CHUNK)),
            jnp.asarray(padded.reshape(len(weights), -1, WINDOW_CHUNK).swapaxes(0, 1)),
            jnp.asarray(weights.sum(axis=1), jnp.float32),
        )

    @property
    def chunks(self) -> tuple[Any, ...]:
        """What is mapped over."""
        return self.contexts, self.targets, self.weights

    def summed_losses(self, chunk: tuple[Any, ...], params: Params, moments: Any) -> Float[Array, " split"]:
        """Each split's sum over one chunk, in nats."""
        contexts, targets, weights = chunk
        return weights @ blockwise_window_losses(params, contexts, targets, moments)

    def training_counts(self, chunk: tuple[Any, ...]) -> Float[Array, " size"]:
        """How often training has each context of a chunk."""
        return chunk[2][0]


Examples = EvaluationSet | EvaluationWindows


def exact_losses(
    params: Params, examples: Examples, moments: tuple[Moments, ...] | None = None
) -> Float[Array, " split"]:
    """Mean cross-entropy of each split in nats per token, equal to the mean over all its windows.

    With batch norm, `moments` are those of the training split (see `population_moments`).
    """
    sums = jax.lax.map(lambda chunk: examples.summed_losses(chunk, params, moments), examples.chunks)
    return sums.sum(axis=0) / examples.totals


def full_batch_loss_and_grad(params: Params, examples: EvaluationSet) -> tuple[Float[Array, ""], Params]:
    """Mean loss over every window of the first split, and its exact gradient, from distinct contexts."""

    def summed(params, contexts, counts):
        return counted_cross_entropy(params, contexts, counts[:1])[0] / examples.totals[0]

    if params.norms:  # Batch norm's moments join all contexts.
        contexts = examples.contexts.reshape(-1, examples.contexts.shape[-1])
        counts = examples.counts[:, 0].reshape(1, len(contexts), -1)
        return jax.value_and_grad(summed)(params, contexts, counts)

    def accumulate(total, chunk):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(summed)(params, *chunk)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(accumulate, zero, examples.chunks)[0]


def each_loss(params: Params, windows: Windows, moments: tuple[Moments, ...] = ()) -> Float[np.ndarray, " n"]:
    """Each window's own cross-entropy in nats; a longer context than the model's counts with its last tokens."""
    cut = Windows(windows.contexts[:, -params.block_size :], windows.targets)
    chunks = EvaluationWindows.of(cut, np.ones((1, len(windows)), np.float32))
    large = params.embedding.shape[0] > LARGE_VOCABULARY
    return np.asarray(_chunk_losses(params, chunks, moments, large)).ravel()[: len(windows)]


@partial(jax.jit, static_argnames="large")
def _chunk_losses(
    params: Params, examples: EvaluationWindows, moments: tuple[Moments, ...], large: bool
) -> Float[Array, "chunk size"]:
    losses = blockwise_window_losses if large else window_losses
    windows = (examples.contexts, examples.targets)
    return jax.lax.map(lambda chunk: losses(params, chunk[0], chunk[1], moments), windows)


def population_moments(params: Params, examples: Examples) -> tuple[Moments, ...]:
    """Mean and variance of each hidden layer's affine outputs over every window of the first split.

    Without batch norm there are none: (). Exact, so evaluation needs no running averages. A layer's moments need those
    of the layers before it.
    """
    if not params.norms:
        return ()
    blank = tuple(Moments(jnp.zeros_like(norm.gain), jnp.ones_like(norm.gain)) for norm in params.norms)
    moments: tuple[Moments, ...] = ()
    for layer in range(len(params.norms)):
        moments += (_layer_moments(params, examples, moments + blank[layer:], layer),)
    return moments


jitted_moments = jax.jit(population_moments)


def _layer_moments(params: Params, examples: Examples, moments: tuple[Moments, ...], layer: int) -> Moments:
    def accumulate(total, chunk):
        weights = examples.training_counts(chunk)
        z = forward(params, chunk[0], moments).affine[layer]
        share = weights / jnp.maximum(weights.sum(), 1.0)
        mean = share @ z
        return _merge(total, (weights.sum(), mean, share @ (z - mean[None, :]) ** 2)), None

    width = params.norms[layer].gain
    start = (jnp.zeros(()), jnp.zeros_like(width), jnp.zeros_like(width))
    (_, mean, variance), _ = jax.lax.scan(accumulate, start, examples.chunks)
    return Moments(mean, variance)


def _merge(a, b):
    """Counts, means and variances of two samples to those of their union (Chan, Golub and LeVeque 1983)."""
    (n_a, mean_a, var_a), (n_b, mean_b, var_b) = a, b
    n = n_a + n_b
    share = n_b / jnp.maximum(n, 1.0)
    delta = mean_b - mean_a
    return n, mean_a + share * delta, (1 - share) * var_a + share * var_b + share * (1 - share) * delta**2
