"""Rows of an accelerator: steps over the number of runs side by side, and what surrounds them, in some minutes."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import peers
from experiments.benchmark.processes import run_probe, sweep_seconds
from experiments.benchmark.processor import (
    COMPILED_STEPS,
    EAGER_STEPS,
    N_MODELS,
    REFERENCE,
    WORD_BATCH,
    WORD_STEPS,
    bfloat16_loss_and_grad,
    word_steps,
)
from experiments.benchmark.rounds import Row, alternate, median_seconds, seconds
from experiments.runner.devices import use_device
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Dataset
from mlp_lm.loss import minibatch_loss_and_grad
from mlp_lm.training import RunBatch, advance_batch, evaluate_batch

CELLS = (
    ("hidden 200, batch 32", REFERENCE),
    ("hidden 64, batch 32", replace(REFERENCE, hidden_size=64)),
    ("hidden 200, batch 256", replace(REFERENCE, batch_size=256)),
)
TARGET_RUNS, TARGET_MICROSECONDS = 1024, 0.35  # Memory traffic alone takes 0.17 on an H100.
TOLERANCE = 1e-4  # Nats per token, of a dev loss after `processes.COMPARED_STEPS` steps.
DISTINCT = 4  # Runs that are drawn; the others side by side are copies, which take as long.


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    n_runs: tuple[int, ...] = (64, 256, 1024, 4096, 16_384)
    n_steps: int = 250
    rounds: int = 5
    trainings: int = 1_000
    training_steps: int = 20_000


def accelerator_rows(dataset: Dataset, device: str = "gpu", scale: Scale = Scale()) -> Iterator[Row]:
    """All rows; those of other processes come first, because this one then keeps the accelerator's memory."""
    yield equality_row(device)
    what = f"{scale.trainings:,} trainings of {scale.training_steps:,} steps, command to report"
    elapsed = sweep_seconds(scale.trainings, scale.training_steps, device)
    each = f"{elapsed / (scale.trainings * scale.training_steps) * 1e6:.3g} µs a model-step, everything included"
    yield Row.stated(what, elapsed, "s", each)
    use_device(device)
    for name, config in CELLS:
        for n_runs in scale.n_runs:
            yield step_row(name, config, dataset, n_runs, scale)
    yield from surrounding_rows(dataset, scale)
    yield word_row(scale)
    yield from peer_rows(dataset, device, scale)


def equality_row(device: str) -> Row:
    """How far the accelerator's losses are from the processor's."""
    here, there = (np.array(run_probe("losses", where)) for where in ("cpu", device))
    what = "largest difference of a dev loss from the processor's"
    detail = f"of {len(here)} varied runs with losses of {here.min():.4f} to {here.max():.4f}"
    return Row.at_most(what, float(np.abs(here - there).max()), "nats per token", TOLERANCE, detail)


def step_row(name: str, config: RunConfig, dataset: Dataset, n_runs: int, scale: Scale) -> Row:
    """Microseconds a model-step, with so many runs side by side."""
    what = f"a model-step, {name}, {n_runs:,} runs side by side"
    try:
        timed = steps_of(side_by_side(config, dataset, n_runs), n_runs, scale.n_steps)
        step = 1e6 * median_seconds(timed, scale.rounds)
    except jax.errors.JaxRuntimeError as error:
        return Row.missing(what, "stated", str(error).splitlines()[0][:80])
    if config == REFERENCE and n_runs >= TARGET_RUNS:
        return Row.at_most(what, step, "µs", TARGET_MICROSECONDS)
    return Row.stated(what, step, "µs")


