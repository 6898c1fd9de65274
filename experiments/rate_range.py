"""One training with a learning rate that rises at every step, for several seeds at once (Smith 2017, section 3.3)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.running.cohort import start_block, training_data
from experiments.spec import RunSpec
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.training import Program, Run, TrainingData, TrainState, make_dropout, step_loss, train_step


def rate_range_losses(
    seeds: Sequence[RunSpec], rates: Float[np.ndarray, " steps"], data: str
) -> Float[np.ndarray, "seed steps"]:
    """The loss of each step's minibatch before its update, in nats per token; `rates[i]` makes the update of step i.

    `seeds` are runs of one configuration; their own learning rate, schedule and length play no part.
    """
    block = start_block(tuple(replace(run, n_steps=len(rates), n_evaluations=1) for run in seeds), data, len(seeds))
    examples = training_data(data, seeds[0].block_size)
    program = replace(block.program, arranged=False)  # Short: compiling costs more than the arrangement gains.
    losses = _rising_block(block.states, block.varied, jnp.asarray(rates, jnp.float32), examples, program)
    return np.asarray(losses)


def train_rising(
    state: TrainState, run: Run, rates: Float[Array, " steps"], data: TrainingData, program: Program
) -> Float[Array, " steps"]:
    """Each step's minibatch loss, in one run."""
    steps = jnp.arange(len(rates))
    windows = draw_minibatches(run.seed, steps, program.batch_size, len(data.targets), program.shuffle)

    def step(state: TrainState, i):
        dropout = make_dropout(run, steps[i]) if program.dropout else None
        fresh = replace(state, loss_sum=jnp.zeros_like(state.loss_sum))
        state = train_step(fresh, steps[i], rates[i], run, program, step_loss(data, windows[i], program, dropout))
        return state, state.loss_sum

    return jax.lax.scan(step, state, steps)[1]


@partial(jax.jit, static_argnames="program")
def _rising_block(states: TrainState, runs: Run, rates, data: TrainingData, program: Program):
    return jax.vmap(partial(train_rising, program=program), in_axes=(0, 0, None, None))(states, runs, rates, data)
