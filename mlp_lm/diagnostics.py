"""What goes on inside a model in training: saturation, dead units, and the scale of activations, gradients, updates.

Statistics of activations are exact over every training window, from distinct contexts with counts. Gradients are those
of one probe minibatch a run, the same at every step and as large as the run's own, so they are what an update sees
(Karpathy 2022, makemore lecture 3). Zero-padded units and embedding dimensions add nothing to any sum, so
a padded model has the statistics of its own widths, which enter as counts.
"""

from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from mlp_lm.evaluation import EvaluationSet, population_moments
from mlp_lm.loss import cross_entropy
from mlp_lm.model import Activations, Architecture, Moments, Params, affine, batch_moments, embed, forward, normalize
from mlp_lm.random_keys import PROBE, purpose_key
from mlp_lm.schedules import SCHEDULES
from mlp_lm.training import (
    Program,
    Run,
    TrainingData,
    TrainState,
    full_batch_loss_and_grad,
    make_optimizer,
)

SATURATED = 0.99  # The lecture's: tanh passes on less than 2 % of a gradient there.


@no_type_check
@struct.dataclass
class Widths:
    """A model's own widths where it is zero-padded: units a hidden layer, dimensions of the embedding."""

    embedding_dim: Float[Array, ""]
    hidden_size: Float[Array, ""]


def make_widths(architecture: Architecture) -> Widths:
    """An architecture's widths in the types a compiled program takes."""
    widths: Any = np.array([architecture.embedding_dim, architecture.hidden_size], np.float32)
    return Widths(*widths)


@no_type_check
@struct.dataclass
class LayerStatistics:
    """One number a hidden layer, over all training windows and units; preactivations are the arguments of tanh."""

    saturated_share: Float[Array, " layer"]  # Of |tanh| > 0.99.
    dead_units: Float[Array, " layer"]  # Units saturated on every training context.
    preactivation_mean: Float[Array, " layer"]
    preactivation_std: Float[Array, " layer"]
    activation_mean: Float[Array, " layer"]
    activation_std: Float[Array, " layer"]


@no_type_check
@struct.dataclass
class MatrixStatistics:
    """One number a matrix: embedding, hidden weights from the input on, output, and direct where there is one."""

    weight_std: Float[Array, " matrix"]
    gradient_std: Float[Array, " matrix"]
    gradient_to_weight: Float[Array, " matrix"]
    log10_update_to_weight: Float[Array, " matrix"]  # For plain SGD: of learning rate * gradient std / weight std.


@no_type_check
@struct.dataclass
class Diagnostics:
    """A run's inner state before the update of one step."""

    layers: LayerStatistics
    matrices: MatrixStatistics


def diagnose(
    state: TrainState,
    run: Run,
    widths: Widths,
    data: TrainingData,
    step: Int[Array, ""],
    n_steps: Int[Array, ""],
    program: Program,
) -> Diagnostics:
    """The diagnostics of a run before the update of `step` (after the last one: before that one's like)."""
    assert isinstance(data.examples, EvaluationSet), "diagnostics need counted contexts"
    moments = population_moments(state.params, data.examples)
    gradients = probe_gradients(state.params, run, data, program)
    last = jnp.minimum(step, n_steps - 1)[None]
    rate = run.learning_rate * state.plateau.scale * SCHEDULES[program.schedule](last, n_steps)[0]
    updates, _ = make_optimizer(run, rate, program).update(gradients, state.optimizer, state.params)
    return Diagnostics(
        layer_statistics(state.params, data.examples, moments, widths),
        matrix_statistics(state.params, gradients, updates, matrix_sizes(program.architecture, widths)),
    )


@partial(jax.jit, static_argnames="program")
def diagnose_block(
    states: TrainState,
    runs: Run,
    widths: Widths,
    data: TrainingData,
    step: Int[Array, ""],
    n_steps: Int[Array, ""],
    program: Program,
) -> Diagnostics:
    """`diagnose` of a block of runs, stacked along a leading axis."""
    mapped = jax.vmap(partial(diagnose, program=program), in_axes=(0, 0, 0, None, None, None))
    return mapped(states, runs, widths, data, step, n_steps)


def layer_statistics(
    params: Params, examples: EvaluationSet, moments: tuple[Moments, ...], widths: Widths
) -> LayerStatistics:
    """Statistics of each hidden layer over every window of the first split; batch norm takes `moments`."""

    def summarise(chunk):
        contexts, counts = chunk
        shares = counts[0].sum(axis=1) / examples.totals[0]
        found = forward(params, contexts, moments)
        return _layer_sums(found, shares), _quietest(found, shares)

    sums, quietest = jax.lax.map(summarise, (examples.contexts, examples.counts))
    saturated, z, z_squared, h, h_squared = sums.sum(axis=0) / widths.hidden_size
    return LayerStatistics(
        saturated_share=saturated,
        dead_units=(quietest.min(axis=0) > SATURATED).sum(axis=1).astype(jnp.float32),
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


def probe_gradients(params: Params, run: Run, data: TrainingData, program: Program) -> Params:
    """Gradient of the mean loss of the run's probe minibatch, or of all windows for a full-batch run."""
    if program.batch_size == 0:
        assert isinstance(data.examples, EvaluationSet)
        return full_batch_loss_and_grad(params, data.examples)[1]
    windows = draw_probe(run.seed, program.batch_size, len(data.targets))

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
    features = embed(params.embedding, contexts)

    def loss(offsets):
        x = features
        for i, layer in enumerate(params.hidden):
            z = affine(layer, x)
            z = normalize(z, params.norms[i], batch_moments(z)) if params.norms else z
            x = jnp.tanh(z) + offsets[i]
        logits = affine(params.output, x)
        return cross_entropy(logits if params.direct is None else logits + features @ params.direct, targets)

    nothing = tuple(jnp.zeros((len(targets), layer.weight.shape[1])) for layer in params.hidden)
    return jax.grad(loss)(nothing)


def _layer_sums(found: Activations, shares: Float[Array, " batch"]) -> Float[Array, "statistic layer"]:
    z, h = jnp.stack(found.preactivations), jnp.stack(found.hidden)
    values = jnp.stack([(jnp.abs(h) > SATURATED).astype(z.dtype), z, z**2, h, h**2])
    return jnp.einsum("b,slbh->sl", shares, values)


def _quietest(found: Activations, shares: Float[Array, " batch"]) -> Float[Array, "layer hidden"]:
    """Each unit's smallest |tanh| over the contexts that occur."""
    occurs = (shares > 0)[None, :, None]
    return jnp.where(occurs, jnp.abs(jnp.stack(found.hidden)), jnp.inf).min(axis=1)


def _std(mean: Float[Array, " n"], mean_square: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.sqrt(jnp.maximum(mean_square - mean**2, 0.0))
