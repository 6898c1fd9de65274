"""The softmax over a large vocabulary: loss and gradient block by block, so that a block's logits stay in cache.

A processor with matrix units multiplies bfloat16 several times faster than float32. Products here may take bfloat16
factors; they always add up in float32, and weights, loss and gradients are float32.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 512  # Tokens whose logits exist at once; 256 to 512 measured best at 256 to 512 windows a step.
NEVER = -1e30  # Bias of the tokens that fill the last block: their probability is zero.

FLOAT32, BFLOAT16 = "float32", "bfloat16"

_Gradients = tuple[Float[Array, "batch features"], Float[Array, "features vocab"], Float[Array, " vocab"]]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def wide_cross_entropy(
    features: Float[Array, "batch features"],
    weight: Float[Array, "features vocab"],
    bias: Float[Array, " vocab"],
    targets: Int[Array, " batch"],
    precision: str = FLOAT32,
) -> Float[Array, ""]:
    """Mean cross-entropy in nats of the logits `features @ weight + bias`, which never exist all at once.

    Logits must stay below 88, where exp overflows in float32: those of a language model do. `precision` is that of
    the factors of the products.
    """
    return _loss_and_grad(features, weight, bias, targets, precision)[0]


def wide_losses(
    features: Float[Array, "batch features"],
    weight: Float[Array, "features vocab"],
    bias: Float[Array, " vocab"],
    targets: Int[Array, " batch"],
) -> Float[Array, " batch"]:
    """Each window's own cross-entropy in nats, with products in float32; see `wide_cross_entropy`."""
    totals = _totals(features, _blocks(weight, bias, FLOAT32))
    return jnp.log(totals) - _target_logits(features, weight, bias, targets)


def _forward(features, weight, bias, targets, precision):
    return _loss_and_grad(features, weight, bias, targets, precision)


def _backward(precision, gradients: _Gradients, upstream: Float[Array, ""]):
    return *(gradient * upstream for gradient in gradients), None


wide_cross_entropy.defvjp(_forward, _backward)


def _loss_and_grad(
    features: Float[Array, "batch features"],
    weight: Float[Array, "features vocab"],
    bias: Float[Array, " vocab"],
    targets: Int[Array, " batch"],
    precision: str,
) -> tuple[Float[Array, ""], _Gradients]:
    batch, width = features.shape
    x = features.astype(precision)
    # A row of ones makes the bias's gradient a part of the weight's.
    x_and_one = jax.lax.optimization_barrier(jnp.concatenate([x, jnp.ones((batch, 1), x.dtype)], axis=1).T)
    weights, biases = blocks = _blocks(weight, bias, precision)
    totals = _totals(x, blocks)
    log_totals = jnp.log(totals * batch)
    firsts = jnp.arange(len(biases)) * BLOCK
    rows = _transposed_blocks(weight, precision)

    def add_block(d_features, block):
        weight, rows, bias, first = block
        softmax = jnp.exp(_product(x, weight) + (bias[None, :] - log_totals[:, None]))
        is_target = first + jnp.arange(BLOCK)[None, :] == targets[:, None]
        d_logits = jax.lax.optimization_barrier((softmax - is_target / batch).astype(precision))
        return d_features + _product(d_logits, rows), _product(x_and_one, d_logits)

    d_features, found = jax.lax.scan(add_block, jnp.zeros((batch, width)), (weights, rows, biases, firsts))
    d_both = found.transpose(1, 0, 2).reshape(width + 1, -1)[:, : len(bias)]
    loss = (jnp.log(totals) - _target_logits(features, weight, bias, targets)).mean()
    return loss, (d_features, d_both[:-1], d_both[-1])


def _blocks(weight, bias, precision: str) -> tuple[Float[Array, "block features size"], Float[Array, "block size"]]:
    filling = -len(bias) % BLOCK
    weights = jnp.pad(weight, ((0, 0), (0, filling))).astype(precision).reshape(len(weight), -1, BLOCK)
    biases = jnp.pad(bias, (0, filling), constant_values=NEVER).reshape(-1, BLOCK)
    return jax.lax.optimization_barrier(weights.transpose(1, 0, 2)), biases


def _transposed_blocks(weight, precision: str) -> Float[Array, "block size features"]:
    """The blocks of the transposed weight: XLA's matrix units want the second factor's rows to be the ones summed.

    Turned while it is float32, which XLA does faster than turning bfloat16.
    """
    turned = jax.lax.optimization_barrier(weight.T)
    filled = jnp.pad(turned, ((0, -len(turned) % BLOCK), (0, 0))).astype(precision)
    return jax.lax.optimization_barrier(filled.reshape(-1, BLOCK, weight.shape[0]))


def _totals(x, blocks) -> Float[Array, " batch"]:
    """The sum of exp(logit) over the vocabulary."""

    def add_block(total, block):
        weight, bias = block
        return total + jnp.exp(_product(x, weight) + bias[None, :]).sum(axis=1), None

    return jax.lax.scan(add_block, jnp.zeros(len(x)), blocks)[0]


def _target_logits(features, weight, bias, targets) -> Float[Array, " batch"]:
    return jnp.einsum("bf,fb->b", features, weight[:, targets]) + bias[targets]


def _product(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)
