"""A stored run as a model that can be called."""

import jax
import jax.numpy as jnp

from experiments.findings.analysis import Row
from experiments.material import Material, TextMaterial
from experiments.record import run_of
from experiments.running.cohort import load_params, training_data
from experiments.store import Store
from mlp_lm.evaluation import population_moments
from mlp_lm.model import Moments, Params

jitted_moments = jax.jit(population_moments)


def load_model(store: Store, row: Row, material: Material | TextMaterial) -> tuple[Params, tuple[Moments, ...]]:
    """A run's weights, and its batch-norm moments over the training split (none without batch norm)."""
    run = run_of(row)
    params = jax.tree.map(jnp.asarray, load_params(store, row, run, len(material.vocabulary)))
    if not params.norms:
        return params, ()
    return params, jitted_moments(params, training_data(material.source, run.block_size).examples)
