"""Sweeps of multilayer-perceptron language models: trained, kept, compared and reported.

from experiments import Grid, open_sweep, run_sweep

study = run_sweep(Grid(hidden_size=[100, 200], init=["normal", "kaiming_tanh"]), seeds=5, out="results/local/mine")
study.to_pandas()
"""

import signal
import sys

# Python has read `-m experiments.COMMAND` and looks for it: until its main function listens, Ctrl-C ends this process
# without a traceback, whatever is being imported.
if sys.argv[:1] == ["-m"] and any(word.startswith(("experiments.", "-mexperiments.")) for word in sys.orig_argv):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.analysis.ensembles import read_ensembles
    from experiments.analysis.results import SweepResults, open_sweep
    from experiments.analysis.studies import estimate
    from experiments.sweep import run_sweep
    from experiments.sweeps.grids import Grid
    from experiments.sweeps.ranges import Range

_ROOMS = {
    "Grid": "sweeps.grids",
    "Range": "sweeps.ranges",
    "SweepResults": "analysis.results",
    "estimate": "analysis.studies",
    "open_sweep": "analysis.results",
    "read_ensembles": "analysis.ensembles",
    "run_sweep": "sweep",
}

__all__ = ["Grid", "Range", "SweepResults", "estimate", "open_sweep", "read_ensembles", "run_sweep"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(importlib.import_module(f"experiments.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
