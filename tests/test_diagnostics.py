"""Diagnostics against naive recomputation over every window, and against the lecture's published statistics."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner.plan import Cohort
from experiments.runner.trainer import train_cohort
from experiments.store import Store
from mlp_lm.config import Architecture, RunConfig
from mlp_lm.diagnostics import (
    activation_gradients,
    diagnose,
    draw_probe,
    layer_statistics,
    make_widths,
)
from mlp_lm.initializers import draw_params
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.model import NORM_EPSILON, Dense, Params
from mlp_lm.padding import stack_runs, take_run
from mlp_lm.schemes import SCHEMES, with_factors
from mlp_lm.training import advance_batch, init_batch, training_data
from tests.conftest import needs_lecture_list

STEPS = 40
DIAGNOSE = jax.jit(diagnose, static_argnums=6)
VARIANTS = {
    "plain": {},
    "deep": {"n_layers": 3},
    "normed": {"n_layers": 2, "batch_norm": True},
    "direct": {"direct": True},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def make_config(variant, **settings):
    return RunConfig(embedding_dim=4, hidden_size=12, seed=5, **variant, **settings)


def trained(config, data, scheme="kaiming_tanh", wide=None):
    """A run after STEPS of 2 STEPS, in the program of `wide` where it is given."""
    vocab_size, program = data.examples.counts.shape[-1], (wide or config).program()
    params = draw_params(
        config.seed, SCHEMES[scheme], config.architecture(vocab_size), program.architecture(vocab_size)
    )
    return train(params, config, data, STEPS, 2 * STEPS, program), config, program


def train(params, config, data, stop, n_steps, program):
    """The state of one run after `stop` of `n_steps` steps."""
    numbers = stack_runs([config.numbers()])
    states = init_batch(stack_runs([params]), numbers, program)
    return take_run(advance_batch(states, numbers, data, 0, stop, n_steps, program), 0)


def diagnosed(state, config, data, program, step=STEPS):
    """The statistics of layers and matrices; the widths are those of `config`, whatever the program pads to."""
    widths = make_widths(config.architecture(data.examples.counts.shape[-1]))
    statistics = DIAGNOSE(state, config.numbers(), widths, data, step, 2 * STEPS, program)
    return jax.tree.map(np.asarray, statistics)


def naive_forward(params, contexts):
    """Preactivations and activations of every window, in float64, batch norm over all of these windows."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = params.embedding[np.asarray(contexts)].reshape(len(contexts), -1)
    seen = []
    for i, layer in enumerate(params.hidden):
        z = x @ layer.weight
        if params.norms:
            z = (z - z.mean(0)) / np.sqrt(z.var(0) + NORM_EPSILON) * params.norms[i].gain + params.norms[i].shift
        else:
            z = z + layer.bias
        x = np.tanh(z)
        seen.append((z, x))
    return seen


@each_variant
def test_layer_statistics_equal_those_of_all_windows(variant, few_data):
    state, config, program = trained(make_config(variant), few_data, "normal")
    actual, _ = diagnosed(state, config, few_data, program)
    for i, (z, h) in enumerate(naive_forward(state.params, few_data.contexts)):
        assert actual.saturated_share[i] == pytest.approx((np.abs(h) > 0.99).mean(), abs=1e-4)
        assert actual.dead_units[i] == (np.abs(h) > 0.99).all(axis=0).sum()
        assert actual.preactivation_mean[i] == pytest.approx(z.mean(), abs=1e-4)
        assert actual.preactivation_std[i] == pytest.approx(z.std(), rel=1e-4)
        assert actual.activation_mean[i] == pytest.approx(h.mean(), abs=1e-4)
        assert actual.activation_std[i] == pytest.approx(h.std(), rel=1e-4)


def test_dead_units_are_those_saturated_on_every_training_context(few_data):
    vocab = few_data.examples.counts.shape[-1]
    # Bias 20: always saturated, on one side or the other. The third unit sees one feature, and is not always so.
    weight = np.zeros((6, 4), np.float32)
    weight[0, 2] = 100.0
    table = np.linspace(-1, 1, 2 * vocab).reshape(vocab, 2).astype(np.float32)
    table[3] = 0.0
    output = Dense(np.zeros((4, vocab), np.float32), np.zeros(vocab, np.float32))
    params = Params(table, (Dense(weight, np.array([20, -20, 0, 0], np.float32)),), (), output, None)
    contexts = np.asarray(few_data.contexts)
    assert (contexts[:, 0] == 3).any() and (contexts[:, 0] != 3).any()
    actual = jax.jit(layer_statistics)(params, few_data.examples, (), make_widths(Architecture(vocab, 3, 2, 4)))
    assert actual.dead_units.tolist() == [2]


