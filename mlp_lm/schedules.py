"""Named learning-rate schedules: the factor on a run's learning rate, from the step and the run's number of steps."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Steps = Int[Array, " steps"]
Count = Int[Array, ""] | int
Schedule = Callable[[Steps, Count], Float[Array, " steps"]]

INVERSE_TIME_RATE = 1e-8  # Bengio et al. 2003, section 4: rate / (1 + 1e-8 t) after t updates.


def constant(step: Steps, n_steps: Count) -> Float[Array, " steps"]:
    """The learning rate throughout."""
    return jnp.ones_like(step, dtype=jnp.float32)


def step_decay(step: Steps, n_steps: Count) -> Float[Array, " steps"]:
    """A tenth from half-way on, the makemore lecture's 0.1 then 0.01."""
    return optax.piecewise_constant_schedule(1.0, {0.5: 0.1})(step / n_steps)


def cosine(step: Steps, n_steps: Count) -> Float[Array, " steps"]:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return optax.cosine_decay_schedule(1.0, 1)(step / n_steps)


def inverse_time(step: Steps, n_steps: Count) -> Float[Array, " steps"]:
    """`1 / (1 + 1e-8 t)` (Bengio et al. 2003, section 4)."""
    return 1.0 / (1.0 + INVERSE_TIME_RATE * step.astype(jnp.float32))


PLATEAU = "plateau"
SCHEDULES: dict[str, Schedule] = {
    "step_decay": step_decay,
    "constant": constant,
    "cosine": cosine,
    "inverse_time": inverse_time,
    PLATEAU: constant,  # The factor comes from `plateau`, at each evaluation.
}

# "Reduce it once it plateaus": to a tenth after 3 evaluations without a gain of 0.1 % in dev loss, at most thrice.
plateau = optax.contrib.reduce_on_plateau(factor=0.1, patience=3, rtol=1e-3, min_scale=1e-3)
