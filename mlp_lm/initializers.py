"""The named initialisation schemes, over nested draws.

A scheme scales standard draws, and a standard draw depends only on (seed, part of the model, unit, distance of the
context position from the target, feature). The first 100 hidden units of a 300-unit model so equal the 100-unit model
of the same seed, and likewise the first embedding dimensions, the most recent context positions and the first tokens:
cells of a grid that share a seed share all the luck they can share. (Up to the scheme's scale, which may depend on
fan_in; orthogonal weights, made from the draws by a QR decomposition, are not nested.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from mlp_lm.model import Architecture, Dense, Norm, Params

TANH_GAIN = 5 / 3  # torch.nn.init.calculate_gain("tanh")
RELU_GAIN = math.sqrt(2)  # He et al. 2015, equation 10

Sample = Callable[[Key[Array, ""]], Float[Array, ""]]
Scale = Callable[[int, int], float]  # From a layer's fan_in and fan_out.


def standard_normal(key: Key[Array, ""]) -> Float[Array, ""]:
    """One draw from N(0, 1)."""
    return jax.random.normal(key)


def standard_uniform(key: Key[Array, ""]) -> Float[Array, ""]:
    """One draw from U(-1, 1)."""
    return jax.random.uniform(key, minval=-1.0, maxval=1.0)


def constant(scale: float) -> Scale:
    """The same scale whatever the layer's size."""
    return lambda fan_in, fan_out: scale


def per_fan_in(gain: float) -> Scale:
    """`gain / sqrt(fan_in)`: inputs of unit variance give preactivations of standard deviation `gain`."""
    return lambda fan_in, fan_out: gain / math.sqrt(max(fan_in, 1))


def per_fan_average(gain: float) -> Scale:
    """`gain * sqrt(2 / (fan_in + fan_out))` (Glorot and Bengio 2010, equation 16, as a standard deviation)."""
    return lambda fan_in, fan_out: gain * math.sqrt(2 / max(fan_in + fan_out, 1))


ZERO, ONE = constant(0.0), constant(1.0)


@dataclass(frozen=True)
class Scheme:
    """The scale of each part of a model, over standard draws; `orthogonal` makes hidden and output weights so."""

    summary: str
    source: str
    sample: Sample = standard_normal
    embedding: Scale = ONE
    hidden: Scale = ONE
    hidden_bias: Scale = ONE
    output: Scale = ONE
    output_bias: Scale = ONE
    direct: Scale = ONE
    orthogonal: bool = False


NORMAL = Scheme("every weight and bias N(0, 1)", "makemore lecture 2 (Karpathy 2022)")
SCALED_OUTPUT = replace(
    NORMAL,
    summary="normal, but output and direct weights x 0.01 and output bias 0",
    source="makemore lecture 3: fixing the initial loss",
    output=constant(0.01),
    output_bias=ZERO,
    direct=constant(0.01),
)
SCALED_HIDDEN = replace(
    SCALED_OUTPUT,
    summary="scaled_output, and hidden weights x 0.2, hidden bias x 0.01",
    source="makemore lecture 3: fixing the saturated tanh",
    hidden=constant(0.2),
    hidden_bias=constant(0.01),
)
FAN_IN = Scheme(
    "weights of standard deviation 1/sqrt(fan_in), biases 0",
    "LeCun et al. 1998, Efficient BackProp, equation 16",
    hidden=per_fan_in(1.0),
    hidden_bias=ZERO,
    output=per_fan_in(1.0),
    output_bias=ZERO,
    direct=per_fan_in(1.0),
)
SCHEMES: dict[str, Scheme] = {
    "normal": NORMAL,
    "uniform": Scheme("every weight and bias U(-1, 1)", "the lecture's JavaScript port", standard_uniform),
    "fan_in": FAN_IN,
    "scaled_output": SCALED_OUTPUT,
    "scaled_hidden": SCALED_HIDDEN,
    "kaiming_tanh": replace(
        SCALED_HIDDEN,
        summary="scaled_hidden, but hidden weights of standard deviation (5/3)/sqrt(fan_in)",
        source="makemore lecture 3; He et al. 2015 with PyTorch's gain for tanh",
        hidden=per_fan_in(TANH_GAIN),
    ),
    "kaiming_relu": replace(
        SCALED_HIDDEN,
        summary="kaiming_tanh with the gain of ReLU, sqrt(2), for contrast",
        source="He et al. 2015, equation 10",
        hidden=per_fan_in(RELU_GAIN),
    ),
    "xavier": replace(
        FAN_IN,
        summary="weights of standard deviation sqrt(2/(fan_in + fan_out)), biases 0",
        source="Glorot and Bengio 2010, equation 16",
        hidden=per_fan_average(1.0),
        output=per_fan_average(1.0),
        direct=per_fan_average(1.0),
    ),
    "orthogonal": replace(
        FAN_IN,
        summary="orthogonal hidden and output weights, biases 0",
        source="Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning",
        hidden=ONE,
        output=ONE,
        orthogonal=True,
    ),
    "bengio2003": replace(
        FAN_IN,
        summary="weights U(-1, 1)/sqrt(fan_in), embedding U(-0.1, 0.1), direct 0, biases 0",
        source="Bengio et al. 2003 say only that weights are drawn at random; the scales are ours",
        sample=standard_uniform,
        embedding=constant(0.1),
        direct=ZERO,
    ),
    "zeros": Scheme(
        "all zero but the embedding, N(0, 1): symmetry is never broken",
        "Goodfellow et al. 2016, Deep Learning, section 8.4",
        hidden=ZERO,
        hidden_bias=ZERO,
        output=ZERO,
        output_bias=ZERO,
        direct=ZERO,
    ),
}


