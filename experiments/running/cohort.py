"""Train one cohort on this process's devices: blocks of runs, in segments short enough to interrupt."""

import functools
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.material import TextMaterial, load_data
from experiments.record import SCHEMA, History, make_row, processor, tracks_embedding
from experiments.running.devices import CPU_WIDTH, fit_block, share_out
from experiments.running.hooks import Hooks, Stopped
from experiments.running.plan import LARGE_VOCABULARY, Cohort, block_width, padded_widths
from experiments.spec import RunSpec
from experiments.store import Checkpoint, Store
from mlp_lm.diagnostics import diagnose_block, make_widths
from mlp_lm.evaluation import EvaluationSet, EvaluationWindows
from mlp_lm.gradients import can_arrange
from mlp_lm.initializers import SCHEMES, with_gain
from mlp_lm.model import Architecture, Params
from mlp_lm.padding import stack_runs, take_run, unpad_params
from mlp_lm.training import (
    Program,
    Run,
    TrainingData,
    TrainState,
    advance_block,
    draw_weights,
    evaluate_block,
    init_block,
    make_run,
)
from mlp_lm.weights import from_tensors, to_tensors
from mlp_lm.wide_softmax import FLOAT32

FIRST_SEGMENT = 250  # Steps, until the speed is known.
SEGMENT_SECONDS = 2.0  # Between two looks at whether to stop.
CHECKPOINT_SECONDS = 5.0


@dataclass
class Block:
    """Runs that train side by side, and how far they are. Rows past the last run are filled with copies of it."""

    runs: tuple[RunSpec, ...]
    program: Program
    varied: Run
    states: TrainState
    histories: list[History]
    step: int = 0
    segment: int = FIRST_SEGMENT


@dataclass
class Cursor:
    """A cohort in progress: what is finished, and the block at work."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    params: list[Params] = field(default_factory=list)
    block: Block | None = None
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def model_steps(self) -> int:
        """Steps trained so far, over all runs."""
        at_work = self.block.step * len(self.block.runs) if self.block else 0
        return at_work + sum(row["n_steps"] for row in self.rows)


def train_cohort(
    cohort: Cohort, data: str, store: Store, hooks: Hooks | None = None, widest: int = CPU_WIDTH
) -> list[dict[str, Any]]:
    """Train the runs of a cohort, store them, and return their rows. Goes on from a checkpoint where there is one.

    Raises:
        Stopped: `hooks.should_stop` said so.
    """
    hooks = hooks or Hooks()
    _check_data(cohort, data)
    vocab_size = len(load_data(data).vocabulary)
    width = fit_block(block_width(cohort.runs[0], widest, vocab_size), len(cohort.runs))
    cursor = _resume(cohort, data, store, width)
    hooks.on_resume(cursor.model_steps)
    while len(cursor.rows) < len(cohort.runs):
        first = len(cursor.rows)
        cursor.block = cursor.block or start_block(cohort.runs[first : first + width], data, width)
        for model_steps in train_block(cursor.block, data):
            hooks.on_steps(model_steps)
            stopping = hooks.should_stop()
            if stopping or time.monotonic() - cursor.saved_at > CHECKPOINT_SECONDS:
                _save(cohort, cursor, store)
            if stopping:
                raise Stopped
        _finish_block(cursor, data)
    store.write(cohort.cohort_id, cursor.rows, to_tensors(stack_runs(cursor.params)), SCHEMA)
    return cursor.rows


def _check_data(cohort: Cohort, data: str) -> None:
    """The data must still be what the runs were planned for: a file may have been edited since."""
    expected, found = cohort.runs[0].data_hash, load_data(data).sha256
    if expected not in ("", found):
        raise ValueError(f"{data} has changed since the sweep was planned: bring it back or start the sweep anew")


def start_block(runs: tuple[RunSpec, ...], data: str, width: int) -> Block:
    """A block of runs at step 0."""
    filled = (*runs, *[runs[-1]] * (width - len(runs)))
    vocab_size = len(load_data(data).vocabulary)
    program = program_of(runs[0], vocab_size)
    params = [
        draw_weights(
            run.seed, with_gain(SCHEMES[run.init], run.gain), architecture_of(run, vocab_size), program.architecture
        )
        for run in filled
    ]
    varied = stack_runs([_varied(run) for run in filled])
    states = init_block(stack_runs(params), varied, program)
    return Block(runs, program, *share_out((varied, states)), [History() for _ in runs])


def _varied(run: RunSpec) -> Run:
    names = ("learning_rate", "momentum", "weight_decay", "dropout", "input_dropout", "adam_epsilon")
    return make_run(run.seed, **{name: getattr(run, name) for name in names})


def train_block(block: Block, data: str):
    """Train a block to its end, yielding the model-steps done after every segment."""
    examples = training_data(data, block.runs[0].block_size)
    n_steps = block.runs[0].n_steps
    evaluations = block.runs[0].evaluation_steps
    for target in evaluations[len(block.histories[0].step) :]:
        while block.step < target:
            stop = min(target, block.step + block.segment)
            steps = stop - block.step
            block.segment = _next_segment(steps, _timed_advance(block, examples, stop, n_steps))
            block.step = stop  # Before the caller looks: it may save the block.
            yield steps * len(block.runs)
        _evaluate(block, examples, previous=max((s for s in evaluations if s < target), default=0))


def architecture_of(run: RunSpec, vocab_size: int) -> Architecture:
    """The sizes of a run's model."""
    return Architecture(
        vocab_size, run.block_size, run.embedding_dim, run.hidden_size, run.n_layers, run.batch_norm, run.direct
    )


