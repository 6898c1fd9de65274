"""The keys of a run's random draws: one for each purpose, from its seed alone.

The second half is `jax.random`'s default generator in plain operations, number for number: what `jax.random` draws for
keys that were themselves computed takes XLA five times as long to compile for a processor, and twice as long to run.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

WEIGHTS, MINIBATCH, SAMPLING, DROPOUT, NOISE = range(5)
# The probe minibatch of mlp_lm.diagnostics is drawn from what are also the keys of dropout's first two steps: a window
# of the probe has nothing to do with a unit dropped, and a number of its own would change every recorded diagnostic.
PROBE = DROPOUT

Seed = UInt32[Array, ""] | np.uint32


def purpose_key(seed: Seed, purpose: int) -> Key[Array, ""]:
    """The key of one purpose of a run."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


# Skip at first reading, from here on.

# Any integers: those of another type are taken modulo 2**32.
Integers = Int[Array, "..."] | UInt32[Array, "..."]
Words = tuple[UInt32[Array, "..."], UInt32[Array, "..."]]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def key_words(key: Key[Array, ""]) -> Words:
    """The two words of a key, for the functions below."""
    first, second = jax.random.key_data(key)
    return first, second


def fold_in(key: Words, data: Integers | int) -> Words:
    """`jax.random.fold_in`, of any number of keys."""
    return _threefry(key, jnp.uint32(0), jnp.asarray(data, jnp.uint32))


def bits(key: Words, i: Integers | int = 0) -> UInt32[Array, "..."]:
    """The i-th of the numbers that `jax.random.bits` draws."""
    first, second = _threefry(key, jnp.uint32(0), jnp.asarray(i, jnp.uint32))
    return first ^ second


def integers(key: Words, i: Integers, n: int) -> Int[Array, "..."]:
    """The i-th of the numbers that `jax.random.randint` draws, from 0 to n - 1."""
    high, low = (bits(fold_in(key, half), i) for half in (0, 1))
    factor = (2**16 % n) ** 2 % 2**32 % n  # As there: 0 for n above 2**16, so that the higher half plays no part.
    return ((high % n * factor + low % n) % n).astype(jnp.int32)


def _threefry(key: Words, first: UInt32[Array, "..."], second: UInt32[Array, "..."]) -> Words:
    """Two words encrypted by Threefry-2x32 with 20 rounds (Salmon et al. 2011)."""
    keys = (*key, key[0] ^ key[1] ^ jnp.uint32(PARITY))
    first, second = first + keys[0], second + keys[1]
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            first = first + second
            second = (second << rotation | second >> (32 - rotation)) ^ first
        first, second = first + keys[(i + 1) % 3], second + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return first, second
