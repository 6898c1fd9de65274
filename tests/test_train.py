"""`mlp_lm.train`: a sweep's own numbers, exact losses, and what the trained models answer."""

import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlp_lm
from experiments.runner.plan import Cohort
from experiments.runner.trainer import train_cohort
from experiments.store import Store
from mlp_lm import RunConfig, forward, load_dataset, train
from mlp_lm.config import CPU_RUNS, run_batch_size
from mlp_lm.model import NORM_EPSILON
from mlp_lm.padding import unpad_params
from mlp_lm.sampling import sample_from
from mlp_lm.weights import from_tensors, to_tensors

SMALL = RunConfig(hidden_size=12, embedding_dim=3, n_steps=40, n_evaluations=2)
VARIANTS = {
    "plain": SMALL,
    "unpadded, early stopping": replace(SMALL, dropout=0.1, early_stopping=True, learning_rate=0.5),
    "normed, large batch": replace(SMALL, n_layers=2, batch_norm=True, batch_size=64),
    "full batch": replace(SMALL, batch_size=0, direct=True, activation="relu"),
}
each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
SEEDS = (0, 3, 4, 8, 9)  # More than are trained side by side.


def swept(configs, dataset, store):
    """The rows of these runs and their weights, as a sweep trains and stores them."""
    runs = tuple(replace(config, data_hash=dataset.sha256) for config in configs)
    size = run_batch_size(runs[0], len(dataset.vocabulary), CPU_RUNS)
    rows = train_cohort(Cohort(runs, 1.0, size), dataset, store)
    weights = [from_tensors(store.weights(row), run.activation) for row, run in zip(stored(store), runs, strict=True)]
    architecture = runs[0].architecture(len(dataset.vocabulary))
    return rows, [unpad_params(params, architecture) for params in weights]


def stored(store):
    return store.rows().table.sort_by("weights_index").to_pylist()


@each_variant
def test_a_seed_s_numbers_are_those_of_a_sweep_bit_for_bit(config, few_dataset, tmp_path):
    trained = train(config, few_dataset, SEEDS)
    rows, weights = swept([replace(config, seed=seed) for seed in SEEDS], few_dataset, Store(tmp_path))
    assert (len(trained), trained.seeds) == (len(SEEDS), SEEDS)
    for i, (row, params) in enumerate(zip(rows, weights, strict=True)):
        assert row["seed"] == SEEDS[i]
        assert trained.histories[i].step == row["history_step"] == list(config.evaluation_steps)
        assert trained.histories[i].train_loss == row["history_train_loss"]
        assert trained.histories[i].dev_loss == row["history_dev_loss"]
        assert trained.histories[i].minibatch_loss[1:] == row["history_minibatch_loss"][1:]
        for name in ("train_loss", "dev_loss", "dev_unseen_loss"):
            assert getattr(trained, name)[i] == row[name]
        assert_same_bits(trained[i], params)