def program_of(run: RunSpec, vocab_size: int) -> Program:
    """The compiled program that trains a run."""
    embedding_dim, hidden_size = padded_widths(run)
    wide = replace(architecture_of(run, vocab_size), embedding_dim=embedding_dim, hidden_size=hidden_size)
    blockwise = vocab_size > LARGE_VOCABULARY or run.precision != FLOAT32
    arranged = jax.default_backend() == "cpu" and run.batch_size > 0 and can_arrange(wide)
    return Program(
        wide,
        batch_size=run.batch_size,
        schedule=run.schedule,
        momentum=run.momentum > 0,
        weight_decay=run.weight_decay > 0,
        arranged=arranged and not blockwise and not run.drops,
        optimizer=run.optimizer,
        dropout=run.drops,
        early_stopping=run.early_stopping,
        shuffle=run.shuffle,
        wide=blockwise,
        precision=run.precision,
    )


@functools.lru_cache(maxsize=4)
def training_data(data: str, block_size: int) -> TrainingData:
    """Training windows on the device, and what losses of training, dev and unseen dev words (or text) are taken of."""
    material = load_data(data)
    train = material.windows("train", block_size)
    examples = (
        EvaluationWindows.of(*material.evaluated(block_size))
        if isinstance(material, TextMaterial)
        else EvaluationSet.of(material.counted(block_size))
    )
    return TrainingData(jnp.asarray(train.contexts), jnp.asarray(train.targets), examples)


def device_name() -> str:
    """What trains here, for a row's provenance."""
    device = jax.devices()[0]
    return processor() if device.platform == "cpu" else device.device_kind


def _timed_advance(block: Block, examples: TrainingData, stop: int, n_steps: int) -> float:
    start = time.monotonic()
    block.states = jax.block_until_ready(
        advance_block(block.states, block.varied, examples, block.step, stop, n_steps, block.program)
    )
    seconds = time.monotonic() - start
    for history in block.histories:
        history.wall_seconds += seconds / len(block.runs)
    return seconds


def _next_segment(steps: int, seconds: float) -> int:
    return max(1, min(10 * steps, math.ceil(steps * SEGMENT_SECONDS / max(seconds, 1e-6))))


