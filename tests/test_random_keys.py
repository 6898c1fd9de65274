"""The generator, written so that XLA fuses it, against the one that JAX has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_lm.minibatches import draw_minibatches
from mlp_lm.random_keys import GENERATOR, MINIBATCH

JAX = "threefry2x32"
SEEDS = np.array([0, 1, 2, 12345, 2**31, 2**32 - 1], np.uint32)
DRAWS = {
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, np.uint32(2**32 - 7))),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "one number": jax.random.bits,
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "none": lambda key: jax.random.bits(key, (0,)),
    "normal": lambda key: jax.random.normal(key, (40,)),
    "truncated": lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (40,)),
    "uniform": lambda key: jax.random.uniform(key, (40,), minval=-1.0),
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.3, (7, 9)),
    "categorical": lambda key: jax.random.categorical(key, jnp.zeros((4, 27))),
    "permutation": lambda key: jax.random.permutation(key, 50),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_every_draw_is_that_of_jax(draw):
    ours, theirs = (
        jax.jit(jax.vmap(lambda seed, impl=impl: draw(jax.random.fold_in(jax.random.key(seed, impl=impl), 3))))(SEEDS)
        for impl in (GENERATOR, JAX)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [1, 2, 27, 1000, 2**16 - 1, 2**16, 2**16 + 1, 182_625, 2**31 - 1])
def test_integers_are_those_of_jax(n):
    ours, theirs = (jax.random.randint(jax.random.key(7, impl=impl), (1000,), 0, n) for impl in (GENERATOR, JAX))
    np.testing.assert_array_equal(ours, theirs)


def test_minibatches_are_what_jax_draws_for_each_step():
    drawn = draw_minibatches(np.uint32(5), jnp.arange(100, 130), 32, 182_625)
    key = jax.random.fold_in(jax.random.key(np.uint32(5), impl=JAX), MINIBATCH)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(100, 130))
    expected = jax.vmap(lambda key: jax.random.randint(key, (32,), 0, 182_625))(keys)
    np.testing.assert_array_equal(drawn, expected)


def test_numbers_of_another_width_are_refused():
    with pytest.raises(ValueError, match="of 32 bits are drawn, not of 16"):
        jax.random.bits(jax.random.key(0, impl=GENERATOR), dtype="uint16")
