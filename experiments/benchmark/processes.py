"""Rows that need processes of their own: scaling over cores, a sweep from end to end, compilation, memory.

What a process of its own measures is a probe, which prints it: `python -m experiments.benchmark.processes PROBE ...`.
"""

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmark.rounds import Row, alternate, format_duration
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.devices import use_device
from experiments.runner.local_executor import Execute, execute
from experiments.runner.plan import Cohort, make_plan
from experiments.runner.trainer import CohortState, train_batch, train_cohort
from experiments.runner.worker import Job
from experiments.store import Store
from mlp_lm.config import CPU_RUNS, RunConfig
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.settings import SINGLE_THREADED
from mlp_lm.training import RunBatch, train

EXECUTED = RunConfig(n_steps=20_000, n_evaluations=1)
N_COHORTS_EXECUTED = 8  # Of one run batch each.
EXECUTION_ROUNDS = 3
SWEEP_RUNS, SWEEP_STEPS = 200, 20_000
COHORT_RUNS, N_COHORTS = 500, 4

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


def executor_rows(cores: Sequence[int], dataset: Dataset) -> Iterator[Row]:
    """All cores against one, and Ray's tasks against this machine's workers, once the workers train."""
    scaling, limit = f"one core / {len(cores)} cores, once workers train", 0.96 * len(cores)
    ray, ray_limit = "Ray / local workers, once they train", 1.08
    if len(cores) < 2:
        yield Row.missing(scaling, "1.92 on two cores", "this machine has one core")
    else:
        one, several = (partial(cohort_seconds, execute, some, dataset) for some in (cores[:1], cores))
        yield Row.of_ratio(scaling, alternate(one, several, EXECUTION_ROUNDS, warm_up=False), at_least=limit)
    if importlib.util.find_spec("ray") is None:
        yield Row.missing(ray, f"<= {ray_limit:g}", "Ray is not installed: pip install -e '.[ray]'")
        return
    from experiments.runner.ray_executor import on_ray

    on_tasks, on_workers = (partial(cohort_seconds, how, cores, dataset) for how in (on_ray(), execute))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="os.fork")  # Ray starts its processes so, and none of them uses JAX.
        ratio = alternate(on_tasks, on_workers, EXECUTION_ROUNDS, warm_up=False)
    detail = f"{format_duration(ratio.numerator)} against {format_duration(ratio.denominator)} a cohort"
    yield Row.at_most(ray, ratio.median, "x", ray_limit, detail)


def cohort_seconds(execute: Execute, cores: Sequence[int], dataset: Dataset) -> float:
    """Seconds a cohort on these cores, from the end of the first one of every core to the end of the last.

    What comes before, the start of processes and the first use of a program, is left out.
    """
    cohorts: list[Cohort] = []
    for first in range(0, N_COHORTS_EXECUTED * CPU_RUNS, CPU_RUNS):
        runs = [replace(EXECUTED, seed=seed) for seed in range(first, first + CPU_RUNS)]
        cohorts += make_plan(runs, dataset, CPU_RUNS).cohorts
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        for event in execute(cohorts, Job(dataset.source, Path(folder), cache=True), cores, lambda: False):
            assert not event.failure, event.failure
            if event.rows:
                ends.append(time.perf_counter())
    return (ends[-1] - ends[len(cores) - 1]) / (len(ends) - len(cores))


def default_sweep_row() -> Row:
    """The sweep of a first look, from its command to its report, on a machine that has compiled nothing yet."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        arguments = ("--data", "ssa2018", "--out", f"{folder}/out", "--device", "cpu")
        run_module("experiments.sweep", *arguments, XDG_CACHE_HOME=f"{folder}/cache")
        elapsed = time.perf_counter() - start
    return Row.at_most("the default sweep, nothing compiled before, command to report", elapsed, "s", 25.0)


def sweep_row(cores: Sequence[int], step_seconds: float) -> Row:
    """A sweep by its command, against its model-steps at `step_seconds` each on every core."""
    what = f"a sweep of {SWEEP_RUNS} runs x {SWEEP_STEPS:,} steps, end to end / its pure step time"
    end_to_end = sweep_seconds(SWEEP_RUNS, SWEEP_STEPS, "cpu")
    pure = SWEEP_RUNS * SWEEP_STEPS * step_seconds / len(cores)
    detail = f"{end_to_end:.1f} s against {pure:.1f} s on {len(cores)} cores"
    return Row.at_most(what, end_to_end / pure, "x", 1.12, detail)


def sweep_seconds(n_runs: int, n_steps: int, device: str) -> float:
    """A sweep of so many seeds of the reference run, from its command to its report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "end-to-end.toml"
        path.write_text(f"[[study]]\nseeds = {n_runs}\nn_steps = {n_steps}\n")
        start = time.perf_counter()
        run_module("experiments.sweep", "--config", str(path), "--out", f"{folder}/out", "--device", device)
        return time.perf_counter() - start


def compile_rows() -> Iterator[Row]:
    """The programs of a new shape: compiled, and from the persistent cache."""
    with tempfile.TemporaryDirectory() as cache:
        first, second = (run_probe("compiling", cache) for _ in range(2))
    detail = "initial draws, training and evaluation together"
    yield Row.at_most("compile the programs of a new shape, cold", first, "s", 3.0, detail)
    yield Row.at_most("the same from the persistent cache, in a new process", second, "s", 0.5, detail)


def memory_rows() -> Iterator[Row]:
    """A worker's peak memory over cohorts of 500 runs."""
    peaks = run_probe("memory", str(COHORT_RUNS), str(N_COHORTS))
    detail = f"MiB after each of {N_COHORTS} cohorts: {', '.join(f'{peak:.0f}' for peak in peaks)}"
    yield Row.stated(f"peak memory of a worker, cohorts of {COHORT_RUNS} runs", peaks[0], "MiB", detail)
    yield Row.at_most("its growth from the second cohort to the last", peaks[-1] / peaks[1], "x", 1.05)


def run_module(module: str, *arguments: str, **variables: str) -> str:
    """What a module prints, run as a command with these environment variables."""
    environment = os.environ | {"XLA_FLAGS": SINGLE_THREADED} | variables
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def run_probe(name: str, *arguments: str) -> Any:
    """What one of PROBES measures in a process of its own."""
    return json.loads(run_module("experiments.benchmark.processes", name, *arguments))


def compiling(cache: str) -> float:
    """Seconds that the programs of a new shape take to be ready, with a persistent cache in this folder.

    Imports and data are ready before.
    """
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
