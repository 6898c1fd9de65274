"""Averages of models, and their mixture with a count model."""

import csv
import functools
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.ensembles import FAMILIES, log_linear_mixture, measure_ensembles
from experiments.analysis.looks import read_looks
from experiments.analysis.results import load_baselines, open_sweep
from experiments.ensemble import main as ensemble
from mlp_lm.config import Architecture
from mlp_lm.data.dataset import Dataset, Windows, load_dataset
from mlp_lm.data.word_lists import read_word_list
from mlp_lm.initializers import draw_params
from mlp_lm.loss import cross_entropy
from mlp_lm.mixtures import (
    CHUNK,
    Buckets,
    LogLinear,
    average,
    cross_validate,
    fit_weights,
    log_average,
    log_count_model,
    log_linear_losses,
    mean_loss,
    mix,
    mixture_weight,
    stretches,
    target_probabilities,
    windows_of,
)
from mlp_lm.model import forward
from mlp_lm.ngram.baselines import count_model_name, fit_count_model
from mlp_lm.ngram.counts import count_ngrams
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
def test_windows_of_parts_are_those_of_each_part_in_order(data):
    dataset = load_dataset(data)
    windows, weights = windows_of(dataset, ("dev", "dev_unseen", "test"), 3)
    for part in ("dev", "test"):
        expected, mine = dataset.windows(part, 3), weights[part] == 1
        np.testing.assert_array_equal(windows.contexts[mine], expected.contexts)
        np.testing.assert_array_equal(windows.targets[mine], expected.targets)
    assert weights["dev"].sum() + weights["test"].sum() == len(windows)
    np.testing.assert_array_equal(weights["dev_unseen"][weights["dev"] == 1], dataset.unseen("dev", 3))
    assert not weights["dev_unseen"][weights["dev"] == 0].any()


