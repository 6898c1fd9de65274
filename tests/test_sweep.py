"""The sweep command as a user types it."""

import csv
import hashlib
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

import mlp_lm.ideas
from experiments.analysis.looks import read_looks
from experiments.analysis.results import open_sweep
from experiments.runner.rows import config_of
from experiments.sample import main as sample
from experiments.store import Store
from experiments.sweeps.catalog import SWEEPS
from mlp_lm.config import CPU_RUNS, PADDED_STEPS, RunConfig
from mlp_lm.data.dataset import Windows, load_dataset
from mlp_lm.loss import cross_entropy
from mlp_lm.model import forward
from tests import cli

COLUMNS = """
    run_id init hidden_size embedding_dim block_size batch_size n_layers batch_norm direct learning_rate schedule
    n_steps seed n_params initial_loss train_loss dev_loss dev_unseen_loss status diverged_step wall_seconds
    history_step history_train_loss history_dev_loss history_minibatch_loss commit dirty versions device data_hash
"""
TINY = ("--hidden-size", "8", "12", "--embedding-dim", "2", "--block-size", "2", "--batch-size", "16")
TINY += ("--init", "kaiming_tanh", "--batch-norm", "False", "--n-steps", "60", "--n-evaluations", "2", "--seeds", "2")


def sweep(*arguments: str) -> str:
    command = [sys.executable, "-m", "experiments.sweep", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Store, str]:
    """A tiny sweep of 4 runs, and what its command printed."""
    folder = tmp_path_factory.mktemp("sweep")
    printed = sweep(*TINY, "--data", str(cli.FEW_WORDS), "--out", str(folder), "--test")
    return Store(folder), printed


def rows_of(store: Store) -> dict[str, dict]:
    return {row["run_id"]: row for row in store.rows().table.to_pylist()}


def test_a_row_a_run_with_the_promised_columns(finished):
    rows = rows_of(finished[0])
    assert len(rows) == 4
    for row in rows.values():
        assert not set(COLUMNS.split()) - row.keys()
        assert row["status"] == "done" and row["diverged_step"] is None
        assert row["history_step"] == [0, 30, 60]
        assert row["history_dev_loss"][-1] == row["dev_loss"] and row["history_train_loss"][0] == row["initial_loss"]
        assert row["history_minibatch_loss"][0] is None  # Nothing is trained before step 0.
        assert len(row["history_minibatch_loss"]) == 3
        assert config_of(row).run_id == row["run_id"]


