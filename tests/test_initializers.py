"""The initialisation schemes: their scales, their nesting, and streams of draws that never change."""

import math
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.initialisation.tables import place_on_axes
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.evaluation import exact_losses
from mlp_lm.initializers import draw_params, standard_draws
from mlp_lm.loss import minibatch_loss
from mlp_lm.model import Architecture, Params, forward
from mlp_lm.padding import stack_runs, take_run
from mlp_lm.schemes import (
    SAMPLES,
    SCHEMES,
    TRUNCATED_STD,
    log_frequencies,
    scheme_of,
    standard_normal,
    standard_uniform,
    truncated_normal,
    with_draws,
    with_factors,
)
from mlp_lm.training import advance_batch, init_batch, initial_params, training_data

LECTURE = Architecture(27, 3, 10, 200, direct=True)
DEEP = replace(LECTURE, n_layers=2)
U = 1 / math.sqrt(3)  # Standard deviation of U(-1, 1).

# The standard deviation of embedding, first and second hidden weights, hidden bias, output weights, output bias and
# direct weights. fan_in: 30 (3 positions of 10 dimensions), then 200; fan_out: 200 and 27.
STDS = {
    "normal": (1, 1, 1, 1, 1, 1, 1),
    "uniform": (U, U, U, U, U, U, U),
    "fan_in": (1, 30**-0.5, 200**-0.5, 0, 200**-0.5, 0, 30**-0.5),
    "scaled_output": (1, 1, 1, 1, 0.01, 0, 0.01),
    "scaled_hidden": (1, 0.2, 0.2, 0.01, 0.01, 0, 0.01),
    "kaiming_tanh": (1, 5 / 3 * 30**-0.5, 5 / 3 * 200**-0.5, 0.01, 0.01, 0, 0.01),
    "kaiming_relu": (1, (2 / 30) ** 0.5, (2 / 200) ** 0.5, 0.01, 0.01, 0, 0.01),
    "xavier": (1, (2 / 230) ** 0.5, (2 / 400) ** 0.5, 0, (2 / 227) ** 0.5, 0, (2 / 57) ** 0.5),
    # Rows of a 30 x 200 matrix, or columns of a 200 x 27 one, have length 1; the direct weights are Gaussian.
    "orthogonal": (1, 200**-0.5, 200**-0.5, 0, 200**-0.5, 0, 30**-0.5),
    "bengio2003": (0.1 * U, U * 30**-0.5, U * 200**-0.5, 0, U * 200**-0.5, 0, 0),
    "zeros": (1, 0, 0, 0, 0, 0, 0),
}
LOOK_AT_DATA = {"lsuv", "unit_variance"}


def parts(params: Params):
    return (
        params.embedding,
        params.hidden[0].weight,
        params.hidden[1].weight,
        params.hidden[0].bias,
        params.output.weight,
        params.output.bias,
        params.direct,
    )


def test_every_scheme_has_its_formula_here():
    assert SCHEMES.keys() == STDS.keys() | LOOK_AT_DATA
    assert {name for name in SCHEMES if SCHEMES[name].adjust} == LOOK_AT_DATA


@pytest.mark.parametrize("name", STDS)
def test_variances_are_those_of_the_formula(name):
    drawn = [parts(draw_params(seed, SCHEMES[name], DEEP)) for seed in range(12)]
    for expected, samples in zip(STDS[name], zip(*drawn, strict=True), strict=True):
        sample = np.concatenate([np.ravel(values) for values in samples])
        # Four standard errors of a Gaussian's standard deviation; its mean likewise.
        assert sample.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * sample.size))
        assert abs(sample.mean()) <= 4 * expected / math.sqrt(sample.size)


