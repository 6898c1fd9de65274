"""Exact losses, moments and gradients by counting, against sums over every window."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from mlp_lm.data.dataset import Windows
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.evaluation import exact_losses, full_batch_loss_and_grad, population_moments
from mlp_lm.initializers import init_params
from mlp_lm.loss import cross_entropy, minibatch_loss
from mlp_lm.model import Architecture, forward
from mlp_lm.schemes import SCHEMES

PLAIN = Architecture(27, 3, 4, 20, n_layers=2)
NORMED = replace(PLAIN, batch_norm=True)


@pytest.fixture(scope="module")
def windows(few_dataset):
    dev, new = few_dataset.windows("dev", 3), few_dataset.unseen("dev", 3)
    return [few_dataset.windows("train", 3), dev, Windows(dev.contexts[new], dev.targets[new])]


@pytest.fixture(params=[PLAIN, NORMED], ids=["plain", "batch norm"])
def params(request, few_words):
    architecture = replace(request.param, vocab_size=len(Vocabulary.of(few_words)))
    return init_params(jax.random.key(3), SCHEMES["fan_in"], architecture)


def test_compressed_losses_are_the_naive_ones(params, windows, few_data):
    moments = population_moments(params, few_data.examples) or None
    losses = exact_losses(params, few_data.examples, moments)
    naive = [
        cross_entropy(forward(params, jnp.asarray(w.contexts), moments).logits, jnp.asarray(w.targets)) for w in windows
    ]
    np.testing.assert_allclose(losses, naive, rtol=1e-5)


def test_moments_are_those_of_every_training_window(params, windows, few_data):
    if not params.norms:
        assert population_moments(params, few_data.examples) == ()
        return
    # Over the whole split as one batch, the batch's moments are the population's.
    affine = forward(params, jnp.asarray(windows[0].contexts)).affine
    for z, moments in zip(affine, population_moments(params, few_data.examples), strict=True):
        np.testing.assert_allclose(moments.mean, z.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moments.variance, z.var(axis=0), rtol=1e-4, atol=1e-5)


def test_the_full_batch_gradient_is_that_of_every_training_window(params, windows, few_data):
    own = jax.jit(full_batch_loss_and_grad)(params, few_data.examples)
    naive = jax.jit(jax.value_and_grad(minibatch_loss))(
        params, jnp.asarray(windows[0].contexts), jnp.asarray(windows[0].targets)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6), own, naive)


def test_uniform_logits_cost_the_log_of_the_vocabulary(few_words, few_data):
    vocab_size = len(Vocabulary.of(few_words))
    params = init_params(jax.random.key(0), SCHEMES["zeros"], replace(PLAIN, vocab_size=vocab_size))
    np.testing.assert_allclose(exact_losses(params, few_data.examples), np.log(vocab_size), rtol=1e-6)


def test_the_tests_check_shapes_and_types():
    with pytest.raises(jaxtyping.TypeCheckError):
        cross_entropy(jnp.zeros((4, 27)), jnp.zeros(5, int))  # Four windows, and five targets.
    with pytest.raises(jaxtyping.TypeCheckError):
        cross_entropy(jnp.zeros((4, 27)), jnp.zeros(4))  # Targets are integers.
    with pytest.raises(jaxtyping.TypeCheckError):
        init_params(jax.random.key(0), "fan_in", PLAIN)
