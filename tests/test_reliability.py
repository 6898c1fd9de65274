"""Nothing is lost and nothing doubled, whoever is killed and whenever: a toy sweep against an uninterrupted one."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from experiments.store import Store
from tests import processes, toy

COMPARED = ("run_id", "dev_loss", "cohort_id", "weights_index", "weights_sha256")  # All but the wall time.


def contents(folder: Path) -> dict[str, tuple]:
    """Run id to its row and its weights, bit for bit."""
    store = Store(folder)
    rows = store.rows()
    assert rows.damaged == ()
    listed = rows.table.to_pylist()
    assert max(Counter(row["run_id"] for row in listed).values(), default=0) <= 1
    return {row["run_id"]: (*(row[c] for c in COMPARED), store.weights(row)["state"].tobytes()) for row in listed}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(folder)
    return contents(folder)


def finish(folder: Path) -> None:
    with processes.started("-m", "tests.toy", str(folder)) as process:
        _, errors = process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def kill_at_random(folder: Path, victim: str, chance: random.Random) -> int:
    """Start the toy sweep, kill the parent or a worker at a random moment; the number of cohorts it told were done."""
    with processes.started("-m", "tests.toy", str(folder)) as process:
        assert process.stdout.readline() == "ready\n"
        processes.wait_until(lambda: processes.workers(process.pid) or process.poll() is not None)
        time.sleep(chance.uniform(0.0, 1.2))
        pids = [process.pid] if victim == "parent" else processes.workers(process.pid)
        for pid in chance.sample(pids, min(len(pids), 1)):
            with contextlib.suppress(ProcessLookupError):  # It was quicker.
                os.kill(pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert process.returncode in ((0, -signal.SIGKILL) if victim == "parent" else (0,))
    return output.count("done")


def check_killed(folder: Path, victim: str, seed: int, uninterrupted: dict) -> None:
    n_told = kill_at_random(folder, victim, random.Random(seed))
    stored = contents(folder)
    assert len(stored) >= 4 * n_told  # What was told to be done is in the store.
    finish(folder)
    assert contents(folder) == uninterrupted
    assert len(list((folder / "manifests").glob("*.json"))) == 40


def test_the_uninterrupted_sweep_is_whole(uninterrupted):
    assert uninterrupted.keys() == {run.run_id for cohort in toy.toy_cohorts() for run in cohort.runs}


@processes.needs_proc
@pytest.mark.parametrize("victim", ["parent", "worker"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))])
def test_kill_at_a_random_moment(tmp_path, victim, seed, uninterrupted):
    check_killed(tmp_path, victim, seed, uninterrupted)


@pytest.mark.long
@processes.needs_proc
@pytest.mark.parametrize("victim", ["parent", "worker"])
@pytest.mark.parametrize("seed", range(3, 53))
def test_kill_at_a_hundred_random_moments(tmp_path, victim, seed, uninterrupted):
    check_killed(tmp_path, victim, seed, uninterrupted)


@processes.needs_proc
def test_sweep_killed_again_and_again_gets_to_its_end(tmp_path, uninterrupted):
    chance = random.Random(0)
    for _ in range(3):
        kill_at_random(tmp_path, "parent", chance)
    finish(tmp_path)
    assert contents(tmp_path) == uninterrupted


@processes.needs_proc
def test_no_worker_outlives_a_killed_parent(tmp_path):
    with processes.started("-m", "tests.toy", str(tmp_path)) as process:
        processes.wait_until(lambda: len(processes.workers(process.pid)) == 2)
        pids = processes.children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        processes.wait_until(lambda: not any(processes.alive(pid) for pid in pids))


@processes.needs_proc
def test_two_sweeps_on_one_folder_the_second_refuses_and_the_first_is_whole(tmp_path, uninterrupted):
    with processes.started("-m", "tests.toy", str(tmp_path)) as first:
        assert first.stdout.readline() == "ready\n"
        with processes.started("-m", "tests.toy", str(tmp_path)) as second:
            _, errors = second.communicate(timeout=processes.PATIENCE_SECONDS)
        assert second.returncode != 0
        assert "is in use by another sweep" in errors
        first.communicate(timeout=processes.PATIENCE_SECONDS)
    assert contents(tmp_path) == uninterrupted
