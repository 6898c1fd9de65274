"""The benchmark's rows at a small scale, on the processor: what is measured, not how fast it is."""

import json
from dataclasses import asdict, replace

import pytest

from experiments.benchmark import accelerator, peers, processes, processor
from experiments.benchmark.__main__ import compare_machines, write_table
from experiments.benchmark.rounds import Ratio, Row
from mlp_lm.training import train

SMALL = accelerator.Scale(n_runs=(2, 4), n_steps=3, rounds=2, trainings=4, training_steps=20)
TINY = replace(processor.REFERENCE, hidden_size=8)


@pytest.fixture
def sweeps(monkeypatch):
    """What was asked of other processes, none of which is started."""
    asked = []
    monkeypatch.setattr(accelerator, "sweep_seconds", lambda *asked_for: asked.append(asked_for) or 8.0)
    losses = {"cpu": [2.5, 2.25], "gpu": [2.5, 2.25 + 3e-5]}
    monkeypatch.setattr(accelerator, "run_probe", lambda probe, where: losses[where])
    monkeypatch.setattr(accelerator, "use_device", lambda device: asked.append(device))
    return asked


def test_an_accelerators_rows_are_all_measured(few_dataset, sweeps, monkeypatch):
    monkeypatch.setattr(peers, "has_torch", lambda device="cpu": False)
    monkeypatch.setattr(
        accelerator, "CELLS", (("hidden 8", TINY), ("hidden 8, batch 64", replace(TINY, batch_size=64)))
    )
    monkeypatch.setattr(accelerator, "REFERENCE", TINY)
    monkeypatch.setattr(accelerator, "word_steps", lambda loss_and_grad: lambda: None)  # Seconds each, tested below.
    rows = {row.what: row for row in accelerator.accelerator_rows(few_dataset, "gpu", SMALL)}
    assert sweeps == [(4, 20, "gpu"), "gpu"]
    equality = rows["largest difference of a dev loss from the processor's"]
    assert equality.value == pytest.approx(3e-5) and equality.met
    assert rows["4 trainings of 20 steps, command to report"].detail.startswith("1e+05 µs a model-step")
    steps = [row for what, row in rows.items() if what.startswith("a model-step, ")]
    assert len(steps) == len(accelerator.CELLS) * len(SMALL.n_runs) and all(row.value > 0 for row in steps)
    without_number = {what for what, row in rows.items() if row.value is None}
    assert without_number == {what for what in rows if "PyTorch" in what or "torch." in what} | {
        "peak memory of all the above"  # A processor does not tell.
    }


def test_runs_side_by_side_are_copies_of_drawn_ones(few_dataset):
    batch = accelerator.side_by_side(TINY, few_dataset, 10)
    embedding = batch.states.params.embedding
    assert embedding.shape[0] == len(batch.numbers.seed) == 10
    assert (embedding[8] == embedding[4]).all() and (embedding[8] == embedding[0]).all()
    assert not (embedding[1] == embedding[0]).all()


def test_more_runs_than_memory_is_a_row_that_says_so(few_dataset, monkeypatch):
    def exhausted(*arguments):
        raise accelerator.jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating ...")

    monkeypatch.setattr(accelerator, "advance_batch", exhausted)
    row = accelerator.step_row("hidden 8", TINY, few_dataset, 4, SMALL)
    assert (row.value, row.met, row.detail) == (None, None, "RESOURCE_EXHAUSTED: Out of memory")


def test_compared_losses_are_those_of_training(few_dataset, monkeypatch):
    short = replace(processes.PLAIN, hidden_size=8, n_steps=20)
    monkeypatch.setattr(processes, "COMPARED", (short,))
    monkeypatch.setattr(processes, "load_dataset", lambda: few_dataset)
    assert processes.losses("cpu") == train(short, few_dataset, seeds=2).dev_loss.tolist()


def test_pytorch_takes_the_steps_of_the_lecture(few_dataset):
    torch = pytest.importorskip("torch")
    config = TINY
    windows = few_dataset.windows("train", config.block_size)
    torch.manual_seed(0)
    peers.finished(peers.lecture_loop(config, windows, len(few_dataset.vocabulary)), "cpu", 3)
    row = accelerator.peer_row("a graph", lambda: peers.graphed_loop(config, windows, 27), 1, "cpu", SMALL)
    assert row.value is None and row.detail  # No CUDA here, and the row says why.


def test_a_share_of_evaluations_follows_from_a_window_and_a_step(monkeypatch):
    monkeypatch.setattr(processor, "EVALUATED_CHUNKS", 1)
    monkeypatch.setattr(processor, "MLP9", replace(processor.MLP9, vocab_size=50))
    monkeypatch.setattr(processor, "median_seconds", lambda timed: timed() and 1e-3)
    row = processor.evaluation_row(step_seconds=0.5)
    evaluating, training = 3 * 250_000 * 1e-3, 3 * 800_000 / 512 * 0.5
    assert row.value == pytest.approx(100 * evaluating / (evaluating + training)) and row.met is False


def test_machines_stand_side_by_side(tmp_path, monkeypatch):
    old = Row.of_ratio("eager / ours", Ratio(6.0, 5.9, 6.1, 2e-4, 3e-5), at_least=7.0)
    new = [
        replace(old, value=8.0, met=True),
        Row.at_most("a sweep", 30.0, "s", 25.0),
        Row.missing("Ray", "<= 1", "none"),
    ]
    for name, rows in (("Old, AMX", [old]), ("New Chip", new)):
        monkeypatch.setattr("experiments.benchmark.__main__.processor_with_units", lambda name=name: name)
        write_table(tmp_path, "cpu", rows)
    assert {path.name for path in tmp_path.iterdir()} == {"cpu-old-amx.json", "cpu-new-chip.json", "cpu.md"}
    lines = (tmp_path / "cpu.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines if line.startswith("| ")]
    assert cells[0] == ["| what", "target", "New Chip", "Old, AMX |"]
    assert cells[2] == ["| eager / ours", ">= 7", "8 x", "6 x (missed) |"]
    assert cells[3] == ["| a sweep", "&lt;= 25 s", "30 s (missed)", "- |"]
    assert "## Old, AMX" in lines and "quartiles 5.9 to 6.1; 200 µs against 30 µs" in "\n".join(lines)
    again = json.loads((tmp_path / "cpu-new-chip.json").read_text())
    assert [Row(**row) for row in again["rows"]] == new == [Row(**asdict(row)) for row in new]
    assert compare_machines([again], "cpu").count("| Ray ") == 2
