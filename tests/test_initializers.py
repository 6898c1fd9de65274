"""The initialisation schemes: their scales, their nesting, and streams of draws that never change."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from mlp_lm.config import BUILT_IN, RunConfig
from mlp_lm.initializers import standard_draws
from mlp_lm.loss import minibatch_loss
from mlp_lm.model import Architecture, Params
from mlp_lm.schemes import standard_normal, standard_uniform
from mlp_lm.training import RunBatch, initial_params
from tests.conftest import dataset_of

LECTURE = RunConfig(direct=True)  # Its 20,000 steps are too many for padding.
DEEP = replace(LECTURE, n_layers=2)
ALPHABET = dataset_of(["word"] * 10)
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


def draw_weights(config: RunConfig) -> Params:
    return initial_params(config, ALPHABET)


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


def test_every_scheme_is_here():
    assert BUILT_IN["init"] == STDS.keys() == GOLDEN.keys()


@pytest.mark.parametrize("name", STDS)
def test_variances_are_those_of_the_formula(name):
    drawn = [parts(draw_weights(replace(DEEP, init=name, seed=seed))) for seed in range(12)]
    for expected, samples in zip(STDS[name], zip(*drawn, strict=True), strict=True):
        sample = np.concatenate([np.ravel(values) for values in samples])
        # Four standard errors of a Gaussian's standard deviation; its mean likewise.
        assert sample.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * sample.size))
        assert abs(sample.mean()) <= 4 * expected / math.sqrt(sample.size)


@pytest.mark.parametrize("sample", [standard_normal, standard_uniform])
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
    values = np.concatenate(
        [np.ravel(leaf) for s in (0, 1) for leaf in parts(draw_weights(replace(DEEP, init="normal", seed=s)))]
    )
    # A normal draw comes from 23 random bits: of n, n^2 / 2^24 fall together by chance, here 0.6 %.
    assert len(np.unique(values)) > 0.99 * values.size
    weights = [np.ravel(draw_weights(replace(DEEP, init="normal", seed=s)).hidden[1].weight) for s in range(2)]
    assert abs(np.corrcoef(*weights)[0, 1]) < 4 / math.sqrt(weights[0].size)


@pytest.mark.parametrize("hidden_size", [200, 12], ids=["wide", "tall"])
def test_orthogonal_weights_are(hidden_size):
    params = draw_weights(RunConfig(init="orthogonal", seed=4, hidden_size=hidden_size, n_layers=2))
    for weight in (*(layer.weight for layer in params.hidden), params.output.weight):
        gram = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_zeros_never_break_symmetry(batch_norm, few_dataset):
    config = RunConfig(
        embedding_dim=4, hidden_size=8, n_layers=2, batch_norm=batch_norm, schedule="constant", learning_rate=0.5
    )

    def hidden_after_training(name):
        batch = RunBatch.start([replace(config, init=name)], few_dataset)
        batch.advance(100)
        return batch.trained_params()[0]

    zeros, fan_in = hidden_after_training("zeros"), hidden_after_training("fan_in")
    assert np.ptp(zeros.output.bias) > 0.1  # It did learn how frequent each token is,
    for layer in zeros.hidden:  # but every hidden unit is still the same unit.
        assert (np.asarray(layer.weight) == np.asarray(layer.weight)[:, :1]).all()
    assert (np.asarray(zeros.output.weight) == np.asarray(zeros.output.weight)[:1]).all()
    weight = np.asarray(fan_in.hidden[0].weight)
    assert not (weight[:, 1:] == weight[:, :1]).any()


def test_gain_is_a_factor_on_the_hidden_weights_alone():
    plain, tripled = (draw_weights(replace(DEEP, init="fan_in", seed=1, gain=gain)) for gain in (1.0, 3.0))
    for i, (before, after) in enumerate(zip(parts(plain), parts(tripled), strict=True)):
        np.testing.assert_allclose(after, before * (3.0 if i in (1, 2) else 1.0), rtol=1e-6)


@pytest.mark.parametrize("name", ["scaled_output", "scaled_hidden", "kaiming_tanh", "kaiming_relu"])
def test_scaled_schemes_start_near_the_uniform_guess(name, few_data):
    for seed in range(20):  # log 27 is 3.2958; the lecture's schemes start at 3.31 to 3.33.
        params = jax.tree.map(jax.numpy.asarray, draw_weights(RunConfig(init=name, seed=seed)))
        loss = float(minibatch_loss(params, *first_batch(few_data, seed)))
        assert 3.22 <= loss <= 3.39


def first_batch(data, seed):
    windows = np.random.default_rng(seed).integers(0, len(data.targets), 32)
    return data.contexts[windows], data.targets[windows]


# embedding[1, 0], hidden[0].weight[5, 3], hidden[0].bias[2], output.weight[0, 26], output.bias[7] and direct[3, 4] of
# seed 0 for 27 tokens, block_size 3, embedding_dim 2, hidden_size 4 and direct connections, as jax 0.10.2 draws them.
# Six digits: the last bits of a normal draw depend on the processor, its random integers do not.
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
    p = draw_weights(RunConfig(init=name, embedding_dim=2, hidden_size=4, direct=True))
    hidden = p.hidden[0]
    drawn = (p.embedding[1, 0], hidden.weight[5, 3], hidden.bias[2], p.output.weight[0, 26], p.output.bias[7])
    np.testing.assert_allclose([*drawn, p.direct[3, 4]], GOLDEN[name], rtol=1e-5, atol=1e-7)
