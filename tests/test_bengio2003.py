"""The word-level study as a user types it, and the arithmetic behind its tables."""

import contextlib
import csv
import io
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

from experiments.analysis.looks import read_looks
from experiments.analysis.results import open_sweep
from experiments.bengio2003.__main__ import main
from experiments.bengio2003.models import MODELS, PAPER_RATE, RECIPES, TABLE, TableModel, make_grid, model_of
from experiments.bengio2003.table import longest_seen, measure, perplexity
from experiments.ensemble import main as ensemble
from experiments.export import main as export
from experiments.report.__main__ import main as report
from experiments.report.sections import read_sections
from experiments.sample import main as sample
from experiments.store.small_files import read_small, write_small
from mlp_lm.config import Architecture
from mlp_lm.data.dataset import load_dataset
from mlp_lm.evaluation import each_loss
from mlp_lm.mixtures import average
from mlp_lm.ngram.baselines import TEXT_LENGTHS
from tests import cli

BROWN_WINDOWS = 800_000


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two models by both recipes on the small text."""
    folder = tmp_path_factory.mktemp("bengio") / "out"
    flags = ("--models", "MLP3", "MLP9", "--seeds", "2", "--recipe", "modern", "paper", "--epochs", "0.5", "--test")
    output, arguments = io.StringIO(), [*flags, "--out", str(folder)]
    with cli.trained_here(), contextlib.redirect_stdout(output), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bengio2003", *arguments])  # Which the request quotes.
        assert main(arguments) == 0
    return folder, output.getvalue(), flags


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(folder):
    with (folder / "tables" / "table1.csv").open(encoding="utf-8") as file:
        return {(row["recipe"], row["model"]): row for row in csv.DictReader(file)}


def test_every_model_stands_beside_the_paper_alone_and_mixed(study):
    folder, output, _ = study
    actual = lines(folder)
    for recipe in RECIPES:
        for name, mixed in (("MLP3", "MLP4"), ("MLP9", "MLP10")):
            assert float(actual[recipe, name]["paper_test"]) == MODELS[name].test
            assert float(actual[recipe, mixed]["paper_test"]) == MODELS[name].mixed_test
            assert 1 < float(actual[recipe, name]["test"]) < 99
            assert f"\n{name} " in output
    assert float(actual["", "uniform"]["test"]) == len(load_dataset("small").vocabulary)
    for name in ("report.html", "figures/map.png", "figures/novelty.png", "tables/summary.md", "tables/novelty.csv"):
        assert (folder / name).stat().st_size > 200


def test_the_test_part_is_looked_at_on_request_and_once(study, capsys, tmp_path):
    flags = ["--models", "MLP3", "--seeds", "1", "--epochs", "0.1", "--out", str(tmp_path / "out")]
    with cli.trained_here():
        assert main(flags) == 0
    tested = {name for name, row in lines(tmp_path / "out").items() if row["test"]}
    assert tested == {("", "uniform")} and read_looks(tmp_path / "out") == []
    text = (tmp_path / "out" / "tables" / "summary.md").read_text("utf-8")
    assert "was not looked at" in text and "Validation perplexity of MLP3" in text
    assert main([*flags, "--test"]) == 0
    assert main([*flags, "--test"]) == 0
    assert main(flags) == 0
    actual = lines(tmp_path / "out")
    (look,) = read_looks(tmp_path / "out")
    assert look.losses == [pytest.approx(math.log(float(actual["modern", "MLP3"]["test"])))]
    assert look.command.endswith("--test") and look.data_hash == open_sweep(tmp_path / "out").request.data_hash
    assert all(row["test"] for row in actual.values())  # What was seen stays in view.
    assert "look 1, MLP3" in (tmp_path / "out" / "tables" / "summary.md").read_text("utf-8")
    assert len(read_looks(study[0])) == 1  # All models of one command.


def test_the_table_is_that_of_the_stored_weights(study):
    folder, *_ = study
    results = open_sweep(folder)
    rows = [row for row in results.rows if model_of(row).name == "MLP9" and row["optimizer"] == "adam"]
    test = results.dataset.windows("test", 4)
    losses = [each_loss(results.params(row["run_id"]), test).astype(float) for row in rows]
    assert float(lines(folder)["modern", "MLP9"]["test"]) == pytest.approx(np.exp(np.mean(losses, axis=1)).mean())
    together = np.exp(-np.log(np.exp(-np.array(losses)).mean(axis=0)).mean())
    assert float(lines(folder)["modern", "MLP9, average of 2 seeds"]["test"]) == pytest.approx(together)


def test_the_network_judges_sentences_that_it_never_saw_better_than_counting_does(study):
    folder, *_ = study
    with (folder / "tables" / "novelty.csv").open(encoding="utf-8") as file:
        rows = {row["targets"]: row for row in csv.DictReader(file)}
    for group in ("2-gram seen", "3-gram seen"):  # The word after the two or three before it is new.
        assert float(rows[group]["network"]) < 0.8 * float(rows[group]["count_model"])


def test_the_same_command_again_trains_nothing_and_says_the_same(study):
    folder, output, flags = study
    before = contents(folder)
    command = [sys.executable, "-m", "experiments.bengio2003", *flags, "--out", str(folder)]
    again = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert (again.returncode, again.stdout) == (0, output), again.stderr
    assert contents(folder) == before


def test_what_was_measured_once_is_not_measured_again(study, tmp_path):
    folder, _, flags = study
    copy = shutil.copytree(folder, tmp_path / "copy")
    measured = read_small(copy, "measured.json")
    write_small(copy, "measured.json", {names: values | {"test": 7.25} for names, values in measured.items()})
    assert main([*flags, "--out", str(copy)]) == 0
    assert {float(lines(copy)[recipe, "MLP9"]["test"]) for recipe in RECIPES} == {7.25}


def test_a_folder_without_its_weights_is_read_and_left_as_it_is(study, capsys, tmp_path):
    folder, output, flags = study
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("weights", ".lock"))
    before = contents(copy)
    assert main([*flags, "--out", str(copy)]) == 0
    said = capsys.readouterr()
    assert said.out + f"Report: {folder}/report.html\n" == output
    assert "left as it is" in said.err and said.err.count("\n") == 1
    assert contents(copy) == before


def test_what_needs_weights_that_are_nowhere_is_left_out_by_name(study, capsys, tmp_path):
    folder, _, flags = study
    ignored = shutil.ignore_patterns("weights", "measured.json", "s*s.json")
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=ignored)
    assert main([*flags, "--out", str(copy)]) == 0
    (left_out,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("weights are not in"))
    assert "the perplexities of 8 runs" in left_out and "sentences of the best run" in left_out
    (copy / "measured.json").write_bytes((folder / "measured.json").read_bytes())
    with cli.trained_here():
        assert main(["--models", "MLP3", "--seeds", "3", "--epochs", "0.5", "--out", str(copy)]) == 0
    assert "Report: " in capsys.readouterr().out  # Only the third seed had to be trained.
    assert float(lines(copy)["modern", "MLP3"]["seeds"]) == 3
    assert ("modern", "MLP3, average of 3 seeds") not in lines(copy)


def test_the_report_shows_the_study_in_words_for_running_text(study, capsys):
    folder, *_ = study
    assert report([str(folder)]) == 0
    page = (folder / "report.html").read_text("utf-8")
    for text in ("Table 1 of the paper", "MLP9, average of 2 seeds", "data:image/png;base64,", "a perplexity of"):
        assert text in page
    assert "are not in the training text" in page and "unseen words" not in page
    counts = page[page.index('class="counts"') :]
    assert [f">{k}</th>" in counts for k in range(1, 8)] == [k in TEXT_LENGTHS for k in range(1, 8)]
    assert len(read_sections(folder)) == 4


def test_the_sweep_of_a_text_has_perplexities_beside_losses(tmp_path):
    flags = ["--data", "small", "--n-steps", "20", "--n-evaluations", "1", "--hidden-size", "8", "--seeds", "1"]
    said = cli.sweep_here("single", "--test", *flags, "--out", str(tmp_path / "out"))
    assert said.code == 0
    table = said.output
    assert "perplexity" in table
    markdown = (tmp_path / "out" / "tables" / "summary.md").read_text()
    assert "dev perplexity" in markdown and "every 16th window" in markdown
    (row,) = open_sweep(tmp_path / "out").rows
    assert f" {math.exp(row['dev_loss']):.1f} " in table
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "on the test part it has" in page and "test words" not in page


def test_sentences_are_drawn_by_command(study, capsys):
    folder, *_ = study
    assert sample([str(folder), "--n", "5", "--seed", "3"]) == 0
    five = capsys.readouterr().out.splitlines()
    assert sample([str(folder), "--n", "3", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == five[:3]
    known = set(load_dataset("small").vocabulary.tokens)
    assert all(sentence.endswith(".") and set(sentence[:-1].split()) <= known for sentence in five[:5])


def test_weights_are_exported_with_their_words(study, capsys, tmp_path):
    folder, *_ = study
    row = next(row for row in open_sweep(folder).rows if model_of(row).name == "MLP9")
    path = tmp_path / "model.safetensors"
    assert export([row["run_id"], "--dir", str(folder), "--out", str(path)]) == 0
    vocabulary = load_dataset("small").vocabulary
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["tokens"]) == list(vocabulary.tokens)
        assert file.get_tensor("output.weight").shape == (len(vocabulary), 100)


def test_networks_of_words_are_averaged_and_mixed_by_the_command_for_names(study, capsys, tmp_path):
    copy = shutil.copytree(study[0], tmp_path / "copy")
    assert ensemble([str(copy), "--top", "2", "--context-length", "2"]) == 0
    assert "2 best runs" in capsys.readouterr().out
    assert "Ensembles and mixtures" in (copy / "report.html").read_text("utf-8")


def test_slices_make_the_study(capsys, tmp_path):
    flags = ["--models", "MLP3", "MLP9", "--seeds", "1", "--epochs", "0.1", "--out", str(tmp_path / "out")]
    with cli.trained_here():
        assert main([*flags, "--shard", "1/2"]) == 0
    assert "1 run of this slice is done" in capsys.readouterr().out
    assert main([*flags, "--dry-run"]) == 0
    assert "2 runs, 1 to train" in capsys.readouterr().out
    with cli.trained_here():
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


def published_params(model: TableModel, vocab_size: int) -> int:
    """The paper's count, |V| (1 + nm + h) + h (1 + (n - 1) m): that of a model with direct connections."""
    n, h, m = model.order, model.hidden, model.dim
    return vocab_size * (1 + n * m + h) + h * (1 + (n - 1) * m)


