"""Training: one step, one run as a loop of steps, and a block of runs mapped over a run axis.

A run is a pure function of its own specification. Its draws are keyed by (seed, purpose, step), never by where it
stands, and a compiled program always holds the same number of runs: on a CPU a run's bits do not depend on its company.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from mlp_lm.evaluation import EvaluationSet, EvaluationWindows, exact_losses, population_moments
from mlp_lm.gradients import (
    arrange_all,
    arranged_loss_and_grad,
    full_batch_loss_and_grad,
    minibatch_loss_and_grad,
    wide_loss_and_grad,
)
from mlp_lm.initializers import Scheme, scale_draws, standard_draws
from mlp_lm.minibatches import DRAWN_STEPS, draw_block
from mlp_lm.model import Architecture, Dropout, Params
from mlp_lm.padding import pad_params, take_run, unpad_params
from mlp_lm.random_keys import DROPOUT, WEIGHTS, purpose_key
from mlp_lm.schedules import PLATEAU, SCHEDULES, plateau
from mlp_lm.wide_softmax import FLOAT32

DIVERGED_LOSS = 1000.0  # Nats per token: no initialisation starts near it, and no run comes back from it.
NOT_DIVERGED = -1

LossAndGrad = Callable[[Params], tuple[Float[Array, ""], Params]]

SGD, ADAM = "sgd", "adam"
ADAM_EPSILON = 1e-8  # Kingma and Ba 2015, algorithm 1.
N_SPLITS = 3  # Training, dev and unseen dev.


@dataclass(frozen=True)
class Program:
    """What shapes a compiled training program. `batch_size = 0` is full-batch gradient descent.

    `arranged` trains with hand-arranged gradients, for models and devices that they are made for; `wide` computes the
    softmax of a large vocabulary block by block, with products of `precision`.
    """

    architecture: Architecture
    batch_size: int
    schedule: str
    momentum: bool
    weight_decay: bool
    arranged: bool = False
    optimizer: str = SGD
    dropout: bool = False
    early_stopping: bool = False
    shuffle: bool = False
    wide: bool = False
    precision: str = FLOAT32


@no_type_check
@struct.dataclass
class Run:
    """What a compiled program may vary."""

    seed: UInt32[Array, ""]
    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    weight_decay: Float[Array, ""]
    dropout: Float[Array, ""]
    input_dropout: Float[Array, ""]
    adam_epsilon: Float[Array, ""]


def make_run(
    seed: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    adam_epsilon: float = ADAM_EPSILON,
) -> Run:
    """A run's numbers in the types a compiled program takes."""
    numbers: Any = np.array([learning_rate, momentum, weight_decay, dropout, input_dropout, adam_epsilon], np.float32)
    varied: Any = np.array(seed, np.uint32)
    return Run(varied, *numbers)


@no_type_check
@struct.dataclass
class TrainingData:
    """Windows to draw minibatches from, and the same compressed for exact losses and full batches."""

    contexts: Int[Array, "n block"]
    targets: Int[Array, " n"]
    examples: EvaluationSet | EvaluationWindows


@no_type_check
@struct.dataclass
class Best:
    """The weights of the lowest dev loss among the evaluations so far, and that evaluation's losses."""

    params: Params
    losses: Float[Array, " split"]


@no_type_check
@struct.dataclass
class TrainState:
    """A run between two steps. `loss_sum` adds up minibatch losses since the last evaluation, in nats per token.

    `best` is None but in a program with early stopping.
    """

    params: Params
    best: Best | None
    optimizer: optax.OptState
    plateau: optax.OptState
    loss_sum: Float[Array, ""]
    diverged_step: Int[Array, ""]


@no_type_check
@struct.dataclass
class Evaluation:
    """A run at one step: exact losses of each split of the examples, in nats per token."""

    losses: Float[Array, " split"]
    loss_sum: Float[Array, ""]
    diverged_step: Int[Array, ""]


