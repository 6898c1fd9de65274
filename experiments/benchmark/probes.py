"""What is measured in a process of its own, which prints it: `python -m experiments.benchmark.probes PROBE ...`.

`compiling CACHE` prints the seconds that the programs of a new shape take to be ready, with a persistent cache in that
folder; `memory RUNS COHORTS` the peak memory of a worker in MiB after each of several cohorts; `losses DEVICE` the dev
losses of varied runs, trained there.
"""

import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.devices import use_device
from experiments.runner.plan import Cohort
from experiments.runner.trainer import CohortState, train_batch, train_cohort
from experiments.store import Store
from mlp_lm.config import CPU_RUNS, RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.training import RunBatch, train

WARM, NEW = (RunConfig(hidden_size=h, n_steps=5_001, n_evaluations=1) for h in (7, 200))  # Too long to be padded.
SHORT = RunConfig(n_steps=100, n_evaluations=1)
COMPARED_STEPS = 500
PLAIN = RunConfig(n_steps=COMPARED_STEPS, n_evaluations=1)
COMPARED = (
    PLAIN,
    replace(PLAIN, n_layers=2, batch_norm=True),
    replace(PLAIN, optimizer="adam", learning_rate=1e-3, dropout=0.1),
    replace(PLAIN, block_size=8, shuffle=True, direct=True),
)
MAXRSS_IN_MIB = 1024 if sys.platform == "linux" else 1024**2  # ru_maxrss is in KiB there, in bytes on macOS.


def compiling(cache: str) -> float:
    """Seconds that a new shape's programs take to be ready, once imports and data are."""
    use_compilation_cache(Path(cache))
    dataset = load_dataset()

    def training_seconds(config: RunConfig) -> float:
        start = time.perf_counter()
        for _ in train_batch(CohortState(batch=RunBatch.start([config], dataset, CPU_RUNS))):
            pass
        return time.perf_counter() - start

    training_seconds(WARM)
    cold = training_seconds(NEW)
    return cold - training_seconds(replace(NEW, seed=1))  # The same again has everything compiled.


def memory(n_runs: str, n_cohorts: str) -> list[float]:
    """Peak MiB after each of several cohorts, which are trained one after another as a worker does."""
    dataset, peaks = load_dataset(), []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, int(n_runs) * int(n_cohorts), int(n_runs)):
            configs = tuple(replace(SHORT, seed=seed) for seed in range(first, first + int(n_runs)))
            train_cohort(Cohort(configs, 1.0, CPU_RUNS), dataset, Store(Path(folder)))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_IN_MIB)
    return peaks


def losses(device: str) -> list[float]:
    """Dev losses of varied short runs, in nats per token."""
    use_device(device)
    dataset = load_dataset()
    return [float(loss) for config in COMPARED for loss in train(config, dataset, seeds=2).dev_loss]


PROBES = {"compiling": compiling, "memory": memory, "losses": losses}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](*sys.argv[2:])))  # type: ignore[operator]
