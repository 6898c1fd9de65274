"""Print the seconds it takes to make the programs of one shape ready, with a given persistent cache."""

import json
import sys
import time
from dataclasses import replace

import jax

from experiments.runner.trainer import start_block, train_block
from experiments.sweeps.grids import RunSpec

WARM, NEW = (RunSpec(hidden_size=h, n_steps=5_001, n_evaluations=1) for h in (7, 200))


def main(cache: str) -> None:
    """Make one shape ready unmeasured, so that imports and data are, and then another one measured."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    _train(WARM)
    cold = _train(NEW)
    # The same again has everything compiled: the difference is compilation.
    print(json.dumps(cold - _train(replace(NEW, seed=1))))


def _train(run: RunSpec) -> float:
    start = time.perf_counter()
    for _ in train_block(start_block((run,), "ssa2018", 4), "ssa2018"):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1])
