"""Activations of the hidden layers, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlp_lm.lazy import jax, jnp

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Activation:
    """An elementwise function, and what may be assumed of it.

    Attributes:
        function: maps an array to one of the same shape, element by element.
        keeps_zero: f(0) = 0, so that zero-padded hidden units stay at zero and a short run may share the compiled
            program of a wider one. False is always right.
        slope: f'(z) as a function of f(z), for the hand-arranged gradient of `mlp_lm.cpu_gradients`; None leaves
            differentiation to JAX.
        saturation: |f| above which a unit counts as saturated; None where the function has no such bound.
    """

    function: Function
    keeps_zero: bool = False
    slope: Function | None = None
    saturation: float | None = None

    def __call__(self, z: Any) -> Any:
        """f(z)."""
        return self.function(z)


ACTIVATIONS: dict[str, Activation | Function] = {
    # The lecture counts a tanh above 0.99 as saturated: it passes on less than 2 % of a gradient there.
    "tanh": Activation(lambda z: jnp.tanh(z), True, lambda h: 1 - h * h, saturation=0.99),
    "relu": Activation(lambda z: jax.nn.relu(z), True, lambda h: (h > 0).astype(h.dtype)),
    "gelu": Activation(lambda z: jax.nn.gelu(z), True),  # Hendrycks and Gimpel 2016, the tanh approximation
    "silu": Activation(lambda z: jax.nn.silu(z), True),  # Elfwing et al. 2017; Ramachandran et al. 2017, swish
    "softsign": Activation(lambda z: jax.nn.soft_sign(z), True, lambda h: (1 - jnp.abs(h)) ** 2),
}


def activation_named(name: str) -> Activation:
    """The entry of ACTIVATIONS; a plain function, as a user may add one, is assumed to have no special property."""
    entry = ACTIVATIONS[name]
    return entry if isinstance(entry, Activation) else Activation(entry)