def draw_weights(seed: int, scheme: Scheme, architecture: Architecture, wide: Architecture | None = None) -> Params:
    """The initial weights of the run with this seed, zero-padded to the widths of `wide`.

    Draws are nested, so those of the wide model hold the ones wanted, and one compiled program serves many widths.
    """
    wide = wide or architecture
    key = purpose_key(np.uint32(seed), WEIGHTS)
    draws = jax.device_get(standard_draws(key, scheme.sample, wide))
    params = scale_draws(unpad_params(draws, architecture), scheme, architecture)
    return pad_params(params, architecture, wide.embedding_dim, wide.hidden_size)


def decays(params: Params) -> Params:
    """Which parameters weight decay acts on: weights and embedding, never biases, gains or shifts."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].name in ("weight", "embedding", "direct"), params)


def make_optimizer(run: Run, rate: Float[Array, ""], program: Program) -> optax.GradientTransformation:
    """SGD or Adam at `rate`, with the run's momentum and weight decay where the program has them.

    Adam's weight decay is decoupled from the gradient (AdamW, Loshchilov and Hutter 2019).
    """
    if program.optimizer == ADAM:
        if not program.weight_decay:
            return optax.adam(rate, eps=run.adam_epsilon)
        return optax.adamw(rate, eps=run.adam_epsilon, weight_decay=run.weight_decay, mask=decays)
    sgd = optax.sgd(rate, momentum=run.momentum if program.momentum else None)
    return optax.chain(optax.add_decayed_weights(run.weight_decay, mask=decays), sgd) if program.weight_decay else sgd


def init_state(params: Params, run: Run, program: Program) -> TrainState:
    """The state before the first step."""
    return TrainState(
        params=params,
        best=Best(params, jnp.full(N_SPLITS, jnp.inf)) if program.early_stopping else None,
        optimizer=make_optimizer(run, run.learning_rate, program).init(params),
        plateau=plateau.init(params),
        loss_sum=jnp.zeros(()),
        diverged_step=jnp.array(NOT_DIVERGED, jnp.int32),  # Not weakly typed, or the next call compiles anew.
    )


def train_step(
    state: TrainState,
    step: Int[Array, ""],
    rate: Float[Array, ""],
    run: Run,
    program: Program,
    loss_and_grad: LossAndGrad,
) -> TrainState:
    """One update. `loss_and_grad(params)` is the mean loss of the step's examples and its gradient."""
    loss, grads = loss_and_grad(state.params)
    updates, optimizer = make_optimizer(run, rate, program).update(grads, state.optimizer, state.params)
    diverges = (state.diverged_step == NOT_DIVERGED) & ~(loss < DIVERGED_LOSS)
    return replace(
        state,
        params=optax.apply_updates(state.params, updates),
        optimizer=optimizer,
        loss_sum=state.loss_sum + loss,
        diverged_step=jnp.where(diverges, step, state.diverged_step),
    )


