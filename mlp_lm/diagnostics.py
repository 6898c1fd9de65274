"""What goes on inside a model in training: saturation, dead units, and the scale of activations, gradients, updates.

Statistics of activations are exact over every training window. Gradients are those of one probe minibatch a run, the
same at every step and as large as the run's own, so they are what an update sees (Karpathy 2022, makemore lecture 3).
Zero-padded units and embedding dimensions add nothing to any sum, so a padded model has the statistics of its own
widths, which enter as counts.
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from mlp_lm.activations import activation_named
from mlp_lm.config import Architecture, Numbers, RunConfig
from mlp_lm.evaluation import EvaluationSet, Examples, full_batch_loss_and_grad, population_moments
from mlp_lm.history import LayerStatistics, MatrixStatistics
from mlp_lm.loss import cross_entropy
from mlp_lm.model import Activations, Leaf, Moments, Params, forward
from mlp_lm.padding import stack_runs
from mlp_lm.random_keys import PROBE, purpose_key
from mlp_lm.schedules import learning_rates
from mlp_lm.training import RunBatch, TrainingData, TrainState, make_optimizer


@struct.dataclass
class Widths:
    """A model's own widths where it is zero-padded: embedding dimensions, and units a hidden layer."""

    embedding_dim: Leaf
    hidden_size: Leaf


def make_widths(architecture: Architecture) -> Widths:
    """An architecture's widths in the types a compiled program takes."""
    return Widths(*np.array([architecture.embedding_dim, architecture.hidden_size], np.float32))


def diagnose(
    state: TrainState,
    numbers: Numbers,
    widths: Widths,
    data: TrainingData,
    step: Int[Array, ""] | int,
    n_steps: Int[Array, ""] | int,
    program: RunConfig,
) -> tuple[LayerStatistics, MatrixStatistics]:
    """A run's statistics before the update of `step`; after the last one, at that one's learning rate."""
    moments = population_moments(state.params, data.examples)
    gradients = probe_gradients(state.params, numbers, data, program)
    last = jnp.minimum(step, n_steps - 1)[None]
    rate = state.plateau.scale * learning_rates(last, n_steps, program, numbers)[0]
    updates, _ = make_optimizer(rate, numbers, program).update(gradients, state.optimizer, state.params)
    architecture = program.architecture(state.params.embedding.shape[0])
    return (
        layer_statistics(state.params, data.examples, moments, widths),
        matrix_statistics(state.params, gradients, updates, matrix_sizes(architecture, widths)),
    )


@partial(jax.jit, static_argnames="program")
def _diagnose_batch(
    states: TrainState,
    numbers: Numbers,
    widths: Widths,
    data: TrainingData,
    step: Int[Array, ""] | int,
    n_steps: Int[Array, ""] | int,
    program: RunConfig,
) -> tuple[LayerStatistics, MatrixStatistics]:
    mapped = jax.vmap(partial(diagnose, program=program), in_axes=(0, 0, 0, None, None, None))
    return mapped(states, numbers, widths, data, step, n_steps)


def diagnose_runs(batch: RunBatch) -> dict[str, Float[np.ndarray, "run _"]]:
    """Each statistic of a batch's runs at their present step, `[run, layer]` or `[run, matrix]`."""
    n_rows = len(batch.numbers.seed)
    filled = (*batch.configs, *[batch.configs[-1]] * (n_rows - len(batch.configs)))
    vocab_size = len(batch.dataset.vocabulary)
    widths = stack_runs([make_widths(config.architecture(vocab_size)) for config in filled])
    n_steps = batch.configs[0].n_steps
    layers, matrices = jax.device_get(
        _diagnose_batch(batch.states, batch.numbers, widths, batch.data, batch.step, n_steps, batch.program)
    )
    return layers._asdict() | matrices._asdict()


def layer_statistics(
    params: Params, examples: Examples, moments: tuple[Moments, ...], widths: Widths
) -> LayerStatistics:
    """Statistics of each hidden layer over every window of the first split; batch norm takes `moments`."""
    bound = activation_named(params.activation).saturation or jnp.inf

    def summarise(chunk):
        shares = examples.training_counts(chunk) / examples.totals[0]
        activations = forward(params, chunk[0], moments)
        return _layer_sums(activations, shares, bound), _quietest(activations, shares)

    sums, quietest = jax.lax.map(summarise, examples.chunks)
    saturated, z, z_squared, h, h_squared = sums.sum(axis=0) / widths.hidden_size
    return LayerStatistics(
        saturated_share=saturated,
        dead_units=(quietest.min(axis=0) > bound).sum(axis=1).astype(jnp.float32),
        preactivation_mean=z,
        preactivation_std=_std(z, z_squared),
        activation_mean=h,
        activation_std=_std(h, h_squared),
    )