def _evaluate(block: Block, examples: TrainingData, previous: int) -> None:
    start = time.monotonic()
    block.states, evaluation = evaluate_block(block.states, examples, block.program)
    evaluation = jax.device_get(evaluation)
    found = diagnose_runs(block, examples) if block.runs[0].diagnostics else None
    seconds = time.monotonic() - start
    for i, history in enumerate(block.histories):
        mean = evaluation.loss_sum[i] / (block.step - previous) if block.step else math.nan
        history.note(block.step, evaluation.losses[i], mean, evaluation.diverged_step[i])
        if found:
            history.note_diagnostics({name: values[i] for name, values in found.items()})
        if tracks_embedding(block.runs[i], block.program.architecture.vocab_size):
            table = np.asarray(block.states.params.embedding[i])[:, : block.runs[i].embedding_dim]
            history.embedding.append(table.ravel().tolist())
        history.wall_seconds += seconds / len(block.runs)


def diagnose_runs(block: Block, examples: TrainingData) -> dict[str, np.ndarray]:
    """Each diagnostic of a block's runs, `[run, layer or matrix]`."""
    filled = (*block.runs, *[block.runs[-1]] * (len(block.varied.seed) - len(block.runs)))
    vocab_size = block.program.architecture.vocab_size
    widths = stack_runs([make_widths(architecture_of(run, vocab_size)) for run in filled])
    n_steps = block.runs[0].n_steps
    found = diagnose_block(block.states, block.varied, widths, examples, block.step, n_steps, block.program)
    found = jax.device_get(found)
    return vars(found.layers) | vars(found.matrices)


def _finish_block(cursor: Cursor, data: str) -> None:
    block = cursor.block
    assert block is not None
    best = block.states.best
    params = jax.device_get(block.states.params if best is None else best.params)
    vocab_size = block.program.architecture.vocab_size
    for i, (run, history) in enumerate(zip(block.runs, block.histories, strict=True)):
        n_params = architecture_of(run, vocab_size).n_params
        cursor.rows.append(make_row(run, n_params, history, data, device_name()))
        cursor.params.append(take_run(params, i))
    cursor.block = None


def load_params(store: Store, row: dict[str, Any], run: RunSpec, vocab_size: int) -> Params:
    """The trained weights of a stored run, at its own widths."""
    return unpad_params(from_tensors(store.weights(row)), architecture_of(run, vocab_size))


def _save(cohort: Cohort, cursor: Cursor, store: Store) -> None:
    block = cursor.block
    assert block is not None
    tensors = {f"state.{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(block.states))}
    if cursor.params:
        tensors |= {f"finished.{k}": v for k, v in to_tensors(stack_runs(cursor.params)).items()}
    metadata = {
        "run_ids": [run.run_id for run in cohort.runs],
        "rows": cursor.rows,
        "step": block.step,
        "segment": block.segment,
        "histories": [asdict(history) for history in block.histories],
    }
    store.save_checkpoint(cohort.cohort_id, tensors, metadata)
    cursor.saved_at = time.monotonic()


def _resume(cohort: Cohort, data: str, store: Store, width: int) -> Cursor:
    checkpoint = store.load_checkpoint(cohort.cohort_id)
    try:
        return Cursor() if checkpoint is None else _cursor_of(checkpoint, cohort, data, width)
    except (KeyError, TypeError, ValueError, AttributeError):  # Of an older program: its state is not ours.
        return Cursor()


def _cursor_of(checkpoint: Checkpoint, cohort: Cohort, data: str, width: int) -> Cursor:
    rows = checkpoint.metadata["rows"]
    finished = {k.removeprefix("finished."): v for k, v in checkpoint.tensors.items() if k.startswith("finished.")}
    block = start_block(cohort.runs[len(rows) : len(rows) + width], data, width)
    _restore(block, checkpoint)
    return Cursor(rows, [take_run(from_tensors(finished), i) for i in range(len(rows))], block)


def _restore(block: Block, checkpoint: Checkpoint) -> None:
    leaves, structure = jax.tree.flatten(block.states)
    saved = [checkpoint.tensors[f"state.{i}"] for i in range(len(leaves))]
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(tensor.shape, tensor.dtype) for tensor in saved]:
        raise ValueError("a checkpoint of another block width or another program")
    block.states = share_out(jax.tree.unflatten(structure, [jnp.asarray(tensor) for tensor in saved]))
    block.step, block.segment = int(checkpoint.metadata["step"]), int(checkpoint.metadata["segment"])
    block.histories = [History(**told) for told in checkpoint.metadata["histories"]]
