"""The multilayer-perceptron language model of Bengio et al. 2003: its parameters and its forward pass."""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

NORM_EPSILON = 1e-5  # torch.nn.BatchNorm1d's.


@dataclass(frozen=True)
class Architecture:
    """The sizes that shape a model. `hidden_size = 0` leaves only the direct connections (a log-linear model)."""

    vocab_size: int
    block_size: int
    embedding_dim: int
    hidden_size: int
    n_layers: int = 1
    batch_norm: bool = False
    direct: bool = False

    @property
    def n_features(self) -> int:
        """Width of the concatenated embeddings of a context."""
        return self.block_size * self.embedding_dim

    @property
    def n_params(self) -> int:
        """Number of trainable parameters. Batch norm replaces each hidden bias by a gain and a shift."""
        fan_ins = [self.n_features] + [self.hidden_size] * (self.n_layers - 1)
        per_unit = 2 if self.batch_norm else 1
        return (
            self.vocab_size * self.embedding_dim
            + sum((fan_in + per_unit) * self.hidden_size for fan_in in fan_ins)
            + (self.hidden_size + 1) * self.vocab_size
            + (self.n_features * self.vocab_size if self.direct else 0)
        )


# The annotations of a pytree's fields say what one model holds. They are not checked, because the same class also holds
# stacked models, NumPy arrays and whatever jax.tree.map makes of them.
@no_type_check
@struct.dataclass
class Dense:
    """An affine map `x @ weight + bias`; the bias is None where batch norm would cancel it."""

    weight: Float[Array, "fan_in fan_out"]
    bias: Float[Array, " fan_out"] | None


@no_type_check
@struct.dataclass
class Norm:
    """Batch norm's trainable gain and shift, one of each per hidden unit."""

    gain: Float[Array, " hidden"]
    shift: Float[Array, " hidden"]


@no_type_check
@struct.dataclass
class Moments:
    """Mean and variance (ddof 0) of a layer's affine outputs, one of each per hidden unit."""

    mean: Float[Array, " hidden"]
    variance: Float[Array, " hidden"]


@no_type_check
@struct.dataclass
class Params:
    """All weights of one model.

    embedding: `[vocab, embed]`, Bengio's C. hidden: one `Dense` a layer, the first with fan_in = block * embed,
    position-major with the oldest token first. norms: one `Norm` a hidden layer, or empty without batch norm.
    output: `Dense` `[hidden, vocab]`. direct: `[block * embed, vocab]`, Bengio's dashed arrows W, or None.
    """

    embedding: Float[Array, "vocab embed"]
    hidden: tuple[Dense, ...]
    norms: tuple[Norm, ...]
    output: Dense
    direct: Float[Array, "features vocab"] | None


@no_type_check
@struct.dataclass
class Dropout:
    """One step's dropout: the shares of hidden units, and of features (of the concatenated embeddings), set to zero."""

    key: Key[Array, ""]
    hidden: Float[Array, ""]
    features: Float[Array, ""]


@no_type_check
@struct.dataclass
class Activations:
    """What a forward pass computes.

    `features` are the concatenated embeddings. `preactivations` are the arguments of tanh, after batch norm where
    there is one; `affine` are the same before it.
    """

    features: Float[Array, "batch features"]
    logits: Float[Array, "batch vocab"]
    affine: tuple[Float[Array, "batch hidden"], ...]
    preactivations: tuple[Float[Array, "batch hidden"], ...]
    hidden: tuple[Float[Array, "batch hidden"], ...]


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
) -> Activations:
    """Logits of the next token after each context: `b + W x + U tanh(d + H x)` (Bengio et al. 2003, section 2).

    Token ids are not checked against the vocabulary: indexing clamps them silently. With batch norm, `moments` holds
    each hidden layer's mean and variance; None takes them from this batch, each context counted once or by its weight
    in `weights`. With `dropout`, hidden activations and features are those that the next layer sees.
    """
    features = embed(params.embedding, contexts)
    if dropout is not None:
        features = drop(features, jax.random.fold_in(dropout.key, 0), dropout.features)
    x, affines, preactivations, hidden = features, [], [], []
    for i, layer in enumerate(params.hidden):
        z = affine(layer, x)
        affines.append(z)
        if params.norms:
            z = normalize(z, params.norms[i], batch_moments(z, weights) if moments is None else moments[i])
        x = jnp.tanh(z)
        if dropout is not None:
            x = drop(x, jax.random.fold_in(dropout.key, i + 1), dropout.hidden)
        preactivations.append(z)
        hidden.append(x)
    logits = affine(params.output, x)
    if params.direct is not None:
        logits = logits + features @ params.direct
    return Activations(features, logits, tuple(affines), tuple(preactivations), tuple(hidden))
