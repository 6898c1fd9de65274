"""The embeddings that a sweep keeps of its small runs, evaluation by evaluation."""

import numpy as np

from experiments.analysis.results import open_sweep
from experiments.report.build import page_data, read_report
from experiments.runner.rows import config_of, tracks_embedding
from mlp_lm.config import Architecture, RunConfig
from mlp_lm.initializers import draw_params
from mlp_lm.schemes import SCHEMES
from tests.cli import FEW_WORDS, sweep_here


def test_one_seed_of_small_embeddings_is_tracked():
    assert tracks_embedding(RunConfig(embedding_dim=3), 27)
    assert not tracks_embedding(RunConfig(embedding_dim=3, seed=1), 27)
    assert not tracks_embedding(RunConfig(embedding_dim=10), 27)


def test_the_history_begins_at_the_initial_weights_and_ends_at_the_stored_ones(tmp_path):
    assert sweep_here("smoke", "--data", str(FEW_WORDS), "--out", str(tmp_path), "--hidden-size", "8").code == 0
    results = open_sweep(tmp_path)
    rows = {row["seed"]: row for row in results.rows}
    assert rows[1]["history_embedding"] is None
    history = np.array(rows[0]["history_embedding"], np.float32).reshape(3, 27, 2)
    run = config_of(rows[0])
    first = draw_params(0, SCHEMES[run.init], Architecture(27, run.block_size, 2, 8)).embedding
    np.testing.assert_array_equal(history[0], first)
    np.testing.assert_array_equal(history[-1], results.store.weights(rows[0])["embedding"][:, :2])
    data = page_data(read_report(tmp_path))
    place = data["runs"]["id"].index(rows[0]["run_id"])
    assert data["embeddings"][place]["steps"] == [0, 100, 200]
    np.testing.assert_allclose(data["embeddings"][place]["x"][1], history[1, :, 0], atol=6e-4)
