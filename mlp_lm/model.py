"""The multilayer-perceptron language model of Bengio et al. 2003: its parameters and its forward pass."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from mlp_lm.activations import activation_named
from mlp_lm.config import Architecture
from mlp_lm.data_scaling import NORM_EPSILON

__all__ = ["Activations", "Architecture", "Dense", "Dropout", "Moments", "Norm", "Params", "forward"]


if TYPE_CHECKING:
    Leaf = Array
else:
    # The same class holds one model, stacked models, NumPy arrays, and whatever jax.tree.map makes of them, so the
    # fields of a pytree have their shapes in its docstring, and no check when one is made.
    Leaf = Any


@struct.dataclass
class Dense:
    """An affine map `x @ weight + bias`.

    `weight [fan_in, fan_out]`, `bias [fan_out]`, which is None where batch norm would cancel it.
    """

    weight: Leaf
    bias: Leaf | None


@struct.dataclass
class Norm:
    """Batch norm's trainable `gain [hidden]` and `shift [hidden]`."""

    gain: Leaf
    shift: Leaf


@struct.dataclass
class Moments:
    """Mean `[hidden]` and variance `[hidden]` (ddof 0) of a layer's affine outputs."""

    mean: Leaf
    variance: Leaf


@struct.dataclass
class Params:
    """All weights of one model, and its activation.

    embedding: `[vocab, embed]`, Bengio's C. hidden: one `Dense` a layer, the first with fan_in = block * embed,
    position-major with the oldest token first. norms: one `Norm` a hidden layer, or empty without batch norm.
    output: `Dense` `[hidden, vocab]`. direct: `[block * embed, vocab]`, Bengio's dashed arrows W, or None.
    activation: a name in `mlp_lm.ACTIVATIONS`, part of the tree's structure.
    """

    embedding: Leaf
    hidden: tuple[Dense, ...]
    norms: tuple[Norm, ...]
    output: Dense
    direct: Leaf | None
    activation: str = struct.field(pytree_node=False, default="tanh")

    @property
    def block_size(self) -> int:
        """Context tokens that the model sees."""
        first = self.hidden[0].weight if self.hidden else self.direct
        assert first is not None
        return int(first.shape[-2]) // int(self.embedding.shape[-1])


@struct.dataclass
class Dropout:
    """One step's dropout: the shares of hidden units, and of features (of the concatenated embeddings), set to zero.

    A share of None drops nothing.
    """

    key: Leaf
    hidden: Leaf | None
    features: Leaf | None


@struct.dataclass
class Activations:
    """What a forward pass computes.

    `features [batch, features]` are the concatenated embeddings, `logits [batch, vocab]` the outputs. Of each hidden
    layer, `[batch, hidden]`: `affine` is `x @ weight + bias`, `preactivations` the argument of the activation, after
    batch norm where there is one, and `hidden` what the next layer sees.
    """

    features: Leaf
    logits: Leaf
    affine: tuple[Leaf, ...]
    preactivations: tuple[Leaf, ...]
    hidden: tuple[Leaf, ...]


def embed(table: Float[Array, "vocab embed"], ids: Int[Array, "batch block"]) -> Float[Array, "batch features"]:
    """Rows of `table` for each context, concatenated: features = block * embed."""
    return jnp.asarray(table)[ids].reshape(ids.shape[0], ids.shape[1] * table.shape[1])


def affine(layer: Dense, x: Float[Array, "batch fan_in"]) -> Float[Array, "batch fan_out"]:
    """`x @ weight + bias`."""
    y = x @ layer.weight
    return y if layer.bias is None else y + layer.bias[None, :]


def batch_moments(z: Float[Array, "batch hidden"], weights: Float[Array, " batch"] | None = None) -> Moments:
    """Each unit's mean and variance over a batch, whose rows may be weighted by how often they occur."""
    mean = jnp.average(z, axis=0, weights=weights)
    return Moments(mean, jnp.average((z - mean[None, :]) ** 2, axis=0, weights=weights))


def normalize(z: Float[Array, "batch hidden"], norm: Norm, moments: Moments) -> Float[Array, "batch hidden"]:
    """Batch norm (Ioffe and Szegedy 2015): `gain * (z - mean) / sqrt(variance + epsilon) + shift`."""
    scale = norm.gain * jax.lax.rsqrt(moments.variance + NORM_EPSILON)
    return (z - moments.mean[None, :]) * scale[None, :] + norm.shift[None, :]


def drop(x: Float[Array, "batch units"], key: Key[Array, ""], rate: Float[Array, ""]) -> Float[Array, "batch units"]:
    """Dropout (Srivastava et al. 2014): zero with probability `rate`, else scaled up by 1 / (1 - rate)."""
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0.0)


def forward(
    params: Params,
    contexts: Int[Array, "batch block"],
    moments: tuple[Moments, ...] | None = None,
    weights: Float[Array, " batch"] | None = None,
    dropout: Dropout | None = None,
    perturbations: tuple[Float[Array, "batch hidden"], ...] | None = None,
) -> Activations:
    """Logits of the next token after each context: `b + W x + U tanh(d + H x)` (Bengio et al. 2003, section 2).

    Token ids are not checked against the vocabulary: indexing clamps them silently.

    Args:
        params: the model.
        contexts: token ids, the oldest first.
        moments: each hidden layer's mean and variance, for batch norm; None takes them from this batch.
        weights: how often each context counts in the moments of this batch; None is once.
        dropout: the step's dropout; hidden activations and features are then those that the next layer sees.
        perturbations: added to each hidden layer's activations; the gradient with respect to them, at zero, is that
            with respect to the activations.
    """
    features = embed(params.embedding, contexts)
    if dropout is not None and dropout.features is not None:
        features = drop(features, jax.random.fold_in(dropout.key, 0), dropout.features)
    activation = activation_named(params.activation)
    x, affines, preactivations, hidden = features, [], [], []
    for i, layer in enumerate(params.hidden):
        z = affine(layer, x)
        affines.append(z)
        if params.norms:
            z = normalize(z, params.norms[i], batch_moments(z, weights) if moments is None else moments[i])
        x = activation(z)
        if perturbations is not None:
            x = x + perturbations[i]
        if dropout is not None and dropout.hidden is not None:
            x = drop(x, jax.random.fold_in(dropout.key, i + 1), dropout.hidden)
        preactivations.append(z)
        hidden.append(x)
    logits = affine(params.output, x)
    if params.direct is not None:
        logits = logits + features @ params.direct
    return Activations(features, logits, tuple(affines), tuple(preactivations), tuple(hidden))
