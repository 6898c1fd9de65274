"""Rows measured in this process: training steps, evaluation, and full-batch gradients."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import jax
from mlp_lm.data.material import load_material

from experiments.benchmark import peers
from experiments.benchmark.rounds import alternate, seconds
from experiments.benchmark.row import Row, missing
from experiments.runner.devices import CPU_WIDTH
from experiments.runner.plan import block_width
from experiments.runner.trainer import start_block, training_data
from experiments.sweeps.grids import RunSpec
from mlp_lm.cpu_gradients import full_batch_loss_and_grad, minibatch_loss_and_grad
from mlp_lm.evaluation import EvaluationSet, exact_losses
from mlp_lm.loss import minibatch_loss
from mlp_lm.minibatches import DRAWN_STEPS
from mlp_lm.model import Params
from mlp_lm.training import TrainingData, advance_block

DATA = "ssa2018"
REFERENCE = RunSpec()  # Hidden 200, embedding 10, block 3, batch 32.
N_MODELS = 32
EAGER_STEPS = 300
REPEATS = 20
NO_TORCH = "PyTorch is not installed: pip install -e '.[benchmark]'"

EAGER_TARGETS = (
    (REFERENCE, 7.0),
    (replace(REFERENCE, hidden_size=64), 14.0),
    (replace(REFERENCE, batch_size=256), 3.1),
)


def step_rows() -> Iterator[Row]:
    """A model's training step, ours against PyTorch's."""
    windows = load_material(DATA).windows("train", REFERENCE.block_size)
    vocab_size = len(load_material(DATA).vocabulary)
    for run, target in EAGER_TARGETS:
        what = f"PyTorch eager / ours, a model-step: hidden {run.hidden_size}, batch {run.batch_size}"
        if not peers.has_torch():
            yield missing(what, f">= {target:g}", NO_TORCH)
            continue
        eager = partial(peers.lecture_loop(run, windows, vocab_size), EAGER_STEPS)
        ratio = alternate(seconds(eager, EAGER_STEPS), our_step(run, DRAWN_STEPS))
        yield Row.of_ratio(what, ratio, at_least=target)
    what = f"torch.compile of a vmapped step over {N_MODELS} models / ours"
    if not peers.has_torch():
        yield missing(what, ">= 1.8", NO_TORCH)
        return
    compiled = peers.compiled_step(REFERENCE, windows, vocab_size, N_MODELS)
    ratio = alternate(seconds(lambda: compiled(20), 20 * N_MODELS), our_step(REFERENCE, DRAWN_STEPS))
    yield Row.of_ratio(what, ratio, at_least=1.8)


def our_step(run: RunSpec, n_steps: int) -> Callable[[], float]:
    """Seconds a model-step, over 32 runs in blocks as a sweep trains them."""
    width = block_width(run, CPU_WIDTH, len(load_material(DATA).vocabulary))
    data = training_data(DATA, run.block_size)
    runs = tuple(replace(run, seed=seed) for seed in range(N_MODELS))
    blocks = [start_block(runs[i : i + width], DATA, width) for i in range(0, N_MODELS, width)]

    def train() -> None:
        for block in blocks:
            jax.block_until_ready(
                advance_block(block.states, block.varied, data, 0, n_steps, run.n_steps, block.program)
            )

    return seconds(train, n_steps * N_MODELS)


def reference_step_seconds(rounds: int = 5) -> float:
    """The median seconds of a model-step of the reference run on this core."""
    step = our_step(REFERENCE, DRAWN_STEPS)
    step()
    return statistics.median(step() for _ in range(rounds))


def counting_rows() -> Iterator[Row]:
    """Exact losses and gradients over distinct contexts, against the lecture's pass over every window at once."""
    for block_size, target in ((3, 40.0), (8, 3.0)):
        naive, counted = _evaluations(block_size)
        what = f"all windows at once / distinct contexts: exact training loss, block {block_size}"
        yield Row.of_ratio(what, alternate(seconds(naive), _often(counted)), at_least=target)
    naive, counted = _gradients(REFERENCE.block_size)
    what = f"all windows at once / distinct contexts: full-batch gradient, block {REFERENCE.block_size}"
    yield Row.of_ratio(what, alternate(seconds(naive), _often(counted)), at_least=45.0)


def _often(work: Callable[[], object]) -> Callable[[], float]:
    """A contender too short to time alone."""

    def repeatedly() -> None:
        for _ in range(REPEATS):
            work()

    return seconds(repeatedly, REPEATS)


def _evaluations(block_size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    data, params = _model(block_size)
    assert isinstance(data.examples, EvaluationSet)
    examples = replace(data.examples, counts=data.examples.counts[:, :1], totals=data.examples.totals[:1])
    naive, counted = jax.jit(minibatch_loss), jax.jit(lambda params: exact_losses(params, examples))
    return (
        lambda: jax.block_until_ready(naive(params, data.contexts, data.targets)),
        lambda: jax.block_until_ready(counted(params)),
    )


def _gradients(block_size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    data, params = _model(block_size)
    examples = data.examples
    assert isinstance(examples, EvaluationSet)
    naive = jax.jit(minibatch_loss_and_grad)
    counted = jax.jit(lambda params: full_batch_loss_and_grad(params, examples))
    return (
        lambda: jax.block_until_ready(naive(params, data.contexts, data.targets)),
        lambda: jax.block_until_ready(counted(params)),
    )


def _model(block_size: int) -> tuple[TrainingData, Params]:
    block = start_block((replace(REFERENCE, block_size=block_size),), DATA, 1)
    return training_data(DATA, block_size), jax.tree.map(lambda leaf: leaf[0], block.states.params)
