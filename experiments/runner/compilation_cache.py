"""Compiled programs kept between processes, in the user's own cache folder."""

import functools
import hashlib
import importlib.metadata
import platform
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from experiments.runner.rows import processor

MIN_COMPILE_SECONDS = 0.1  # What compiles faster is not worth a file.
DAMAGED_ENTRY = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")


def compilation_cache() -> Path:
    """The folder of compiled programs, apart for every jaxlib and processor they were compiled for."""
    target = hashlib.sha256(f"{platform.machine()} {processor()}".encode()).hexdigest()[:8]
    return user_cache_path("mlp-lm") / f"xla-{importlib.metadata.version('jaxlib')}-{target}"


def use_compilation_cache(folder: Path) -> None:
    """Have JAX read and write compiled programs there; an entry it cannot read is deleted, and so written anew."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    warnings.showwarning = functools.partial(_show_or_mend, folder, warnings.showwarning)


def _show_or_mend(folder: Path, show: Callable[..., None], message: Warning | str, *rest: Any, **named: Any) -> None:
    # JAX warns, compiles, and would leave the damaged entry to warn again for ever.
    damaged = DAMAGED_ENTRY.search(str(message))
    if damaged is None:
        show(message, *rest, **named)
        return
    for path in folder.glob(f"{damaged[1]}-*"):
        path.unlink(missing_ok=True)
