"""Batches of runs shared out over several devices."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.runner import devices
from experiments.runner.plan import Cohort
from experiments.runner.trainer import fit_batch, train_cohort
from experiments.store import Store
from mlp_lm.config import CPU_RUNS, RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.training import train
from tests.cli import QUICK_XLA_FLAGS

ROOT = Path(__file__).parents[1]

BASE = RunConfig(hidden_size=24, embedding_dim=4, n_steps=300, n_evaluations=3)
RUNS = tuple(replace(BASE, seed=seed, learning_rate=0.05 * (seed + 1)) for seed in range(6))
ON_EIGHT = """
import sys
from pathlib import Path
from tests.test_devices import print_losses

print_losses(sys.argv[1], Path(sys.argv[2]))
"""


def dev_losses(words: str, folder: Path) -> tuple[int, list[list[float]]]:
    """How many devices this process has, and what its runs' dev losses were."""
    rows = train_cohort(Cohort(RUNS, 1.0, batch_size=8), load_dataset(words), Store(folder))
    return len(jax.local_devices()), [row["history_dev_loss"] for row in rows]


def print_losses(words: str, folder: Path) -> None:
    trained = train(replace(BASE, n_steps=20, n_evaluations=1), load_dataset(words))  # Four at a time: no device each.
    assert len(trained.dev_loss) == 1
    print(json.dumps(dev_losses(words, folder)))


def test_eight_devices_give_the_results_of_one(few_dataset, tmp_path):
    n_one, one = dev_losses(few_dataset.source, tmp_path / "one")
    environment = os.environ | {"XLA_FLAGS": f"{QUICK_XLA_FLAGS} --xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", ON_EIGHT, few_dataset.source, str(tmp_path / "eight")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    n_eight, eight = json.loads(done.stdout)
    assert (n_one, n_eight) == (1, 8)
    one = np.array(one)
    assert one.shape == (6, 4)
    # Equal to rounding: each device compiles a narrower program. 300 steps amplify it to about 1e-6.
    np.testing.assert_allclose(eight, one, rtol=1e-5)


def test_a_processors_batch_has_a_fixed_number_of_runs():
    assert devices.widest_batch("cpu") == CPU_RUNS == fit_batch(CPU_RUNS, 1) == 4


@pytest.mark.parametrize(("gibibytes", "width"), [(4, 256), (80, 4096), (1, 64)])
def test_an_accelerators_batch_follows_its_memory(gibibytes, width, monkeypatch):
    monkeypatch.setattr(devices, "device_memory", lambda: gibibytes << 30)
    assert devices.widest_batch("gpu") == width
    assert width * devices.BYTES_PER_RUN <= gibibytes << 30


def test_without_an_accelerator_the_processor_trains(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert devices.best_device() == "cpu"


def test_an_accelerator_that_is_not_here_is_one_clear_line(monkeypatch, capsys):
    from experiments.sweep import main

    monkeypatch.setattr("experiments.runner.devices.best_device", lambda: "cpu")
    assert main(["smoke", "--device", "gpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def cores(monkeypatch) -> tuple[int, ...]:
    """Numbers of three cores that no sweep on this machine has claimed, because there are none such."""
    if sys.platform != "linux":
        pytest.skip("processes are bound to cores on Linux alone")
    three = tuple(10**6 * os.getpid() + i for i in range(3))
    monkeypatch.setattr(devices, "available_cores", lambda: three)
    return three


def test_two_sweeps_side_by_side_train_on_different_cores_while_there_are_some(cores):
    with devices.claimed_cores(cores[:2]) as first:
        assert first == list(cores[:2])
        with devices.claimed_cores(cores[:2]) as second:
            assert second == [cores[2], cores[0]]
        with devices.claimed_cores(cores[:1]) as again:
            assert again == [cores[2]]
    with devices.claimed_cores(cores[:2]) as later:
        assert later == list(cores[:2])


def test_more_workers_than_cores_share_them_and_an_accelerator_is_not_claimed(cores):
    with devices.claimed_cores(cores[:1] * 5) as shared:
        assert shared == [*cores, cores[0], cores[0]]
    with devices.claimed_cores((None,)) as slots:
        assert slots == (None,)


def test_the_claim_of_a_killed_sweep_ends_with_it(cores):
    begin = f"from experiments.runner import devices\nwith devices.claimed_cores(({cores[0]},)):"
    code = begin + "\n print('here', flush=True)\n input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"here\n"
        with devices.claimed_cores(cores[:1]) as others:
            assert others == [cores[1]]
        holder.kill()
        holder.wait()
    with devices.claimed_cores(cores[:1]) as own:
        assert own == [cores[0]]