def test_stored_losses_are_those_of_the_stored_weights_over_every_window(finished):
    store = finished[0]
    dataset, results = load_dataset(cli.FEW_WORDS), open_sweep(store.root)
    for row in rows_of(store).values():
        config = config_of(row)
        params = results.params(row["run_id"])
        assert config.architecture(len(dataset.vocabulary)).n_params == row["n_params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == row["n_params"]
        train, dev = (dataset.windows(part, config.block_size) for part in ("train", "dev"))
        new = dataset.unseen("dev", config.block_size)
        unseen = Windows(dev.contexts[new], dev.targets[new])
        for windows, column in ((train, "train_loss"), (dev, "dev_loss"), (unseen, "dev_unseen_loss")):
            logits = forward(params, jax.numpy.asarray(windows.contexts)).logits
            loss = cross_entropy(logits, jax.numpy.asarray(windows.targets))
            np.testing.assert_allclose(row[column], loss, rtol=1e-5)


def test_the_tables_rank_cells_and_show_baselines(finished):
    store, printed = finished
    assert "4 of 4 runs done" in (store.root / "tables" / "summary.md").read_text()
    assert "4 of 4 runs done" in printed and printed.split()[-1].endswith("report.html")
    with (store.root / "tables" / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    cells = [row for row in table if row["kind"] == "cell"]
    means = [float(row["dev_loss"]) for row in cells if row["study"] == "size"]
    assert means == sorted(means) and len(means) == 2
    for cell in cells:
        runs = [row["dev_loss"] for row in rows_of(store).values() if row["hidden_size"] == int(cell["hidden_size"])]
        assert float(cell["dev_loss"]) == pytest.approx(np.mean(runs))
        # Student's t for two seeds: 12.706 standard errors.
        half = 12.706 * np.std(runs, ddof=1) / np.sqrt(2)
        assert float(cell["dev_loss_high"]) - float(cell["dev_loss"]) == pytest.approx(half, rel=1e-3)
    families = {row["study"] for row in table if row["kind"] == "baseline"}
    assert {"uniform", "absolute discount", "modified Kneser-Ney"} <= families
    tested = [row["study"] for row in table if row["kind"] == "test"]
    assert tested == list(dict.fromkeys(row["study"] for row in cells))  # The best of each study, once.


def test_figures_and_report_are_written(finished):
    folder = finished[0].root
    for name in ("figures/size_axes.png", "figures/size_curves.png", "figures/embedding.png", "report.html"):
        assert (folder / name).stat().st_size > 5_000, name


def test_the_winner_alone_is_tested_and_not_in_the_table_of_runs(finished):
    store, _ = finished
    (look,) = read_looks(store.root)
    rows = rows_of(store)
    by_size = {size: [r for r in rows.values() if r["hidden_size"] == size] for size in (8, 12)}
    best = min(by_size.values(), key=lambda runs: np.mean([run["dev_loss"] for run in runs]))
    assert sorted(look.run_ids) == sorted(run["run_id"] for run in best)
    assert not any("test" in column for row in rows.values() for column in row)


def test_again_trains_nothing_and_an_extended_axis_only_the_new_cells(finished, tmp_path):
    store = Store(shutil.copytree(finished[0].root, tmp_path / "again"))
    printed = finished[1].replace(str(finished[0].root), str(store.root))
    before = {path: path.stat().st_mtime_ns for path in store.root.glob("shards/*")}
    again = cli.sweep(*TINY, "--data", str(cli.FEW_WORDS), "--out", str(store.root), "--test")
    assert (again.code, again.output) == (0, printed)
    assert {path: path.stat().st_mtime_ns for path in store.root.glob("shards/*")} == before
    assert cli.sweep_here(*TINY[:3], "10", *TINY[3:], "--data", str(cli.FEW_WORDS), "--out", str(store.root)).code == 0
    assert set(store.root.glob("shards/*")) > before.keys()
    assert sorted({row["hidden_size"] for row in rows_of(store).values()}) == [8, 10, 12]
    assert len(rows_of(store)) == 6


@pytest.mark.parametrize("failing", [False, True])
def test_the_analysis_is_prepared_once_beside_training_and_may_fail_there(tmp_path, monkeypatch, failing):
    prepared = []

    def prepare(store, dataset):
        prepared.append((store.root, dataset.name, threading.current_thread() is threading.main_thread()))
        if failing:
            raise MemoryError

    monkeypatch.setattr("experiments.sweep.prepare_analysis", prepare)
    slices = [cli.sweep_here("smoke", "--out", str(tmp_path), "--shard", f"{i}/2").code for i in (1, 2)]
    assert (slices, prepared) == ([0, 0], [])
    assert cli.sweep_here("smoke", "--out", str(tmp_path), "--seeds", "3").code == 0
    assert prepared == [(tmp_path, "ssa2018", False)] and (tmp_path / "report.html").exists()


def test_a_run_alone_has_the_bits_of_the_same_run_in_a_sweep(finished, tmp_path):
    store, _ = finished
    alone = Store(tmp_path)
    arguments = [
        *TINY[:2],
        *TINY[3:-1],
        "1",
        "--data",
        str(cli.FEW_WORDS),
        "--out",
        str(tmp_path),
        "--learning-rate",
        "0.1",
    ]
    assert cli.sweep(*arguments).code == 0  # By a worker too: its programs are single-threaded.
    (row,) = rows_of(alone).values()
    same = rows_of(store)[row["run_id"]]
    for column in ("initial_loss", "train_loss", "dev_loss", "dev_unseen_loss", "history_minibatch_loss"):
        assert row[column] == same[column]
    theirs = store.weights(same)
    for name, array in alone.weights(row).items():
        np.testing.assert_array_equal(array, theirs[name])


def test_a_sweep_file_is_a_sweep(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        f'title = "Mine"\ndata = "{cli.FEW_WORDS}"\n'
        '[[study]]\nname = "rates"\nseeds = 3\nlearning_rate = [0.1, 0.3]\nn_steps = 50\n'
        '[[study]]\nname = "inits"\ninit = ["normal", "zeros"]\nn_steps = 50\n'
    )
    said = cli.sweep("--config", str(file), "--dry-run", "--out", str(tmp_path / "out"))
    assert "8 runs, 8 to train" in said.output


def test_the_catalogue_holds_the_promised_default():
    assert "default" in cli.sweep("--list").output
    studies = SWEEPS["default"].expand("")
    sizes = list(studies["size"].values())
    assert len(sizes) == 2 * 2 * 2 * 2 * 3
    schemes = {(run.init, run.batch_norm) for run in studies["initialisation"].values()}
    assert len(studies["initialisation"]) == 5 * len(schemes)
    promised = {"normal", "uniform", "scaled_output", "scaled_hidden", "kaiming_tanh"}
    assert schemes >= {(init, False) for init in promised} | {("kaiming_tanh", True)}


def test_widths_are_padded_by_a_rule_on_the_run_alone():
    short, long = RunConfig(hidden_size=100, n_steps=PADDED_STEPS), RunConfig(hidden_size=100, n_steps=PADDED_STEPS + 1)
    assert widths(short) == {"embedding_dim": 16, "hidden_size": 128}
    assert widths(long) == {"embedding_dim": 10, "hidden_size": 100}
    assert widths(replace(short, init="orthogonal")) == {"embedding_dim": 10, "hidden_size": 100}
    assert CPU_RUNS == 4


def widths(config: RunConfig) -> dict[str, int]:
    return {name: getattr(config.program(), name) for name in ("embedding_dim", "hidden_size")}


def test_a_folder_that_holds_a_sweep_on_other_data_is_refused_and_stays(finished, few_words, tmp_path):
    store, _ = finished
    other = tmp_path / "other.txt"
    other.write_text("\n".join(few_words[:300]))
    request, rows = (store.root / "request.json").read_bytes(), rows_of(store)
    said = cli.sweep(*TINY, "--data", str(other), "--out", str(store.root))
    cli.assert_one_line(said, "holds a sweep on other data", "give another --out")
    assert ((store.root / "request.json").read_bytes(), rows_of(store)) == (request, rows)


@pytest.mark.parametrize("damaged", [True, False])
def test_without_a_sound_request_the_rows_say_what_the_data_are(finished, few_words, tmp_path, damaged):
    folder, other = tmp_path / "folder", tmp_path / "other.txt"
    shutil.copytree(finished[0].root, folder)
    other.write_text("\n".join(few_words[:300]))
    request = folder / "request.json"
    sound = request.read_text()
    request.unlink()
    if damaged:
        request.write_text(sound.replace('"name"', '"nama"'))
    said = cli.sweep(*TINY, "--data", str(other), "--out", str(folder))
    assert said.code == 2 and "holds a sweep on other data" in said.complaints
    said = cli.sweep(*TINY, "--data", str(cli.FEW_WORDS), "--out", str(folder), "--test")
    assert said.code == 0 and ("request.json is damaged" in said.complaints) == damaged
    assert open_sweep(folder).request.run_ids == rows_of(finished[0]).keys()


@pytest.mark.parametrize(("first", "missing"), [("0", 0), ("1", 2), ("2", 4)])
def test_seeds_may_begin_anywhere(finished, first, missing):
    flags = (*TINY, "--data", str(cli.FEW_WORDS), "--out", str(finished[0].root), "--first-seed", first, "--dry-run")
    assert f"4 runs, {missing} to train" in cli.sweep(*flags).output


def test_three_files_are_the_three_parts(few_words, tmp_path):
    parts = {"train": few_words[:200], "dev": few_words[200:300], "test": few_words[300:]}
    files = [tmp_path / f"{part}.txt" for part in parts]
    for file, words in zip(files, parts.values(), strict=True):
        file.write_text("\n".join(words))
    flags = (
        "--hidden-size",
        "4",
        "--n-steps",
        "20",
        "--n-evaluations",
        "1",
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "out"),
    )
    assert cli.sweep_here("smoke", "--data", *map(str, files), *flags).code == 0
    results = open_sweep(tmp_path / "out")
    assert {part: tuple(words) for part, words in results.dataset.parts.items()} == parts
    assert len(results.rows) == 1


@pytest.fixture
def ideas(tmp_path, tables):
    """An ideas file with a scheme of its own; afterwards the tables are as before."""
    path = tmp_path / "ideas.py"
    path.write_text("from mlp_lm import SCHEMES\nSCHEMES['mine'] = SCHEMES['fan_in']\n")
    return path


def test_an_idea_is_found_by_workers_and_marks_its_own_runs_only(ideas, tmp_path):
    flags = ("smoke", "--data", str(cli.FEW_WORDS), "--hidden-size", "8", "--n-steps", "40", "--n-evaluations", "1")
    flags += ("--seeds", "1", "--init", "mine", "fan_in", "--ideas", str(ideas), "--out", str(tmp_path / "out"))
    assert cli.sweep(*flags).code == 0
    results = open_sweep(tmp_path / "out")
    rows = {row["init"]: row for row in results.rows}
    assert rows["mine"]["dev_loss"] == rows["fan_in"]["dev_loss"]  # The same scheme under two names.
    assert rows["mine"]["ideas_hash"] == hashlib.sha256(ideas.read_bytes()).hexdigest()
    assert not rows["fan_in"]["ideas_hash"]
    moved = ideas.rename(tmp_path / "moved.py")
    mlp_lm.ideas._remove_added()  # As another process begins.
    with pytest.raises(ValueError, match=r"cannot be read.*name it with --ideas"):
        results.load_model(rows["mine"])
    assert sample([str(tmp_path / "out"), "--run", rows["mine"]["run_id"], "--ideas", str(moved)]) == 0
    moved.rename(ideas)
    ideas.write_text(ideas.read_text() + "# Edited.\n")
    assert "2 runs, 1 to train" in cli.sweep(*flags, "--dry-run").output
    with pytest.raises(ValueError, match="has changed since the sweep"):
        results.load_model(rows["mine"])
