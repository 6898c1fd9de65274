"""Cross-entropy in nats per token, over a batch of windows or over distinct contexts with counts."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mlp_lm.model import Dropout, Moments, Params, forward


def cross_entropy(logits: Float[Array, "batch vocab"], targets: Int[Array, " batch"]) -> Float[Array, ""]:
    """Mean cross-entropy in nats per token (Bengio et al. 2003, section 2), stable for any offset of the logits."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def minibatch_loss(
    params: Params, contexts: Int[Array, "batch block"], targets: Int[Array, " batch"], dropout: Dropout | None = None
) -> Float[Array, ""]:
    """Mean cross-entropy of a model over a batch of windows, in nats per token."""
    return cross_entropy(forward(params, contexts, dropout=dropout).logits, targets)


minibatch_loss_and_grad = jax.value_and_grad(minibatch_loss)


def window_losses(
    params: Params,
    contexts: Int[Array, "batch block"],
    targets: Int[Array, " batch"],
    moments: tuple[Moments, ...] | None = None,
) -> Float[Array, " batch"]:
    """Each window's own cross-entropy in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(forward(params, contexts, moments).logits, targets)


def counted_cross_entropy(
    params: Params,
    contexts: Int[Array, "m block"],
    counts: Float[Array, "split m vocab"],
    moments: tuple[Moments, ...] | None = None,
) -> Float[Array, " split"]:
    """Summed (not mean) cross-entropy of each split, in nats, over distinct contexts.

    `counts[s, i, k]` is how often split s saw target k after context i, so the sum runs over every window of a split.
    Without `moments`, batch norm takes the statistics of the first split's windows.
    """
    occurrences = counts.sum(axis=2)
    weights = occurrences[0] if params.norms and moments is None else None
    logits = forward(params, contexts, moments, weights).logits
    # The sum of counts * (log-sum-exp - logit), without an array of log-probabilities.
    return occurrences @ jax.nn.logsumexp(logits, axis=1) - jnp.einsum("smv,mv->s", counts, logits)
