"""Batches of runs shared out over several devices."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from experiments.runner import devices
from experiments.runner.trainer import fit_batch
from mlp_lm.config import CPU_RUNS

CHILD = """
import json
from dataclasses import replace
import jax
from experiments.runner.trainer import train_cohort
from experiments.runner.plan import Cohort
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import load_dataset
from experiments.store import Store
from pathlib import Path
import sys

base = RunConfig(hidden_size=24, embedding_dim=4, n_steps=300, n_evaluations=3)
runs = tuple(replace(base, seed=s, learning_rate=0.05 * (s + 1)) for s in range(6))
rows = train_cohort(Cohort(runs, 1.0, batch_size=8), load_dataset("ssa2018"), Store(Path(sys.argv[1])))
print(json.dumps([len(jax.local_devices()), [row["history_dev_loss"] for row in rows]]))
"""


def dev_losses(n_devices: int, folder) -> tuple[int, np.ndarray]:
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}"}
    command = [sys.executable, "-c", CHILD, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found, losses = json.loads(done.stdout)
    return found, np.array(losses)


def test_eight_devices_give_the_results_of_one(tmp_path):
    n_one, one = dev_losses(1, tmp_path / "one")
    n_eight, eight = dev_losses(8, tmp_path / "eight")
    assert (n_one, n_eight) == (1, 8)
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
