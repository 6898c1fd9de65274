"""JAX and optax, imported when an attribute of them is first used.

The tables of definitions (schemes, schedules, optimisers, activations) name what a run may be made of, and a command
line is checked against them in a fraction of the time that importing JAX takes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    jax, jnp, optax = _Lazy("jax"), _Lazy("jax.numpy"), _Lazy("optax")

__all__ = ["jax", "jnp", "optax"]
