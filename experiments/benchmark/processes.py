"""Rows that need processes of their own: scaling over cores, compilation, memory, and a sweep from end to end."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlp_lm.data.material import load_material

from experiments.benchmark.rounds import alternate
from experiments.benchmark.row import Row, missing
from experiments.runner.devices import CPU_WIDTH
from experiments.runner.local_executor import SINGLE_THREADED, Job, execute
from experiments.runner.plan import plan
from experiments.sweeps.grids import RunSpec

DATA = "ssa2018"
SCALING_RUN = RunSpec(n_steps=60_000, n_evaluations=1)  # Long beside the start of a process.
SCALING_ROUNDS = 3
SWEEP_RUNS, SWEEP_STEPS = 200, 20_000
COHORT_RUNS, N_COHORTS = 500, 4


def scaling_row(cores: Sequence[int]) -> Row:
    """All cores against one, with the sweep's executor: processes start, import and load compiled programs in time."""
    what = f"one core / {len(cores)} cores, a small sweep with the sweep's executor"
    if len(cores) < 2:
        return missing(what, ">= 1.8 on two cores", "this machine has one core")
    one, several = (lambda some=some: _execution_seconds(2 * len(cores), some) for some in (cores[:1], cores))
    return Row.of_ratio(what, alternate(one, several, SCALING_ROUNDS), at_least=0.9 * len(cores))


def sweep_row(cores: Sequence[int], step_seconds: float) -> Row:
    """A sweep by its command, against its model-steps at `step_seconds` each on every core."""
    what = f"a sweep of {SWEEP_RUNS} runs x {SWEEP_STEPS:,} steps, end to end / its pure step time"
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--config", _sweep_file(folder), "--out", f"{folder}/out"]
        start = time.perf_counter()
        _python("experiments.sweep", *arguments)
        end_to_end = time.perf_counter() - start
    pure = SWEEP_RUNS * SWEEP_STEPS * step_seconds / len(cores)
    detail = f"{end_to_end:.1f} s against {pure:.1f} s on {len(cores)} cores"
    return Row.at_most(what, end_to_end / pure, "x", 1.25, detail)


def compile_rows() -> Iterator[Row]:
    """The programs of a new shape: compiled, and from the persistent cache."""
    with tempfile.TemporaryDirectory() as cache:
        first, second = (json.loads(_python("experiments.benchmark.compiling", cache)) for _ in range(2))
    detail = "initial draws, training and evaluation together"
    yield Row.at_most("compile the programs of a new shape, cold", first, "s", 3.0, detail)
    yield Row.at_most("the same from the persistent cache, in a new process", second, "s", 0.5, detail)


def memory_rows() -> Iterator[Row]:
    """A worker's peak memory over cohorts of 500 runs."""
    peaks = json.loads(_python("experiments.benchmark.memory", str(COHORT_RUNS), str(N_COHORTS)))
    detail = f"MiB after each of {N_COHORTS} cohorts: {', '.join(f'{peak:.0f}' for peak in peaks)}"
    yield Row(f"peak memory of a worker, cohorts of {COHORT_RUNS} runs", peaks[0], "MiB", "stated", None, detail)
    yield Row.at_most("its growth from the second cohort to the last", peaks[-1] / peaks[1], "x", 1.05)


def _execution_seconds(n_blocks: int, cores: Sequence[int]) -> float:
    runs = [replace(SCALING_RUN, seed=seed) for seed in range(n_blocks * CPU_WIDTH)]
    cohorts = [cohort for run in _blocks(runs) for cohort in plan(run, load_material(DATA).size, CPU_WIDTH)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for event in execute(cohorts, Job(DATA, Path(folder), cache=True), cores):
            assert not event.failure, event.failure
        return time.perf_counter() - start


def _blocks(runs: list[RunSpec]) -> list[list[RunSpec]]:
    return [runs[i : i + CPU_WIDTH] for i in range(0, len(runs), CPU_WIDTH)]


def _sweep_file(folder: str) -> str:
    path = Path(folder) / "end-to-end.toml"
    path.write_text(f"[[study]]\nseeds = {SWEEP_RUNS}\nn_steps = {SWEEP_STEPS}\n")
    return str(path)


def _python(module: str, *arguments: str) -> str:
    environment = os.environ | {"XLA_FLAGS": SINGLE_THREADED}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout
