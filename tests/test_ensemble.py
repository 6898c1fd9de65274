"""Averages of models, and their mixture with a count model."""

import csv
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.baselines import load_baselines
from experiments.analysis.ensembles import FAMILIES, measure_ensembles
from experiments.analysis.results import open_sweep
from experiments.ensemble import main as ensemble
from experiments.sweep import main as sweep
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Windows, load_dataset
from mlp_lm.loss import cross_entropy
from mlp_lm.mixtures import average, distinct_windows, mean_loss, mix, mixture_weight, target_probabilities
from mlp_lm.model import forward
from mlp_lm.training import initial_params
from tests.conftest import dataset_of


def random_distributions(n: int, m: int = 40, vocab: int = 5) -> list[np.ndarray]:
    """Of every target after every context, as windows in a row."""
    return [np.random.default_rng(i).dirichlet(np.ones(vocab), m).ravel() for i in range(n)]


def random_counts(m: int = 40, vocab: int = 5) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 4, m * vocab).astype(np.float64)


@pytest.mark.parametrize("m", [3, 512, 700])
def test_probabilities_are_the_softmax_of_the_logits_for_any_number_of_windows(m):
    config = RunConfig(init="normal", block_size=2, embedding_dim=3, hidden_size=7)
    params = jax.tree.map(jnp.asarray, initial_params(config, dataset_of(["word"] * 10, "abcde")))
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, 6, (m, 5)).astype(np.int32)
    expected = jax.nn.softmax(forward(params, jnp.asarray(contexts[:, -2:])).logits)
    found = [target_probabilities(params, (), Windows(contexts, np.full(m, k, np.int32))) for k in range(6)]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=2e-6)
    np.testing.assert_allclose(np.sum(found, axis=0), 1, rtol=1e-6)  # Each is exp of a loss in float32.
    assert all(probabilities.dtype == np.float64 for probabilities in found)


def test_the_average_is_a_distribution_and_no_worse_than_the_mean_member():
    members, counts = random_distributions(4), random_counts()
    averaged = average(members)
    np.testing.assert_allclose(averaged.reshape(40, 5).sum(axis=1), 1)
    # The logarithm is concave (Jensen).
    assert mean_loss(averaged, counts) < np.mean([mean_loss(member, counts) for member in members])


def test_the_loss_agrees_with_every_token_by_hand():
    (p,), counts = random_distributions(1), random_counts()
    tokens = [i for i in range(len(p)) for _ in range(int(counts[i]))]
    assert mean_loss(p, counts) == pytest.approx(-np.mean([np.log(p[i]) for i in tokens]))


def test_an_impossible_token_costs_infinitely_much_only_where_it_occurs():
    p = np.array([0.5, 0.5, 0.0])
    assert mean_loss(p, np.array([1.0, 2.0, 0.0])) == pytest.approx(np.log(2))
    assert mean_loss(p, np.array([1.0, 2.0, 1.0])) == np.inf


def test_the_weight_of_the_mixture_is_the_best_of_all():
    (neural, counted), counts = random_distributions(2), random_counts()
    weight = mixture_weight(neural, counted, counts)
    grid = [mean_loss(mix(neural, counted, w), counts) for w in np.linspace(0, 1, 1001)]
    assert mean_loss(mix(neural, counted, weight), counts) == pytest.approx(min(grid), abs=1e-7)


def test_a_useless_count_model_gets_no_weight():
    counts = random_counts() + 1
    by_context = counts.reshape(40, 5)
    truth = (by_context / by_context.sum(axis=1, keepdims=True)).ravel()
    uniform = np.full_like(truth, 0.2)
    assert mixture_weight(truth, uniform, counts) < 1e-3


def test_distinct_windows_hold_every_window_of_every_part(few_dataset):
    parts = ("train", "dev", "dev_unseen", "test", "test_unseen")
    windows, weights = distinct_windows(few_dataset, parts, 3)
    rows = [(*context, target) for context, target in zip(windows.contexts.tolist(), windows.targets, strict=True)]
    assert len(set(rows)) == len(rows)
    for part in parts:
        name = part.removesuffix("_unseen")
        whole = few_dataset.windows(name, 3)
        kept = few_dataset.unseen(name, 3) if part != name else np.ones(len(whole), bool)
        naive = Counter((*c, t) for c, t in zip(whole.contexts[kept].tolist(), whole.targets[kept], strict=True))
        assert naive == {row: n for row, n in zip(rows, weights[part], strict=True) if n}


