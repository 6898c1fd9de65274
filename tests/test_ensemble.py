"""Averages of models, and their mixture with a count model."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.ensembles import FAMILIES, Blend, measure
from experiments.analysis.ensembles import main as ensemble
from experiments.analysis.finished import material_of, open_finished
from experiments.analysis.trained import load_model
from experiments.analysis.baselines import load_yardsticks
from experiments.sweep import main as sweep
from mlp_lm.mixtures import average, distribution, mean_loss, mix, mixture_weight
from mlp_lm.initializers import SCHEMES
from mlp_lm.loss import cross_entropy
from mlp_lm.model import Architecture, forward
from mlp_lm.training import draw_weights


def random_distributions(n: int, m: int = 40, vocab: int = 5) -> list[np.ndarray]:
    return [np.random.default_rng(i).dirichlet(np.ones(vocab), m) for i in range(n)]


def random_counts(m: int = 40, vocab: int = 5) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 4, (m, vocab)).astype(np.float32)


@pytest.mark.parametrize("m", [3, 512, 700])
def test_a_distribution_is_the_softmax_of_the_logits_for_any_number_of_contexts(m):
    architecture = Architecture(vocab_size=6, block_size=2, embedding_dim=3, hidden_size=7)
    params = jax.tree.map(jnp.asarray, draw_weights(0, SCHEMES["normal"], architecture))
    contexts = np.random.default_rng(0).integers(0, 6, (m, 5)).astype(np.int32)
    expected = jax.nn.softmax(forward(params, jnp.asarray(contexts[:, -2:])).logits)
    found = distribution(params, (), contexts)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_the_average_is_a_distribution_and_no_worse_than_the_mean_member():
    members, counts = random_distributions(4), random_counts()
    averaged = average(members)
    np.testing.assert_allclose(averaged.sum(axis=1), 1)
    # The logarithm is concave (Jensen).
    assert mean_loss(averaged, counts) < np.mean([mean_loss(member, counts) for member in members])


def test_the_loss_agrees_with_every_token_by_hand():
    (p,), counts = random_distributions(1), random_counts()
    tokens = [(i, k) for i in range(40) for k in range(5) for _ in range(int(counts[i, k]))]
    assert mean_loss(p, counts) == pytest.approx(-np.mean([np.log(p[i, k]) for i, k in tokens]))


def test_an_impossible_token_costs_infinitely_much_only_where_it_occurs():
    p = np.array([[0.5, 0.5, 0.0]])
    assert mean_loss(p, np.array([[1.0, 2.0, 0.0]])) == pytest.approx(np.log(2))
    assert mean_loss(p, np.array([[1.0, 2.0, 1.0]])) == np.inf


def test_the_weight_of_the_mixture_is_the_best_of_all():
    (neural, counted), counts = random_distributions(2), random_counts()
    weight = mixture_weight(neural, counted, counts)
    grid = [mean_loss(mix(neural, counted, w), counts) for w in np.linspace(0, 1, 1001)]
    assert mean_loss(mix(neural, counted, weight), counts) == pytest.approx(min(grid), abs=1e-7)


def test_a_useless_count_model_gets_no_weight():
    counts = random_counts() + 1
    truth = counts / counts.sum(axis=1, keepdims=True)
    uniform = np.full_like(truth, 0.2)
    assert mixture_weight(truth, uniform, counts) < 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    axes = ["--block-size", "3", "5", "--hidden-size", "12", "--init", "kaiming_tanh"]
    assert sweep(["smoke", "--out", str(out), "--workers", "1", "--seeds", "2", *axes]) == 0
    return out


def test_a_single_run_has_the_loss_of_its_row(folder):
    finished = open_finished(folder)
    measured = measure(finished, material_of(finished.request), top=1, context_lengths=[2])
    best = finished.best
    one = next(one for one in measured if one.blend == Blend("best run", (best,)))
    assert one.dev_loss == pytest.approx(best["dev_loss"], abs=2e-5)
    assert one.dev_unseen_loss == pytest.approx(best["dev_unseen_loss"], abs=2e-5)


def test_an_average_of_runs_of_several_block_sizes_agrees_with_the_naive_loss(folder):
    finished = open_finished(folder)
    material = material_of(finished.request)
    rows = sorted(finished.rows, key=lambda row: row["dev_loss"])
    assert {row["block_size"] for row in rows} == {3, 5}
    probabilities = []
    for row in rows:
        windows = material.windows("dev", row["block_size"])
        params, moments = load_model(finished.store, row, material)
        logits = forward(params, jnp.asarray(windows.contexts), moments).logits
        assert float(cross_entropy(logits, jnp.asarray(windows.targets))) == pytest.approx(row["dev_loss"], abs=1e-4)
        chosen = np.asarray(jax.nn.softmax(logits))[np.arange(len(windows)), windows.targets]
        probabilities.append(chosen.astype(np.float64))
    naive = -np.log(np.mean(probabilities, axis=0)).mean()
    measured = measure(finished, material, top=4, context_lengths=[2])
    one = next(one for one in measured if one.blend.name == "4 best runs" and one.blend.family is None)
    assert one.dev_loss == pytest.approx(naive, abs=1e-6)


def test_by_default_each_family_has_the_context_that_is_best_on_dev(folder):
    finished = open_finished(folder)
    material = material_of(finished.request)
    rows = {(row.family, row.context_length): row.dev_loss for row in load_yardsticks(folder, finished.request).rows}
    every = measure(finished, material, top=1, context_lengths=[6, 3, 4, 5])
    alone = {one.blend.family: one.dev_loss for one in every if not one.blend.runs}
    assert len(alone) == 8
    for (family, k), loss in rows.items():
        assert alone.get(f"{k + 1}-gram, {family}", loss) == pytest.approx(loss, abs=1e-9)
    found = {one.blend.family: one.dev_loss for one in measure(finished, material, top=1) if not one.blend.runs}
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
