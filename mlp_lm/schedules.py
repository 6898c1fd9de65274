"""Learning-rate schedules by name: the factor on a run's learning rate at each step.

A schedule is called as `schedule(step, n_steps)`, or as `schedule(step, n_steps, numbers)` where it takes a third
argument: `step` is an integer array, `n_steps` the run's length, `numbers` the run's numbers (`RunConfig.numbers`).
"""

import inspect
from collections.abc import Callable
from typing import Any

from mlp_lm.lazy import jnp, optax

Schedule = Callable[..., Any]

PLATEAU = "plateau"
# "Reduce it once it plateaus": to a tenth, at most thrice, where evaluations gain less than 0.1 % in dev loss.
PLATEAU_FACTOR, PLATEAU_GAIN, PLATEAU_LEAST = 0.1, 1e-3, 1e-3


def constant(step, n_steps):
    """The learning rate throughout."""
    return jnp.ones_like(step, dtype=jnp.float32)


def step_decay(step, n_steps, numbers):
    """`decay_factor` from the share `decay_at` of the steps on: by default the makemore lecture's 0.1 then 0.01."""
    indicator = jnp.maximum(0.0, jnp.sign(numbers.decay_at - step / n_steps))
    return indicator + (1 - indicator) * numbers.decay_factor


def cosine(step, n_steps):
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return optax.cosine_decay_schedule(1.0, 1)(step / n_steps)


def inverse_time(step, n_steps, numbers):
    """`1 / (1 + inverse_time_rate * step)` (Bengio et al. 2003, section 4, with a rate of 1e-8)."""
    return 1.0 / (1.0 + numbers.inverse_time_rate * step.astype(jnp.float32))


SCHEDULES: dict[str, Schedule] = {
    "step_decay": step_decay,
    "constant": constant,
    "cosine": cosine,
    "inverse_time": inverse_time,
    PLATEAU: constant,  # The factor comes from `plateau`, at each evaluation.
}


def learning_rates(step, n_steps, program, numbers):
    """The learning rate at each step, warm-up included; `program` names the schedule."""
    schedule = SCHEDULES[program.schedule]
    takes_numbers = len(inspect.signature(schedule).parameters) > 2
    factor = schedule(step, n_steps, numbers) if takes_numbers else schedule(step, n_steps)
    if numbers.warmup is not None:  # Linear, from the first step's small rate to the whole one.
        factor = factor * jnp.minimum(1.0, (step + 1) / (numbers.warmup * n_steps))
    return numbers.learning_rate * factor


def plateau(patience: int):
    """The transformation whose state carries the factor of the schedule `plateau`; `patience` is in evaluations."""
    return optax.contrib.reduce_on_plateau(
        factor=PLATEAU_FACTOR, patience=patience, rtol=PLATEAU_GAIN, min_scale=PLATEAU_LEAST
    )
