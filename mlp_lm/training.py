"""Training, from one step to whole runs: read it from top to bottom.

A run is a pure function of its configuration. Its draws are keyed by (seed, purpose, step), never by its position among
other runs, and a compiled program always holds the same number of runs: on a CPU a run's bits do not depend on its
company. The functions of the first half are written for one run; `RunBatch` maps them over runs that train side by
side.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from mlp_lm.config import CPU_RUNS, FLOAT32, LARGE_VOCABULARY, Numbers, RunConfig, run_batch_size
from mlp_lm.cpu_gradients import arrange_all, arranged_loss_and_grad, can_arrange
from mlp_lm.data.dataset import Dataset
from mlp_lm.evaluation import (
    EvaluationSet,
    EvaluationWindows,
    Examples,
    exact_losses,
    full_batch_loss_and_grad,
    jitted_moments,
    population_moments,
)
from mlp_lm.history import History, SplitLosses
from mlp_lm.initializers import draw_params
from mlp_lm.large_vocabulary import blockwise_loss_and_grad
from mlp_lm.loss import minibatch_loss_and_grad
from mlp_lm.minibatches import DRAWN_STEPS, draw_batch
from mlp_lm.model import Dropout, Leaf, Params
from mlp_lm.optimizers import ELEMENTWISE, OPTIMIZERS
from mlp_lm.padding import share_out, stack_runs, take_run, unpad_params
from mlp_lm.parametrizations import PARAMETRIZATIONS, REST, kinds
from mlp_lm.random_keys import DROPOUT, NOISE, purpose_key
from mlp_lm.sampling import sample_from
from mlp_lm.schedules import PLATEAU, learning_rates, plateau
from mlp_lm.schemes import PRIOR_BIAS, log_frequencies, scheme_of
from mlp_lm.settings import pinned_settings

DIVERGED_LOSS = 1000.0  # Nats per token: no initialisation starts near it, and no run comes back from it.
STRETCH_SECONDS = 2.0  # Of a compiled call, which no interrupt ends.
NOT_DIVERGED = -1
DEV = SplitLosses._fields.index("dev")

LossAndGrad = Callable[[Params], tuple[Float[Array, ""], Params]]


@struct.dataclass
class TrainingData:
    """Windows to draw minibatches from, `contexts [n, block]` and `targets [n]`, and the examples of exact losses."""

    contexts: Leaf
    targets: Leaf
    examples: Examples


@functools.lru_cache(maxsize=4)
def training_data(dataset: Dataset, block_size: int) -> TrainingData:
    """A dataset on the device."""
    train = dataset.windows("train", block_size)
    examples: Examples = (
        EvaluationWindows.of(*dataset.sampled(block_size))
        if dataset.is_running_text
        else EvaluationSet.of(dataset.counted(block_size))
    )
    return TrainingData(jnp.asarray(train.contexts), jnp.asarray(train.targets), examples)


@struct.dataclass
class Best:
    """The weights of the lowest dev loss among the evaluations so far, and that evaluation's losses `[split]`."""

    params: Params
    losses: Leaf


@struct.dataclass
class TrainState:
    """A run between two steps.

    `average` is the running average of the weights where the run has one, and else None; `best` is None unless the run
    stops early; `loss_sum` adds up minibatch losses since the last evaluation, in nats per token; `diverged_step` is
    the first step whose loss was absurd, or NOT_DIVERGED.
    """

    params: Params
    average: Params | None
    best: Best | None
    optimizer: optax.OptState
    plateau: optax.OptState
    loss_sum: Leaf
    diverged_step: Leaf

    @property
    def model(self) -> Params:
        """The weights that are evaluated."""
        return self.params if self.average is None else self.average


