"""Print a worker's peak memory in MiB after each of several cohorts."""

import json
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from experiments.runner.plan import Cohort
from experiments.runner.trainer import train_cohort
from experiments.store import Store
from experiments.sweeps.grids import RunSpec

RUN = RunSpec(n_steps=100, n_evaluations=1)


def main(n_runs: int, n_cohorts: int) -> None:
    """Train cohorts one after another as a worker does."""
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, n_runs * n_cohorts, n_runs):
            runs = tuple(replace(RUN, seed=seed) for seed in range(first, first + n_runs))
            train_cohort(Cohort(runs, 1.0), "ssa2018", Store(Path(folder)))
            unit = 1024 if sys.platform == "linux" else 1024**2  # ru_maxrss is in KiB there, in bytes on macOS.
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
    print(json.dumps(peaks))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