def random_stack(n: int = 60, vocab: int = 5, members: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of some members, and targets that their first member draws."""
    rng = np.random.default_rng(0)
    stacked = np.log(rng.dirichlet(np.ones(vocab), (n, members))).swapaxes(0, 1)
    targets = np.array([rng.choice(vocab, p=np.exp(row)) for row in stacked[0]])
    return stacked, targets


def test_a_weight_of_one_alone_reproduces_the_member():
    stacked, targets = random_stack()
    for k in range(3):
        weights = np.tile(np.eye(3)[k], (len(targets), 1))
        expected = -stacked[k, np.arange(len(targets)), targets]
        np.testing.assert_allclose(log_linear_losses(stacked, targets, weights), expected, atol=1e-5)


def test_equal_members_whose_weights_add_up_to_one_are_the_member():
    stacked, targets = random_stack(members=1)
    twice, weights = np.repeat(stacked, 2, axis=0), np.tile([0.3, 0.7], (len(targets), 1))
    expected = -stacked[0, np.arange(len(targets)), targets]
    np.testing.assert_allclose(log_linear_losses(twice, targets, weights), expected, atol=1e-5)


def test_log_linear_losses_agree_with_products_of_powers():
    stacked, targets = random_stack()
    weights = np.random.default_rng(1).normal(size=(len(targets), 3))
    for i, target in enumerate(targets):
        powers = [np.prod([np.exp(stacked[k, i, v]) ** weights[i, k] for k in range(3)]) for v in range(5)]
        (loss,) = log_linear_losses(stacked[:, i : i + 1], targets[i : i + 1], weights[i : i + 1])
        assert loss == pytest.approx(-np.log(powers[target] / sum(powers)))


@pytest.mark.parametrize("pull", [0.0, 10.0])
def test_fitted_weights_are_better_than_any_near_them(pull):
    stacked, targets = random_stack(n=90)
    group = np.repeat([0, 2], [30, 60])  # None is of the group 1.
    start = np.array([[0.2, 0.3, 0.5], [0.1, 0.2, 0.3], [0.4, 0.3, 0.3]])

    def penalised(weights, group_of_interest):
        mine = group == group_of_interest
        losses = log_linear_losses(stacked[:, mine], targets[mine], np.tile(weights, (mine.sum(), 1)))
        return float(losses.sum()) + pull / 2 * ((weights - start[group_of_interest]) ** 2).sum()

    chunks = np.stack([stacked[:, :40], stacked[:, 40:80], np.concatenate([stacked[:, 80:], stacked[:, :30]], axis=1)])
    best = fit_weights(chunks, targets, group, start, pull)
    for one in (0, 2):
        nearby = np.random.default_rng(2).normal(0, 0.05, (200, 3)) + best[one]
        assert penalised(best[one], one) < min(penalised(weights, one) for weights in nearby)
    np.testing.assert_array_equal(best[1], start[1])
    assert best[0, 0] > best[0, 1:].max()  # The targets are the first member's.


def test_the_weights_of_a_group_depend_on_no_other_group():
    stacked, targets = random_stack(n=300)
    group, start = np.repeat([0, 1], [20, 280]), np.full((2, 3), 1 / 3)
    both = fit_weights(stacked[None], targets, group, start, 10.0)
    alone = [
        fit_weights(stacked[None, :, group == g], targets[group == g], group[group == g], start, 10.0) for g in (0, 1)
    ]
    np.testing.assert_allclose(both, [alone[0][0], alone[1][1]], atol=1e-3)


def short(data: str) -> Dataset:
    """A list or text with the beginning of its dev part alone, to all of which weights are fitted."""
    dataset = load_dataset(data)
    dev = dataset.parts["dev"]
    few = (dev[0][:5000],) if dataset.is_running_text else dev[:700]
    return replace(dataset, parts={**dataset.parts, "dev": few})


@functools.cache
def count_mixture(data: str, orders: tuple[int, ...], whole: bool = False) -> tuple[LogLinear, Windows, np.ndarray]:
    """Kneser-Ney models of several orders, a short dev part or the whole one, and its folds."""
    dataset = load_dataset(data) if whole else short(data)
    members = [log_count_model(fit_count_model(dataset, "modified Kneser-Ney", k)) for k in orders]
    train, dev = (dataset.windows(part, max(orders)) for part in ("train", "dev"))
    buckets = Buckets(count_ngrams(train.contexts, train.targets, max(orders), len(dataset.vocabulary)))
    return LogLinear(members, buckets), dev, stretches(dataset, "dev")[1]


def test_buckets_agree_with_counting_suffixes():
    mixture, dev, _ = count_mixture("ssa2018", (2, 4))
    train = load_dataset("ssa2018").windows("train", 4).contexts
    buckets = mixture.buckets.of(dev.contexts)
    for i in range(0, len(dev), 199):
        for length in range(4, -1, -1):
            occurs = (train[:, 4 - length :] == dev.contexts[i, 4 - length :]).all(axis=1).sum()
            if occurs:
                break
        level = sum(occurs >= start for start in (4, 16, 64))
        assert buckets[i] == 4 * length + level
    assert mixture.buckets.name(4 * 3 + 1) == "3 tokens, seen 4 to 15 times"
    assert mixture.buckets.name(4 * 1 + 3) == "1 token, seen 64 or more times"


@pytest.mark.parametrize("data", ["ssa2018", "small"])
def test_weights_are_never_fitted_to_the_fold_that_is_measured(data):
    mixture, dev, folds = count_mixture(data, (1, 3))
    assert set(folds) == {0, 1}
    targets = dev.targets.copy()
    targets[folds == 0] = np.random.default_rng(0).permutation(targets[folds == 0])
    before, after = (
        cross_validate([mixture], dev, folds)[0],
        cross_validate([mixture], Windows(dev.contexts, targets), folds)[0],
    )
    same = (folds == 0) & (targets == dev.targets)
    np.testing.assert_array_equal(before[same], after[same])  # Fitted on fold 1 alone, which is as it was.
    assert not np.allclose(before[folds == 1], after[folds == 1], rtol=0, atol=1e-6)  # Fitted on fold 0.


def test_the_order_of_dev_words_changes_nothing():
    dataset = short("ssa2018")
    backwards = replace(dataset, parts={**dataset.parts, "dev": dataset.parts["dev"][::-1]})
    mixture, dev, folds = count_mixture("ssa2018", (1, 3))
    words, _ = stretches(dataset, "dev")
    losses = np.bincount(words, cross_validate([mixture], dev, folds)[0])
    other_words, other_folds = stretches(backwards, "dev")
    other = np.bincount(other_words, cross_validate([mixture], backwards.windows("dev", 3), other_folds)[0])
    np.testing.assert_allclose(other[::-1], losses, atol=1e-4)


def test_words_that_are_spelled_alike_are_in_one_fold_and_no_word_is_cut():
    dataset = load_dataset("ssa2018")
    words, folds = stretches(dataset, "dev")
    fold_of = {}
    for word, fold in zip(words, folds, strict=True):
        assert fold_of.setdefault(dataset.parts["dev"][word], fold) == fold
    assert len(fold_of) < words[-1] + 1  # Some occur twice.
    assert 0.45 < np.mean(folds) < 0.55


def test_a_log_linear_mixture_of_many_orders_is_better_than_each():
    mixture, dev, folds = count_mixture("ssa2018", (2, 3, 5), whole=True)
    alone = [-member(dev.contexts)[np.arange(len(dev)), dev.targets].mean() for member in mixture.members]
    assert cross_validate([mixture], dev, folds)[0].mean() < min(alone) - 0.01


def test_weights_can_be_fitted_to_as_many_windows_as_memory_has_room_for(monkeypatch):
    mixture, dev, _ = count_mixture("ssa2018", (1, 3))
    every = mixture.losses(dev, mixture.fit(dev)).mean()
    monkeypatch.setattr("mlp_lm.mixtures.FITTING_BYTES", 4 * 27 * 2 * 1_000)
    some = mixture.losses(dev, mixture.fit(dev)).mean()
    assert every < some < every + 0.02


@pytest.mark.parametrize("n", [1, CHUNK, CHUNK + 1])
def test_the_log_of_an_average_is_that_of_the_networks_probabilities(n):
    architecture = Architecture(vocab_size=6, block_size=2, embedding_dim=3, hidden_size=7)
    networks = [jax.tree.map(jnp.asarray, draw_params(i, SCHEMES["normal"], architecture)) for i in range(2)]
    contexts = np.random.default_rng(0).integers(0, 6, (n, 4)).astype(np.int32)
    each = [jax.nn.softmax(forward(params, jnp.asarray(contexts[:, 2:])).logits) for params in networks]
    logs = log_average([(params, ()) for params in networks])(contexts)
    np.testing.assert_allclose(np.exp(logs), (each[0] + each[1]) / 2, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    words = out / "words.txt"
    words.write_text("\n".join(read_word_list()[0][:4000]))
    axes = ["--block-size", "3", "5", "--hidden-size", "12", "--init", "kaiming_tanh"]
    assert cli.sweep_here("smoke", "--data", str(words), "--out", str(out), "--seeds", "2", *axes).code == 0
    return out


def test_a_single_run_has_the_loss_of_its_row(folder):
    results = open_sweep(folder)
    best = results.best
    one = next(e for e in measure_ensembles(results, 1, [2]) if e.runs == (best,) and not e.mixing)
    assert one.dev_loss == pytest.approx(best["dev_loss"], abs=2e-5)
    assert one.unseen_loss == pytest.approx(best["dev_unseen_loss"], abs=2e-5)


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
    one = next(e for e in measure_ensembles(results, 4, [2]) if e.name == "4 best runs" and not e.mixing)
    assert one.dev_loss == pytest.approx(naive, abs=1e-6)


def test_by_default_each_family_has_the_context_that_is_best_on_dev(folder):
    results = open_sweep(folder)
    rows = {(row.family, row.context_length): row.dev_loss for row in load_baselines(folder, results.request).rows}
    every = measure_ensembles(results, 1, [6, 3, 4, 5])
    alone = {one.counted: one.dev_loss for one in every if not one.runs}
    assert len(alone) == 8
    for (family, k), loss in rows.items():
        assert alone.get(count_model_name(family, k), loss) == pytest.approx(loss, abs=1e-9)
    chosen = {one.counted: one.dev_loss for one in measure_ensembles(results, 1) if not one.runs}
    best = [min((loss, k, family) for (family, k), loss in rows.items() if family == name) for name in FAMILIES]
    assert chosen == pytest.approx({count_model_name(family, k): loss for loss, k, family in best})


def name_of(row) -> str:
    return " with ".join(filter(None, (row["networks"], row["count_model"])))


def test_the_command_writes_tables_and_tests_only_what_it_is_told_to(folder, tmp_path, capsys):
    folder = shutil.copytree(folder, tmp_path / "sweep")  # In which nobody has looked at the test part.
    flags = [str(folder), "--top", "2", "--context-length", "2", "--log-linear", "1", "3"]
    assert ensemble(flags) == 0
    assert "Test loss" not in capsys.readouterr().out
    assert read_looks(folder) == []
    assert ensemble([*flags, "--test"]) == 0
    assert "look 1 at the test part" in " ".join(capsys.readouterr().out.split())
    assert "look 1," in (folder / "report.html").read_text("utf-8")
    with (folder / "tables" / "ensembles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["dev_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert [bool(row["test_loss"]) for row in rows] == [True] + [False] * (len(rows) - 1)
    assert {row["weights_chosen"] for row in rows if row["mixing"]} == {"in two folds of dev"}
    # A weight may be zero, so a mixture is hardly worse on dev than its network, even where it was not fitted.
    by_parts = {(row["networks"], row["count_model"]): float(row["dev_loss"]) for row in rows}
    assert all(loss <= by_parts[name, ""] + 0.01 for (name, family), loss in by_parts.items() if name and family)
    with (folder / "tables" / "log_linear_weights.csv").open(newline="") as file:
        buckets = list(csv.DictReader(file))
    n_tokens = len(open_sweep(folder).dataset.windows("dev", 3))
    for pool in {row["networks"] for row in buckets}:
        assert sum(int(row["dev_tokens"]) for row in buckets if row["networks"] == pool) == n_tokens
    with (folder / "tables" / "positions.csv").open(newline="") as file:
        positions = list(csv.DictReader(file))
    assert (folder / "figures" / "positions.png").stat().st_size > 1000
    words = open_sweep(folder).dataset.parts["dev"]
    for model in {row["model"] for row in positions}:
        places = {int(row["position"]): row for row in positions if row["model"] == model}
        assert int(places[1]["tokens"]) == len(words)  # Every word has a first token.
        assert int(places[4]["tokens"]) == sum(len(word) >= 3 for word in words)
        assert sum(float(row["share"]) for row in places.values()) == pytest.approx(1)
        total = sum(float(row["dev_loss"]) * int(row["tokens"]) for row in places.values())
        assert total / n_tokens == pytest.approx(next(float(r["dev_loss"]) for r in rows if name_of(r) == model))
    assert {row["networks"] for row in buckets} == {row["networks"] for row in rows if row["mixing"] == "log-linear"}
    assert all(bool(row["weight of the networks"]) == bool(row["networks"]) for row in buckets)


def test_the_test_loss_is_of_weights_that_were_fitted_to_dev_alone(folder, tmp_path):
    results = open_sweep(shutil.copytree(folder, tmp_path / "sweep"))
    best, *_ = measure_ensembles(results, 2, [2], "a command", (1, 3))
    assert best.mixing == "log-linear"
    mixture = log_linear_mixture(results, best.runs, (1, 3))
    dev, test = (results.dataset.windows(part, 5) for part in ("dev", "test"))
    assert best.test_loss == pytest.approx(mixture.losses(test, mixture.fit(dev)).mean(), abs=1e-9)
    look = read_looks(results.folder)[-1]
    assert (look.losses, look.command, look.together) == ([best.test_loss], "a command", True)
    assert measure_ensembles(results, 2, [2], "another command", (1, 3))[0].test_look == look.look


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--top", "0"], "--top"), (["--context-length", "4", "99"], "99"), (["--log-linear", "13"], "--log-linear")],
)
def test_a_mistake_is_one_line(folder, capsys, arguments, message):
    assert ensemble([str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
