"""Rows measured in this process, on one core: training steps, exact evaluation by counting, and words."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast

import jax
import numpy as np

from experiments.benchmark import peers
from experiments.benchmark.rounds import Row, alternate, format_duration, median_seconds, seconds
from mlp_lm.config import BFLOAT16, CPU_RUNS, Architecture, RunConfig, run_batch_size
from mlp_lm.data.dataset import SAMPLED_TRAINING, Dataset
from mlp_lm.evaluation import WINDOW_CHUNK, EvaluationSet, exact_losses, full_batch_loss_and_grad
from mlp_lm.initializers import init_params
from mlp_lm.large_vocabulary import blockwise_loss_and_grad, blockwise_window_losses, multiplies_bfloat16
from mlp_lm.loss import minibatch_loss, minibatch_loss_and_grad
from mlp_lm.minibatches import DRAWN_STEPS
from mlp_lm.padding import take_run
from mlp_lm.schemes import SCHEMES
from mlp_lm.training import RunBatch, advance_batch

REFERENCE = RunConfig()  # Hidden 200, embedding 10, block 3, batch 32.
EAGER_TARGETS = (
    (REFERENCE, 7.0),
    (replace(REFERENCE, hidden_size=64), 14.0),
    (replace(REFERENCE, batch_size=256), 3.1),
)
N_MODELS = 32
EAGER_STEPS, COMPILED_STEPS = 300, 20
COUNTED_REPEATS = 20  # An evaluation by counting is too short to time alone.

# The paper's MLP9 and MLP1 on the Brown corpus, with a training vocabulary of 14,114.
MLP9 = Architecture(vocab_size=14_114, block_size=4, embedding_dim=30, hidden_size=100)
MLP1 = replace(MLP9, embedding_dim=60, hidden_size=50, direct=True)
WORD_BATCH, WORD_STEPS = 512, 5
# What the modern recipe trains on and evaluates: three passes, and the exact losses before, half-way and at the end.
BROWN_WINDOWS, BROWN_DEV, BROWN_PASSES, BROWN_EVALUATIONS = 800_000, 200_000, 3, 3
EVALUATED_CHUNKS = 8  # Of WINDOW_CHUNK windows each, timed in place of all.
SIDE = 2048  # Of the square matrices whose product is taken for the processor's peak.


def step_rows(dataset: Dataset) -> Iterator[Row]:
    """A model's training step, ours against PyTorch's."""
    windows, vocab_size = dataset.windows("train", REFERENCE.block_size), len(dataset.vocabulary)
    for config, target in EAGER_TARGETS:
        what = f"PyTorch eager / ours, a model-step: hidden {config.hidden_size}, batch {config.batch_size}"
        if not peers.has_torch():
            yield Row.missing(what, f">= {target:g}", peers.NO_TORCH)
            continue
        eager = partial(peers.lecture_loop(config, windows, vocab_size), EAGER_STEPS)
        yield Row.of_ratio(what, alternate(seconds(eager, EAGER_STEPS), our_step(config, dataset)), at_least=target)
    what, target = f"torch.compile of a vmapped step over {N_MODELS} models / ours", 1.8
    if not peers.has_torch():
        yield Row.missing(what, f">= {target:g}", peers.NO_TORCH)
        return
    compiled = partial(peers.compiled_step(REFERENCE, windows, vocab_size, N_MODELS), COMPILED_STEPS)
    ratio = alternate(seconds(compiled, COMPILED_STEPS * N_MODELS), our_step(REFERENCE, dataset))
    yield Row.of_ratio(what, ratio, at_least=target)


def our_step(config: RunConfig, dataset: Dataset) -> Callable[[], float]:
    """Seconds a model-step, over 32 runs in batches as a sweep trains them."""
    size = run_batch_size(config, len(dataset.vocabulary), CPU_RUNS)
    return timed_steps(config, dataset, n_runs=N_MODELS, size=size, n_steps=DRAWN_STEPS)


def timed_steps(config: RunConfig, dataset: Dataset, n_runs: int, size: int, n_steps: int) -> Callable[[], float]:
    """Seconds a model-step, over `n_runs` runs, `size` of them side by side."""
    configs = [replace(config, seed=seed) for seed in range(n_runs)]
    batches = [RunBatch.start(configs[first : first + size], dataset, size) for first in range(0, n_runs, size)]

    def train() -> None:
        for batch in batches:  # From step 0 every time.
            states = advance_batch(batch.states, batch.numbers, batch.data, 0, n_steps, config.n_steps, batch.program)
            jax.block_until_ready(states)

    return seconds(train, n_steps * n_runs)


def reference_step_seconds(dataset: Dataset, rounds: int = 5) -> float:
    """The median seconds of a model-step of the reference run on this core."""
    return median_seconds(our_step(REFERENCE, dataset), rounds)


def order_rows(dataset: Dataset) -> Iterator[Row]:
    """What passing through all windows in every epoch adds to a small model's step."""
    small = replace(REFERENCE, hidden_size=64)
    ratio = alternate(our_step(replace(small, shuffle=True), dataset), our_step(small, dataset))
    detail = f"{format_duration(ratio.numerator)} with shuffle against {format_duration(ratio.denominator)}"
    extra = (ratio.numerator - ratio.denominator) * 1e6
    yield Row.at_most("what shuffle adds to a model-step: hidden 64, batch 32", extra, "µs", 3.0, detail)