@each_variant
def test_gradients_are_those_of_the_probe_minibatch(variant, few_data):
    config = make_config({k: v for k, v in variant.items() if k != "batch_norm"})
    state, _, program = trained(config, few_data)
    _, actual = diagnosed(state, config, few_data, program)
    probe = np.asarray(draw_probe(np.uint32(config.seed), 32, len(few_data.targets)))
    contexts, targets = np.asarray(few_data.contexts)[probe], np.asarray(few_data.targets)[probe]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    by_hand = naive_output_gradient(params, contexts, targets)
    output = len(params.hidden) + 1
    assert actual.gradient_std[output] == pytest.approx(by_hand.std(), rel=1e-3)
    assert actual.weight_std[output] == pytest.approx(params.output.weight.std(), rel=1e-4)
    assert actual.weight_std[0] == pytest.approx(params.embedding.std(), rel=1e-4)
    assert len(actual.weight_std) == 2 + config.n_layers + config.direct
    ratio = by_hand.std() / params.output.weight.std()
    assert actual.gradient_to_weight[output] == pytest.approx(ratio, rel=1e-3)
    # Half-way the schedule has fallen from 0.1 to 0.01.
    assert actual.log10_update_to_weight[output] == pytest.approx(math.log10(0.01 * ratio), abs=1e-3)


def naive_output_gradient(params, contexts, targets):
    h = naive_forward(params, contexts)[-1][1]
    return h.T @ naive_error(params, contexts, targets)


def naive_error(params, contexts, targets):
    """Gradient of the mean loss with respect to the logits: (softmax - one-hot) / batch."""
    logits = naive_forward(params, contexts)[-1][1] @ params.output.weight + params.output.bias
    if params.direct is not None:
        logits = logits + params.embedding[contexts].reshape(len(contexts), -1) @ params.direct
    error = np.exp(logits - logits.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(targets)), targets] -= 1
    return error / len(targets)


@each_variant
def test_activation_gradients(variant, few_data):
    state, *_ = trained(make_config(variant), few_data)
    contexts, targets = few_data.contexts[:50], few_data.targets[:50]
    actual = jax.jit(activation_gradients)(state.params, contexts, targets)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    last = naive_error(params, np.asarray(contexts), np.asarray(targets)) @ params.output.weight.T
    np.testing.assert_allclose(actual[-1], last, rtol=1e-3, atol=1e-7)
    # One layer further down by the chain rule: dL/dx = dL/dz W', and dL/dz = dL/dh (1 - h^2) without batch norm.
    if len(actual) > 1 and not params.norms:
        h = naive_forward(params, contexts)[-1][1]
        np.testing.assert_allclose(actual[-2], (last * (1 - h**2)) @ params.hidden[-1].weight.T, rtol=1e-3, atol=1e-7)


def test_the_update_ratio_is_that_of_the_optimiser(few_data):
    state, config, program = trained(make_config({}, momentum=0.9), few_data)
    _, with_momentum = diagnosed(state, config, few_data, program)
    state, config, program = trained(make_config({}), few_data)
    _, end = diagnosed(state, config, few_data, program, step=2 * STEPS)
    _, late = diagnosed(state, config, few_data, program, step=2 * STEPS - 1)
    _, early = diagnosed(state, config, few_data, program, step=STEPS - 1)
    np.testing.assert_array_equal(end.log10_update_to_weight, late.log10_update_to_weight)
    drop = early.log10_update_to_weight - late.log10_update_to_weight
    np.testing.assert_allclose(drop, 1.0, atol=1e-5)
    # Past gradients of a run under way add up: with momentum 0.9 an update is larger than the gradient's own.
    own = np.log10(0.01 * with_momentum.gradient_to_weight)
    assert (with_momentum.log10_update_to_weight > own + 0.1).all()


@pytest.mark.parametrize("variant", [{}, {"n_layers": 2, "batch_norm": True, "direct": True}], ids=["plain", "normed"])
def test_a_padded_run_has_the_diagnostics_of_the_unpadded_one(variant, few_data):
    config = make_config(variant)
    state, _, program = trained(config, few_data)
    alone = diagnosed(state, config, few_data, program)
    state, _, wide_program = trained(config, few_data, wide=replace(config, embedding_dim=7, hidden_size=20))
    padded = diagnosed(state, config, few_data, wide_program)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), alone, padded)


def test_a_full_batch_run_is_probed_with_every_window(few_data):
    state, config, program = trained(make_config({}, batch_size=0), few_data)
    _, actual = diagnosed(state, config, few_data, program)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    by_hand = naive_output_gradient(params, np.asarray(few_data.contexts), np.asarray(few_data.targets))
    assert actual.gradient_std[2] == pytest.approx(by_hand.std(), rel=1e-3)


