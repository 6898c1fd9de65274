"""Activations, schedules and optimisers: each against its formula or its library, and what the tables say of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlp_lm import config as config_module
from mlp_lm.activations import ACTIVATIONS, Activation, activation_named
from mlp_lm.config import BUILT_IN, RunConfig
from mlp_lm.cpu_gradients import arrange, arranged_loss_and_grad, can_arrange
from mlp_lm.diagnostics import layer_statistics, make_widths
from mlp_lm.loss import minibatch_loss, minibatch_loss_and_grad
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.model import Dense, Params, forward
from mlp_lm.optimizers import ELEMENTWISE
from mlp_lm.padding import pad_params, stack_runs, take_run, unpad_params
from mlp_lm.schedules import learning_rates
from mlp_lm.training import RunBatch, advance_batch, evaluate_batch, init_batch, initial_params

SMALL = RunConfig(embedding_dim=3, hidden_size=20)
VOCAB = 27
Z = np.linspace(-6, 6, 241, dtype=np.float32)

# --- Activations ---

FORMULAS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softsign": lambda z: z / (1 + np.abs(z)),
}
each_activation = pytest.mark.parametrize("name", FORMULAS)
with_slope = pytest.mark.parametrize("name", [name for name in FORMULAS if activation_named(name).slope])
KEEPING_ZERO = [name for name in FORMULAS if activation_named(name).keeps_zero]


def test_every_activation_is_here():
    assert BUILT_IN["activation"] == FORMULAS.keys()
    assert with_slope.args[1] == ["tanh", "relu", "softsign"]


@each_activation
def test_an_activation_is_its_formula_and_jax_s(name):
    values = activation_named(name)(jnp.asarray(Z))
    np.testing.assert_allclose(values, FORMULAS[name](Z.astype(np.float64)), rtol=1e-5, atol=1e-6)
    theirs = {"tanh": jnp.tanh, "softsign": jax.nn.soft_sign}.get(name) or getattr(jax.nn, name)
    np.testing.assert_array_equal(values, theirs(jnp.asarray(Z)))


@each_activation
def test_a_model_has_its_own_activation(name, few_data, few_dataset):
    params = jax.tree.map(jnp.asarray, initial_params(replace(SMALL, activation=name, n_layers=2), few_dataset))
    actual = forward(params, few_data.contexts[:50])
    for z, h in zip(actual.preactivations, actual.hidden, strict=True):
        np.testing.assert_allclose(h, FORMULAS[name](np.asarray(z, np.float64)), rtol=1e-5, atol=1e-6)


@with_slope
def test_a_slope_is_the_derivative_as_a_function_of_the_value(name):
    activation, z = activation_named(name), jnp.asarray(Z[Z != 0])  # relu has no derivative at 0.
    expected = jax.vmap(jax.grad(activation))(z)
    np.testing.assert_allclose(activation.slope(activation(z)), expected, atol=2e-6)


@with_slope
@pytest.mark.parametrize("direct", [False, True])
def test_the_arranged_gradient_is_that_of_autodiff(name, direct, few_data, few_dataset):
    config = replace(SMALL, init="fan_in", activation=name, direct=direct)
    assert can_arrange(config.architecture(VOCAB))
    params = jax.tree.map(jnp.asarray, initial_params(config, few_dataset))
    batch = few_data.contexts[:32], few_data.targets[:32]
    loss, grads = jax.jit(arranged_loss_and_grad)(arrange(params), *batch)
    plain_loss, plain_grads = jax.jit(minibatch_loss_and_grad)(params, *batch)
    assert float(loss) == pytest.approx(float(plain_loss), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), arrange(grads), plain_grads)


def test_without_a_slope_nothing_is_arranged():
    for name in ("gelu", "silu"):
        assert not can_arrange(replace(SMALL, activation=name).architecture(VOCAB))


@pytest.mark.parametrize("name", KEEPING_ZERO)
def test_what_keeps_zero_maps_it_to_zero(name):
    assert activation_named(name)(jnp.zeros(())) == 0


def trained_params(config, dataset, n_steps=40):
    batch = RunBatch.start([replace(config, n_steps=n_steps, n_evaluations=1)], dataset)
    batch.advance(n_steps)
    return batch.trained_params()[0]


@pytest.mark.parametrize(("name", "n_layers"), [*((name, 1) for name in KEEPING_ZERO), ("silu", 2)])
def test_a_padded_run_is_the_unpadded_one(name, n_layers, few_dataset, monkeypatch):
    config = replace(SMALL, activation=name, n_layers=n_layers)
    architecture = config.architecture(VOCAB)
    padded = trained_params(config, few_dataset)
    assert padded.embedding.shape[1] == 4 and padded.output.weight.shape[0] == 32
    inside = unpad_params(padded, architecture)
    assert_same_bits(pad_params(inside, architecture, 4, 32), padded)  # The padding is still zero.
    monkeypatch.setattr(config_module, "PADDED_STEPS", 0)
    plain = trained_params(config, few_dataset)
    assert plain.output.weight.shape[0] == 20
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), inside, plain)


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_function_that_may_not_keep_zero_is_never_padded(tables):
    tables["activation"]["plain"] = lambda z: jnp.cos(z)
    tables["activation"]["said"] = Activation(lambda z: jnp.sin(z), keeps_zero=True)
    short = replace(SMALL, n_steps=100)
    assert replace(short, activation="plain").trained_widths == (20, 3)
    assert replace(short, activation="said").trained_widths == (32, 4)


@each_activation
def test_saturation_is_zero_where_there_is_no_bound(name, few_data, few_dataset):
    config = replace(SMALL, activation=name)
    params = jax.tree.map(lambda leaf: 30 * jnp.asarray(leaf), initial_params(config, few_dataset))
    widths = make_widths(config.architecture(VOCAB))
    actual = jax.jit(layer_statistics)(params, few_data.examples, (), widths)
    if activation_named(name).saturation is None:
        assert actual.saturated_share.tolist() == actual.dead_units.tolist() == [0]
    else:
        assert actual.saturated_share[0] > 0.9  # tanh alone has one here.
        assert name == "tanh"


# --- Schedules ---


def rates(n_steps, **fields):
    config = RunConfig(**({"learning_rate": 1.0} | fields))
    return np.asarray(learning_rates(jnp.arange(n_steps), jnp.array(n_steps), config.program(), config.numbers()))


def test_step_decay_has_its_factor_from_its_place_on():
    np.testing.assert_allclose(rates(10), [1] * 5 + [0.1] * 5, rtol=1e-6)
    np.testing.assert_allclose(rates(10, decay_factor=0.5, decay_at=0.8), [1] * 8 + [0.5] * 2, rtol=1e-6)
    np.testing.assert_allclose(rates(10, decay_factor=0.0, decay_at=0.0), [0] * 10)
    np.testing.assert_allclose(rates(10, decay_at=1.0), [1] * 10)
    np.testing.assert_allclose(rates(10, learning_rate=0.3, decay_factor=2.0), [0.3] * 5 + [0.6] * 5, rtol=1e-6)


def test_a_warm_up_rises_linearly_to_the_whole_rate_and_leaves_it_alone_from_there():
    np.testing.assert_allclose(
        rates(10, schedule="constant", warmup=0.4), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1], rtol=1e-6
    )
    np.testing.assert_allclose(rates(10, schedule="constant", warmup=1.0), np.arange(1, 11) / 10, rtol=1e-6)
    whole, warmed = rates(100, schedule="cosine"), rates(100, schedule="cosine", warmup=0.25)
    np.testing.assert_allclose(warmed[:25], whole[:25] * np.arange(1, 26) / 25, rtol=1e-5)
    np.testing.assert_array_equal(warmed[25:], whole[25:])


def test_inverse_time_has_its_rate():
    np.testing.assert_allclose(
        rates(4, schedule="inverse_time", inverse_time_rate=0.5), 1 / (1 + np.arange(4) / 2), rtol=1e-6
    )


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_a_plateau_is_waited_out_for_its_patience(patience, few_data, few_dataset):
    config = replace(SMALL, schedule="plateau", patience=patience)
    batch = RunBatch.start([config], few_dataset)
    states, scales = batch.states, []
    for _ in range(3 * patience + 3):  # Nothing is trained, so the dev loss stands still.
        states, _ = evaluate_batch(states, few_data, batch.program)
        scales.append(float(states.plateau.scale[0]))
    # The first evaluation is the best one; then each `patience` evaluations without gain take a tenth, at most thrice.
    falls = 1 + patience * np.arange(1, 4)
    expected = [0.1 ** sum(fall <= i + 1 for fall in falls) for i in range(len(scales))]
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


def test_a_schedule_of_two_arguments_or_three(tables):
    tables["schedule"]["linear"] = lambda step, n_steps: 1 - step / n_steps
    tables["schedule"]["own"] = lambda step, n_steps, numbers: numbers.decay_factor ** (step / n_steps)
    np.testing.assert_allclose(rates(5, schedule="linear", learning_rate=0.5), [0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(rates(5, schedule="own", decay_factor=0.25), 0.25 ** (np.arange(5) / 5), rtol=1e-6)


def test_a_user_s_schedule_makes_the_updates(tables, few_dataset):
    tables["schedule"]["late"] = lambda step, n_steps: (step >= 20).astype(jnp.float32)
    config = replace(SMALL, schedule="late", n_steps=40, n_evaluations=2)
    batch = RunBatch.start([config], few_dataset)
    before = batch.trained_params()[0]
    batch.advance(20)
    assert_same_bits(batch.trained_params()[0], before)
    batch.advance(21)
    assert (batch.trained_params()[0].output.weight != before.output.weight).any()


# --- Optimisers ---

RATE, DECAY, MOMENTUM = 0.02, 0.1, 0.9


def weights_alone(params):
    """Weights and embedding."""
    dense = Dense(True, False)
    return Params(True, tuple(dense for _ in params.hidden), (), dense, True, params.activation)


BY_OPTAX = {
    "sgd": ({}, optax.sgd(RATE)),
    "sgd, momentum, decay": (
        {"momentum": MOMENTUM, "weight_decay": DECAY},
        optax.chain(optax.add_decayed_weights(DECAY, mask=weights_alone), optax.sgd(RATE, momentum=MOMENTUM)),
    ),
    "sgd, clipped": ({"clip_norm": 0.05}, optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(RATE))),
    "adam, decay, epsilon": (
        {"optimizer": "adam", "weight_decay": DECAY, "adam_epsilon": 1e-3},
        optax.adamw(RATE, eps=1e-3, weight_decay=DECAY, mask=weights_alone),
    ),
    "adam, clipped": (
        {"optimizer": "adam", "clip_norm": 0.05},
        optax.chain(optax.clip_by_global_norm(0.05), optax.adam(RATE)),
    ),
    "lion, decay": (
        {"optimizer": "lion", "weight_decay": DECAY},
        optax.lion(RATE, weight_decay=DECAY, mask=weights_alone),
    ),
    "muon, decay": (
        {"optimizer": "muon", "weight_decay": DECAY},
        optax.contrib.muon(RATE, weight_decay=DECAY, weight_decay_mask=weights_alone),
    ),
    "sign_sgd": ({"optimizer": "sign_sgd"}, optax.sign_sgd(RATE)),
    "sign_sgd, decay": (
        {"optimizer": "sign_sgd", "weight_decay": DECAY},
        optax.chain(
            optax.scale_by_sign(),
            optax.add_decayed_weights(DECAY, mask=weights_alone),
            optax.scale_by_learning_rate(RATE),
        ),
    ),
}


def test_every_optimiser_is_here():
    assert {fields.get("optimizer", "sgd") for fields, _ in BY_OPTAX.values()} == BUILT_IN["optimizer"]


@pytest.mark.parametrize(
    ("name", "activation"),  # With the hand-arranged gradient, where there is one, and without.
    [*((name, "tanh") for name in BY_OPTAX), ("sgd, momentum, decay", "gelu"), ("muon, decay", "gelu")],
)
def test_three_steps_are_optax_s(name, activation, few_data, few_dataset):
    fields, optimizer = BY_OPTAX[name]
    base = replace(SMALL, schedule="constant", learning_rate=RATE, direct=True, init="fan_in", activation=activation)
    config = replace(base, **fields)
    params = jax.tree.map(jnp.asarray, initial_params(config, few_dataset))
    numbers, program = stack_runs([config.numbers()]), config.program()
    states = init_batch(stack_runs([params]), numbers, program)
    actual = take_run(advance_batch(states, numbers, few_data, 0, 3, 10, program).params, 0)

    @jax.jit
    def step(carry, windows):
        params, state = carry
        grads = jax.grad(minibatch_loss)(params, few_data.contexts[windows], few_data.targets[windows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    windows = draw_minibatches(np.uint32(0), jnp.arange(3), 32, len(few_data.targets))
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), windows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, params)


def test_a_clipped_step_is_as_long_as_the_largest_norm(few_data, few_dataset):
    config = replace(SMALL, schedule="constant", learning_rate=1.0, clip_norm=0.05)
    params = initial_params(config, few_dataset)
    numbers, program = stack_runs([config.numbers()]), config.program()
    states = init_batch(stack_runs([params]), numbers, program)
    after = take_run(advance_batch(states, numbers, few_data, 0, 1, 10, program).params, 0)
    step = jax.tree.map(lambda a, b: np.asarray(a) - b, after, params)
    assert float(optax.tree.norm(step)) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("optimizer", sorted(BUILT_IN["optimizer"]))
def test_zero_padded_weights_stay_zero_under_an_elementwise_optimiser_and_no_other_is_padded(
    optimizer, few_data, few_dataset
):
    config = replace(SMALL, optimizer=optimizer, weight_decay=DECAY, clip_norm=1.0, learning_rate=1e-3)
    if optimizer not in ELEMENTWISE:
        assert replace(config, n_steps=100).trained_widths == (20, 3)
        return
    architecture = config.architecture(VOCAB)
    params = pad_params(initial_params(config, few_dataset), architecture, 7, 33)
    numbers, program = stack_runs([config.numbers()]), replace(config.program(), embedding_dim=7, hidden_size=33)
    states = init_batch(stack_runs([params]), numbers, program)
    after = take_run(jax.device_get(advance_batch(states, numbers, few_data, 0, 30, 30, program).params), 0)
    assert_same_bits(pad_params(unpad_params(after, architecture), architecture, 7, 33), after)
    assert (after.output.weight != params.output.weight).any()


def test_a_user_s_optimiser_takes_the_rate_and_the_numbers(tables, few_data, few_dataset):
    tables["optimizer"]["damped"] = lambda rate, numbers: optax.sgd(rate / (1 + numbers.weight_decay))
    config = replace(SMALL, optimizer="damped", weight_decay=1.0, schedule="constant", n_steps=5, n_evaluations=1)
    assert config.trained_widths == (20, 3)  # Nothing is known of it, so it is not padded.
    twin = replace(SMALL, learning_rate=0.05, schedule="constant", n_steps=5, n_evaluations=1)
    actual, expected = (trained_params(one, few_dataset, 5) for one in (config, twin))
    inside = unpad_params(expected, twin.architecture(VOCAB))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, inside)


def test_the_tables_are_as_they_were():
    assert ACTIVATIONS.keys() == BUILT_IN["activation"]