def matrix_statistics(
    params: Params, gradients: Params, updates: Params, sizes: Float[Array, " matrix"]
) -> MatrixStatistics:
    """Standard deviations of each matrix, its gradient and its update, over `sizes` entries; the rest is padding."""
    weight, gradient, update = (matrix_stds(tree, sizes) for tree in (params, gradients, updates))
    return MatrixStatistics(weight, gradient, gradient / weight, jnp.log10(update / weight))


def matrix_stds(params: Params, sizes: Float[Array, " matrix"]) -> Float[Array, " matrix"]:
    """Standard deviation (ddof 0) of each matrix over its own entries."""
    means = jnp.stack([matrix.sum() for matrix in matrices(params)]) / sizes
    squares = jnp.stack([(matrix**2).sum() for matrix in matrices(params)]) / sizes
    return _std(means, squares)


def matrices(params: Params) -> list[Float[Array, "fan_in fan_out"]]:
    """Embedding, hidden weights, output weight and, where there are any, direct connections."""
    direct = [] if params.direct is None else [params.direct]
    return [params.embedding, *(layer.weight for layer in params.hidden), params.output.weight, *direct]


def matrix_sizes(wide: Architecture, widths: Widths) -> Float[Array, " matrix"]:
    """How many entries of each matrix are the model's own."""
    vocab, features, hidden = wide.vocab_size, wide.block_size * widths.embedding_dim, widths.hidden_size
    deeper = [hidden * hidden] * (wide.n_layers - 1)
    direct = [features * vocab] if wide.direct else []
    return jnp.stack([vocab * widths.embedding_dim, features * hidden, *deeper, hidden * vocab, *direct])


def probe_gradients(params: Params, numbers: Numbers, data: TrainingData, program: RunConfig) -> Params:
    """Gradient of the mean loss of the run's probe minibatch, or of all windows for a full-batch run."""
    if program.batch_size == 0:
        return full_batch_loss_and_grad(params, cast(EvaluationSet, data.examples))[1]
    windows = draw_probe(numbers.seed, program.batch_size, len(data.targets))

    def loss(params):
        return cross_entropy(forward(params, data.contexts[windows]).logits, data.targets[windows])

    return jax.grad(loss)(params)


def draw_probe(seed: UInt32[Array, ""] | np.uint32, size: int, n_windows: int) -> Int[Array, " size"]:
    """The windows of a run's probe minibatch, with replacement."""
    return jax.random.randint(purpose_key(seed, PROBE), (size,), 0, n_windows)


def activation_gradients(
    params: Params, contexts: Int[Array, "batch block"], targets: Int[Array, " batch"]
) -> tuple[Float[Array, "batch hidden"], ...]:
    """Gradient of the mean loss with respect to each hidden layer's activations, batch norm over this batch."""
    zeros = tuple(jnp.zeros((len(targets), layer.weight.shape[1])) for layer in params.hidden)
    return jax.grad(lambda offsets: cross_entropy(forward(params, contexts, perturbations=offsets).logits, targets))(
        zeros
    )


def _layer_sums(activations: Activations, shares: Float[Array, " batch"], bound) -> Float[Array, "statistic layer"]:
    z, h = jnp.stack(activations.preactivations), jnp.stack(activations.hidden)
    values = jnp.stack([(jnp.abs(h) > bound).astype(z.dtype), z, z**2, h, h**2])
    return jnp.einsum("b,slbh->sl", shares, values)


def _quietest(activations: Activations, shares: Float[Array, " batch"]) -> Float[Array, "layer hidden"]:
    """Each unit's smallest absolute activation over the contexts that occur."""
    occurs = (shares > 0)[None, :, None]
    return jnp.where(occurs, jnp.abs(jnp.stack(activations.hidden)), jnp.inf).min(axis=1)


def _std(mean: Float[Array, " n"], mean_square: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.sqrt(jnp.maximum(mean_square - mean**2, 0.0))