def test_parameters_are_the_papers_where_its_formula_applies():
    assert published_params(TABLE[0], 16_383) == 5_762_483
    for model in TABLE:
        own = Architecture(16_383, model.order - 1, model.dim, model.hidden, direct=model.direct).n_params
        without = 0 if model.direct else 16_383 * (model.order - 1) * model.dim
        assert own == published_params(model, 16_383) - without


def test_recipes_are_what_the_paper_says_and_what_one_would_do_now():
    for model in TABLE:
        (then,) = make_grid(model, "paper", BROWN_WINDOWS, 1)
        assert then.learning_rate == pytest.approx(PAPER_RATE * then.batch_size)
        assert (then.schedule, then.weight_decay, then.early_stopping) == ("inverse_time", 1e-4, True)
        assert next(iter(make_grid(model, "paper", 50_000, 1))).batch_size == 1
        (now,) = make_grid(model, "modern", BROWN_WINDOWS, 1)
        assert (now.optimizer, now.schedule, now.shuffle, now.dropout) == ("adam", "cosine", True, 0.1)
        assert now.adam_epsilon > 1e-6
        (on_few,) = make_grid(model, "modern", 50_000, 1)
        assert (on_few.batch_size, on_few.learning_rate) == (64, pytest.approx(now.learning_rate / math.sqrt(8)))
        assert then.shuffle
        for run in (then, now):
            assert model_of(vars(run)) is model
    (larger,) = make_grid(MODELS["larger"], "modern", BROWN_WINDOWS, 1)
    assert larger.dropout > now.dropout