@pytest.mark.parametrize("sample", [standard_normal, standard_uniform, truncated_normal])
def test_draws_are_nested_in_every_size(sample):
    key = jax.random.key(3)
    wide = Architecture(30, 5, 8, 24, n_layers=3, direct=True)
    small = Architecture(27, 3, 4, 10, n_layers=2, direct=True)
    big, little = (jax.device_get(standard_draws(key, sample, a)) for a in (wide, small))
    by_position = np.reshape(big.hidden[0].weight, (5, 8, 24))[2:, :4, :10]  # The most recent three positions.
    np.testing.assert_array_equal(by_position.reshape(12, 10), little.hidden[0].weight)
    np.testing.assert_array_equal(big.hidden[1].weight[:10, :10], little.hidden[1].weight)
    np.testing.assert_array_equal(big.hidden[1].bias[:10], little.hidden[1].bias)
    np.testing.assert_array_equal(big.embedding[:27, :4], little.embedding)
    np.testing.assert_array_equal(big.output.weight[:10, :27], little.output.weight)
    np.testing.assert_array_equal(big.output.bias[:27], little.output.bias)
    by_position = np.reshape(big.direct, (5, 8, 30))[2:, :4, :27]
    np.testing.assert_array_equal(by_position.reshape(12, 27), little.direct)


def test_parts_and_seeds_share_no_draws():
    values = np.concatenate([np.ravel(leaf) for s in (0, 1) for leaf in parts(draw_params(s, SCHEMES["normal"], DEEP))])
    # A normal draw comes from 23 random bits: of n, n^2 / 2^24 fall together by chance, here 0.6 %.
    assert len(np.unique(values)) > 0.99 * values.size
    weights = [np.ravel(draw_params(s, SCHEMES["normal"], DEEP).hidden[1].weight) for s in range(2)]
    assert abs(np.corrcoef(*weights)[0, 1]) < 4 / math.sqrt(weights[0].size)


@pytest.mark.parametrize("shape", [(27, 3, 10, 200), (27, 3, 10, 12)], ids=["wide", "tall"])
def test_orthogonal_weights_are(shape):
    params = draw_params(4, SCHEMES["orthogonal"], Architecture(*shape, n_layers=2))
    for weight in (*(layer.weight for layer in params.hidden), params.output.weight):
        gram = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_zeros_never_break_symmetry(batch_norm, few_data):
    vocab = few_data.examples.counts.shape[-1]
    config = RunConfig(
        embedding_dim=4, hidden_size=8, n_layers=2, batch_norm=batch_norm, schedule="constant", learning_rate=0.5
    )

    def hidden_after_training(name):
        program, numbers = config.program(), stack_runs([config.numbers()])
        params = stack_runs([draw_params(0, SCHEMES[name], config.architecture(vocab))])
        states = init_batch(params, numbers, program)
        return take_run(advance_batch(states, numbers, few_data, 0, 100, 100, program).params, 0)

    zeros, fan_in = hidden_after_training("zeros"), hidden_after_training("fan_in")
    assert np.ptp(zeros.output.bias) > 0.1  # It did learn how frequent each token is,
    for layer in zeros.hidden:  # but every hidden unit is still the same unit.
        assert (np.asarray(layer.weight) == np.asarray(layer.weight)[:, :1]).all()
    assert (np.asarray(zeros.output.weight) == np.asarray(zeros.output.weight)[:1]).all()
    weight = np.asarray(fan_in.hidden[0].weight)
    assert not (weight[:, 1:] == weight[:, :1]).any()


def test_gain_is_a_factor_on_the_hidden_weights_alone():
    plain, tripled = (draw_params(1, s, DEEP) for s in (SCHEMES["fan_in"], with_factors(SCHEMES["fan_in"], hidden=3.0)))
    for i, (before, after) in enumerate(zip(parts(plain), parts(tripled), strict=True)):
        np.testing.assert_allclose(after, before * (3.0 if i in (1, 2) else 1.0), rtol=1e-6)


@pytest.mark.parametrize("name", ["scaled_output", "scaled_hidden", "kaiming_tanh", "kaiming_relu"])
def test_scaled_schemes_start_near_the_uniform_guess(name, few_data):
    architecture = Architecture(27, 3, 10, 200)  # log 27 is 3.2958; the lecture's schemes start at 3.31 to 3.33.
    for seed in range(20):
        params = jax.tree.map(jax.numpy.asarray, draw_params(seed, SCHEMES[name], architecture))
        loss = float(minibatch_loss(params, *first_batch(few_data, seed)))
        assert 3.22 <= loss <= 3.39


