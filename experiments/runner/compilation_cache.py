"""Compiled programs kept between processes, in the user's own cache folder, each under a digest."""

import contextlib
import hashlib
import importlib.metadata
import platform
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from experiments.runner.rows import processor

MIN_COMPILE_SECONDS = 0.1  # What compiles faster is not worth a file.
DIGEST_BYTES = 32


def compilation_cache() -> Path:
    """The folder of compiled programs, apart for every jaxlib and processor they were compiled for."""
    target = hashlib.sha256(f"{platform.machine()} {processor()}".encode()).hexdigest()[:8]
    return user_cache_path("mlp-lm") / f"xla-{importlib.metadata.version('jaxlib')}-{target}"


def unusable_cache() -> str:
    """Why no compiled program can be kept here, in one line; empty where they can."""
    entries = compilation_cache()
    try:
        entries.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=entries):
            return ""
    except OSError as error:
        return f"compiled programs cannot be kept in {entries} ({error.strerror}): every command compiles its own"


def use_compilation_cache(folder: Path | None = None) -> None:
    """Have JAX read and write compiled programs there, or in `compilation_cache()`.

    JAX trusts what it reads: a flipped bit may run as a program with other numbers, or end the process. So each entry
    begins with a digest of its key and content, which is verified before JAX has it; one that fails is deleted, and
    compiled again. Where this JAX has no such cache, or the folder cannot be used, there is none.
    """
    import jax

    entries = folder or compilation_cache()
    try:
        from jax._src import compilation_cache as jax_cache
        from jax._src.lru_cache import LRUCache

        entries.mkdir(parents=True, exist_ok=True)
    except (ImportError, OSError):
        return

    class SealedCache(LRUCache):
        def get(self, key: str) -> bytes | None:
            path = entries / f"{key}-cache"
            with contextlib.suppress(OSError):
                sealed = super().get(key)
                if sealed is None:
                    return None
                if sealed[:DIGEST_BYTES] == _digest(key, sealed[DIGEST_BYTES:]):
                    return sealed[DIGEST_BYTES:]
                path.unlink(missing_ok=True)
            return None

        def put(self, key: str, value: bytes) -> None:
            with contextlib.suppress(OSError):
                super().put(key, _digest(key, value) + value)

    if not hasattr(jax_cache, "LRUCache"):
        return
    jax_cache.LRUCache = SealedCache  # type: ignore[misc]
    jax.config.update("jax_compilation_cache_dir", str(entries))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


def _digest(key: str, value: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + value).digest()
