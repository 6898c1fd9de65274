"""The learning-rate finder of makemore lecture 2: a rate that rises at every step (Smith 2017, section 3.3)."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mlp_lm.config import Numbers, RunConfig
from mlp_lm.data.dataset import Dataset
from mlp_lm.minibatches import DRAWN_STEPS, draw_batch
from mlp_lm.settings import pinned_settings
from mlp_lm.training import RunBatch, TrainingData, TrainState, next_stretch, step_loss, train_step

FIRST_STRETCH = 10  # Steps, until the speed is known.


def rate_finder_losses(
    config: RunConfig, dataset: Dataset, rates: Float[np.ndarray, " steps"], seeds: int | Sequence[int] = 1
) -> Float[np.ndarray, "seed steps"]:
    """The loss of each step's minibatch before its update, in nats per token; `rates[i]` makes the update of step i.

    The configuration's own learning rate, schedule and length play no part.

    Raises:
        ValueError: a configuration that this dataset does not allow.
    """
    dataset.check(config)
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    lasting = replace(config, n_steps=len(rates), n_evaluations=1)
    with pinned_settings():
        batch = RunBatch.start([replace(lasting, seed=seed) for seed in chosen], dataset)
        data, numbers, program = batch.data, batch.numbers, batch.program
        rising = jnp.asarray(rates, jnp.float32)
        states, losses = batch.states, jnp.zeros((len(batch.configs), len(rates)))
        step, stretch = 0, FIRST_STRETCH
        for first in range(0, len(rates), DRAWN_STEPS):
            windows = draw_batch(numbers.seed, first, program.batch_size, len(data.targets), program.shuffle)
            last = min(first + DRAWN_STEPS, len(rates))
            while step < last:  # In stretches, because a compiled call cannot be interrupted.
                began, stop = time.monotonic(), min(step + stretch, last)
                states, losses = _advance(states, losses, numbers, rising, windows, first, step, stop, data, program)
                losses.block_until_ready()
                stretch, step = next_stretch(stop - step, time.monotonic() - began), stop
        return np.asarray(losses)


@partial(jax.jit, static_argnames="program")
def _advance(
    states: TrainState,
    losses: Float[Array, "seed steps"],
    numbers: Numbers,
    rates: Float[Array, " steps"],
    windows: Int[Array, "seed drawn batch"],
    first: Int[Array, ""] | int,
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    data: TrainingData,
    program: RunConfig,
) -> tuple[TrainState, Float[Array, "seed steps"]]:
    """The steps from `start` to `stop`, and their losses in place; `windows` are those of the steps from `first` on."""

    def one_run(
        state: TrainState, losses: Float[Array, " steps"], numbers: Numbers, windows: Int[Array, "drawn batch"]
    ):
        def step(i, carry):
            state, losses = carry
            # Not the hand-arranged gradient: compiling it costs more than so few steps gain.
            loss_and_grad = step_loss(data, windows[i - first], i, numbers, program)
            fresh = replace(state, loss_sum=jnp.zeros_like(state.loss_sum))
            state = train_step(fresh, i, rates[i], numbers, program, loss_and_grad)
            return state, losses.at[i].set(state.loss_sum)

        return jax.lax.fori_loop(start, stop, step, (state, losses))

    return jax.vmap(one_run)(states, losses, numbers, windows)
