"""The forward pass and its gradient, against independent computations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from mlp_lm.initializers import init_params
from mlp_lm.loss import cross_entropy, minibatch_loss
from mlp_lm.model import Architecture, Moments, embed, forward
from mlp_lm.schemes import SCHEMES

SMALL = Architecture(vocab_size=7, block_size=3, embedding_dim=2, hidden_size=5)
VARIANTS = {
    "plain": SMALL,
    "two layers": replace(SMALL, n_layers=2),
    "batch norm": replace(SMALL, batch_norm=True),
    "direct": replace(SMALL, direct=True),
    "direct only": replace(SMALL, hidden_size=0, direct=True),
    "everything": replace(SMALL, n_layers=3, batch_norm=True, direct=True),
}
each_variant = pytest.mark.parametrize("architecture", VARIANTS.values(), ids=VARIANTS.keys())


def batch(architecture: Architecture, size: int = 16):
    key = jax.random.key(1)
    contexts = jax.random.randint(key, (size, architecture.block_size), 0, architecture.vocab_size)
    return contexts, jax.random.randint(jax.random.fold_in(key, 1), (size,), 0, architecture.vocab_size)


def params_of(architecture: Architecture, scheme: str = "fan_in"):
    return init_params(jax.random.key(0), SCHEMES[scheme], architecture)


def test_embedding_lookup_is_the_one_hot_product():
    table = jax.random.normal(jax.random.key(0), (7, 4))
    ids, _ = batch(SMALL)
    product = jnp.einsum("nbv,ve->nbe", jax.nn.one_hot(ids, 7), table).reshape(len(ids), 12)
    np.testing.assert_allclose(embed(table, ids), product, rtol=1e-6)


ZEROS = linen.initializers.zeros  # Never used, but the default divides by a fan_in of 0.


class LinenModel(linen.Module):
    """The same network written with flax's own layers."""

    architecture: Architecture

    @linen.compact
    def __call__(self, contexts):
        a = self.architecture
        features = linen.Embed(a.vocab_size, a.embedding_dim, name="embedding")(contexts)
        x = features = features.reshape(len(contexts), -1)
        for i in range(a.n_layers):
            x = linen.Dense(a.hidden_size, use_bias=not a.batch_norm, kernel_init=ZEROS, name=f"hidden{i}")(x)
            if a.batch_norm:
                x = linen.BatchNorm(use_running_average=False, use_fast_variance=False, name=f"norm{i}")(x)
            x = jnp.tanh(x)
        logits = linen.Dense(a.vocab_size, kernel_init=ZEROS, name="output")(x)
        return logits + linen.Dense(a.vocab_size, use_bias=False, name="direct")(features) if a.direct else logits


def linen_variables(params, architecture: Architecture):
    tree = {"embedding": {"embedding": params.embedding}}
    for i, layer in enumerate(params.hidden):
        tree[f"hidden{i}"] = {"kernel": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
    for i, norm in enumerate(params.norms):
        tree[f"norm{i}"] = {"scale": norm.gain, "bias": norm.shift}
    tree["output"] = {"kernel": params.output.weight, "bias": params.output.bias}
    if params.direct is not None:
        tree["direct"] = {"kernel": params.direct}
    return tree


@each_variant
def test_an_independent_flax_model_agrees_on_loss_and_gradient(architecture):
    params, (contexts, targets) = params_of(architecture), batch(architecture)
    model = LinenModel(architecture)

    def linen_loss(params):
        variables = {"params": linen_variables(params, architecture)}
        if architecture.batch_norm:
            blank = model.init(jax.random.key(0), contexts)["batch_stats"]
            logits, _ = model.apply(variables | {"batch_stats": blank}, contexts, mutable=["batch_stats"])
        else:
            logits = model.apply(variables, contexts)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1).mean()

    own = jax.jit(jax.value_and_grad(minibatch_loss))(params, contexts, targets)
    theirs = jax.jit(jax.value_and_grad(linen_loss))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), own, theirs)