def test_perplexity_is_the_geometric_mean_of_inverse_probabilities():
    assert perplexity(np.full(7, 1 / 99), np.ones(7)) == pytest.approx(99)
    assert perplexity(np.array([0.5, 0.125, 0.9]), np.array([1.0, 1.0, 0.0])) == pytest.approx(4)


def test_mixtures_lie_between_and_the_best_weight_is_best():
    rng = np.random.default_rng(0)
    network, trigram = (rng.uniform(0.01, 1, 1000) for _ in range(2))
    dev = np.repeat([1.0, 0.0], 500)
    measured = measure(network, trigram, {"dev": dev, "test": 1 - dev})
    assert measured.valid == perplexity(network, dev)
    assert measured.mixed_test == pytest.approx(perplexity(average([network, trigram]), 1 - dev))
    grid = [perplexity((1 - w) * network + w * trigram, dev) for w in np.linspace(0, 1, 101)]
    assert measured.best_valid <= min(grid) + 1e-6


def test_the_longest_seen_gram_by_brute_force():
    dataset = load_dataset("small")
    line = np.concatenate([dataset.ids[part] for part in ("train", "dev", "test")]).tolist()
    n_train = len(dataset.ids["train"])
    start = n_train + len(dataset.ids["dev"])
    trained = [0, 0, 0, 0, *line[:n_train]]
    known = [{tuple(trained[i - n : i]) for i in range(5, len(trained) + 1)} for n in range(6)]
    longest = longest_seen(dataset, dataset.windows("test", 4))
    for j in range(0, len(longest), 97):
        orders = [n for n in range(1, 6) if tuple(line[start + j + 1 - n : start + j + 1]) in known[n]]
        assert longest[j] == max(orders, default=0)


def test_sentences_of_a_text_are_known_as_samples_spell_them():
    dataset = load_dataset("small")
    sentences = dataset.spelled("train")
    first = dataset.parts["train"][0]
    end = first.index(".")
    assert " ".join(first[:end]) + "." in sentences
    assert not any("." in sentence[:-1] or sentence.endswith(" .") for sentence in sentences)
