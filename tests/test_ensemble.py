"""Averages of models, and their mixture with a count model."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.baselines import load_baselines
from experiments.analysis.ensembles import FAMILIES, measure_ensembles
from experiments.analysis.results import open_sweep
from experiments.ensemble import main as ensemble
from mlp_lm.config import Architecture
from mlp_lm.data.dataset import Windows, load_dataset
from mlp_lm.initializers import draw_params
from mlp_lm.loss import cross_entropy
from mlp_lm.mixtures import average, distinct_windows, mean_loss, mix, mixture_weight, target_probabilities
from mlp_lm.model import forward
from mlp_lm.ngram.baselines import count_model_name
from mlp_lm.schemes import SCHEMES
from tests import cli


def random_probabilities(n: int, m: int = 200) -> list[np.ndarray]:
    """What n models give the targets of m windows."""
    return [np.random.default_rng(i).uniform(0.01, 1, m) for i in range(n)]


def random_weights(m: int = 200) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 4, m).astype(float)


@pytest.mark.parametrize("n", [3, 256, 700])
def test_probabilities_are_the_softmax_of_the_logits_for_any_number_of_windows(n):
    architecture = Architecture(vocab_size=6, block_size=2, embedding_dim=3, hidden_size=7)
    params = jax.tree.map(jnp.asarray, draw_params(0, SCHEMES["normal"], architecture))
    rng = np.random.default_rng(0)
    windows = Windows(rng.integers(0, 6, (n, 5)).astype(np.int32), rng.integers(0, 6, n).astype(np.int32))
    expected = jax.nn.softmax(forward(params, jnp.asarray(windows.contexts[:, -2:])).logits)
    probabilities = target_probabilities(params, (), windows)
    np.testing.assert_allclose(probabilities, expected[np.arange(n), windows.targets], rtol=2e-5)


def test_the_average_is_no_worse_than_the_mean_member():
    members, weights = random_probabilities(4), random_weights()
    # The logarithm is concave (Jensen).
    assert mean_loss(average(members), weights) < np.mean([mean_loss(member, weights) for member in members])


def test_the_loss_agrees_with_every_token_by_hand():
    (p,), weights = random_probabilities(1), random_weights()
    tokens = [i for i in range(200) for _ in range(int(weights[i]))]
    assert mean_loss(p, weights) == pytest.approx(-np.mean(np.log(p[tokens])))


def test_an_impossible_token_costs_infinitely_much_only_where_it_occurs():
    p = np.array([0.5, 0.5, 0.0])
    assert mean_loss(p, np.array([1.0, 2.0, 0.0])) == pytest.approx(np.log(2))
    assert mean_loss(p, np.array([1.0, 2.0, 1.0])) == np.inf


def test_the_weight_of_the_mixture_is_the_best_of_all():
    (neural, counted), weights = random_probabilities(2), random_weights()
    weight = mixture_weight(neural, counted, weights)
    grid = [mean_loss(mix(neural, counted, w), weights) for w in np.linspace(0, 1, 1001)]
    assert mean_loss(mix(neural, counted, weight), weights) == pytest.approx(min(grid), abs=1e-7)


def test_a_useless_count_model_gets_no_weight():
    assert mixture_weight(np.full(50, 0.9), np.full(50, 0.2), np.ones(50)) < 1e-3


@pytest.mark.parametrize("data", ["ssa2018", "small"])
def test_distinct_windows_weighted_are_all_windows_of_each_part(data):
    dataset = load_dataset(data)
    windows, weights = distinct_windows(dataset, ("dev", "dev_unseen", "test"), 3)
    pairs = np.column_stack([windows.contexts, windows.targets])
    if not dataset.is_running_text:
        assert len(np.unique(pairs, axis=0)) == len(pairs)
    for part, expected in (("dev", dataset.windows("dev", 3)), ("test", dataset.windows("test", 3))):
        every = np.column_stack([expected.contexts, expected.targets])
        each, counts = np.unique(every, axis=0, return_counts=True)
        mine, index = np.unique(pairs[weights[part] > 0], axis=0, return_inverse=True)
        np.testing.assert_array_equal(mine, each)
        np.testing.assert_array_equal(np.bincount(index, weights[part][weights[part] > 0]), counts)
    assert weights["dev_unseen"].sum() == dataset.unseen("dev", 3).sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    axes = ["--block-size", "3", "5", "--hidden-size", "12", "--init", "kaiming_tanh"]
    assert cli.sweep_here("smoke", "--out", str(out), "--seeds", "2", *axes).code == 0
    return out


def test_a_single_run_has_the_loss_of_its_row(folder):
    results = open_sweep(folder)
    best = results.best
    one = next(e for e in measure_ensembles(results, 1, [2]) if e.runs == (best,) and e.family is None)
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
    one = next(e for e in measure_ensembles(results, 4, [2]) if e.name == "4 best runs" and e.family is None)
    assert one.dev_loss == pytest.approx(naive, abs=1e-6)


def test_by_default_each_family_has_the_context_that_is_best_on_dev(folder):
    results = open_sweep(folder)
    rows = {(row.family, row.context_length): row.dev_loss for row in load_baselines(folder, results.request).rows}
    every = measure_ensembles(results, 1, [6, 3, 4, 5])
    alone = {one.family: one.dev_loss for one in every if not one.runs}
    assert len(alone) == 8
    for (family, k), loss in rows.items():
        assert alone.get(count_model_name(family, k), loss) == pytest.approx(loss, abs=1e-9)
    chosen = {one.family: one.dev_loss for one in measure_ensembles(results, 1) if not one.runs}
    best = [min((loss, k, family) for (family, k), loss in rows.items() if family == name) for name in FAMILIES]
    assert chosen == pytest.approx({count_model_name(family, k): loss for loss, k, family in best})


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