@each_variant
def test_gradient_is_that_of_finite_differences(architecture):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params_of(architecture))
        contexts, targets = batch(architecture)

        @jax.jit
        def loss(leaves):  # check_grads hands over NumPy arrays.
            return minibatch_loss(jax.tree.map(jnp.asarray, leaves), contexts, targets)

        check_grads(loss, (params,), order=1, modes=["rev"], rtol=1e-6)


@each_variant
def test_parameters_are_counted(architecture):
    assert architecture.n_params == sum(leaf.size for leaf in jax.tree.leaves(params_of(architecture)))


@pytest.mark.parametrize(
    ("block_size", "embedding_dim", "hidden_size", "direct", "n_params"),
    [
        (3, 2, 100, False, 3_481),  # 27*2 + (6+1)*100 + (100+1)*27
        (3, 2, 300, False, 10_281),
        (3, 10, 200, False, 11_897),
        (4, 3, 100, False, 4_108),
        (3, 2, 100, True, 3_643),  # and 6*27
        (3, 10, 200, True, 12_707),
    ],
)
def test_published_parameter_counts(block_size, embedding_dim, hidden_size, direct, n_params):
    assert Architecture(27, block_size, embedding_dim, hidden_size, direct=direct).n_params == n_params


def test_the_lecture_batch_norm_model_has_12097_parameters():
    assert Architecture(27, 3, 10, 200, batch_norm=True).n_params == 12_097


def test_without_hidden_units_the_model_is_log_linear():
    architecture = VARIANTS["direct only"]
    params, (contexts, _) = params_of(architecture), batch(architecture)
    expected = params.output.bias[None, :] + embed(params.embedding, contexts) @ params.direct
    np.testing.assert_allclose(forward(params, contexts).logits, expected, rtol=1e-6)


def test_zero_output_weights_cost_the_log_of_the_vocabulary():
    params, (contexts, targets) = params_of(SMALL, "zeros"), batch(SMALL)
    np.testing.assert_allclose(minibatch_loss(params, contexts, targets), np.log(7), rtol=1e-6)


@settings(deadline=None)
@given(st.floats(-1e4, 1e4), st.integers(0, 2**31 - 1))
def test_cross_entropy_does_not_depend_on_an_offset_of_the_logits(offset, seed):
    logits = jax.random.normal(jax.random.key(seed), (8, 27))
    targets = jnp.arange(8)
    # Adding 1e4 to a float32 rounds it to multiples of 1e-3.
    np.testing.assert_allclose(cross_entropy(logits + offset, targets), cross_entropy(logits, targets), atol=2e-3)


def test_cross_entropy_of_an_impossible_target_is_finite():
    logits = jnp.array([[1e4, 0.0]])  # softmax underflows to exactly 0 here.
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1])), 1e4)


def test_batch_norm_gives_each_unit_zero_mean_and_unit_variance():
    architecture = VARIANTS["batch norm"]
    (z,) = forward(params_of(architecture), batch(architecture, 512)[0]).preactivations
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z.var(axis=0), 1, atol=1e-3)


def test_weighted_batch_norm_is_that_of_repeated_rows():
    architecture = VARIANTS["everything"]
    params, (contexts, _) = params_of(architecture), batch(architecture)
    times = np.arange(len(contexts)) % 3
    weighted = forward(params, contexts, weights=jnp.asarray(times, jnp.float32)).logits
    repeated = forward(params, jnp.repeat(contexts, times, axis=0)).logits
    np.testing.assert_allclose(np.repeat(weighted, times, axis=0), repeated, rtol=1e-4, atol=1e-5)


def test_given_moments_make_examples_independent():
    architecture = VARIANTS["batch norm"]
    params, (contexts, _) = params_of(architecture), batch(architecture)
    moments = (Moments(jnp.full(5, 0.1), jnp.full(5, 2.0)),)
    together = forward(params, contexts, moments).logits
    np.testing.assert_allclose(forward(params, contexts[:1], moments).logits, together[:1], rtol=1e-5)
