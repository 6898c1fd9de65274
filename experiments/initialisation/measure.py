"""Short trainings looked into at single steps: the diagnostics of a few runs, and the values behind histograms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from experiments.runner.trainer import Block, diagnose_runs, start_block, training_data
from experiments.sweeps.grids import RunSpec
from mlp_lm.diagnostics import activation_gradients, draw_probe
from mlp_lm.model import Params, forward
from mlp_lm.training import advance_block

BATCH = 32  # Windows in a snapshot, the lecture's minibatch.


@dataclass(frozen=True)
class Snapshot:
    """What each hidden layer does with one minibatch of each seed, `[seed, layer, window, unit]`.

    `gradients` are those of the minibatch's mean loss with respect to the activations.
    """

    preactivations: Float[np.ndarray, "seed layer batch hidden"]
    activations: Float[np.ndarray, "seed layer batch hidden"]
    gradients: Float[np.ndarray, "seed layer batch hidden"]


def trace(seeds: Sequence[RunSpec], steps: Sequence[int], data: str) -> list[dict[str, np.ndarray]]:
    """The diagnostics `[seed, layer or matrix]` of one configuration's runs, before the update of each of `steps`."""
    block, examples = _start(seeds, steps, data), training_data(data, seeds[0].block_size)
    told = []
    for step in sorted(steps):
        _advance(block, step, data)
        told.append(diagnose_runs(block, examples))
    return told


def snapshots(seeds: Sequence[RunSpec], steps: Sequence[int], data: str) -> list[Snapshot]:
    """What one configuration's runs do with their probe minibatch, before the update of each of `steps`."""
    block, examples = _start(seeds, steps, data), training_data(data, seeds[0].block_size)
    probes = np.stack([draw_probe(np.uint32(run.seed), BATCH, len(examples.targets)) for run in seeds])
    told = []
    for step in sorted(steps):
        _advance(block, step, data)
        seen = _look(block.states.params, examples.contexts[probes], examples.targets[probes])
        told.append(Snapshot(*(np.asarray(values)[..., : seeds[0].hidden_size] for values in seen)))
    return told


def _start(seeds: Sequence[RunSpec], steps: Sequence[int], data: str) -> Block:
    """Runs at step 0, at a constant rate: the first steps of the lecture's schedule."""
    n_steps = max(steps) + 1
    runs = tuple(replace(run, schedule="constant", n_steps=n_steps, n_evaluations=1) for run in seeds)
    return start_block(runs, data, len(runs))


def _advance(block: Block, step: int, data: str) -> None:
    examples = training_data(data, block.runs[0].block_size)
    n_steps = block.runs[0].n_steps
    block.states = advance_block(block.states, block.varied, examples, block.step, step, n_steps, block.program)
    block.step = step


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0))
def _look(params: Params, contexts: Int[Array, "batch block"], targets: Int[Array, " batch"]):
    found = forward(params, contexts)
    gradients = activation_gradients(params, contexts, targets)
    return tuple(jax.numpy.stack(values) for values in (found.preactivations, found.hidden, gradients))