def initial_params(config: RunConfig, dataset: Dataset) -> Params:
    """The initial weights of a run, zero-padded to the widths that it is trained at."""
    vocab_size = len(dataset.vocabulary)
    architecture, wide = config.architecture(vocab_size), config.program().architecture(vocab_size)
    scheme = scheme_of(config)
    parametrization = PARAMETRIZATIONS[config.parametrization]
    params = draw_params(config.seed, scheme, architecture, wide, parametrization, config.base_width)
    if scheme.adjust is not None:  # Such a scheme is not nested, so the widths are the run's own.
        params = jax.device_get(scheme.adjust(params, dataset.counted(config.block_size, ("train",))))
    if config.output_bias == PRIOR_BIAS:
        counts = np.bincount(dataset.windows("train", config.block_size).targets, minlength=vocab_size)
        params = replace(params, output=replace(params.output, bias=log_frequencies(counts)))
    return params


def make_optimizer(rate: Float[Array, ""], numbers: Numbers, program: RunConfig) -> optax.GradientTransformation:
    """The program's optimiser at this rate, with gradients clipped by their norm where the run has it so.

    With a parametrization other than standard, each kind of matrix has its own optimiser, at a rate of its own.
    """
    make = OPTIMIZERS[program.optimizer]
    if numbers.rate_factors is None:
        optimizer = make(rate, numbers)
    else:
        decay = numbers.weight_decay
        optimizer = optax.partition(
            {REST: make(rate, numbers)}
            | {
                kind: make(rate * factor, numbers._replace(weight_decay=None if decay is None else decay / factor))
                for kind, factor in numbers.rate_factors._asdict().items()
            },
            kinds,
        )
    if numbers.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(numbers.clip_norm), optimizer)


def init_state(params: Params, numbers: Numbers, program: RunConfig) -> TrainState:
    """The state before the first step."""
    return TrainState(
        params=params,
        average=None if numbers.weight_average is None else params,
        best=Best(params, jnp.full(len(SplitLosses._fields), jnp.inf)) if program.early_stopping else None,
        optimizer=make_optimizer(numbers.learning_rate, numbers, program).init(params),
        plateau=plateau(program.patience).init(params),
        loss_sum=jnp.zeros(()),
        diverged_step=jnp.array(NOT_DIVERGED, jnp.int32),  # Not weakly typed, or the next call compiles anew.
    )


def step_loss(
    data: TrainingData,
    windows: Int[Array, " batch"],
    step: Int[Array, ""],
    numbers: Numbers,
    program: RunConfig,
    arranged: bool = False,
) -> LossAndGrad:
    """The mean loss of a step's examples and its gradient, as a function of the parameters."""
    if program.batch_size == 0:
        return partial(full_batch_loss_and_grad, examples=cast(EvaluationSet, data.examples))
    contexts, targets, dropout = data.contexts[windows], data.targets[windows], None
    if numbers.token_noise is not None:
        key = jax.random.fold_in(purpose_key(numbers.seed, NOISE), step)
        contexts = replace_tokens(contexts, key, numbers.token_noise, data.targets)
    if program.drops:
        key = jax.random.fold_in(purpose_key(numbers.seed, DROPOUT), step)
        dropout = Dropout(key, numbers.dropout, numbers.input_dropout)

    def loss_and_grad(params: Params) -> tuple[Float[Array, ""], Params]:
        if _is_blockwise(params, program):
            return blockwise_loss_and_grad(params, contexts, targets, dropout, program.precision)
        if arranged:
            return arranged_loss_and_grad(params, contexts, targets)
        return minibatch_loss_and_grad(params, contexts, targets, dropout)

    return loss_and_grad


def replace_tokens(
    contexts: Int[Array, "batch block"], key: Key[Array, ""], share: Float[Array, ""], tokens: Int[Array, " n"]
) -> Int[Array, "batch block"]:
    """Contexts with this share of their tokens replaced by draws from `tokens` (Xie et al. 2017, unigram noise)."""
    chosen, drawn = jax.random.split(key)
    others = tokens[jax.random.randint(drawn, contexts.shape, 0, len(tokens))]
    return jnp.where(jax.random.bernoulli(chosen, share, contexts.shape), others, contexts)


