"""What cannot be trained is refused before anything starts, by what stands side by side."""

from dataclasses import replace

import pytest

from experiments.runner.plan import BYTES, TRAINED_COPIES, check_feasible, machine_memory, workers_that_fit
from experiments.sweep import main as sweep
from mlp_lm.config import RunConfig, run_batch_size
from mlp_lm.data.dataset import load_dataset

NAMES = load_dataset("ssa2018")
TEXT = load_dataset("small")
WIDEST = 256  # Runs side by side.
N_WORDS = 99
BIG_BATCH = RunConfig(batch_size=64, hidden_size=20_000)
SMALL_BATCH = RunConfig(batch_size=32, hidden_size=19_500)  # Lighter, but twice as many train side by side.


def weight_bytes(run: RunConfig) -> int:
    """By hand: 27 letters' embeddings, a hidden layer after three of them, and the output; no biases."""
    d, h = run.embedding_dim, run.hidden_size
    return BYTES * (27 * d + 3 * d * h + h * 27)


def test_what_decides_is_the_memory_of_all_that_train_side_by_side(monkeypatch):
    needs = [TRAINED_COPIES * run_batch_size(run, 27, WIDEST) * weight_bytes(run) for run in (BIG_BATCH, SMALL_BATCH)]
    assert needs[0] < needs[1]
    monkeypatch.setattr("experiments.runner.plan.machine_memory", lambda: sum(needs) // 2)
    big, small = ([replace(run, seed=seed) for seed in range(WIDEST)] for run in (BIG_BATCH, SMALL_BATCH))
    check_feasible(big, NAMES, 1, WIDEST)
    check_feasible(small[: WIDEST // 2], NAMES, 1, WIDEST)  # No more train side by side than there are.
    for runs in (small, big + small, small + big):
        with pytest.raises(ValueError, match=r"hidden_size 19500, .* 256 runs side by side need .* GiB"):
            check_feasible(runs, NAMES, 1, WIDEST)
    with pytest.raises(ValueError, match="hidden_size 20000"):
        check_feasible(big, NAMES, 2, WIDEST)  # Two workers have half of it each.


def test_memory_is_the_least_limit_of_all_control_groups(tmp_path):
    own, unlimited = tmp_path / "own", machine_memory(own=tmp_path / "missing")
    assert unlimited > 1 << 20
    for controllers, name in (("", "memory.max"), ("cpu,memory", "memory/memory.limit_in_bytes")):
        own.write_text(f"3:cpuset:/\n0:{controllers}:/jobs/mine\n")
        file = tmp_path / controllers[:3] / name
        inner = file.parent / "jobs" / "mine"
        inner.mkdir(parents=True)
        assert machine_memory(tmp_path / controllers[:3], own) == unlimited
        file.write_text("max\n")
        (inner / file.name).write_text("9000\n")
        (inner.parent / file.name).write_text("5000\n")
        assert machine_memory(tmp_path / controllers[:3], own) == 5000
        file.write_text("440\n")
        assert machine_memory(tmp_path / controllers[:3], own) == 440


@pytest.mark.parametrize(("mebibytes", "n_workers"), [(150, 1), (440, 1), (699, 1), (700, 2), (1000, 3), (90_000, 8)])
def test_no_more_workers_than_memory_holds_before_they_train(mebibytes, n_workers, monkeypatch):
    monkeypatch.setattr("experiments.runner.plan.machine_memory", lambda: mebibytes << 20)
    assert workers_that_fit(8) == n_workers


def test_a_sweep_starts_the_workers_that_memory_holds_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.runner.plan.machine_memory", lambda: 440 << 20)
    monkeypatch.setattr("experiments.runner.run.worker_slots", lambda device: (0, 1, 2))
    assert sweep(["smoke", "--dry-run", "--out", str(tmp_path)]) == 0
    output, errors = capsys.readouterr()
    assert "on 1 core" in output
    assert errors == "sweep: memory holds 1 worker beside this process, 2 fewer than asked for\n"


def test_running_text_is_judged_by_its_own_size(monkeypatch):
    assert len(TEXT.vocabulary) == N_WORDS
    check_feasible([RunConfig(batch_size=TEXT.n_windows)], TEXT, 1, 1)
    with pytest.raises(ValueError, match=f"exceeds the {TEXT.n_windows} training windows of small"):
        check_feasible([RunConfig(batch_size=TEXT.n_windows + 1)], TEXT, 1, 1)
    monkeypatch.setattr("experiments.runner.plan.machine_memory", lambda: 8 * TEXT.n_tokens * 10)
    check_feasible([RunConfig(block_size=10, hidden_size=1)], TEXT, 1, 1)
    with pytest.raises(ValueError, match=f"block_size 11 makes {TEXT.n_tokens:,} windows"):
        check_feasible([RunConfig(block_size=11, hidden_size=1)], TEXT, 1, 1)
