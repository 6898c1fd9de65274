"""The keys of a run's random draws: one for each purpose, from its seed alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Key, UInt32

WEIGHTS, MINIBATCH, SAMPLING, DROPOUT, NOISE = range(5)
# The probe minibatch of mlp_lm.diagnostics is drawn from what are also the keys of dropout's first two steps: a window
# of the probe has nothing to do with a unit dropped, and a number of its own would change every recorded diagnostic.
PROBE = DROPOUT

Seed = UInt32[Array, ""] | np.uint32


def purpose_key(seed: Seed, purpose: int) -> Key[Array, ""]:
    """The key of one purpose of a run."""
    return jax.random.fold_in(jax.random.key(seed, impl=GENERATOR), purpose)


# Skip at first reading, from here on: JAX's default generator, number for number, written so that XLA fuses it. On a
# processor JAX's own is a loop, which takes two to five times as long to compile, and about twice as long to run.

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def _seed(seed: Array) -> UInt32[Array, "2"]:
    return jnp.stack([jnp.uint32(0), seed.astype(jnp.uint32)])


def _fold_in(key: UInt32[Array, "2"], data: Any) -> UInt32[Array, "2"]:
    return jnp.stack(_threefry(key, data))


def _split(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> UInt32[Array, "*shape 2"]:
    return jnp.stack(_threefry(key, _counts(shape)), axis=-1)


def _bits(key: UInt32[Array, "2"], width: int, shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    if width != 32:
        raise ValueError(f"numbers of 32 bits are drawn, not of {width}; cast them")
    first, second = _threefry(key, _counts(shape))
    return first ^ second


def _counts(shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    return jnp.arange(int(np.prod(shape)), dtype=jnp.uint32).reshape(shape)


def _threefry(
    key: UInt32[Array, "2"], data: UInt32[Array, "*shape"]
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Zero and `data`, encrypted by Threefry-2x32 with 20 rounds (Salmon et al. 2011)."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    first, second = jnp.broadcast_to(keys[0], data.shape), data + keys[1]
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            first = first + second
            second = (second << rotation | second >> (32 - rotation)) ^ first
        first, second = first + keys[(i + 1) % 3], second + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return first, second


GENERATOR = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_bits, fold_in=_fold_in, name="threefry", tag="fry"
)
