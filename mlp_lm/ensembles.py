"""Averages of several models' probabilities, and their mixture with a count model, exact over distinct contexts.

Probabilities and sums are in float64: averages of small numbers, logarithms of averages.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from mlp_lm.evaluation import CHUNK
from mlp_lm.model import Moments, Params, forward


def distribution(
    params: Params, moments: tuple[Moments, ...], contexts: Int[np.ndarray, "m block"]
) -> Float[np.ndarray, "m vocab"]:
    """Probabilities of the whole vocabulary after each context; a longer context counts with its last tokens.

    With batch norm, `moments` are those of the training split (mlp_lm.evaluation.population_moments).
    """
    features = params.hidden[0].weight.shape[0] if params.hidden else params.direct.shape[0]  # type: ignore[union-attr]
    block_size = features // params.embedding.shape[1]
    padded = np.pad(contexts[:, -block_size:], ((0, -len(contexts) % CHUNK), (0, 0)))
    logits = _chunk_logits(params, moments, jnp.asarray(padded.reshape(-1, CHUNK, block_size)))
    flat = np.asarray(logits, np.float64).reshape(len(padded), -1)[: len(contexts)]
    probabilities: Float[np.ndarray, "m vocab"] = softmax(flat, axis=1)
    return probabilities


@jax.jit
def _chunk_logits(
    params: Params, moments: tuple[Moments, ...], contexts: Int[Array, "chunk size block"]
) -> Float[Array, "chunk size vocab"]:
    return jax.lax.map(lambda chunk: forward(params, chunk, moments).logits, contexts)


def average(members: Sequence[Float[np.ndarray, "m vocab"]]) -> Float[np.ndarray, "m vocab"]:
    """The mean of the members' probabilities, a distribution again."""
    return np.mean(np.stack(members), axis=0)


def mix(
    neural: Float[np.ndarray, "m vocab"], counted: Float[np.ndarray, "m vocab"], weight: float
) -> Float[np.ndarray, "m vocab"]:
    """`(1 - weight) * neural + weight * counted` (Bengio et al. 2003, section 4.2, with a weight of 1/2)."""
    return (1 - weight) * neural + weight * counted


def mixture_weight(
    neural: Float[np.ndarray, "m vocab"], counted: Float[np.ndarray, "m vocab"], counts: Float[np.ndarray, "m vocab"]
) -> float:
    """The count model's weight in the mixture of the lowest loss on `counts`; the loss is convex in it."""
    found = minimize_scalar(
        lambda weight: mean_loss(mix(neural, counted, weight), counts), bounds=(0, 1), method="bounded"
    )
    return float(found.x)


def mean_loss(probabilities: Float[np.ndarray, "m vocab"], counts: Float[np.ndarray, "m vocab"]) -> float:
    """Mean cross-entropy in nats per token; `counts[i, k]` is how often target k followed context i."""
    seen = counts > 0
    weights = counts[seen].astype(np.float64)
    with np.errstate(divide="ignore"):  # A count model may rule a token out: an infinite loss.
        return float(-(weights @ np.log(probabilities[seen])) / weights.sum())
