"""One row a run: the columns of a result table, and where its numbers come from."""

import functools
import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from experiments.sweeps.text import printable
from mlp_lm.config import AXES, DEFAULTS, RunConfig
from mlp_lm.history import DIAGNOSTICS, History
from mlp_lm.settings import unpinned_settings

MAX_TRACKED = 100  # Numbers of an embedding that is kept at every evaluation: 27 letters in up to three dimensions.

DONE, DIVERGED = "done", "diverged"

Row: TypeAlias = dict[str, Any]  # Keys are the columns of SCHEMA and those that the store adds.

_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_HISTORY = pa.list_(pa.float64())

SCHEMA = pa.schema(
    [("run_id", pa.string())]
    + [(name, _TYPES[type(default)]) for name, default in DEFAULTS.items()]
    + [
        ("n_params", pa.int64()),
        ("initial_loss", pa.float64()),
        ("train_loss", pa.float64()),
        ("dev_loss", pa.float64()),
        ("dev_unseen_loss", pa.float64()),
        ("status", pa.string()),
        ("diverged_step", pa.int64()),
        ("wall_seconds", pa.float64()),
        ("history_step", pa.list_(pa.int64())),
        ("history_train_loss", _HISTORY),
        ("history_dev_loss", _HISTORY),
        ("history_minibatch_loss", _HISTORY),
        *((f"history_{name}", pa.list_(_HISTORY)) for name in DIAGNOSTICS),
        ("history_embedding", pa.list_(pa.list_(pa.float32()))),  # Row by row; see tracks_embedding.
        ("data", pa.string()),
        ("commit", pa.string()),
        ("dirty", pa.bool_()),
        ("versions", pa.string()),
        ("device", pa.string()),
    ]
)


def make_row(config: RunConfig, n_params: int, history: History, data: str, device: str) -> Row:
    """A finished run's row, in the columns of SCHEMA."""
    step = history.diverged_step if history.diverged_step >= 0 else config.n_steps
    losses = history.losses(config.early_stopping)
    return {
        "run_id": config.run_id,
        **asdict(config),
        "n_params": n_params,
        "initial_loss": _number(history.train_loss[0]),
        "train_loss": _number(losses.train),
        "dev_loss": _number(losses.dev),
        "dev_unseen_loss": _number(losses.dev_unseen),
        "status": DIVERGED if history.diverged else DONE,
        "diverged_step": step if history.diverged else None,
        "wall_seconds": history.wall_seconds,
        "history_step": history.step,
        "history_train_loss": _numbers(history.train_loss),
        "history_dev_loss": _numbers(history.dev_loss),
        "history_minibatch_loss": _numbers(history.minibatch_loss),
        **{f"history_{name}": [_numbers(values) for values in each] for name, each in history.diagnostics.items()},
        "history_embedding": [_numbers(values) for values in history.embedding] or None,
        "data": data,
        **provenance(),
        "device": device,
    }


def tracks_embedding(config: RunConfig, vocab_size: int) -> bool:
    """Whether a run's row keeps its embedding at every evaluation: one seed, and tables small enough to look at."""
    return config.seed == 0 and vocab_size * config.embedding_dim <= MAX_TRACKED


def settings_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of a row, but for its seed; one that an older row lacks has its default."""
    return {name: DEFAULTS[name] if row.get(name) is None else row[name] for name in AXES}


def config_of(row: Mapping[str, Any]) -> RunConfig:
    """The configuration of a row; a column that an older row lacks has its default.

    Raises:
        ValueError: it names an entry of an ideas file that is not loaded.
    """
    return RunConfig(**{f.name: row[f.name] for f in fields(RunConfig) if row.get(f.name) is not None})


@functools.cache
def provenance() -> dict[str, Any]:
    """Commit, whether the working tree differs from it, and versions; null commit outside a checkout.

    Beside the versions stand those settings of the environment that may change numbers and are not pinned.
    """
    packages = ("jax", "jaxlib", "optax", "flax", "numpy")
    versions = [f"{name}={importlib.metadata.version(name)}" for name in packages]
    versions += [printable(f"{name}={value}") for name, value in unpinned_settings(os.environ).items()]
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": " ".join([f"python={platform.python_version()}", *versions]),
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # Installed inside somebody else's checkout: their commit is not ours.
        return None
    try:
        return subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]
