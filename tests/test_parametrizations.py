"""Parametrisations of the width: equal to the standard one at the base width, with the paper's scales and rates away
from it, and with features that change as they should.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlp_lm.config import RunConfig
from mlp_lm.loss import cross_entropy, minibatch_loss_and_grad
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.model import Dense, Params, forward
from mlp_lm.training import RunBatch, initial_params, make_optimizer, train

M = 4  # How much wider than the base.
WIDE = RunConfig(init="fan_in", hidden_size=48, base_width=48 // M, embedding_dim=3, n_layers=3, parametrization="mup")
SHORT = RunConfig(init="fan_in", hidden_size=24, embedding_dim=3, n_steps=40, n_evaluations=2)
ADAM = {"optimizer": "adam", "learning_rate": 0.01}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


BASES = [
    pytest.param("mup", {}, marks=pytest.mark.long),
    ("mup", {"init": "kaiming_tanh", "n_layers": 2, "momentum": 0.9, "weight_decay": 1e-3, "clip_norm": 1.0}),
    pytest.param("mup", {"init": "orthogonal", "n_layers": 2, "batch_norm": True}, marks=pytest.mark.long),
    pytest.param("mup", {"direct": True, **ADAM}, marks=pytest.mark.long),
    ("ntk", {"n_layers": 2, "weight_decay": 0.1, "activation": "relu", **ADAM}),
]


@pytest.mark.parametrize(("parametrization", "settings"), BASES)
def test_at_the_base_width_it_is_the_standard_one_bit_for_bit(parametrization, settings, few_dataset):
    config = replace(SHORT, **settings)
    own = replace(config, parametrization=parametrization, base_width=config.hidden_size)
    one, other = train(config, few_dataset), train(own, few_dataset)
    assert bits(one.losses) == bits(other.losses)
    assert bits(one.params) == bits(other.params)


@pytest.mark.parametrize("init", ["fan_in", "kaiming_tanh", "xavier", "orthogonal", "uniform"])
@pytest.mark.parametrize(("parametrization", "output_power"), [("mup", -1), ("ntk", -0.5)])
def test_initial_weights_are_the_base_models_times_powers_of_the_width(
    init, parametrization, output_power, few_dataset
):
    wide = replace(WIDE, init=init, parametrization=parametrization, hidden_size=240, base_width=60)

    def stds(config):
        params = initial_params(config, few_dataset)
        first, *_, last = params.hidden
        return np.array([np.std(w) for w in (params.embedding, first.weight, last.weight, params.output.weight)])

    base = stds(replace(wide, hidden_size=60))
    np.testing.assert_allclose(stds(wide) / base, [1, 1, M**-0.5, M**output_power], rtol=0.1)


# Yang et al. 2022, table 3, relative to the base width, and Yang and Hu 2021, table 1, for weights without multipliers:
# embedding, first hidden weights, hidden biases, further hidden weights, output weights, output bias.
RATES = {
    ("mup", "sgd"): (1, M, M, 1, 1 / M, 1),
    ("mup", "adam"): (1, 1, 1, 1 / M, 1 / M, 1),
    ("ntk", "sgd"): (1, 1, 1, 1 / M, 1 / M, 1),
    ("ntk", "adam"): (1, 1, 1, M**-0.5, M**-0.5, 1),
}


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("parametrization", "optimizer"), RATES)
def test_each_matrix_has_the_papers_rate_and_all_decay_alike(parametrization, optimizer, decay, few_dataset):
    config = replace(WIDE, parametrization=parametrization, optimizer=optimizer, weight_decay=decay)
    params = jax.tree.map(jnp.asarray, initial_params(config, few_dataset))
    gradients = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)

    def update(config):
        numbers = jax.tree.map(jnp.asarray, config.numbers())
        transform = make_optimizer(jnp.float32(0.1), numbers, config.program())
        updates = jax.jit(lambda params: transform.update(gradients, transform.init(params), params)[0])
        return parts(updates(params))

    plain = update(replace(config, parametrization="standard", base_width=200, weight_decay=0.0))
    weights = [0 if w.ndim == 1 else w for w in parts(params)]  # Biases do not decay.
    expected = [
        f * u - 0.1 * decay * w for f, u, w in zip(RATES[parametrization, optimizer], plain, weights, strict=True)
    ]
    for one, other in zip(update(config), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def parts(params: Params):
    first, _, last = params.hidden
    return params.embedding, first.weight, last.bias, last.weight, params.output.weight, params.output.bias


def test_mup_is_the_model_with_logits_divided_by_the_width(few_dataset):
    """Table 8: output weights of constant variance under a multiplier of 1/m, which learn m times as fast."""
    config = replace(WIDE, momentum=0.9, n_steps=20, n_evaluations=1)
    batch = RunBatch.start([config], few_dataset)
    data = batch.data
    start = jax.tree.map(jnp.asarray, initial_params(config, few_dataset))
    params = replace(start, output=Dense(M * start.output.weight, start.output.bias))
    rates = jax.tree.map(jnp.ones_like, params)
    first, *deeper = rates.hidden
    rates = replace(
        rates,
        hidden=(jax.tree.map(lambda r: M * r, first), *(Dense(layer.weight, M * layer.bias) for layer in deeper)),
        output=Dense(M * rates.output.weight, rates.output.bias),
    )

    def loss(params, contexts, targets):
        activations = forward(params, contexts)
        logits = activations.hidden[-1] @ params.output.weight / M + params.output.bias[None, :]
        return cross_entropy(logits, targets)

    gradient, momenta = jax.jit(jax.grad(loss)), jax.tree.map(jnp.zeros_like, params)
    for windows in draw_minibatches(np.uint32(0), jnp.arange(10), config.batch_size, len(data.targets), False):
        gradients = gradient(params, data.contexts[windows], data.targets[windows])
        momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, gradients)
        params = jax.tree.map(lambda p, r, m: p - 0.1 * r * m, params, rates, momenta)
    batch.advance(10)
    by_rates = batch.trained_params()[0]
    np.testing.assert_allclose(by_rates.hidden[1].weight, params.hidden[1].weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(M * by_rates.output.weight, params.output.weight, rtol=1e-4, atol=1e-5)
    assert np.abs(params.hidden[1].weight - start.hidden[1].weight).max() > 1e-2


WIDTHS = (64, 256, 1024)
# Of the width: how the change of the last hidden preactivations goes, and that of the logits, after one step.
# Standard: x . x / n grows with n under one rate; ntk: features stand still in the limit (Yang and Hu 2021, section 3).
EXPONENTS = {
    ("standard", "sgd"): (0.5, 1),
    ("standard", "adam"): (1, 1.5),
    ("mup", "sgd"): (0, 0),
    ("mup", "adam"): (0, 0),
    ("ntk", "sgd"): (-0.5, 0),
    ("ntk", "adam"): (0.5, 1),
}


@pytest.mark.parametrize(
    ("parametrization", "optimizer"),
    [pytest.param(*each, marks=[pytest.mark.long] if each[1] == "adam" else []) for each in EXPONENTS],
)
def test_coordinate_check(parametrization, optimizer, few_dataset):
    changes = []
    for width in WIDTHS:
        sizes = {"n_layers": 2, "hidden_size": width, "base_width": WIDTHS[0] if parametrization != "standard" else 200}
        config = replace(WIDE, parametrization=parametrization, optimizer=optimizer, learning_rate=1e-4, **sizes)
        of_seeds = [change(replace(config, seed=seed), few_dataset) for seed in range(2)]
        changes.append(np.sqrt(np.mean(np.square(of_seeds), axis=0)))
    exponents = np.polyfit(np.log(WIDTHS), np.log(changes), 1)[0]
    np.testing.assert_allclose(exponents, EXPONENTS[parametrization, optimizer], atol=0.25)


def change(config, dataset):
    """Root mean square of the changes of last hidden preactivations and logits by one step of a whole epoch."""
    windows = dataset.windows("train", 3)
    contexts, targets = jnp.asarray(windows.contexts), jnp.asarray(windows.targets)
    params = jax.tree.map(jnp.asarray, initial_params(config, dataset))
    return [float(size) for size in changes_by_a_step(params, config.numbers(), contexts, targets, config.program())]


@partial(jax.jit, static_argnums=4)
def changes_by_a_step(params, numbers, contexts, targets, program):
    numbers = jax.tree.map(jnp.asarray, numbers)
    transform = make_optimizer(numbers.learning_rate, numbers, program)
    _, gradients = minibatch_loss_and_grad(params, contexts, targets)
    updates, _ = transform.update(gradients, transform.init(params), params)
    before, after = forward(params, contexts), forward(optax.apply_updates(params, updates), contexts)
    pairs = (before.preactivations[-1], after.preactivations[-1]), (before.logits, after.logits)
    return [jnp.sqrt(jnp.mean((b - a) ** 2)) for b, a in pairs]
