"""`python -m tests.golden > tests/golden.json`: what a dozen small runs end with, to the last bit.

Write the file anew only where a change of bits is meant, and raise RESULTS_VERSION (mlp_lm/config.py) with it. It was
first written from the code before the redesign, which gave the same numbers through its own interface.

The file is a list of records, each of one kind of processor. `--add` prints the whole list with this one's.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.rows import processor
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.word_lists import read_word_list
from mlp_lm.settings import SINGLE_THREADED

N_WORDS = 1000
SMALL = {"hidden_size": 20, "embedding_dim": 4, "n_steps": 100, "n_evaluations": 2, "seed": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "the default's program": {"n_steps": 150, "n_evaluations": 3},
    "normal, constant, gain": {"init": "normal", "schedule": "constant", "gain": 0.5},
    "orthogonal, not padded": {"init": "orthogonal", "n_layers": 2},
    "batch norm": {"batch_norm": True, "n_layers": 2, "init": "fan_in", "momentum": 0.9},
    "Adam, dropout, cosine": {
        "optimizer": "adam",
        "learning_rate": 0.003,
        "dropout": 0.1,
        "input_dropout": 0.05,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "adam_epsilon": 1e-6,
    },
    "momentum, decay, inverse time": {"momentum": 0.9, "weight_decay": 1e-3, "schedule": "inverse_time"},
    "full batch": {"batch_size": 0, "n_steps": 20},
    "plateau": {"schedule": "plateau", "n_evaluations": 10, "learning_rate": 1.0},
    "early stopping": {"early_stopping": True, "learning_rate": 2.0, "n_evaluations": 10},
    "epochs of large batches": {"shuffle": True, "batch_size": 128, "init": "uniform"},
    "direct connections alone": {"direct": True, "hidden_size": 0, "block_size": 2},
    "direct connections, bengio2003": {"direct": True, "init": "bengio2003"},
    "bfloat16": {"precision": "bfloat16", "n_steps": 50},
}


def recorded() -> list[dict[str, Any]]:
    """The records that are kept."""
    return json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))


@functools.cache
def golden_dataset() -> Dataset:
    """The first thousand words of the embedded list."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        path.write_bytes("\n".join(read_word_list()[0][:N_WORDS]).encode())
        return load_dataset(str(path))


def golden_config(name: str) -> RunConfig:
    """The configuration of this name."""
    return RunConfig(**(SMALL | CONFIGS[name]), data_hash=golden_dataset().sha256)


def measure(name: str) -> dict[str, Any]:
    """A run's id, its exact losses in hexadecimal, and the hash of its trained weights."""
    from mlp_lm.training import train
    from mlp_lm.weights import to_tensors

    config = golden_config(name)
    trained = train(config, golden_dataset(), seeds=[config.seed])
    losses = {part: float(values[0]).hex() for part, values in trained.losses._asdict().items()}
    weights = hashlib.sha256()
    for tensor, values in sorted(to_tensors(trained[0]).items()):
        weights.update(f"{tensor} {values.shape}".encode() + np.asarray(values, np.float32).tobytes())
    return {"run_id": config.run_id, "losses": losses, "weights": weights.hexdigest()}


def machine() -> dict[str, str]:
    """What decides the bits: XLA makes other instructions for another kind of processor."""
    return {"processor": f"{processor()}, {_model()}", "jaxlib": importlib.metadata.version("jaxlib")}


def _model() -> str:
    """Family and model, because the name alone may be that of a whole line of processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "of unknown model"
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return f"family {fields.get('cpu family')} model {fields.get('model')}"


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = SINGLE_THREADED  # As workers have it.
    use_compilation_cache()
    record = {"machine": machine(), "runs": {name: measure(name) for name in CONFIGS}}
    others = recorded() if "--add" in sys.argv else []
    json.dump([*(one for one in others if one["machine"] != machine()), record], sys.stdout, indent=1)
    print()