def surrounding_rows(dataset: Dataset, scale: Scale) -> Iterator[Row]:
    """Compilation, exact evaluation, and memory, at the middle number of runs."""
    n_runs = scale.n_runs[len(scale.n_runs) // 2]
    new = replace(REFERENCE, hidden_size=REFERENCE.hidden_size + 1)
    start = time.perf_counter()
    batch = side_by_side(new, dataset, n_runs)
    train = steps_of(batch, 1, scale.n_steps)
    evaluate = seconds(lambda: jax.block_until_ready(evaluate_batch(batch.states, batch.data, batch.program)))
    train(), evaluate()
    first = time.perf_counter() - start
    evaluating = [evaluate() for _ in range(scale.rounds)]
    compiling = first - train() - statistics.median(evaluating)
    yield Row.stated("draw and compile a new shape", compiling, "s", f"{n_runs:,} runs side by side")
    what = "exact losses of a run, train and dev, block 3"
    yield Row.stated(what, 1e6 * statistics.median(evaluating) / n_runs, "µs", f"{n_runs:,} runs side by side")
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    what = "peak memory of all the above"
    if peak is None:
        yield Row.missing(what, "stated", "this device does not tell")
    else:
        yield Row.stated(what, peak / 2**20, "MiB", f"{max(scale.n_runs):,} runs side by side at most")


def word_row(scale: Scale) -> Row:
    """A step of 14,114 words, and how it compares with the plain softmax."""
    plain, blockwise = word_steps(minibatch_loss_and_grad), word_steps(bfloat16_loss_and_grad)
    ratio = alternate(seconds(plain, WORD_STEPS), seconds(blockwise, WORD_STEPS), scale.rounds)
    detail = f"block by block in bfloat16; plain in float32 takes {ratio.median:.2f} times as long"
    return Row.stated(f"a step of {WORD_BATCH} words, MLP9", 1e3 * ratio.denominator, "ms", detail)


def peer_rows(dataset: Dataset, device: str, scale: Scale) -> Iterator[Row]:
    """PyTorch on the same device: the lecture's loop, the same captured as a graph, and a compiled vmapped step."""
    windows, vocab_size = dataset.windows("train", REFERENCE.block_size), len(dataset.vocabulary)
    torch_device = "cuda" if device == "gpu" else device
    contenders = {
        "PyTorch's eager loop, a step": (partial(peers.lecture_loop, REFERENCE, windows, vocab_size, torch_device), 1),
        "PyTorch's step as a CUDA graph": (partial(peers.graphed_loop, REFERENCE, windows, vocab_size), 1),
        f"torch.compile of a vmapped step over {N_MODELS} models, a model-step": (
            partial(peers.compiled_step, REFERENCE, windows, vocab_size, N_MODELS, torch_device),
            N_MODELS,
        ),
    }
    for what, (make, n_models) in contenders.items():
        yield peer_row(what, make, n_models, torch_device, scale)


def peer_row(what: str, make: Callable, n_models: int, torch_device: str, scale: Scale) -> Row:
    """Microseconds a model-step of PyTorch; where it is not installed, or not for this device, the row says so."""
    if not peers.has_torch(torch_device):
        return Row.missing(what, "stated", peers.NO_TORCH)
    n_steps = EAGER_STEPS if n_models == 1 else COMPILED_STEPS
    try:
        timed = seconds(partial(peers.finished, make(), torch_device, n_steps), n_steps * n_models)
        return Row.stated(what, 1e6 * median_seconds(timed, scale.rounds), "µs")
    except (RuntimeError, AssertionError) as error:  # The latter of a PyTorch built without CUDA.
        return Row.missing(what, "stated", str(error).splitlines()[0][:80])


def side_by_side(config: RunConfig, dataset: Dataset, n_runs: int) -> RunBatch:
    """So many runs in one program, of which only the first few are drawn."""
    batch = RunBatch.start([replace(config, seed=seed) for seed in range(DISTINCT)], dataset)
    rows = np.arange(n_runs) % DISTINCT
    batch.numbers, batch.states = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], (batch.numbers, batch.states))
    return batch


def steps_of(batch: RunBatch, units: int, n_steps: int) -> Callable[[], float]:
    """Seconds a step of a batch, from its beginning every time, shared out over so many units."""

    def train() -> None:
        n = batch.configs[0].n_steps
        jax.block_until_ready(advance_batch(batch.states, batch.numbers, batch.data, 0, n_steps, n, batch.program))

    return seconds(train, n_steps * units)
