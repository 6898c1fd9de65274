"""Train one cohort: the run batches of `mlp_lm.training`, in stretches short enough to interrupt, with checkpoints."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runner.plan import Cohort
from experiments.runner.protocol import Hooks, Stopped
from experiments.runner.rows import SCHEMA, Row, make_row, processor, tracks_embedding
from experiments.store import Checkpoint, Store
from mlp_lm.data.dataset import Dataset
from mlp_lm.diagnostics import diagnose_runs
from mlp_lm.history import History
from mlp_lm.model import Params
from mlp_lm.padding import share_out, stack_runs, take_run
from mlp_lm.settings import pinned_settings
from mlp_lm.training import RunBatch, next_stretch
from mlp_lm.weights import from_tensors, to_tensors

FIRST_STRETCH = 250  # Steps, until the speed is known.
CHECKPOINT_SECONDS = 5.0


@dataclass
class CohortState:
    """A cohort in progress: the rows and weights of its finished runs, and the batch that trains now."""

    rows: list[Row] = field(default_factory=list)
    params: list[Params] = field(default_factory=list)
    batch: RunBatch | None = None
    stretch: int = FIRST_STRETCH
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def model_steps(self) -> int:
        """Steps trained so far, over all runs."""
        training = self.batch.step * len(self.batch.configs) if self.batch else 0
        return training + sum(row["n_steps"] for row in self.rows)


def train_cohort(cohort: Cohort, dataset: Dataset, store: Store, hooks: Hooks | None = None) -> list[Row]:
    """Train the runs of a cohort, store them, and return their rows. Goes on from a checkpoint where there is one.

    Raises:
        Stopped: `hooks.should_stop` said so.
        ValueError: the data are not those that the runs were planned for.
    """
    if cohort.runs[0].data_hash not in ("", dataset.sha256):
        raise ValueError(f"{dataset.name} has changed since the sweep was planned: bring it back or start anew")
    with pinned_settings():
        return _train_cohort(cohort, dataset, store, hooks or Hooks())


def _train_cohort(cohort: Cohort, dataset: Dataset, store: Store, hooks: Hooks) -> list[Row]:
    size = fit_batch(cohort.batch_size, len(cohort.runs))
    progress = _resume(cohort, dataset, store, size)
    hooks.on_resume(progress.model_steps)
    while len(progress.rows) < len(cohort.runs):
        first = len(progress.rows)
        progress.batch = progress.batch or RunBatch.start(cohort.runs[first : first + size], dataset, size)
        for model_steps in train_batch(progress):
            hooks.on_steps(model_steps)
            stopping = hooks.should_stop()
            if stopping or time.monotonic() - progress.saved_at > CHECKPOINT_SECONDS:
                _save(cohort, progress, store)
            if stopping:
                raise Stopped
        batch, device = progress.batch, device_name()
        for config, params, history in zip(batch.configs, batch.trained_params(), batch.histories, strict=True):
            n_params = config.architecture(len(dataset.vocabulary)).n_params
            progress.rows.append(make_row(config, n_params, history, dataset.source, device))
            progress.params.append(params)
        progress.batch = None
    store.write(cohort.cohort_id, progress.rows, to_tensors(stack_runs(progress.params)), SCHEMA)
    return progress.rows


def train_batch(progress: CohortState) -> Iterator[int]:
    """Train a batch to its end, yielding the model-steps done after every stretch."""
    batch = progress.batch
    assert batch is not None
    n_runs, evaluations = len(batch.configs), batch.configs[0].evaluation_steps
    for target in evaluations[len(batch.histories[0].step) :]:
        while batch.step < target:
            start, before = time.monotonic(), batch.step
            batch.advance(min(target, before + progress.stretch))
            steps, seconds = batch.step - before, time.monotonic() - start
            for history in batch.histories:
                history.wall_seconds += seconds / n_runs
            progress.stretch = next_stretch(steps, seconds)
            yield steps * n_runs
        start = time.monotonic()
        batch.evaluate()
        statistics = diagnose_runs(batch) if batch.configs[0].diagnostics else None
        for i, (config, history) in enumerate(zip(batch.configs, batch.histories, strict=True)):
            if statistics:
                history.add_diagnostics({name: values[i] for name, values in statistics.items()})
            if tracks_embedding(config, len(batch.dataset.vocabulary)):
                table = np.asarray(batch.states.model.embedding[i])[:, : config.embedding_dim]
                history.embedding.append(table.ravel().tolist())
            history.wall_seconds += (time.monotonic() - start) / n_runs


def fit_batch(size: int, n_runs: int) -> int:
    """Runs to a batch of a cohort: a processor's fixed number, or no more than there are, in equal shares."""
    n = len(jax.local_devices())
    if jax.default_backend() == "cpu" and n == 1:
        return size
    return -(-min(size, n_runs) // n) * n


def device_name() -> str:
    """What trains here, for a row's provenance."""
    device = jax.devices()[0]
    return processor() if device.platform == "cpu" else device.device_kind


def _save(cohort: Cohort, progress: CohortState, store: Store) -> None:
    batch = progress.batch
    assert batch is not None
    tensors = {f"state.{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(batch.states))}
    if progress.params:
        tensors |= {f"finished.{k}": v for k, v in to_tensors(stack_runs(progress.params)).items()}
    metadata: dict[str, Any] = {
        "run_ids": [run.run_id for run in cohort.runs],
        "rows": progress.rows,
        "step": batch.step,
        "segment": progress.stretch,
        "histories": [asdict(history) for history in batch.histories],
    }
    store.save_checkpoint(cohort.cohort_id, tensors, metadata)
    progress.saved_at = time.monotonic()


def _resume(cohort: Cohort, dataset: Dataset, store: Store, size: int) -> CohortState:
    checkpoint = store.load_checkpoint(cohort.cohort_id)
    try:
        return CohortState() if checkpoint is None else _restored(checkpoint, cohort, dataset, size)
    except (KeyError, TypeError, ValueError, AttributeError):  # Of an older program, whose state is another.
        return CohortState()


def _restored(checkpoint: Checkpoint, cohort: Cohort, dataset: Dataset, size: int) -> CohortState:
    rows = checkpoint.metadata["rows"]
    batch = RunBatch.start(cohort.runs[len(rows) : len(rows) + size], dataset, size)
    leaves, structure = jax.tree.flatten(batch.states)
    saved = [checkpoint.tensors[f"state.{i}"] for i in range(len(leaves))]
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(tensor.shape, tensor.dtype) for tensor in saved]:
        raise ValueError("a checkpoint of another batch size or another program")
    batch.states = share_out(jax.tree.unflatten(structure, [jnp.asarray(tensor) for tensor in saved]))
    batch.step = int(checkpoint.metadata["step"])
    batch.histories = [History(**saved_history) for saved_history in checkpoint.metadata["histories"]]
    finished = {k.removeprefix("finished."): v for k, v in checkpoint.tensors.items() if k.startswith("finished.")}
    activation = cohort.runs[0].activation
    params = [take_run(from_tensors(finished, activation), i) for i in range(len(rows))]
    return CohortState(rows, params, batch, int(checkpoint.metadata["segment"]))
