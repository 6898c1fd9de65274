"""The learning-rate finder of makemore lecture 2: a rate that rises at every step (Smith 2017, section 3.3)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mlp_lm.config import Numbers, RunConfig
from mlp_lm.data.dataset import Dataset
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.settings import pinned_settings
from mlp_lm.training import RunBatch, TrainingData, TrainState, step_loss, train_step

STRETCH = 100  # Steps of one call: Ctrl-C waits for its end.


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
        rising, states, losses = jnp.asarray(rates, jnp.float32), batch.states, []
        for first in range(0, len(rates), STRETCH):
            some = rising[first : first + STRETCH]
            states, stretch = _stretch(states, batch.numbers, first, some, batch.data, batch.program)
            losses.append(np.asarray(stretch))
        return np.concatenate(losses, axis=1)


@partial(jax.jit, static_argnames="program")
def _stretch(
    states: TrainState,
    numbers: Numbers,
    first: Int[Array, ""] | int,
    rates: Float[Array, " steps"],
    data: TrainingData,
    program: RunConfig,
) -> tuple[TrainState, Float[Array, "seed steps"]]:
    steps = first + jnp.arange(len(rates))

    def one_run(state: TrainState, numbers: Numbers):
        windows = draw_minibatches(numbers.seed, steps, program.batch_size, len(data.targets), program.shuffle)

        def step(state: TrainState, i):
            # Not the hand-arranged gradient: compiling it costs more than so few steps gain.
            loss_and_grad = step_loss(data, windows[i], steps[i], numbers, program)
            fresh = replace(state, loss_sum=jnp.zeros_like(state.loss_sum))
            state = train_step(fresh, steps[i], rates[i], numbers, program, loss_and_grad)
            return state, state.loss_sum

        return jax.lax.scan(step, state, jnp.arange(len(rates)))

    return jax.vmap(one_run)(states, numbers)
