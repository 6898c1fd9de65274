"""A damaged entry of the compilation cache heals."""

import subprocess
import sys

CHILD = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from experiments.runner.compilation_cache import use_compilation_cache

use_compilation_cache(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

@jax.jit
def healed(x):
    return jnp.tanh(x @ x.T).sum()

print(float(healed(jnp.ones((8, 8)))))
"""


def run(folder) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, check=True)


def test_a_damaged_entry_is_deleted_and_written_anew(tmp_path):
    first = run(tmp_path)
    (entry,) = tmp_path.glob("jit_healed-*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    mended = run(tmp_path)
    assert mended.stdout == first.stdout
    assert "persistent compilation cache" not in mended.stderr
    (again,) = tmp_path.glob("jit_healed-*-cache")
    assert len(again.read_bytes()) > len(whole) // 2
    assert run(tmp_path).stdout == first.stdout