def init_params(key: Key[Array, ""], scheme: Scheme, architecture: Architecture) -> Params:
    """The initial weights of one model under a scheme."""
    return scale_draws(standard_draws(key, scheme.sample, architecture), scheme, architecture)


@partial(jax.jit, static_argnums=(1, 2))
def standard_draws(key: Key[Array, ""], sample: Sample, architecture: Architecture) -> Params:
    """A model whose every weight and bias is an independent standard draw (gains 1, shifts 0)."""
    a = architecture
    layers = [
        _Part(_HIDDEN + i, a.block_size if i == 0 else 1, a.embedding_dim if i == 0 else a.hidden_size, a.hidden_size)
        for i in range(a.n_layers)
    ]
    parts = [
        _Part(_EMBEDDING, 1, a.embedding_dim, a.vocab_size),
        *layers,
        *[_Part(_HIDDEN_BIAS + i, 1, 1, 0 if a.batch_norm else a.hidden_size) for i in range(a.n_layers)],
        _Part(_OUTPUT, 1, a.hidden_size, a.vocab_size),
        _Part(_OUTPUT_BIAS, 1, 1, a.vocab_size),
        _Part(_DIRECT, a.block_size, a.embedding_dim, a.vocab_size if a.direct else 0),
    ]
    embedding, *rest, output, output_bias, direct = _draw_parts(key, sample, parts)
    weights, biases = rest[: a.n_layers], rest[a.n_layers :]
    return Params(
        embedding=embedding.T,  # A token is a unit, its embedding the unit's weights.
        hidden=tuple(Dense(w, None if a.batch_norm else b[0]) for w, b in zip(weights, biases, strict=True)),
        norms=tuple(Norm(jnp.ones(a.hidden_size), jnp.zeros(a.hidden_size)) for _ in weights if a.batch_norm),
        output=Dense(output, output_bias[0]),
        direct=direct if a.direct else None,
    )


def scale_draws(draws: Params, scheme: Scheme, architecture: Architecture) -> Params:
    """Standard draws to a scheme's weights: multiplications only, unless the scheme is orthogonal."""
    a = architecture

    def dense(layer: Dense, scale: Scale, bias_scale: Scale) -> Dense:
        fan_in, fan_out = layer.weight.shape
        weight = orthonormal(jnp.asarray(layer.weight)) if scheme.orthogonal else layer.weight
        bias = None if layer.bias is None else layer.bias * np.float32(bias_scale(fan_in, fan_out))
        return Dense(weight * np.float32(scale(fan_in, fan_out)), bias)

    return replace(
        draws,
        embedding=draws.embedding * np.float32(scheme.embedding(1, a.embedding_dim)),
        hidden=tuple(dense(layer, scheme.hidden, scheme.hidden_bias) for layer in draws.hidden),
        output=dense(draws.output, scheme.output, scheme.output_bias),
        direct=None if draws.direct is None else draws.direct * np.float32(scheme.direct(a.n_features, a.vocab_size)),
    )


def with_gain(scheme: Scheme, gain: float) -> Scheme:
    """The scheme with a factor on its hidden weights."""
    return replace(scheme, hidden=lambda fan_in, fan_out: gain * scheme.hidden(fan_in, fan_out))


def orthonormal(gaussian: Float[Array, "fan_in fan_out"]) -> Float[Array, "fan_in fan_out"]:
    """Orthonormal columns (rows, where fan_out is the larger) from Gaussian draws, uniform over such matrices."""
    if 0 in gaussian.shape:
        return jnp.asarray(gaussian)
    wide = gaussian.shape[0] < gaussian.shape[1]
    q, r = jnp.linalg.qr(gaussian.T if wide else gaussian)
    q = q * jnp.sign(jnp.diagonal(r))[None, :]  # Without the signs Q is not uniform (Mezzadri 2007).
    return q.T if wide else q


@dataclass(frozen=True)
class _Part:
    """A matrix of draws `[groups * features, units]`; the groups of a first layer are its context positions."""

    number: int
    groups: int
    features: int
    units: int

    @property
    def size(self) -> int:
        return self.groups * self.features * self.units


# The number of each part enters its draws: never change one.
_EMBEDDING, _OUTPUT, _OUTPUT_BIAS, _DIRECT, _HIDDEN, _HIDDEN_BIAS = 0, 1, 2, 3, 1024, 2048
_FIELD = 1 << 20  # Units and features are numbered below this, parts and groups below 4096.


def _draw_parts(key: Key[Array, ""], sample: Sample, parts: list[_Part]) -> list[Float[Array, "fan_in units"]]:
    # All parts in one flat call: each use of the generator costs a good part of a second to compile.
    coordinates = [_coordinates(part) for part in parts]
    units, inputs = (jnp.asarray(np.concatenate(axis)) for axis in zip(*coordinates, strict=True))
    flat = jax.vmap(lambda u, i: sample(jax.random.fold_in(jax.random.fold_in(key, u), i)))(units, inputs)
    cuts = np.cumsum([part.size for part in parts])[:-1]
    shapes = [(part.groups * part.features, part.units) for part in parts]
    return [draw.reshape(shape) for draw, shape in zip(jnp.split(flat, cuts), shapes, strict=True)]


def _coordinates(part: _Part) -> tuple[UInt32[np.ndarray, " size"], UInt32[np.ndarray, " size"]]:
    """The two numbers that name each weight: (part, unit) and (distance of the position, feature)."""
    distance = np.arange(part.groups)[::-1, None, None]  # Group 0 is the oldest position.
    inputs = distance * _FIELD + np.arange(part.features)[:, None] + np.zeros((1, 1, part.units), int)
    units = part.number * _FIELD + np.arange(part.units) + np.zeros_like(inputs)
    return units.ravel().astype(np.uint32), inputs.ravel().astype(np.uint32)
