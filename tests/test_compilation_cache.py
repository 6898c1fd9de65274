"""What is wrong with an entry of the compilation cache is noticed before JAX reads it, and mended."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from experiments.runner.compilation_cache import use_compilation_cache

use_compilation_cache(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

@jax.jit
def first(x):
    return jnp.tanh(x @ x.T).sum()

@jax.jit
def second(x):
    return jnp.sin(x @ x.T).sum()

x = jnp.arange(64.0).reshape(8, 8) / 64
for spoil in sys.argv[2:] or ["0"]:
    print(float(first(x)), float(second(x)))
    jax.clear_caches()
    entries = sorted(Path(sys.argv[1]).glob("jit_first-*-cache"))
    if spoil != "0":  # Flip one bit of the entry before the program is asked for again.
        place = int(spoil)
        content = bytearray(entries[0].read_bytes())
        content[place // 8 % len(content)] ^= 1 << place % 8
        entries[0].write_bytes(content)
"""


def run(folder: Path, *flips: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CHILD, str(folder), *flips]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def flips(n: int) -> list[str]:
    rng = random.Random(0)
    return [str(rng.randrange(1, 1 << 30)) for _ in range(n)]


def check_flips(folder: Path, n: int) -> None:
    done = run(folder, *flips(n), "0")
    assert len(set(done.stdout.splitlines())) == 1
    assert len(done.stdout.splitlines()) == n + 1
    assert "compilation cache" not in done.stderr


def test_no_flipped_bit_of_an_entry_is_run(tmp_path):
    check_flips(tmp_path, 10)


@pytest.mark.long
def test_no_flipped_bit_of_an_entry_is_run_often(tmp_path):
    check_flips(tmp_path, 150)


def test_truncated_swapped_and_foreign_entries_are_compiled_again(tmp_path):
    expected = run(tmp_path).stdout
    (first,), (second,) = (list(tmp_path.glob(f"jit_{name}-*-cache")) for name in ("first", "second"))
    whole = first.read_bytes()
    for content in (whole[: len(whole) // 2], b"", second.read_bytes(), whole[32:]):
        first.write_bytes(content)
        assert run(tmp_path).stdout == expected
        assert first.read_bytes() != content


def test_an_entry_is_used_again(tmp_path):
    run(tmp_path)
    (entry,) = tmp_path.glob("jit_first-*-cache")
    before = entry.stat().st_mtime_ns
    run(tmp_path)
    assert entry.stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_used_is_said_in_one_line(tmp_path, monkeypatch):
    from experiments.runner import compilation_cache

    monkeypatch.setattr(compilation_cache, "user_cache_path", lambda name: tmp_path / name)
    assert compilation_cache.unusable_cache() == ""
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(compilation_cache, "user_cache_path", lambda name: tmp_path / "file")
    (line,) = compilation_cache.unusable_cache().splitlines()
    assert "file" in line and "compiles its own" in line


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "cache").returncode == 0