def first_batch(data, seed):
    windows = np.random.default_rng(seed).integers(0, len(data.targets), 32)
    return data.contexts[windows], data.targets[windows]


# embedding[1, 0], hidden[0].weight[5, 3], hidden[0].bias[2], output.weight[0, 26], output.bias[7] and direct[3, 4] of
# seed 0 for Architecture(27, 3, 2, 4, direct=True), as jax 0.10.2 draws them. Six digits: the last bits of a normal
# draw depend on the processor, its random integers do not.
GOLDEN = {
    "normal": (-2.136176, 1.899526, 0.3780188, 2.221688, -1.044667, -1.43731),
    "uniform": (-0.967335, 0.9425046, 0.2945833, 0.9736955, -0.7038231, -0.8493702),
    "fan_in": (-2.136176, 0.7754784, 0, 1.110844, 0, -0.5867795),
    "scaled_output": (-2.136176, 1.899526, 0.3780188, 0.02221688, 0, -0.0143731),
    "scaled_hidden": (-2.136176, 0.3799053, 0.003780188, 0.02221688, 0, -0.0143731),
    "kaiming_tanh": (-2.136176, 1.292464, 0.003780188, 0.02221688, 0, -0.0143731),
    "kaiming_relu": (-2.136176, 1.096692, 0.003780188, 0.02221688, 0, -0.0143731),
    "xavier": (-2.136176, 0.8494939, 0, 0.5643093, 0, -0.3538414),
    "orthogonal": (-2.136176, -0.03039073, 0, 0.4465204, 0, -0.5867795),
    "bengio2003": (-0.0967335, 0.3847759, 0, 0.4868478, 0, 0),
    "zeros": (-2.136176, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_streams_of_draws_never_change(name):
    p = draw_params(0, SCHEMES[name], Architecture(27, 3, 2, 4, direct=True))
    hidden = p.hidden[0]
    drawn = (p.embedding[1, 0], hidden.weight[5, 3], hidden.bias[2], p.output.weight[0, 26], p.output.bias[7])
    np.testing.assert_allclose([*drawn, p.direct[3, 4]], GOLDEN[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", STDS)
@pytest.mark.parametrize(
    "sizes", [{}, {"hidden_size": 20, "embedding_dim": 3, "block_size": 8}], ids=["lecture", "small"]
)
def test_a_scheme_is_its_place_on_the_axes_bit_for_bit(name, sizes, few_dataset):
    run = RunConfig(init=name, n_steps=20_000, **sizes)  # Long enough not to be padded.
    place = place_on_axes(name, run.architecture(len(few_dataset.vocabulary)))
    placed = initial_params(replace(run, **place), few_dataset)
    for one, other in zip(jax.tree.leaves(initial_params(run, few_dataset)), jax.tree.leaves(placed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("init", ["kaiming_tanh", "bengio2003", "orthogonal"])
@pytest.mark.parametrize("draw", SAMPLES)
def test_draws_of_every_distribution_have_the_schemes_variances(init, draw):
    drawn = [parts(draw_params(seed, with_draws(SCHEMES[init], draw), DEEP)) for seed in range(12)]
    for expected, samples in zip(STDS[init], zip(*drawn, strict=True), strict=True):
        sample = np.concatenate([np.ravel(values) for values in samples])
        assert sample.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * sample.size))


def test_draws_of_several_distributions_are_of_their_shape():
    def largest(draw):  # In standard deviations, of 40,000 draws: 4 or more of a Gaussian.
        weight = draw_params(0, with_draws(SCHEMES["fan_in"], draw), DEEP).hidden[1].weight
        return np.abs(weight).max() * math.sqrt(200)

    assert largest("normal") > 4
    assert largest("uniform") == pytest.approx(math.sqrt(3), rel=1e-3)
    assert largest("truncated_normal") == pytest.approx(2 / TRUNCATED_STD, rel=1e-2)
    # Columns and rows of a square matrix have the length of the scheme's gain, exactly.
    weight = (
        draw_params(0, with_factors(with_draws(SCHEMES["fan_in"], "orthogonal"), hidden=1.5), DEEP).hidden[1].weight
    )
    np.testing.assert_allclose(weight.T @ weight, 1.5**2 * np.eye(200), atol=1e-4)


def test_each_factor_acts_on_its_own_part():
    config = RunConfig(init="normal", n_layers=2, direct=True)
    plain = parts(draw_params(1, scheme_of(config), DEEP))
    acts_on = {"embedding_gain": {0}, "gain": {1, 2}, "bias_gain": {3, 5}, "output_gain": {4, 6}}
    for name, places in acts_on.items():
        halved = parts(draw_params(1, scheme_of(replace(config, **{name: 0.5})), DEEP))
        for i, (before, after) in enumerate(zip(plain, halved, strict=True)):
            np.testing.assert_array_equal(after, before * np.float32(0.5 if i in places else 1))
    zeroed = parts(draw_params(1, scheme_of(replace(config, output_bias="zero")), DEEP))
    assert not zeroed[5].any() and zeroed[3].any()


@pytest.mark.parametrize("n_steps", [100, 10_000], ids=["padded", "own widths"])
def test_a_prior_bias_and_no_weights_cost_the_entropy_of_single_letters(few_dataset, n_steps):
    config = RunConfig(init="zeros", output_bias="prior", n_steps=n_steps, hidden_size=20)
    params = jax.tree.map(jax.numpy.asarray, initial_params(config, few_dataset))
    letters = Counter("".join(f"{word}." for word in few_dataset.parts["train"]))  # Each word ends with a boundary.
    shares = np.array([*letters.values()]) / letters.total()
    train_loss = float(exact_losses(params, training_data(few_dataset, 3).examples)[0])
    assert train_loss == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-5)


def test_a_token_that_training_lacks_keeps_a_finite_bias():
    np.testing.assert_allclose(np.exp(log_frequencies(np.array([6, 3, 0]))), [0.6, 0.3, 0.1], rtol=1e-6)


DATA_CONFIGS = [
    {"n_layers": 3, "hidden_size": 40},
    {"n_layers": 2, "hidden_size": 30, "batch_norm": True},
    {"n_layers": 2, "hidden_size": 30, "direct": True, "activation": "relu"},
]


@pytest.mark.parametrize("settings", DATA_CONFIGS, ids=["tanh", "batch norm", "direct, relu"])
def test_schemes_that_look_at_the_data_start_with_variance_one(settings, few_dataset):
    def over_training_windows(init):
        """Affine outputs of every layer for all training windows, the logits last."""
        params = initial_params(RunConfig(init=init, **settings), few_dataset)
        contexts = jax.numpy.asarray(few_dataset.windows("train", 3).contexts)
        passed = forward(jax.tree.map(jax.numpy.asarray, params), contexts)
        return [np.asarray(values, np.float64) for values in (*passed.affine, passed.logits)]

    for values in over_training_windows("lsuv"):
        assert values.var() == pytest.approx(1, abs=1e-4)
    *hidden, _ = over_training_windows("unit_variance")
    for values in hidden:
        np.testing.assert_allclose(values.var(axis=0), 1, atol=1e-4)
        if not settings.get("batch_norm"):
            np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)


def test_factors_act_on_the_adjusted_weights(few_dataset):
    config = RunConfig(init="lsuv", hidden_size=20)
    plain = initial_params(config, few_dataset)
    scaled = initial_params(replace(config, gain=2.0, output_gain=0.5, embedding_gain=4.0), few_dataset)
    np.testing.assert_array_equal(scaled.hidden[0].weight, 2 * plain.hidden[0].weight)
    np.testing.assert_array_equal(scaled.output.weight, 0.5 * plain.output.weight)
    np.testing.assert_array_equal(scaled.embedding, 4 * plain.embedding)


def test_schemes_that_look_at_the_data_are_for_lists_of_words():
    with pytest.raises(ValueError, match=r"init lsuv looks at counted contexts, .* small is a text: give another"):
        load_dataset("small").check(RunConfig(init="lsuv"))
