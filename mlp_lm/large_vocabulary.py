"""Skip at first reading: the cross-entropy of a large vocabulary, block by block.

A block's logits stay in a processor's cache. The numbers are those of `mlp_lm.loss`, to rounding.

A processor with matrix units multiplies bfloat16 several times faster than float32. Products here may take bfloat16
factors; they always add up in float32, and weights, loss and gradients are float32. Steps with such factors go through
blocks of tokens, whose logits are computed twice, and so do evaluations and accelerators. Other steps on a processor go
through blocks of windows, whose logits are computed once; without units for bfloat16 their factors are float32 that was
rounded to bfloat16.
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mlp_lm.config import BFLOAT16, FLOAT32
from mlp_lm.model import Dropout, Moments, Params, forward

BLOCK = 512  # Tokens whose logits exist at once; 256 to 512 measured best at 256 to 512 windows a step.
WINDOW_BLOCK = 128  # Windows whose logits exist at once; 64 to 256 measured alike, 32 half as fast.
BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16"}
NEVER = -1e30  # Bias of the tokens that fill the last block: their probability is zero.

_Gradients = tuple[Float[Array, "batch features"], Float[Array, "features vocab"], Float[Array, " vocab"]]


def blockwise_minibatch_loss(
    params: Params,
    contexts: Int[Array, "batch block"],
    targets: Int[Array, " batch"],
    dropout: Dropout | None = None,
    precision: str = FLOAT32,
) -> Float[Array, ""]:
    """`mlp_lm.loss.minibatch_loss`."""
    return blockwise_cross_entropy(*output_product(params, contexts, dropout), targets, precision)


blockwise_loss_and_grad = jax.value_and_grad(blockwise_minibatch_loss)


def blockwise_window_losses(
    params: Params,
    contexts: Int[Array, "batch block"],
    targets: Int[Array, " batch"],
    moments: tuple[Moments, ...] | None = None,
) -> Float[Array, " batch"]:
    """`mlp_lm.loss.window_losses`, with products in float32."""
    features, weight, bias = output_product(params, contexts, moments=moments)
    totals, offset = _totals(features, _blocks(weight, bias, FLOAT32))
    return jnp.log(totals) + offset - _target_logits(features, weight, bias, targets)


def output_product(
    params: Params,
    contexts: Int[Array, "batch block"],
    dropout: Dropout | None = None,
    moments: tuple[Moments, ...] | None = None,
) -> tuple[Float[Array, "batch inputs"], Float[Array, "inputs vocab"], Float[Array, " vocab"]]:
    """The `x`, `weight` and `bias` of which a model's logits are `x @ weight + bias`, direct connections included."""
    # The logits of the forward pass are not used, so they are not computed.
    activations = forward(params, contexts, moments, dropout=dropout)
    inputs = activations.hidden[-1]
    weights = params.output.weight
    if params.direct is not None:
        inputs = jnp.concatenate([inputs, activations.features], axis=1)
        weights = jnp.concatenate([weights, params.direct], axis=0)
    assert params.output.bias is not None
    return inputs, weights, params.output.bias


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def blockwise_cross_entropy(
    features: Float[Array, "batch features"],
    weight: Float[Array, "features vocab"],
    bias: Float[Array, " vocab"],
    targets: Int[Array, " batch"],
    precision: str = FLOAT32,
) -> Float[Array, ""]:
    """Mean cross-entropy in nats of the logits `features @ weight + bias`, which never exist all at once.

    `precision` is that of the factors of the products.
    """
    return _forward(features, weight, bias, targets, precision)[0]


def _forward(features, weight, bias, targets, precision) -> tuple[Float[Array, ""], _Gradients]:
    by_windows = jax.default_backend() == "cpu" and not (precision == BFLOAT16 and multiplies_bfloat16())
    loss_and_grad = _loss_and_grad_by_windows if by_windows else _loss_and_grad_by_tokens
    return loss_and_grad(features, weight, bias, targets, precision)


def _backward(precision, gradients: _Gradients, upstream: Float[Array, ""]):
    return *(gradient * upstream for gradient in gradients), None


blockwise_cross_entropy.defvjp(_forward, _backward)


@cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, by Linux's names; nothing where they are not to be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def multiplies_bfloat16() -> bool:
    """Whether the processor has units for products of bfloat16 factors."""
    return bool(processor_flags() & BFLOAT16_UNITS)


