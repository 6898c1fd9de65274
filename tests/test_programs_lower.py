"""Every compiled program can be lowered for GPUs and TPUs, on a machine that has neither.

Nothing is run or compiled here: tracing sees the shapes, and lowering every operation.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_lm.config import BFLOAT16, LARGE_VOCABULARY, RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.diagnostics import diagnose, make_widths
from mlp_lm.evaluation import EvaluationWindows, population_moments
from mlp_lm.initializers import init_params
from mlp_lm.padding import stack_runs
from mlp_lm.sampling import sample_ids
from mlp_lm.schemes import SCHEMES
from mlp_lm.training import advance_batch, evaluate_batch, init_batch, training_data

PLATFORMS = ("cuda", "tpu")
N_RUNS = 3
ONE_LAYER = RunConfig(hidden_size=12, embedding_dim=3, batch_size=7)
CONFIGS = {
    "one hidden layer": ONE_LAYER,
    "two layers with batch norm": replace(ONE_LAYER, n_layers=2, batch_norm=True),
    "dropout and Adam": replace(ONE_LAYER, dropout=0.5, input_dropout=0.2, token_noise=0.1, optimizer="adam"),
    "a rate for each kind of matrix": replace(ONE_LAYER, parametrization="mup", weight_decay=0.1, n_layers=2),
    "full batch": replace(ONE_LAYER, batch_size=0),
    "blockwise softmax": replace(ONE_LAYER, precision=BFLOAT16),
    "everything else": replace(
        ONE_LAYER, direct=True, shuffle=True, schedule="plateau", warmup=0.1, momentum=0.9, weight_decay=0.1,
        clip_norm=1.0, weight_average=0.9, early_stopping=True,
    ),
}  # fmt: skip
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Have `mlp_lm.training` trace what it would on an accelerator, not a processor's hand-arranged gradient."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("lower") / "names.txt"
    path.write_text("\n".join(load_dataset().parts["train"][:120]))
    return load_dataset(str(path))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A running text of a vocabulary so large that its softmax is computed in blocks."""
    path = tmp_path_factory.mktemp("lower") / "text.txt"
    words = [f"word{i} ." for i in range(LARGE_VOCABULARY)]
    path.write_text(" ".join(words * 5))  # Often enough that none is rare.
    return load_dataset(str(path), tokens="words", vocabulary="closed")


def lower(function, *arguments, **static) -> str:
    """The program of a jitted function for every platform, as StableHLO."""
    exported = jax.export.export(function, platforms=PLATFORMS)(*arguments, **static)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def shapes_of_params(config, dataset, n_runs):
    """The shapes of the weights of several runs at the widths of their program."""
    architecture = config.program().architecture(len(dataset.vocabulary))
    draw = jax.vmap(lambda key: init_params(key, SCHEMES[config.init], architecture))
    return jax.eval_shape(draw, jax.random.split(jax.random.key(0), n_runs))


def shapes_of_batch(config, dataset, n_runs=N_RUNS):
    """The shapes of the states of several runs, their numbers, and their data."""
    dataset.check(config)
    numbers = stack_runs([replace(config, seed=seed).numbers() for seed in range(n_runs)])
    start = partial(init_batch, program=config.program())
    states = jax.eval_shape(start, shapes_of_params(config, dataset, n_runs), numbers)
    return states, numbers, training_data(dataset, config.block_size)


def lower_training(config, dataset, n_runs=N_RUNS) -> str:
    """Drawing minibatches, and the steps that take them."""

    def advance(states, numbers, data):
        return advance_batch(states, numbers, data, 0, 5, config.n_steps, config.program())

    return lower(jax.jit(advance), *shapes_of_batch(config, dataset, n_runs))


@each_config
def test_a_run_can_start(config, names):
    numbers = stack_runs([config.numbers()] * N_RUNS)
    lower(init_batch, shapes_of_params(config, names, N_RUNS), numbers, program=config.program())


@each_config
def test_steps_are_taken(config, names):
    lower_training(config, names)


def test_steps_are_those_of_an_accelerator(names, monkeypatch):
    # Runs of different numbers, because what was traced before would be used again.
    assert "optimization_barrier" not in lower_training(ONE_LAYER, names, n_runs=5)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert "optimization_barrier" in lower_training(ONE_LAYER, names, n_runs=6)


def test_steps_are_taken_on_words(text):
    assert len(text.vocabulary) > LARGE_VOCABULARY
    lower_training(ONE_LAYER, text)


@each_config
def test_distinct_contexts_are_evaluated(config, names):
    states, _, data = shapes_of_batch(config, names)
    lower(evaluate_batch, states, data, program=config.program())


def test_windows_are_evaluated(text):
    states, _, data = shapes_of_batch(ONE_LAYER, text)
    assert isinstance(data.examples, EvaluationWindows)
    lower(evaluate_batch, states, data, program=ONE_LAYER.program())


@each_config
def test_runs_are_diagnosed(config, names):
    states, numbers, data = shapes_of_batch(config, names)
    widths = stack_runs([make_widths(config.architecture(len(names.vocabulary)))] * N_RUNS)
    mapped = jax.vmap(partial(diagnose, program=config.program()), in_axes=(0, 0, 0, None, None, None))
    lower(jax.jit(mapped), states, numbers, widths, data, 5, config.n_steps)


@pytest.mark.parametrize("config", [ONE_LAYER, CONFIGS["two layers with batch norm"]], ids=["plain", "batch norm"])
def test_words_are_drawn(config, names):
    stacked = shapes_of_params(config, names, 1)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)
    moments = jax.eval_shape(population_moments, params, training_data(names, config.block_size).examples)
    lower(sample_ids, params, moments, jax.random.key(0), jnp.float32(1), n=4, block_size=config.block_size)


def test_sentences_are_drawn_from_where_they_start(text):
    stacked = shapes_of_params(ONE_LAYER, text, 1)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)
    start = np.zeros((4, ONE_LAYER.block_size), np.int32)
    lower(sample_ids, params, (), jax.random.key(0), jnp.float32(1), n=4, block_size=3, start=start)
