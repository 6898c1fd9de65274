"""The generator in plain operations against `jax.random`'s own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_lm.minibatches import draw_minibatches
from mlp_lm.random_keys import MINIBATCH, bits, fold_in, integers, key_words, purpose_key

SEEDS = jnp.array([0, 1, 2, 12345, 2**31, 2**32 - 1], jnp.uint32)


@jax.jit
@jax.vmap
def of_jax(seed):
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 7)
    return jax.random.key_data(jax.random.fold_in(key, 3)), jax.random.bits(key, (50,)), jax.random.bits(key)


@jax.jit
@jax.vmap
def in_plain_operations(seed):
    key = fold_in(key_words(jax.random.key(seed)), 2**32 - 7)
    return jnp.stack(fold_in(key, 3)), bits(key, jnp.arange(50)), bits(key)


def test_keys_and_bits_are_those_of_jax():
    for ours, theirs in zip(in_plain_operations(SEEDS), of_jax(SEEDS), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [1, 2, 27, 1000, 2**16 - 1, 2**16, 2**16 + 1, 182_625, 2**31 - 1])
def test_integers_are_those_of_jax(n):
    key = jax.random.key(7)
    ours = integers(key_words(key), jnp.arange(1000), n)
    np.testing.assert_array_equal(ours, jax.random.randint(key, (1000,), 0, n))


def test_minibatches_are_what_jax_draws_for_each_step():
    drawn = draw_minibatches(np.uint32(5), jnp.arange(100, 130), 32, 182_625)
    key = purpose_key(np.uint32(5), MINIBATCH)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(100, 130))
    expected = jax.vmap(lambda key: jax.random.randint(key, (32,), 0, 182_625))(keys)
    np.testing.assert_array_equal(drawn, expected)