def advance(
    state: TrainState,
    run: Run,
    data: TrainingData,
    indices: Int[Array, "steps batch"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    n_steps: Int[Array, ""] | int,
    program: Program,
) -> TrainState:
    """Steps `start` to `stop - 1` of a run of `n_steps`; row j of `indices` is the minibatch of step `start + j`."""
    steps = start + jnp.arange(len(indices))
    rates = run.learning_rate * state.plateau.scale * SCHEDULES[program.schedule](steps, n_steps)
    laid_out = arrange_all if program.arranged else lambda state: state

    def step(j, state):
        loss_and_grad = step_loss(data, indices[j], program, make_dropout(run, steps[j]) if program.dropout else None)
        return train_step(state, steps[j], rates[j], run, program, loss_and_grad)

    return laid_out(jax.lax.fori_loop(0, stop - start, step, laid_out(state)))


def make_dropout(run: Run, step: Int[Array, ""]) -> Dropout:
    """A step's dropout."""
    return Dropout(jax.random.fold_in(purpose_key(run.seed, DROPOUT), step), run.dropout, run.input_dropout)


def step_loss(
    data: TrainingData, indices: Int[Array, " batch"], program: Program, dropout: Dropout | None = None
) -> LossAndGrad:
    """A step's `loss_and_grad(params)`."""
    if program.batch_size == 0:
        assert isinstance(data.examples, EvaluationSet), "full-batch gradient descent needs counted contexts"
        return partial(full_batch_loss_and_grad, examples=data.examples)
    contexts, targets = data.contexts[indices], data.targets[indices]
    if program.wide:
        return lambda params: wide_loss_and_grad(params, contexts, targets, dropout, program.precision)
    if program.arranged:
        return lambda params: arranged_loss_and_grad(params, contexts, targets)
    return lambda params: minibatch_loss_and_grad(params, contexts, targets, dropout)


def evaluate(state: TrainState, data: TrainingData, program: Program) -> tuple[TrainState, Evaluation]:
    """Exact losses; a plateau schedule takes note of the dev loss (the second split)."""
    losses = exact_losses(state.params, data.examples, population_moments(state.params, data.examples))
    evaluation = Evaluation(losses, state.loss_sum, state.diverged_step)
    if program.schedule == PLATEAU:
        nothing = jax.tree.map(jnp.zeros_like, state.params)
        _, noted = plateau.update(nothing, state.plateau, state.params, value=losses[1])
        state = replace(state, plateau=noted)
    if state.best is not None:
        better = losses[1] < state.best.losses[1]
        state = replace(state, best=jax.tree.map(partial(jnp.where, better), Best(state.params, losses), state.best))
    return replace(state, loss_sum=jnp.zeros_like(state.loss_sum)), evaluation


@partial(jax.jit, static_argnames="program")
def init_block(params: Params, runs: Run, program: Program) -> TrainState:
    """`init_state` of a block of runs, stacked along a leading axis."""
    return jax.vmap(partial(init_state, program=program))(params, runs)


def advance_block(
    states: TrainState, runs: Run, data: TrainingData, start: int, stop: int, n_steps: int, program: Program
) -> TrainState:
    """`advance` of a block of runs, stacked along a leading axis; cutting it into several calls changes nothing."""
    for first in range(start, stop, DRAWN_STEPS):
        # Drawn by a program of its own, which serves every architecture: the generator is slow to compile.
        indices = draw_block(runs.seed, first, program.batch_size, len(data.targets), program.shuffle)
        last = min(first + DRAWN_STEPS, stop)
        states = advance_drawn_block(states, runs, data, indices, first, last, n_steps, program)
    return states


@partial(jax.jit, static_argnames="program")
def advance_drawn_block(
    states: TrainState,
    runs: Run,
    data: TrainingData,
    indices: Int[Array, "run steps batch"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    n_steps: Int[Array, ""] | int,
    program: Program,
) -> TrainState:
    """`advance` of a block of runs on minibatches drawn before."""
    mapped = map_runs(partial(advance, program=program), (0, 0, None, 0, None, None, None), len(indices))
    return mapped(states, runs, data, indices, start, stop, n_steps)


@partial(jax.jit, static_argnames="program")
def evaluate_block(states: TrainState, data: TrainingData, program: Program) -> tuple[TrainState, Evaluation]:
    """`evaluate` of a block of runs, stacked along a leading axis."""
    return map_runs(partial(evaluate, program=program), (0, None), len(states.loss_sum))(states, data)


def map_runs(run: Callable, axes: tuple[int | None, ...], n_runs: int) -> Callable:
    """`jax.vmap` along a leading run axis; one run alone keeps plain matrix products, which XLA has faster code for."""
    if n_runs > 1:
        return jax.vmap(run, in_axes=axes)

    def alone(*arguments):
        first = [take_run(tree, 0) if axis == 0 else tree for tree, axis in zip(arguments, axes, strict=True)]
        return jax.tree.map(lambda leaf: leaf[None], run(*first))

    return alone
