"""The word-level study as a user types it, and the arithmetic behind its tables."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from experiments.analysis.results import open_sweep
from experiments.bengio2003.__main__ import main
from experiments.bengio2003.models import MODELS, PAPER_RATE, RECIPES, TABLE, make_grid, model_of
from experiments.bengio2003.table import COUNT_MODELS, longest_seen, measure, perplexity
from experiments.ensemble import main as ensemble
from experiments.export import main as export
from experiments.report.__main__ import main as report
from experiments.sample import main as sample
from experiments.store import Store
from mlp_lm.config import Architecture
from mlp_lm.data.dataset import Windows, load_dataset
from mlp_lm.evaluation import each_loss
from mlp_lm.mixtures import average, target_probabilities
from mlp_lm.ngram.baselines import fit_count_model
from mlp_lm.ngram.counts import count_ngrams
from mlp_lm.ngram.models import held_out_loss, maximum_likelihood
from mlp_lm.weights import from_tensors
from tests.conftest import SHARED

BROWN = 800_000  # Training windows.
ROOT = Path(__file__).parents[1]
PUBLISHED = ("--data", f"{SHARED}/brown.zip", "--vocabulary", "closed", "--models", "MLP9")


def command(*arguments: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "experiments.bengio2003", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two models by both recipes on the small text."""
    folder = tmp_path_factory.mktemp("bengio") / "out"
    flags = ("--models", "MLP3", "MLP9", "--seeds", "2", "--recipe", "modern", "paper", "--epochs", "1.5")
    done = command(*flags, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, flags


def lines(folder):
    with (folder / "tables" / "table1.csv").open(encoding="utf-8") as file:
        return {(row["recipe"], row["model"]): row for row in csv.DictReader(file)}


def test_every_model_stands_beside_the_paper_alone_and_mixed(study):
    folder, output, _ = study
    found = lines(folder)
    for recipe in RECIPES:
        for name, mixed in (("MLP3", "MLP4"), ("MLP9", "MLP10")):
            assert float(found[recipe, name]["paper_test"]) == MODELS[name].test
            assert float(found[recipe, mixed]["paper_test"]) == MODELS[name].mixed_test
            assert 1 < float(found[recipe, name]["test"]) < 99
            assert f"| {name} " in output
            assert float(found[recipe, name]["paper_valid"]) == MODELS[name].valid
    assert float(found["", "uniform"]["test"]) == len(load_dataset("small").vocabulary)
    for name in ("report.html", "figures/map.png", "tables/summary.md", "tables/novelty.csv"):
        assert (folder / name).stat().st_size > 200


def test_the_table_is_that_of_the_stored_weights(study):
    folder, *_ = study
    store, dataset = Store(folder), load_dataset("small")
    rows = [
        row for row in store.rows().table.to_pylist() if model_of(row).name == "MLP9" and row["optimizer"] == "adam"
    ]
    test = dataset.windows("test", 4)
    losses = [each_loss(from_tensors(store.weights(row)), test).mean() for row in rows]
    assert float(lines(folder)["modern", "MLP9"]["test"]) == pytest.approx(np.exp(losses).mean(), rel=1e-5)
    each = [target_probabilities(from_tensors(store.weights(row)), (), test) for row in rows]
    once = np.ones(len(test))
    assert [perplexity(one, once) for one in each] == pytest.approx(np.exp(losses))
    together = perplexity(average(each), once)
    assert together < max(np.exp(losses))
    assert float(lines(folder)["modern", "MLP9, average of 2 seeds"]["test"]) == pytest.approx(together)


def test_the_network_judges_sentences_that_it_never_saw_better_than_counting_does(study):
    folder, *_ = study
    with (folder / "tables" / "novelty.csv").open(encoding="utf-8") as file:
        rows = {row["targets"]: row for row in csv.DictReader(file)}
    for group in ("2-gram seen", "3-gram seen"):  # The word after the two or three before it is new.
        assert float(rows[group]["network"]) < 0.8 * float(rows[group]["count_model"])


def test_the_same_command_again_trains_nothing_and_says_the_same(study):
    folder, output, flags = study
    before = {path: path.read_bytes() for path in folder.glob("shards/*")}
    again = command(*flags, "--out", str(folder))
    assert (again.returncode, again.stdout) == (0, output)
    assert {path: path.read_bytes() for path in folder.glob("shards/*")} == before


def test_sentences_are_drawn_by_command(study, capsys):
    folder, *_ = study
    assert sample([str(folder), "--n", "5", "--seed", "3"]) == 0
    five = capsys.readouterr().out.splitlines()
    assert sample([str(folder), "--n", "3", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == five[:3]
    known = set(load_dataset("small").vocabulary.tokens)
    assert all(sentence.endswith(".") and set(sentence[:-1].split()) <= known for sentence in five[:5])
    assert sample([str(folder), "--n", "0"]) == 2
    assert "n must be at least 1" in capsys.readouterr().err


def test_weights_are_exported_with_their_words(study, capsys, tmp_path):
    folder, *_ = study
    row = next(row for row in Store(folder).rows().table.to_pylist() if model_of(row).name == "MLP9")
    path = tmp_path / "model.safetensors"
    assert export([row["run_id"], "--dir", str(folder), "--out", str(path)]) == 0
    vocabulary = load_dataset("small").vocabulary
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["tokens"]) == list(vocabulary.tokens)
        assert file.get_tensor("output.weight").shape == (len(vocabulary), 100)


def test_the_report_and_ensembles_of_any_sweep_serve_words_too(study, capsys):
    folder, *_ = study
    assert report([str(folder)]) == 0
    page = (folder / "report.html").read_text("utf-8")
    assert "Table 1 of the paper" in page and "data:image/png;base64," in page
    assert ensemble([str(folder), "--top", "2", "--context-length", "2"]) == 0
    assert "Averages of probabilities" in capsys.readouterr().out
    results = open_sweep(folder)
    assert results.dataset.is_running_text and len(results.rows) == 8


def test_slices_make_the_study(capsys, tmp_path):
    flags = ["--models", "MLP3", "MLP9", "--seeds", "1", "--epochs", "0.1", "--out", str(tmp_path / "out")]
    assert main([*flags, "--shard", "1/2"]) == 0
    assert "1 run of this slice is done" in capsys.readouterr().out
    assert main([*flags, "--dry-run"]) == 0
    assert "2 runs, 1 to train" in capsys.readouterr().out
    assert main(flags) == 0
    assert {("modern", "MLP3"), ("modern", "MLP9")} <= lines(tmp_path / "out").keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--models", "MLP6"), "did you mean 'MLP"),
        (("--data", "nowhere.zip"), "no such file"),
        (("--seeds", "0"), "--seeds must be at least 1"),
        (("--epochs", "0"), "--epochs must be above 0"),
        (("--epochs", "nan"), "--epochs must be above 0"),
        (("--vocabulary", "open"), "invalid choice"),
        (("--shard", "0/2"), "is no slice"),
        (("--fetch-to", "here"), "--fetch-to is for --out s3://"),
        (("--workers", "2", "--device", "gpu"), "--workers counts processor cores"),
        (("--address", "host:1"), "--address is for --executor ray"),
        (("--sedes", "3"), "did you mean '--seeds'"),
    ],
)
def test_mistakes_are_one_line_and_code_2(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(list(flags)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_name_cannot_act_on_the_terminal(capsys):
    assert main(["--data", "\x1b[31mred"]) == 2
    assert capsys.readouterr().err[:-1].isprintable()


def test_a_dry_run_trains_nothing(capsys, tmp_path):
    assert main(["--dry-run", "--out", str(tmp_path / "none")]) == 0
    assert "15 runs, 15 to train" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_parameters_are_the_papers_where_its_formula_applies():
    assert TABLE[0].published_params(16_383) == 5_762_483
    for model in TABLE:
        ours = Architecture(16_383, model.order - 1, model.dim, model.hidden, direct=model.direct).n_params
        without = 0 if model.direct else 16_383 * (model.order - 1) * model.dim
        assert ours == model.published_params(16_383) - without


def test_recipes_are_what_the_paper_says_and_what_one_would_do_now():
    for model in TABLE:
        (then,) = make_grid(model, "paper", BROWN, 1)
        assert then.learning_rate == pytest.approx(PAPER_RATE * then.batch_size)
        assert (then.schedule, then.weight_decay, then.early_stopping) == ("inverse_time", 1e-4, True)
        assert next(iter(make_grid(model, "paper", 50_000, 1))).batch_size == 1
        (now,) = make_grid(model, "modern", BROWN, 1)
        assert (now.optimizer, now.schedule, now.shuffle, now.dropout) == ("adam", "cosine", True, 0.1)
        assert now.adam_epsilon > 1e-6
        (on_few,) = make_grid(model, "modern", 50_000, 1)
        assert (on_few.batch_size, on_few.learning_rate) == (64, pytest.approx(now.learning_rate / math.sqrt(8)))
        assert then.shuffle
        for run in (then, now):
            assert model_of(vars(run)) is model
    (larger,) = make_grid(MODELS["larger"], "modern", BROWN, 1)
    assert larger.dropout > now.dropout


def test_perplexity_is_the_geometric_mean_of_inverse_probabilities():
    assert perplexity(np.full(7, 1 / 99), np.ones(7)) == pytest.approx(99)
    assert perplexity(np.array([0.5, 0.125]), np.ones(2)) == pytest.approx(4)


def test_mixtures_lie_between_and_the_best_weight_is_best():
    rng = np.random.default_rng(0)
    network, trigram = (rng.uniform(0.01, 1, 500) for _ in range(2))
    weights = {"dev": (np.arange(500) < 300).astype(float), "test": (np.arange(500) >= 300).astype(float)}
    measured = measure(network, trigram, weights)
    assert measured.valid == pytest.approx(np.exp(-np.log(network[:300]).mean()))
    assert measured.mixed_test == pytest.approx(np.exp(-np.log((network[300:] + trigram[300:]) / 2).mean()))
    grid = [perplexity((1 - w) * network + w * trigram, weights["dev"]) for w in np.linspace(0, 1, 101)]
    assert measured.best_valid <= min(grid) + 1e-6


def test_count_models_of_words_are_distributions_and_agree_with_their_loss():
    dataset = load_dataset("small")
    losses = []
    for family, order in COUNT_MODELS:
        model = fit_count_model(dataset, family, order - 1)
        dev = dataset.windows("dev", order - 1)
        np.testing.assert_allclose(model.distribution(dev.contexts[:50]).sum(axis=1), 1)
        losses.append(held_out_loss(model, dev.contexts, dev.targets))
        assert 0 < losses[-1] < np.log(len(dataset.vocabulary))
    dev, train = dataset.windows("dev", 2), dataset.windows("train", 2)
    unigrams = maximum_likelihood(count_ngrams(train.contexts, train.targets, 0, len(dataset.vocabulary)))
    assert max(losses) < held_out_loss(unigrams, dev.contexts[:, :0], dev.targets)


def test_the_longest_seen_gram_by_brute_force():
    dataset = load_dataset("small")
    train, dev, test = (dataset.ids[part] for part in ("train", "dev", "test"))
    line = np.concatenate([train, dev, test]).tolist()
    start = len(train) + len(dev)
    trained = [0, 0, 0, 0, *line[: len(train)]]
    known = [{tuple(trained[i - n : i]) for i in range(5, len(trained) + 1)} for n in range(6)]
    windows: Windows = dataset.windows("test", 4)
    found = longest_seen(dataset, windows)
    for j in range(0, len(found), 97):
        orders = [n for n in range(1, 6) if tuple(line[start + j + 1 - n : start + j + 1]) in known[n]]
        assert found[j] == max(orders, default=0)


@pytest.mark.long
@pytest.mark.skipif(not SHARED, reason="the Brown corpus is not ours: set MLP_LM_SHARED_DATA")
def test_a_published_folder_without_weights_is_read_and_left_as_it_is(capsys):
    folder = ROOT / "results" / "bengio2003-paper"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([*PUBLISHED, "--recipe", "paper", "--seeds", "1", "--epochs", "5", "--out", str(folder)]) == 0
    capsys.readouterr()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
