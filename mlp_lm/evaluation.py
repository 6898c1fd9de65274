"""Exact losses of whole splits, over distinct contexts, and batch-norm moments of the whole training split."""

from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from mlp_lm.dataset import CountedContexts, Windows
from mlp_lm.loss import counted_cross_entropy, window_losses
from mlp_lm.model import Moments, Params, forward

WINDOW_CHUNK = 256  # Windows of running text evaluated at once.
CHUNK = 512  # Contexts evaluated at once: more thrash the cache, fewer leave the processor waiting.


@no_type_check
@struct.dataclass
class EvaluationSet:
    """Distinct contexts in chunks, the last one filled with contexts of count zero. The first split is training.

    contexts: `[chunk, 512, block]`. counts: `[chunk, split, 512, vocab]`. totals: `[split]`, the splits' windows.
    """

    contexts: Int[Array, "chunk size block"]
    counts: Float[Array, "chunk split size vocab"]
    totals: Float[Array, " split"]

    @classmethod
    def of(cls, counted: CountedContexts) -> "EvaluationSet":
        """Cut counted contexts into chunks."""
        n_splits, m, vocab = counted.counts.shape
        filling = -m % CHUNK
        contexts = np.pad(counted.contexts, ((0, filling), (0, 0))).reshape(-1, CHUNK, counted.contexts.shape[1])
        counts = np.pad(counted.counts, ((0, 0), (0, filling), (0, 0))).reshape(n_splits, -1, CHUNK, vocab)
        return cls(jnp.asarray(contexts), jnp.asarray(counts.swapaxes(0, 1)), jnp.asarray(counted.totals))


@no_type_check
@struct.dataclass
class EvaluationWindows:
    """Windows of running text, where hardly a context occurs twice and the vocabulary is large, in chunks.

    contexts: `[chunk, 256, block]`. targets: `[chunk, 256]`. weights: `[chunk, split, 256]`, how often each split holds
    each window. totals: `[split]`, the splits' windows.
    """

    contexts: Int[Array, "chunk size block"]
    targets: Int[Array, "chunk size"]
    weights: Float[Array, "chunk split size"]
    totals: Float[Array, " split"]

    @classmethod
    def of(cls, windows: Windows, weights: Float[np.ndarray, "split n"]) -> "EvaluationWindows":
        """Cut windows into chunks, the last one filled with windows of weight zero."""
        filling = -len(windows) % WINDOW_CHUNK
        contexts = np.pad(windows.contexts, ((0, filling), (0, 0))).reshape(-1, WINDOW_CHUNK, windows.contexts.shape[1])
        padded = np.pad(np.asarray(weights, np.float32), ((0, 0), (0, filling)))
        return cls(
            jnp.asarray(contexts),
            jnp.asarray(np.pad(windows.targets, (0, filling)).reshape(-1, WINDOW_CHUNK)),
            jnp.asarray(padded.reshape(len(weights), -1, WINDOW_CHUNK).swapaxes(0, 1)),
            jnp.asarray(weights.sum(axis=1), jnp.float32),
        )


def exact_losses(
    params: Params, examples: EvaluationSet | EvaluationWindows, moments: tuple[Moments, ...] | None = None
) -> Float[Array, " split"]:
    """Mean cross-entropy of each split in nats per token, equal to the mean over all its windows.

    With batch norm, `moments` are those of the training split (see `population_moments`).
    """
    if isinstance(examples, EvaluationWindows):
        parts = (examples.contexts, examples.targets, examples.weights)
        summed = jax.lax.map(lambda chunk: chunk[2] @ window_losses(params, *chunk[:2]), parts)
        return summed.sum(axis=0) / examples.totals
    sums = jax.lax.map(
        lambda chunk: counted_cross_entropy(params, chunk[0], chunk[1], moments), (examples.contexts, examples.counts)
    )
    return sums.sum(axis=0) / examples.totals


def each_loss(params: Params, windows: Windows) -> Float[np.ndarray, " n"]:
    """Each window's own cross-entropy in nats, for a large vocabulary and a model without batch norm."""
    chunks = EvaluationWindows.of(windows, np.ones((1, len(windows)), np.float32))
    return np.asarray(_chunk_losses(params, chunks)).ravel()[: len(windows)]


@jax.jit
def _chunk_losses(params: Params, examples: EvaluationWindows) -> Float[Array, "chunk size"]:
    return jax.lax.map(lambda chunk: window_losses(params, *chunk), (examples.contexts, examples.targets))


def population_moments(params: Params, examples: EvaluationSet | EvaluationWindows) -> tuple[Moments, ...]:
    """Mean and variance of each hidden layer's affine outputs over every window of the first split.

    Exact, so evaluation needs no running averages. A layer's moments need those of the layers before it.

    Raises:
        TypeError: batch norm over running text, which has no counted contexts.
    """
    if not params.norms:
        return ()
    if isinstance(examples, EvaluationWindows):
        raise TypeError("batch norm needs counted contexts; running text has none")
    blank = tuple(Moments(jnp.zeros_like(norm.gain), jnp.ones_like(norm.gain)) for norm in params.norms)
    found: tuple[Moments, ...] = ()
    for layer in range(len(params.norms)):
        found += (_layer_moments(params, examples, found + blank[layer:], layer),)
    return found


def _layer_moments(params: Params, examples: EvaluationSet, moments: tuple[Moments, ...], layer: int) -> Moments:
    def accumulate(total, chunk):
        contexts, counts = chunk
        weights = counts[0].sum(axis=1)
        z = forward(params, contexts, moments).affine[layer]
        return _merge(total, (weights.sum(), *_weighted_moments(z, weights))), None

    width = params.norms[layer].gain
    start = (jnp.zeros(()), jnp.zeros_like(width), jnp.zeros_like(width))
    (_, mean, variance), _ = jax.lax.scan(accumulate, start, (examples.contexts, examples.counts))
    return Moments(mean, variance)


def _weighted_moments(z, weights):
    share = weights / jnp.maximum(weights.sum(), 1.0)
    mean = share @ z
    return mean, share @ (z - mean[None, :]) ** 2


def _merge(a, b):
    """Counts, means and variances of two samples to those of their union (Chan, Golub and LeVeque 1983)."""
    (n_a, mean_a, var_a), (n_b, mean_b, var_b) = a, b
    n = n_a + n_b
    share = n_b / jnp.maximum(n, 1.0)
    delta = mean_b - mean_a
    return n, mean_a + share * delta, (1 - share) * var_a + share * var_b + share * (1 - share) * delta**2