def train_step(
    state: TrainState,
    step: Int[Array, ""],
    rate: Float[Array, ""],
    numbers: Numbers,
    program: RunConfig,
    loss_and_grad: LossAndGrad,
) -> TrainState:
    """One update."""
    loss, grads = loss_and_grad(state.params)
    updates, optimizer = make_optimizer(rate, numbers, program).update(grads, state.optimizer, state.params)
    diverges = (state.diverged_step == NOT_DIVERGED) & ~(loss < DIVERGED_LOSS)
    params, average = optax.apply_updates(state.params, updates), None
    if numbers.weight_average is not None:
        average = optax.incremental_update(params, state.average, 1 - numbers.weight_average)
    return replace(
        state,
        params=params,
        average=average,
        optimizer=optimizer,
        loss_sum=state.loss_sum + loss,
        diverged_step=jnp.where(diverges, step, state.diverged_step),
    )


def advance(
    state: TrainState,
    numbers: Numbers,
    data: TrainingData,
    windows: Int[Array, "steps batch"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    n_steps: Int[Array, ""] | int,
    program: RunConfig,
) -> TrainState:
    """Steps `start` to `stop - 1` of a run of `n_steps`; row j of `windows` is the minibatch of step `start + j`."""
    steps = start + jnp.arange(len(windows))
    rates = state.plateau.scale * learning_rates(steps, n_steps, program, numbers)
    arranged = (
        jax.default_backend() == "cpu"
        and program.batch_size > 0
        and not program.drops
        and not _is_blockwise(state.params, program)
        and program.optimizer in ELEMENTWISE  # Which do not mind that matrices are transposed.
        and can_arrange(program.architecture(state.params.embedding.shape[0]))
    )
    layout = arrange_all if arranged else lambda state: state

    def step(j, state):
        loss_and_grad = step_loss(data, windows[j], steps[j], numbers, program, arranged)
        return train_step(state, steps[j], rates[j], numbers, program, loss_and_grad)

    return layout(jax.lax.fori_loop(0, stop - start, step, layout(state)))


def evaluate(state: TrainState, data: TrainingData, program: RunConfig) -> tuple[TrainState, Float[Array, " split"]]:
    """Exact losses of each split, in nats per token; early stopping and the schedule `plateau` take note of dev's."""
    losses = exact_losses(state.model, data.examples, population_moments(state.model, data.examples))
    if program.schedule == PLATEAU:
        nothing = jax.tree.map(jnp.zeros_like, state.params)
        _, noted = plateau(program.patience).update(nothing, state.plateau, state.params, value=losses[DEV])
        state = replace(state, plateau=noted)
    if state.best is not None:
        better = losses[DEV] < state.best.losses[DEV]
        state = replace(state, best=jax.tree.map(partial(jnp.where, better), Best(state.model, losses), state.best))
    return replace(state, loss_sum=jnp.zeros_like(state.loss_sum)), losses


def _is_blockwise(params: Params, program: RunConfig) -> bool:
    return params.embedding.shape[0] > LARGE_VOCABULARY or program.precision != FLOAT32


# From here on: many runs side by side, along a leading run axis.


@partial(jax.jit, static_argnames="program")
def init_batch(params: Params, numbers: Numbers, program: RunConfig) -> TrainState:
    """`init_state` of several runs."""
    return jax.vmap(partial(init_state, program=program))(params, numbers)


def advance_batch(
    states: TrainState, numbers: Numbers, data: TrainingData, start: int, stop: int, n_steps: int, program: RunConfig
) -> TrainState:
    """`advance` of several runs; cutting it into several calls changes nothing."""
    for first in range(start, stop, DRAWN_STEPS):
        # Drawn by a program of its own, which serves every architecture: the generator is slow to compile.
        windows = draw_batch(numbers.seed, first, program.batch_size, len(data.targets), program.shuffle)
        last = min(first + DRAWN_STEPS, stop)
        states = _advance_drawn(states, numbers, data, windows, first, last, n_steps, program)
    return states


@partial(jax.jit, static_argnames="program")
def _advance_drawn(
    states: TrainState,
    numbers: Numbers,
    data: TrainingData,
    windows: Int[Array, "run steps batch"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    n_steps: Int[Array, ""] | int,
    program: RunConfig,
) -> TrainState:
    mapped = map_runs(partial(advance, program=program), (0, 0, None, 0, None, None, None), len(windows))
    return mapped(states, numbers, data, windows, start, stop, n_steps)


@partial(jax.jit, static_argnames="program")
def evaluate_batch(
    states: TrainState, data: TrainingData, program: RunConfig
) -> tuple[TrainState, Float[Array, "run split"]]:
    """`evaluate` of several runs."""
    return map_runs(partial(evaluate, program=program), (0, None), len(states.loss_sum))(states, data)


def next_stretch(steps: int, seconds: float) -> int:
    """Steps that take STRETCH_SECONDS at the pace of the last stretch; at most ten times as many, at least one."""
    return max(1, min(10 * steps, math.ceil(steps * STRETCH_SECONDS / max(seconds, 1e-6))))


def map_runs(run: Callable, axes: tuple[int | None, ...], n_runs: int) -> Callable:
    """`jax.vmap` along a leading run axis; one run alone keeps plain matrix products, which XLA has faster code for."""
    if n_runs > 1:
        return jax.vmap(run, in_axes=axes)

    def alone(*arguments):
        first = [take_run(tree, 0) if axis == 0 else tree for tree, axis in zip(arguments, axes, strict=True)]
        return jax.tree.map(lambda leaf: leaf[None], run(*first))

    return alone


@dataclass
class RunBatch:
    """Runs that train side by side, and how far they are.

    `advance` to each of the runs' `evaluation_steps`, and `evaluate` there. `numbers` and `states` have one row a run;
    rows past the last run hold copies of it.
    """

    configs: tuple[RunConfig, ...]
    dataset: Dataset
    numbers: Numbers
    states: TrainState
    histories: list[History]
    step: int = 0

    @classmethod
    def start(cls, configs: Sequence[RunConfig], dataset: Dataset, size: int | None = None) -> "RunBatch":
        """Runs of one `company` at step 0, in a program for `size` of them (by default, as many as there are)."""
        filled = (*configs, *[configs[-1]] * ((size or len(configs)) - len(configs)))
        params = stack_runs([initial_params(config, dataset) for config in filled])
        numbers = stack_runs([config.numbers() for config in filled])
        states = init_batch(params, numbers, configs[0].program())
        numbers, states = share_out((numbers, states))
        return cls(tuple(configs), dataset, numbers, states, [History() for _ in configs])

    @property
    def program(self) -> RunConfig:
        """What the runs have in common, compiled."""
        return self.configs[0].program()

    @property
    def data(self) -> TrainingData:
        """What they train on."""
        return training_data(self.dataset, self.configs[0].block_size)

    def advance(self, stop: int) -> None:
        """Train up to a step."""
        n_steps = self.configs[0].n_steps
        states = advance_batch(self.states, self.numbers, self.data, self.step, stop, n_steps, self.program)
        self.states = jax.block_until_ready(states)
        self.step = stop

    def evaluate(self) -> None:
        """Add an evaluation to every history."""
        steps = self.step - (self.histories[0].step[-1] if self.histories[0].step else 0)
        sums, diverged = jax.device_get((self.states.loss_sum, self.states.diverged_step))
        self.states, losses = evaluate_batch(self.states, self.data, self.program)
        for history, exact, loss_sum, step in zip(self.histories, jax.device_get(losses), sums, diverged, strict=False):
            history.add(self.step, exact, loss_sum / steps if steps else math.nan, step)

    def trained_params(self) -> list[Params]:
        """The weights that each run ends with, at the widths of the program."""
        best = self.states.best
        params = jax.device_get(self.states.model if best is None else best.params)
        return [take_run(params, i) for i in range(len(self.configs))]


@dataclass(frozen=True)
class Trained:
    """Trained runs of one configuration, one a seed.

    Attributes:
        config: what was trained.
        dataset: on what.
        seeds: which seeds, in the order of every array's leading axis.
        params: the models, stacked along a leading seed axis; `trained[i]` is the i-th one alone.
        histories: each run's exact losses at its evaluations.
    """

    config: RunConfig
    dataset: Dataset
    seeds: tuple[int, ...]
    params: Params = field(repr=False)
    histories: tuple[History, ...] = field(repr=False)

    def __getitem__(self, i: int) -> Params:
        return take_run(self.params, range(len(self))[i])  # An array would clamp an index beyond its end.

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def losses(self) -> SplitLosses:
        """Exact losses `[seed]` of training, dev and unseen dev windows, in nats per token."""
        each = [history.losses(self.config.early_stopping) for history in self.histories]
        return SplitLosses(*(np.array(column) for column in zip(*each, strict=True)))

    @property
    def train_loss(self) -> Float[np.ndarray, " seed"]:
        """Nats per token."""
        return self.losses.train

    @property
    def dev_loss(self) -> Float[np.ndarray, " seed"]:
        """Nats per token."""
        return self.losses.dev

    @property
    def dev_unseen_loss(self) -> Float[np.ndarray, " seed"]:
        """Nats per token, of the dev words that training does not have (in running text, of its contexts)."""
        return self.losses.dev_unseen

    def test_loss(self) -> Float[np.ndarray, " seed"]:
        """Exact losses of the test part, in nats per token: look once, when all is decided."""
        with pinned_settings():
            test = part_examples(self.dataset, self.config.block_size, "test")
            return np.array([exact_part_loss(params, test, self.moments(i)) for i, params in enumerate(self)])

    def __iter__(self) -> Iterator[Params]:
        return (self[i] for i in range(len(self)))

    def moments(self, i: int) -> Any:
        """Batch norm's moments of the i-th model over the training part; () without batch norm."""
        return jitted_moments(self[i], training_data(self.dataset, self.config.block_size).examples)

    def sample(self, n: int = 20, seed: int = 0, temperature: float = 1.0) -> list[str]:
        """Words (of a running text, sentences) drawn from the model of the lowest dev loss.

        Raises:
            ValueError: every run diverged.
        """
        if np.isnan(self.dev_loss).all():
            raise ValueError("every run diverged: there is no model to sample from; give a lower learning_rate")
        i = int(np.nanargmin(self.dev_loss))
        with pinned_settings():
            return sample_from(self[i], self.moments(i), self.dataset, n, seed, temperature)


def part_examples(dataset: Dataset, block_size: int, part: str) -> Examples:
    """One part alone as examples of exact losses."""
    if dataset.is_running_text:
        windows = dataset.windows(part, block_size)
        return EvaluationWindows.of(windows, np.ones((1, len(windows)), np.float32))
    return EvaluationSet.of(dataset.counted(block_size, (part,)))


def exact_part_loss(params: Params, examples: Examples, moments: Any) -> float:
    """The loss of `part_examples`, in nats per token."""
    return float(_jitted_losses(params, examples, moments)[0])


_jitted_losses = jax.jit(exact_losses)


def train(config: RunConfig, dataset: Dataset, seeds: int | Sequence[int] = 1) -> Trained:
    """Train one configuration for several seeds.

    A seed's numbers are those that a sweep gets for it, whatever else is trained.

    Args:
        config: what to train; its own seed plays no part.
        dataset: what to train on (see `mlp_lm.load_dataset`).
        seeds: how many seeds, from 0 on, or which ones.

    Raises:
        ValueError: no seed, or a configuration that this dataset does not allow.
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ValueError("seeds must be at least 1, got none")
    dataset.check(config)
    with pinned_settings():
        return _train(config, dataset, chosen)


def _train(config: RunConfig, dataset: Dataset, chosen: tuple[int, ...]) -> Trained:
    configs = [replace(config, seed=seed, data_hash=dataset.sha256) for seed in chosen]
    vocab_size = len(dataset.vocabulary)
    size = run_batch_size(config, vocab_size, CPU_RUNS)
    params: list[Params] = []
    histories: list[History] = []
    for first in range(0, len(configs), size):
        batch = RunBatch.start(configs[first : first + size], dataset, size)
        for step in config.evaluation_steps:
            batch.advance(step)
            batch.evaluate()
        architecture = config.architecture(vocab_size)
        params += [unpad_params(wide, architecture) for wide in batch.trained_params()]
        histories += batch.histories
    return Trained(config, dataset, chosen, jax.tree.map(jnp.asarray, stack_runs(params)), tuple(histories))