def _loss_and_grad_by_windows(
    features: Float[Array, "batch features"],
    weight: Float[Array, "features vocab"],
    bias: Float[Array, " vocab"],
    targets: Int[Array, " batch"],
    precision: str,
) -> tuple[Float[Array, ""], _Gradients]:
    (batch, width), rounded = features.shape, partial(_rounded, precision=precision)
    factor = rounded(weight)
    size = min(batch, WINDOW_BLOCK)
    shares = jnp.full(batch, 1 / batch)  # Of the mean; windows that fill the last block have none.

    def in_blocks(x):
        filled = jnp.pad(x, ((0, -batch % size), *[(0, 0)] * (x.ndim - 1)))
        return filled.reshape(-1, size, *x.shape[1:])

    def add_block(sums, block):
        x, targets, shares = block
        logits = x @ factor + bias[None, :]
        highest = logits.max(axis=1)
        exponentials = jnp.exp(logits - highest[:, None])
        totals = exponentials.sum(axis=1)
        is_target = jnp.arange(len(bias))[None, :] == targets[:, None]
        d_logits = exponentials * (shares / totals)[:, None] - is_target * shares[:, None]
        d_logits = jax.lax.optimization_barrier(rounded(d_logits))
        losses = jnp.log(totals) + highest - jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        # XLA's fast products contract the last axis of their first factor, here of a copy.
        gradients = jax.lax.optimization_barrier(x.T) @ d_logits, jnp.ones(len(x)) @ d_logits
        return jax.tree.map(jnp.add, sums, (shares @ losses, *gradients)), d_logits @ factor.T

    blocks = in_blocks(rounded(features)), in_blocks(targets), in_blocks(shares)
    none = (jnp.zeros(()), jnp.zeros_like(weight), jnp.zeros_like(bias))
    (loss, d_weight, d_bias), d_features = jax.lax.scan(add_block, none, blocks)
    return loss, (d_features.reshape(-1, width)[:batch], d_weight, d_bias)


def _rounded(x, precision: str):
    """Float32 numbers that `precision` can hold."""
    if precision == FLOAT32:
        return x
    kept = jnp.finfo(precision)
    # A cast to bfloat16 and back would be optimised away.
    return jax.lax.reduce_precision(x, kept.nexp, kept.nmant)


def _loss_and_grad_by_tokens(
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
    totals, offset = _totals(x, blocks)
    log_totals = jnp.log(totals * batch) + offset
    firsts = jnp.arange(len(biases)) * BLOCK
    rows = _transposed_blocks(weight, precision)

    def add_block(d_features, block):
        weight, rows, bias, first = block
        softmax = jnp.exp(_product(x, weight) + (bias[None, :] - log_totals[:, None]))
        is_target = first + jnp.arange(BLOCK)[None, :] == targets[:, None]
        d_logits = jax.lax.optimization_barrier((softmax - is_target / batch).astype(precision))
        return d_features + _product(d_logits, rows), _product(x_and_one, d_logits)

    d_features, d_blocks = jax.lax.scan(add_block, jnp.zeros((batch, width)), (weights, rows, biases, firsts))
    d_both = d_blocks.transpose(1, 0, 2).reshape(width + 1, -1)[:, : len(bias)]
    loss = (jnp.log(totals) + offset - _target_logits(features, weight, bias, targets)).mean()
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


def _totals(x, blocks) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """The sum of exp(logit - offset) over the vocabulary, and the offset: 0 where no sum of the batch overflows.

    Logits of a trained language model stay below 88, where exp overflows in float32; of one that does not, such as
    `normal` with 500 hidden units at its start, sums are taken again below a running maximum.
    """

    def add_block(total, block):
        weight, bias = block
        return total + jnp.exp(_product(x, weight) + bias[None, :]).sum(axis=1), None

    def add_block_below_maximum(state, block):
        total, highest = state
        weight, bias = block
        logits = _product(x, weight) + bias[None, :]
        higher = jnp.maximum(highest, logits.max(axis=1))
        return (total * jnp.exp(highest - higher) + jnp.exp(logits - higher[:, None]).sum(axis=1), higher), None

    none = jnp.zeros(len(x))
    totals = jax.lax.scan(add_block, none, blocks)[0]
    # A running maximum takes half as long again, so it is kept only where it is needed.
    return jax.lax.cond(
        jnp.isinf(totals).any(),
        lambda: jax.lax.scan(add_block_below_maximum, (none, none), blocks)[0],
        lambda: (totals, none),
    )


def _target_logits(features, weight, bias, targets) -> Float[Array, " batch"]:
    return jnp.einsum("bf,fb->b", features, weight[:, targets]) + bias[targets]


def _product(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)
