"""Rows that need processes of their own: scaling over cores, a sweep from end to end, compilation, memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.benchmark.rounds import Row, alternate
from experiments.runner.local_executor import execute
from experiments.runner.plan import Cohort, make_plan
from experiments.runner.worker import Job
from mlp_lm.config import CPU_RUNS, RunConfig
from mlp_lm.data.dataset import Dataset
from mlp_lm.settings import SINGLE_THREADED

SCALING_RUN = RunConfig(n_steps=60_000, n_evaluations=1)  # Long beside the start of a process.
SCALING_ROUNDS = 3
SWEEP_RUNS, SWEEP_STEPS = 200, 20_000
COHORT_RUNS, N_COHORTS = 500, 4


def scaling_row(cores: Sequence[int], dataset: Dataset) -> Row:
    """All cores against one, with the sweep's executor: processes start, import and load compiled programs in time."""
    what = f"one core / {len(cores)} cores, a small sweep with the sweep's executor"
    if len(cores) < 2:
        return Row.missing(what, ">= 1.8 on two cores", "this machine has one core")
    # Cohorts of one run batch each, two for every core.
    cohorts: list[Cohort] = []
    for first in range(0, 2 * len(cores) * CPU_RUNS, CPU_RUNS):
        runs = [replace(SCALING_RUN, seed=seed) for seed in range(first, first + CPU_RUNS)]
        cohorts += make_plan(runs, dataset, CPU_RUNS).cohorts

    def execution_seconds(some: Sequence[int]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            for event in execute(cohorts, Job(dataset.source, Path(folder), cache=True), some):
                assert not event.failure, event.failure
            return time.perf_counter() - start

    one, several = (lambda: execution_seconds(cores[:1])), (lambda: execution_seconds(cores))
    return Row.of_ratio(what, alternate(one, several, SCALING_ROUNDS), at_least=0.9 * len(cores))


def sweep_row(cores: Sequence[int], step_seconds: float) -> Row:
    """A sweep by its command, against its model-steps at `step_seconds` each on every core."""
    what = f"a sweep of {SWEEP_RUNS} runs x {SWEEP_STEPS:,} steps, end to end / its pure step time"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "end-to-end.toml"
        path.write_text(f"[[study]]\nseeds = {SWEEP_RUNS}\nn_steps = {SWEEP_STEPS}\n")
        start = time.perf_counter()
        _python("experiments.sweep", "--config", str(path), "--out", f"{folder}/out", "--device", "cpu")
        end_to_end = time.perf_counter() - start
    pure = SWEEP_RUNS * SWEEP_STEPS * step_seconds / len(cores)
    detail = f"{end_to_end:.1f} s against {pure:.1f} s on {len(cores)} cores"
    return Row.at_most(what, end_to_end / pure, "x", 1.25, detail)


def compile_rows() -> Iterator[Row]:
    """The programs of a new shape: compiled, and from the persistent cache."""
    with tempfile.TemporaryDirectory() as cache:
        first, second = (json.loads(_python("experiments.benchmark.probes", "compiling", cache)) for _ in range(2))
    detail = "initial draws, training and evaluation together"
    yield Row.at_most("compile the programs of a new shape, cold", first, "s", 3.0, detail)
    yield Row.at_most("the same from the persistent cache, in a new process", second, "s", 0.5, detail)


def memory_rows() -> Iterator[Row]:
    """A worker's peak memory over cohorts of 500 runs."""
    peaks = json.loads(_python("experiments.benchmark.probes", "memory", str(COHORT_RUNS), str(N_COHORTS)))
    detail = f"MiB after each of {N_COHORTS} cohorts: {', '.join(f'{peak:.0f}' for peak in peaks)}"
    yield Row(f"peak memory of a worker, cohorts of {COHORT_RUNS} runs", peaks[0], "MiB", "stated", None, detail)
    yield Row.at_most("its growth from the second cohort to the last", peaks[-1] / peaks[1], "x", 1.05)


def _python(module: str, *arguments: str) -> str:
    environment = os.environ | {"XLA_FLAGS": SINGLE_THREADED}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
