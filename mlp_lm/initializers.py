"""Initial weights: nested standard draws, scaled by a scheme.

A standard draw depends only on (seed, part of the model, unit, distance of the context position from the target,
feature). The first 100 hidden units of a 300-unit model so equal the 100-unit model
of the same seed, and likewise the first embedding dimensions, the most recent context positions and the first tokens:
configurations with the same seed begin with the same draws. (Up to the scheme's scale, which may depend on
fan_in; orthogonal weights, made from the draws by a QR decomposition, are not nested.)
"""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from mlp_lm.config import Architecture
from mlp_lm.model import Dense, Norm, Params
from mlp_lm.padding import pad_params, unpad_params
from mlp_lm.parametrizations import ByKind, Parametrization, powers_of
from mlp_lm.random_keys import WEIGHTS, purpose_key
from mlp_lm.schemes import Sample, Scale, Scheme


def init_params(key: Key[Array, ""], scheme: Scheme, architecture: Architecture) -> Params:
    """The initial weights of one model under a scheme."""
    return scale_draws(standard_draws(key, scheme.sample, architecture), scheme, architecture)


def draw_params(
    seed: int,
    scheme: Scheme,
    architecture: Architecture,
    wide: Architecture | None = None,
    parametrization: Parametrization | None = None,
    base_width: int | None = None,
) -> Params:
    """The initial weights of the run with this seed, zero-padded to the widths of `wide`.

    Draws are nested, so those of the wide model hold the ones wanted, and one compiled program serves many widths.
    """
    wide = wide or architecture
    draws = standard_draws(purpose_key(np.uint32(seed), WEIGHTS), scheme.sample, wide, on=np)
    params = scale_draws(unpad_params(draws, architecture), scheme, architecture, parametrization, base_width)
    return pad_params(params, architecture, wide.embedding_dim, wide.hidden_size)


def standard_draws(key: Key[Array, ""], sample: Sample, architecture: Architecture, on: ModuleType = jnp) -> Params:
    """A model whose every weight and bias is an independent standard draw (gains 1, shifts 0).

    Its arrays are those of `on`: jax.numpy, or numpy, which compiles nothing for the parts of an architecture.
    """
    a, parts = architecture, _parts(architecture)
    flat = on.asarray(_draw(key, *_coordinates(architecture), sample))
    *cut, _ = on.split(flat, np.cumsum([part.size for part in parts]))
    draws = [draw.reshape(part.groups * part.features, part.units) for draw, part in zip(cut, parts, strict=True)]
    embedding, *rest, output, output_bias, direct = draws
    weights, biases = rest[: a.n_layers], rest[a.n_layers :]
    return Params(
        embedding=embedding.T,  # A token is a unit, its embedding the unit's weights.
        hidden=tuple(Dense(w, None if a.batch_norm else b[0]) for w, b in zip(weights, biases, strict=True)),
        norms=tuple(
            Norm(on.ones(a.hidden_size, "float32"), on.zeros(a.hidden_size, "float32")) for _ in weights if a.batch_norm
        ),
        output=Dense(output, output_bias[0]),
        direct=direct if a.direct else None,
        activation=a.activation,
    )


@partial(jax.jit, static_argnums=3)
def _draw(
    key: Key[Array, ""], units: UInt32[Array, " n"], inputs: UInt32[Array, " n"], sample: Sample
) -> Float[Array, " n"]:
    return jax.vmap(lambda u, i: sample(jax.random.fold_in(jax.random.fold_in(key, u), i)))(units, inputs)


def scale_draws(
    draws: Params,
    scheme: Scheme,
    architecture: Architecture,
    parametrization: Parametrization | None = None,
    base_width: int | None = None,
) -> Params:
    """Standard draws to a scheme's weights: multiplications only, unless the scheme is orthogonal.

    Under a parametrisation the scheme's scales are those of a model of `base_width` hidden units, times powers of how
    much wider this model is.
    """
    a = architecture
    base = a.hidden_size if parametrization is None else base_width or a.hidden_size
    powers = parametrization.scale if parametrization else ByKind(0, 0, 0)
    wider = powers_of(a.hidden_size / max(base, 1), powers)

    def dense(layer: Dense, fans: tuple[int, int], scale: Scale, bias_scale: Scale, factor: float) -> Dense:
        weight = orthonormal(jnp.asarray(layer.weight)) if scheme.orthogonal else layer.weight
        # The entries of an orthonormal matrix depend on its size; others do not, and the ratio is 1.
        factor *= scheme.draw_std(*fans) / scheme.draw_std(*layer.weight.shape)
        bias = None if layer.bias is None else layer.bias * np.float32(bias_scale(*fans))
        return Dense(weight * np.float32(factor * scale(*fans)), bias)

    first, deeper = (a.n_features, base), (base, base)
    return replace(
        draws,
        embedding=draws.embedding * np.float32(scheme.embedding(1, a.embedding_dim)),
        hidden=tuple(
            dense(layer, deeper if i else first, scheme.hidden, scheme.hidden_bias, wider.hidden if i else wider.inputs)
            for i, layer in enumerate(draws.hidden)
        ),
        output=dense(draws.output, (base, a.vocab_size), scheme.output, scheme.output_bias, wider.output),
        direct=None if draws.direct is None else draws.direct * np.float32(scheme.direct(a.n_features, a.vocab_size)),
    )


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


def _parts(architecture: Architecture) -> list[_Part]:
    a = architecture
    layers = [
        _Part(_HIDDEN + i, a.block_size if i == 0 else 1, a.embedding_dim if i == 0 else a.hidden_size, a.hidden_size)
        for i in range(a.n_layers)
    ]
    return [
        _Part(_EMBEDDING, 1, a.embedding_dim, a.vocab_size),
        *layers,
        *[_Part(_HIDDEN_BIAS + i, 1, 1, 0 if a.batch_norm else a.hidden_size) for i in range(a.n_layers)],
        _Part(_OUTPUT, 1, a.hidden_size, a.vocab_size),
        _Part(_OUTPUT_BIAS, 1, 1, a.vocab_size),
        _Part(_DIRECT, a.block_size, a.embedding_dim, a.vocab_size if a.direct else 0),
    ]


@lru_cache(maxsize=4)
def _coordinates(architecture: Architecture) -> tuple[UInt32[np.ndarray, " n"], UInt32[np.ndarray, " n"]]:
    """The two numbers that name each weight: (part, unit) and (distance of the position, feature).

    They are passed to the compiled draws as arguments: as constants, XLA would fold millions of them while compiling.
    There are as many as the next power of two, so that one program serves many architectures; the surplus repeats the
    first weight, and is cut off.
    """
    each = []
    for part in _parts(architecture):
        distance = np.arange(part.groups)[::-1, None, None]  # Group 0 is the oldest position.
        inputs = distance * _FIELD + np.arange(part.features)[:, None] + np.zeros((1, 1, part.units), int)
        units = part.number * _FIELD + np.arange(part.units) + np.zeros_like(inputs)
        each.append((units.ravel().astype(np.uint32), inputs.ravel().astype(np.uint32)))
    units, inputs = (np.concatenate(axis) for axis in zip(*each, strict=True))
    filling = (0, (1 << (len(units) - 1).bit_length()) - len(units))
    return np.pad(units, filling), np.pad(inputs, filling)