def assert_same_bits(one, other):
    one, other = to_tensors(one), to_tensors(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@each_variant
def test_a_seed_s_numbers_do_not_depend_on_its_company(config, few_dataset, tmp_path):
    together, alone = train(config, few_dataset, SEEDS), train(replace(config, seed=77), few_dataset, [4])
    assert_same_bits(alone[0], together[2])
    np.testing.assert_array_equal(alone.dev_loss[0], together.dev_loss[2])
    # In a sweep, beside runs of other learning rates.
    others = [replace(config, seed=seed, learning_rate=rate) for seed, rate in ((7, 0.9), (4, 0.01))]
    rows, weights = swept([others[0], replace(config, seed=4), others[1]], few_dataset, Store(tmp_path))
    assert rows[1]["dev_loss"] == alone.dev_loss[0]
    assert_same_bits(weights[1], alone[0])


def naive_losses(params, windows, moments):
    """Each window's cross-entropy in nats, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    features = x = params.embedding[windows.contexts].reshape(len(windows), -1)
    for i, layer in enumerate(params.hidden):
        z = x @ layer.weight + (0 if layer.bias is None else layer.bias)
        if params.norms:
            mean, variance = moments[i]
            z = (z - mean) / np.sqrt(variance + NORM_EPSILON) * params.norms[i].gain + params.norms[i].shift
        x = np.maximum(z, 0) if params.activation == "relu" else np.tanh(z)
    logits = x @ params.output.weight + params.output.bias
    if params.direct is not None:
        logits = logits + features @ params.direct
    largest = logits.max(axis=1)
    log_totals = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return log_totals - logits[np.arange(len(windows)), windows.targets]


def naive_moments(params, windows):
    """Mean and variance of each layer's affine outputs over all windows, layer by layer, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, moments = params.embedding[windows.contexts].reshape(len(windows), -1), []
    for layer, norm in zip(params.hidden, params.norms, strict=False):
        z = x @ layer.weight
        moments.append((z.mean(axis=0), z.var(axis=0)))
        x = np.tanh((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + NORM_EPSILON) * norm.gain + norm.shift)
    return moments


@each_variant
def test_losses_are_means_over_every_window(config, few_dataset):
    trained = train(config, few_dataset, [5, 6])
    train_windows, dev, test = (few_dataset.windows(part, 3) for part in ("train", "dev", "test"))
    unseen = few_dataset.unseen("dev", 3)
    known = set(few_dataset.parts["train"])
    assert unseen.sum() == sum(len(word) + 1 for word in few_dataset.parts["dev"] if word not in known)
    for i, params in enumerate(trained):
        moments = naive_moments(params, train_windows)
        on_train, on_dev, on_test = (naive_losses(params, part, moments) for part in (train_windows, dev, test))
        assert trained.train_loss[i] == pytest.approx(on_train.mean(), rel=1e-4)
        assert trained.dev_loss[i] == pytest.approx(on_dev.mean(), rel=1e-4)
        assert trained.dev_unseen_loss[i] == pytest.approx(on_dev[unseen].mean(), rel=1e-4)
        assert trained.test_loss()[i] == pytest.approx(on_test.mean(), rel=1e-4)


def test_early_stopping_reports_the_best_evaluation(few_dataset):
    config = replace(
        SMALL, learning_rate=5.0, schedule="constant", early_stopping=True, n_evaluations=20
    )  # Too fast: up and down.
    trained = train(config, few_dataset, 3)
    for i, history in enumerate(trained.histories):
        assert trained.dev_loss[i] == min(history.dev_loss)
        assert trained.train_loss[i] == history.train_loss[np.argmin(history.dev_loss)]
    assert any(loss < history.dev_loss[-1] for loss, history in zip(trained.dev_loss, trained.histories, strict=True))


def test_each_model_is_one_of_the_stack_at_its_own_widths(few_dataset):
    trained = train(SMALL, few_dataset, 2)
    assert trained.params.embedding.shape == (2, 27, 3)
    assert trained.params.hidden[0].weight.shape == (2, 9, 12)
    assert [np.shape(params.output.weight) for params in trained] == [(12, 27)] * 2
    for i in range(2):
        np.testing.assert_array_equal(trained[i].output.bias, trained.params.output.bias[i])
    assert forward(trained[1], jnp.asarray(few_dataset.windows("dev", 3).contexts[:5])).logits.shape == (5, 27)
    assert_same_bits(trained[-1], trained[1])
    for beyond in (2, -3):
        with pytest.raises(IndexError):
            trained[beyond]
    assert "rray(" not in repr(trained)  # A notebook shows what was trained, and no weights.


@pytest.mark.parametrize("batch_norm", [False, True])
def test_samples_are_of_the_best_model(batch_norm, few_dataset):
    trained = train(replace(SMALL, batch_norm=batch_norm), few_dataset, 3)
    best = int(np.argmin(trained.dev_loss))
    expected = sample_from(trained[best], trained.moments(best), few_dataset, 6, 2, 0.8)
    assert trained.sample(6, seed=2, temperature=0.8) == expected
    assert len(trained.sample()) == 20


def test_a_running_text_is_trained_and_sampled_through_the_same_function():
    text = load_dataset("small")
    config = replace(SMALL, block_size=2, n_steps=20)
    trained = train(config, text, [1])
    dev, test = (text.windows(part, 2) for part in ("dev", "test"))
    losses, unseen = naive_losses(trained[0], dev, ()), text.unseen("dev", 2)
    assert trained.dev_loss[0] == pytest.approx(losses.mean(), rel=1e-4)
    assert trained.dev_unseen_loss[0] == pytest.approx(losses[unseen].mean(), rel=1e-4)
    assert trained.test_loss()[0] == pytest.approx(naive_losses(trained[0], test, ()).mean(), rel=1e-4)
    sampled = naive_losses(trained[0], text.sampled(2)[0], ())[text.sampled(2)[1][0] > 0]
    assert trained.train_loss[0] == pytest.approx(sampled.mean(), rel=1e-4)
    assert all(word in text.vocabulary.tokens for word in trained.sample(2)[0].removesuffix(".").split())


@pytest.mark.parametrize(
    ("config", "seeds", "message"),
    [
        (SMALL, 0, "seeds must be at least 1"),
        (SMALL, [], "seeds must be at least 1"),
        (SMALL, [-1], "seed must be at least 0, got -1"),
        (
            replace(SMALL, batch_size=10**6),
            1,
            "batch_size 1000000 exceeds the [0-9]+ training windows of [^ ]+words[.]txt",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(config, seeds, message, few_dataset):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        train(config, few_dataset, seeds)


def test_a_text_has_no_full_batch():
    with pytest.raises(ValueError, match=r"batch_size 0 .* is for lists of words; small is a text"):
        train(replace(SMALL, batch_size=0), load_dataset("small"))


WITHOUT_JAX = """
import sys
import mlp_lm
assert "jax" not in sys.modules, "importing the package"
mlp_lm.RunConfig(activation="gelu", optimizer="muon", schedule="cosine").run_id
mlp_lm.RunConfig().numbers(), mlp_lm.RunConfig().program()
mlp_lm.ACTIVATIONS, mlp_lm.OPTIMIZERS, mlp_lm.SCHEDULES, mlp_lm.SCHEMES
mlp_lm.load_dataset("ssa2018").counted(3)
assert "jax" not in sys.modules, "what needs none"
mlp_lm.train
assert "jax" in sys.modules
"""


def test_the_package_imports_jax_only_where_it_is_needed():
    done = subprocess.run([sys.executable, "-c", WITHOUT_JAX], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_is_there():
    assert {getattr(mlp_lm, name).__name__ for name in ("train", "forward", "load_dataset")} == {
        "train", "forward", "load_dataset",
    }  # fmt: skip
    assert all(getattr(mlp_lm, name) is not None for name in mlp_lm.__all__)
    assert set(dir(mlp_lm)) == {*mlp_lm.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        mlp_lm.no_such_name  # noqa: B018