def test_an_activation_without_a_bound_is_never_saturated(few_data):
    state, config, program = trained(make_config({"activation": "relu", "n_layers": 2}), few_data, "normal")
    layers, _ = diagnosed(state, config, few_data, program)
    assert layers.saturated_share.tolist() == layers.dead_units.tolist() == [0, 0]
    assert (layers.activation_mean > 0).all()


def test_recording_changes_no_other_number_and_pads_nothing(tmp_path, few_dataset):
    # Both sizes train in one program of 32 units.
    plain = [RunConfig(hidden_size=h, n_steps=60, n_evaluations=3, n_layers=2) for h in (20, 30)]
    recorded = [replace(run, diagnostics=True) for run in plain]
    rows = {}
    for name, runs in (("plain", plain), ("recorded", recorded)):
        rows[name] = train_cohort(Cohort(tuple(runs), 1.0, 4), few_dataset, Store(tmp_path / name))
    for without, with_them in zip(rows["plain"], rows["recorded"], strict=True):
        assert without["history_dev_loss"] == with_them["history_dev_loss"]
        assert "history_dead_units" not in without
        assert [len(layers) for layers in with_them["history_dead_units"]] == [2] * 4
        assert [len(matrices) for matrices in with_them["history_weight_std"]] == [4] * 4
        # The hidden weights' initial scale is gain / sqrt(fan_in), whatever they are padded to.
        fan_in = with_them["hidden_size"]
        assert with_them["history_weight_std"][0][2] == pytest.approx(5 / 3 / math.sqrt(fan_in), rel=0.1)
    stored = Store(tmp_path / "recorded").rows().table
    assert stored["history_saturated_share"].to_pylist()[0] == rows["recorded"][0]["history_saturated_share"]


def test_zero_weights_have_no_ratio(tmp_path, few_dataset):
    run = RunConfig(init="zeros", n_steps=1, n_evaluations=1, diagnostics=True)
    (row,) = train_cohort(Cohort((run,), 1.0, 4), few_dataset, Store(tmp_path / "store"))
    assert row["history_weight_std"][0][1:] == [0.0, 0.0]
    assert row["history_log10_update_to_weight"][0][2] is None
    assert row["history_saturated_share"][0] == [0.0]


@needs_lecture_list
@pytest.mark.parametrize(
    ("scheme", "least", "most"),
    # makemore lecture 3: most of the tanh is in its flat tails; hardly any; some.
    [("normal", 0.48, 0.72), ("scaled_hidden", 0.0, 0.08), ("kaiming_tanh", 0.04, 0.23)],
)
def test_saturation_of_a_first_batch(scheme, least, most, lecture_dataset):
    data = training_data(lecture_dataset, 3)
    architecture = Architecture(27, 3, 10, 200)
    for seed in range(30):
        first = np.asarray(draw_minibatches(np.uint32(seed), jnp.arange(1), 32, len(data.targets)))[0]
        params = draw_params(seed, SCHEMES[scheme], architecture)
        ((_, h),) = naive_forward(params, np.asarray(data.contexts)[first])
        assert least <= (np.abs(h) > 0.99).mean() <= most, seed


@needs_lecture_list
def test_the_lecture_deep_network(lecture_dataset):
    """Five hidden layers of 100 with batch norm and gain 5/3 after 1,000 steps (makemore lecture 3, part 3)."""
    data = training_data(lecture_dataset, 3)
    config = RunConfig(hidden_size=100, n_layers=5, batch_norm=True, schedule="constant")
    architecture = config.architecture(27)
    # 47,024 in the lecture, whose output is normed as well: 2 * 27 for its gain and shift, less the bias it cancels.
    assert architecture.n_params == 46_997 == 47_024 - 27
    assert replace(architecture, batch_norm=False).n_params == 46_497
    scheme = with_factors(SCHEMES["fan_in"], hidden=5 / 3)
    stds, shares = [], []
    for seed in range(4):
        run = replace(config, seed=seed)
        state = train(draw_params(seed, scheme, architecture), run, data, 1000, 1000, config.program())
        batch = np.asarray(draw_probe(np.uint32(seed), 32, len(data.targets)))
        h = naive_forward(state.params, np.asarray(data.contexts)[batch])[0][1]
        stds.append(h.std())
        shares.append((np.abs(h) > 0.97).mean())
        exact, _ = diagnosed(state, run, data, config.program())
        assert exact.activation_std[0] == pytest.approx(h.std(), abs=0.02)
    assert np.mean(stds) == pytest.approx(0.63, abs=0.01)
    # The lecture's share is of one batch of one seed, whose standard deviation is 0.4 points, and its batch norm
    # divides by the ddof-1 deviation, 1.6 % larger than ours, which is worth another 0.3 points.
    assert np.mean(shares) == pytest.approx(0.0278, abs=0.012)
