"""The embeddings that a sweep keeps of its small runs, evaluation by evaluation."""

import numpy as np

from experiments.analysis.results import open_sweep
from experiments.report.build import page_data, read_report
from experiments.runner.rows import config_of, tracks_embedding
from experiments.sweep import main as sweep
from mlp_lm.config import RunConfig
from mlp_lm.training import initial_params


def test_one_seed_of_small_embeddings_is_tracked():
    assert tracks_embedding(RunConfig(embedding_dim=3), 27)
    assert not tracks_embedding(RunConfig(embedding_dim=3, seed=1), 27)
    assert not tracks_embedding(RunConfig(embedding_dim=10), 27)


def test_the_history_begins_at_the_initial_weights_and_ends_at_the_stored_ones(tmp_path):
    assert sweep(["smoke", "--out", str(tmp_path), "--workers", "1", "--hidden-size", "8"]) == 0
    results = open_sweep(tmp_path)
    rows = {row["seed"]: row for row in results.rows}
    assert rows[1]["history_embedding"] is None
    history = np.array(rows[0]["history_embedding"], np.float32).reshape(3, 27, 2)
    first = initial_params(config_of(rows[0]), results.dataset).embedding
    np.testing.assert_array_equal(history[0], first[:, :2])
    np.testing.assert_array_equal(history[-1], results.store.weights(rows[0])["embedding"][:, :2])
    data = page_data(read_report(tmp_path))
    place = data["runs"]["id"].index(rows[0]["run_id"])
    assert data["embeddings"][place]["steps"] == [0, 100, 200]
    np.testing.assert_allclose(data["embeddings"][place]["x"][1], history[1, :, 0], atol=6e-4)