def counting_rows(dataset: Dataset) -> Iterator[Row]:
    """Exact losses and gradients over distinct contexts, against the lecture's pass over every window at once."""
    for what, block_size, target in (
        ("exact training loss", 3, 40.0),
        ("exact training loss", 8, 3.0),
        ("full-batch gradient", REFERENCE.block_size, 45.0),
    ):
        batch = RunBatch.start([replace(REFERENCE, block_size=block_size)], dataset)
        data, params = batch.data, take_run(batch.states.params, 0)
        examples = cast(EvaluationSet, data.examples)
        if what == "full-batch gradient":
            naive, counted = jax.jit(minibatch_loss_and_grad), jax.jit(full_batch_loss_and_grad)
        else:
            naive, counted = jax.jit(minibatch_loss), jax.jit(exact_losses)
            examples = replace(examples, counts=examples.counts[:, :1], totals=examples.totals[:1])
        every_window = _ready(naive, params, data.contexts, data.targets)
        by_counting = _ready(counted, params, examples, times=COUNTED_REPEATS)
        ratio = alternate(seconds(every_window), seconds(by_counting, COUNTED_REPEATS))
        yield Row.of_ratio(f"all windows at once / distinct contexts: {what}, block {block_size}", ratio, target)


def word_rows() -> Iterator[Row]:
    """Loss and gradient at 14,114 words block by block, against plain and against the processor's fastest products."""
    plain, blockwise = word_steps(minibatch_loss_and_grad), word_steps(bfloat16_loss_and_grad)
    ratio = alternate(seconds(plain, WORD_STEPS), seconds(blockwise, WORD_STEPS))
    yield Row.of_ratio("softmax of 14,114 words, plain in float32 / block by block in bfloat16", ratio, at_least=1.5)
    direct = seconds(word_steps(bfloat16_loss_and_grad, MLP1), WORD_STEPS)
    step = median_seconds(direct)
    yield Row.at_most("a step of 512 words with direct connections (240 features)", step * 1e3, "ms", 80.0)
    yield evaluation_row(ratio.denominator)
    flops = 6 * WORD_BATCH * MLP9.hidden_size * MLP9.vocab_size
    for precision in ("float32", "bfloat16"):
        what = f"its products' share of the {precision} peak (a product of {SIDE} x {SIDE} matrices in PyTorch)"
        if not peers.has_torch():
            yield Row.missing(what, "stated", peers.NO_TORCH)
            continue
        if precision == BFLOAT16 and not multiplies_bfloat16():
            yield Row.missing(what, "stated", "this processor has no units for bfloat16")
            continue
        product = seconds(peers.square_product(SIDE, precision), 2 * SIDE**3)
        share = alternate(product, seconds(blockwise, WORD_STEPS * flops))
        ours, peak = 1e-9 / share.denominator, 1e-9 / share.numerator
        rates = f"{ours:.0f} of {peak:.0f} GFLOP/s, exponentials and updates included"
        yield Row.stated(what, share.median, "x", rates)


def evaluation_row(step_seconds: float) -> Row:
    """The share of evaluations in the training of MLP9 on Brown by the modern recipe."""
    params = init_params(jax.random.key(0), SCHEMES["bengio2003"], MLP9)
    contexts, targets = _random_windows(MLP9, EVALUATED_CHUNKS * WINDOW_CHUNK)
    chunks = contexts.reshape(-1, WINDOW_CHUNK, MLP9.block_size), targets.reshape(-1, WINDOW_CHUNK)
    losses = jax.jit(lambda params, chunks: jax.lax.map(lambda c: blockwise_window_losses(params, *c), chunks))
    timed = seconds(_ready(losses, params, chunks), len(targets))
    a_window = median_seconds(timed)
    evaluating = BROWN_EVALUATIONS * (BROWN_DEV + BROWN_WINDOWS // SAMPLED_TRAINING) * a_window
    training = BROWN_PASSES * BROWN_WINDOWS / WORD_BATCH * step_seconds
    detail = f"{evaluating:.0f} s beside {training:.0f} s of steps, from the time of one window and of one step"
    share = 100 * evaluating / (evaluating + training)
    return Row.at_most("share of evaluations in MLP9's training on Brown", share, "%", 5.0, detail)


def _ready(function: Callable, *arguments: object, times: int = 1) -> Callable[[], None]:
    """Calls of a function, each waited for."""

    def work() -> None:
        for _ in range(times):
            jax.block_until_ready(function(*arguments))

    return work


def bfloat16_loss_and_grad(params, contexts, targets):
    """Of a minibatch, block by block with factors of bfloat16."""
    return blockwise_loss_and_grad(params, contexts, targets, None, BFLOAT16)


def _random_windows(model: Architecture, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, model.vocab_size, (n, model.block_size), np.int32)
    return contexts, rng.integers(0, model.vocab_size, n, np.int32)


def word_steps(loss_and_grad: Callable, model: Architecture = MLP9) -> Callable[[], None]:
    """WORD_STEPS steps of plain gradient descent on random words."""
    params = init_params(jax.random.key(0), SCHEMES["bengio2003"], model)
    contexts, targets = _random_windows(model, WORD_BATCH)

    @jax.jit
    def several(params, contexts, targets):
        # One after another, so that each step's arrays lie where the last one's did, as in training.
        def step(_, params):
            _, grads = loss_and_grad(params, contexts, targets)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads)

        return jax.lax.fori_loop(0, WORD_STEPS, step, params)

    return _ready(several, params, contexts, targets)