def test_windows_of_a_running_text_stay_as_they_are():
    text = load_dataset("small")
    windows, weights = distinct_windows(text, ("dev", "dev_unseen", "test"), 3)
    dev, test = text.windows("dev", 3), text.windows("test", 3)
    np.testing.assert_array_equal(windows.contexts, np.concatenate([dev.contexts, test.contexts]))
    np.testing.assert_array_equal(windows.targets, np.concatenate([dev.targets, test.targets]))
    in_dev = np.arange(len(windows)) < len(dev)
    np.testing.assert_array_equal(weights["dev"], in_dev)
    np.testing.assert_array_equal(weights["test"], ~in_dev)
    np.testing.assert_array_equal(weights["dev_unseen"][: len(dev)], text.unseen("dev", 3))
    assert not weights["dev_unseen"][len(dev) :].any()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    axes = ["--block-size", "3", "5", "--hidden-size", "12", "--init", "kaiming_tanh"]
    assert sweep(["smoke", "--out", str(out), "--workers", "1", "--seeds", "2", *axes]) == 0
    return out


def test_a_single_run_has_the_loss_of_its_row(folder):
    results = open_sweep(folder)
    measured = measure_ensembles(results, top=1, context_lengths=[2])
    best = results.best
    one = next(one for one in measured if one.name == "best run" and one.family is None)
    assert one.runs == (best,)
    assert one.dev_loss == pytest.approx(best["dev_loss"], abs=2e-5)
    assert one.dev_unseen_loss == pytest.approx(best["dev_unseen_loss"], abs=2e-5)


def test_an_average_of_runs_of_several_block_sizes_agrees_with_the_naive_loss(folder):
    results = open_sweep(folder)
    rows = sorted(results.rows, key=lambda row: row["dev_loss"])
    assert {row["block_size"] for row in rows} == {3, 5}
    probabilities = []
    for row in rows:
        windows = results.dataset.windows("dev", row["block_size"])
        params, moments = results.load_model(row)
        logits = forward(params, jnp.asarray(windows.contexts), moments).logits
        assert float(cross_entropy(logits, jnp.asarray(windows.targets))) == pytest.approx(row["dev_loss"], abs=1e-4)
        chosen = np.asarray(jax.nn.softmax(logits))[np.arange(len(windows)), windows.targets]
        probabilities.append(chosen.astype(np.float64))
    naive = -np.log(np.mean(probabilities, axis=0)).mean()
    measured = measure_ensembles(results, top=4, context_lengths=[2])
    one = next(one for one in measured if one.name == "4 best runs" and one.family is None)
    assert one.dev_loss == pytest.approx(naive, abs=1e-6)


def test_by_default_each_family_has_the_context_that_is_best_on_dev(folder):
    results = open_sweep(folder)
    rows = {(row.family, row.context_length): row.dev_loss for row in load_baselines(folder, results.request).rows}
    every = measure_ensembles(results, top=1, context_lengths=[6, 3, 4, 5])
    alone = {one.family: one.dev_loss for one in every if not one.runs}
    assert len(alone) == 8
    for (family, k), loss in rows.items():
        assert alone.get(f"{k + 1}-gram, {family}", loss) == pytest.approx(loss, abs=1e-9)
    found = {one.family: one.dev_loss for one in measure_ensembles(results, top=1) if not one.runs}
    best = [min((loss, k, family) for (family, k), loss in rows.items() if family == name) for name in FAMILIES]
    assert found == pytest.approx({f"{k + 1}-gram, {family}": loss for loss, k, family in best})


def test_the_command_writes_tables_and_tests_only_what_it_is_told_to(folder, capsys):
    assert ensemble([str(folder), "--top", "2", "--context-length", "2"]) == 0
    assert "Test loss" not in capsys.readouterr().out
    assert ensemble([str(folder), "--top", "2", "--context-length", "2", "--test"]) == 0
    assert "Test loss of the first row" in capsys.readouterr().out
    with (folder / "tables" / "ensembles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["dev_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert [bool(row["test_loss"]) for row in rows] == [True] + [False] * (len(rows) - 1)
    # Any mixture is at least as good on dev as its network, because its weight may be zero.
    by_parts = {(row["networks"], row["count_model"]): float(row["dev_loss"]) for row in rows}
    assert all(loss <= by_parts[name, ""] + 1e-6 for (name, family), loss in by_parts.items() if name and family)


@pytest.mark.parametrize(("arguments", "told"), [(["--top", "0"], "--top"), (["--context-length", "4", "99"], "99")])
def test_a_mistake_is_one_line(folder, capsys, arguments, told):
    assert ensemble([str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
