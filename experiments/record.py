"""One row a run: the columns of a result table, and where its numbers come from."""

import functools
import importlib.metadata
import math
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from experiments.spec import RunSpec

MAX_TRACKED = 100  # Numbers of an embedding that is kept at every evaluation: 27 letters in up to three dimensions.

DONE, DIVERGED = "done", "diverged"

_SPEC_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_HISTORY = pa.list_(pa.float64())

# The fields of mlp_lm.diagnostics, which imports JAX; a test holds them equal. One list an evaluation.
LAYER_STATISTICS = (
    "saturated_share", "dead_units", "preactivation_mean", "preactivation_std", "activation_mean", "activation_std",
)  # fmt: skip
MATRIX_STATISTICS = ("weight_std", "gradient_std", "gradient_to_weight", "log10_update_to_weight")
DIAGNOSTICS = LAYER_STATISTICS + MATRIX_STATISTICS

SCHEMA = pa.schema(
    [("run_id", pa.string())]
    + [(f.name, _SPEC_TYPES[type(f.default)]) for f in fields(RunSpec)]
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


@dataclass
class History:
    """A run's exact losses at its evaluation steps, in nats per token."""

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    dev_loss: list[float] = field(default_factory=list)
    minibatch_loss: list[float] = field(default_factory=list)  # Mean over the steps since the last evaluation.
    dev_unseen_loss: list[float] = field(default_factory=list)
    diverged_step: int = -1
    wall_seconds: float = 0.0
    diagnostics: dict[str, list[list[float]]] = field(default_factory=dict)
    embedding: list[list[float]] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The evaluation of the lowest dev loss."""
        return min(range(len(self.dev_loss)), key=lambda i: math.inf if math.isnan(x := self.dev_loss[i]) else x)

    def note(self, step: int, losses: Sequence[float], minibatch_loss: float, diverged_step: int) -> None:
        """Add an evaluation; `losses` are those of the training, dev and unseen dev windows."""
        self.step.append(step)
        self.train_loss.append(float(losses[0]))
        self.dev_loss.append(float(losses[1]))
        self.minibatch_loss.append(float(minibatch_loss))
        self.dev_unseen_loss.append(float(losses[2]))
        self.diverged_step = int(diverged_step)

    def note_diagnostics(self, found: Mapping[str, Sequence[float]]) -> None:
        """Add the evaluation's diagnostics, each one number a layer or a matrix."""
        for name in DIAGNOSTICS:
            self.diagnostics.setdefault(name, []).append([float(value) for value in found[name]])


def make_row(run: RunSpec, n_params: int, history: History, data: str, device: str) -> dict[str, Any]:
    """A finished run's row, in the columns of SCHEMA."""
    diverged = history.diverged_step >= 0 or not math.isfinite(history.train_loss[-1])
    step = history.diverged_step if history.diverged_step >= 0 else run.n_steps
    kept = history.best if run.early_stopping else -1
    return {
        "run_id": run.run_id,
        **asdict(run),
        "n_params": n_params,
        "initial_loss": _number(history.train_loss[0]),
        "train_loss": _number(history.train_loss[kept]),
        "dev_loss": _number(history.dev_loss[kept]),
        "dev_unseen_loss": _number(history.dev_unseen_loss[kept]),
        "status": DIVERGED if diverged else DONE,
        "diverged_step": step if diverged else None,
        "wall_seconds": history.wall_seconds,
        "history_step": history.step,
        "history_train_loss": _numbers(history.train_loss),
        "history_dev_loss": _numbers(history.dev_loss),
        "history_minibatch_loss": _numbers(history.minibatch_loss),
        **{f"history_{name}": [_numbers(values) for values in told] for name, told in history.diagnostics.items()},
        "history_embedding": [_numbers(values) for values in history.embedding] or None,
        "data": data,
        **provenance(),
        "device": device,
    }


def tracks_embedding(run: RunSpec, vocab_size: int) -> bool:
    """Whether a run's row keeps its embedding at every evaluation: one seed, and tables small enough to look at."""
    return run.seed == 0 and vocab_size * run.embedding_dim <= MAX_TRACKED


def run_of(row: dict[str, Any]) -> RunSpec:
    """The specification of a row; a column that an older row lacks has its default."""
    return RunSpec(**{f.name: row[f.name] for f in fields(RunSpec) if row.get(f.name) is not None})


@functools.cache
def provenance() -> dict[str, Any]:
    """Commit, whether the working tree differs from it, and versions; null commit outside a checkout."""
    packages = ("jax", "jaxlib", "optax", "flax", "numpy")
    versions = " ".join(f"{name}={importlib.metadata.version(name)}" for name in packages)
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": f"python={platform.python_version()} {versions}",
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[1]
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
