"""No setting of JAX, XLA or the environment changes a run's numbers, and none of a host program's is disturbed."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.analysis.results import open_sweep
from experiments.runner.rows import provenance
from mlp_lm.config import RunConfig
from mlp_lm.settings import SINGLE_THREADED
from mlp_lm.training import train
from tests.cli import FEW_WORDS

# Of the environment: what once changed the bits, failed every run, or ended in a traceback.
HOSTILE = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DISABLE_JIT": "1",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DEFAULT_DTYPE_BITS": "64",
    "JAX_DEBUG_NANS": "1",
    "JAX_PLATFORMS": "cuda",
    "JAX_PLATFORM_NAME": "tpu",
    "JAX_ENABLE_COMPILATION_CACHE": "0",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_force_host_platform_device_count=2 --xla_no_such_flag=1",
}
SWEEP = "smoke --seeds 2 --hidden-size 8 12 --n-steps 30 --n-evaluations 2 --workers 1"


def numbers_under(environment: dict[str, str], folder: Path) -> dict[str, tuple]:
    """By run id, the losses and the weights of a small sweep that is trained under an environment."""
    command = [
        sys.executable,
        "-m",
        "experiments.sweep",
        *SWEEP.split(),
        "--data",
        str(FEW_WORDS),
        "--out",
        str(folder),
    ]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.count("\n") <= 1, done.stderr
    rows = open_sweep(folder).rows
    columns = ("dev_loss", "train_loss", "dev_unseen_loss", "history_dev_loss", "weights_sha256")
    return {row["run_id"]: tuple(row[column] for column in columns) for row in rows}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, tuple]:
    return numbers_under({}, tmp_path_factory.mktemp("plain") / "out")


def test_hostile_settings_together_change_no_bit_of_a_sweep(plain, tmp_path):
    assert len(plain) == 4
    assert numbers_under(HOSTILE, tmp_path / "out") == plain


@pytest.mark.long
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_setting_changes_no_bit_of_a_sweep(name, plain, tmp_path):
    assert numbers_under({name: HOSTILE[name]}, tmp_path / "out") == plain


def test_a_setting_that_is_not_pinned_stands_in_the_row(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", SINGLE_THREADED)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    plain = provenance.__wrapped__()["versions"]
    assert "XLA_FLAGS" not in plain and plain.startswith("python=")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1\n2")
    named = provenance.__wrapped__()["versions"]
    assert named == f"{plain} XLA_FLAGS=--xla_gpu_deterministic_ops=true NVIDIA_TF32_OVERRIDE=1\\x0a2"


# Of a host program that calls `train()`: JAX's own context managers.
CONTEXTS = {
    "64 bits": lambda: jax.enable_x64(True),
    "another generator": lambda: jax.default_prng_impl("rbg"),
    "other keys": lambda: jax.threefry_partitionable(False),
    "nothing compiled": lambda: jax.disable_jit(True),
    "no promotion of types": lambda: jax.numpy_dtype_promotion("strict"),
    "no promotion of ranks": lambda: jax.numpy_rank_promotion("raise"),
    "coarse products": lambda: jax.default_matmul_precision("bfloat16"),
    "searching for NaN": lambda: jax.debug_nans(True),
}
SETTINGS = (
    "jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable", "jax_disable_jit",
    "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion", "jax_default_matmul_precision", "jax_debug_nans",
)  # fmt: skip
CONFIG = RunConfig(hidden_size=8, embedding_dim=2, n_steps=20, n_evaluations=1)


def bits(trained) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in (*jax.tree.leaves(trained.params), trained.dev_loss)]


@pytest.fixture(scope="module")
def undisturbed(few_dataset) -> list[bytes]:
    return bits(train(CONFIG, few_dataset, seeds=2))


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_hosts_setting_changes_no_bit_of_train_and_stays(context, undisturbed, few_dataset):
    with CONTEXTS[context]():
        before = {name: getattr(jax.config, name) for name in SETTINGS}
        assert bits(train(CONFIG, few_dataset, seeds=2)) == undisturbed
        assert {name: getattr(jax.config, name) for name in SETTINGS} == before
