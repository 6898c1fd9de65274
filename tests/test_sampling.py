"""Words drawn from a model."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.results import open_sweep
from experiments.analysis.trained_models import Samples, read_samples
from experiments.sample import main as sample
from mlp_lm.config import Architecture
from mlp_lm.data.dataset import Dataset
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.initializers import draw_params
from mlp_lm.model import Dense, Moments, Params, forward
from mlp_lm.sampling import MAX_LENGTH, MAX_WORDS, check_draw, sample_from, sample_ids
from mlp_lm.schemes import SCHEMES

PARTS = {"train": ("ab",), "dev": ("a",), "test": ("b",)}
DATASET = Dataset("ab", "ab", "", Vocabulary.of(["ab"]), PARTS, False)


def constant_model(probabilities: list[float]) -> Params:
    """A model that gives these probabilities after every context: all weights zero, the output bias their log."""
    vocab = len(probabilities)
    return Params(
        embedding=jnp.zeros((vocab, 1)),
        hidden=(Dense(jnp.zeros((2, 3)), jnp.zeros(3)),),
        norms=(),
        output=Dense(jnp.zeros((3, vocab)), jnp.log(jnp.array(probabilities))),
        direct=None,
    )


def test_a_large_vocabulary_leaves_room_for_fewer():
    check_draw(MAX_WORDS, 0, 1.0, 27)
    check_draw(14_992, 0, 1.0, 17_905)
    with pytest.raises(ValueError, match="at most 14,992"):
        check_draw(14_993, 0, 1.0, 17_905)
    with pytest.raises(ValueError, match="at most 100,000"):
        check_draw(MAX_WORDS + 1, 0, 1.0, 27)


def test_words_have_the_model_s_probabilities():
    # Each token ends the word with probability 1/2, so lengths are geometric with mean 1, and a : b = 3 : 1.
    words = sample_from(constant_model([0.5, 0.375, 0.125]), (), DATASET, n=4000)
    lengths = np.array([len(word) for word in words])
    assert abs(lengths.mean() - 1.0) < 4 * np.sqrt(2 / 4000)
    text = "".join(words)
    assert abs(text.count("a") / len(text) - 0.75) < 4 * np.sqrt(0.75 * 0.25 / len(text))


def test_a_temperature_divides_the_logits():
    # At temperature 1/2 probabilities are squared: 0.5, 0.375, 0.125 become 16 : 9 : 1.
    words = sample_from(constant_model([0.5, 0.375, 0.125]), (), DATASET, n=4000, temperature=0.5)
    text = "".join(words)
    assert abs(text.count("b") / len(text) - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(text))


def test_words_agree_with_drawing_them_one_token_at_a_time():
    architecture = Architecture(vocab_size=3, block_size=2, embedding_dim=2, hidden_size=4, batch_norm=True)
    params = jax.tree.map(jnp.asarray, draw_params(0, SCHEMES["normal"], architecture))
    moments = (Moments(jnp.full(4, 0.3), jnp.full(4, 2.0)),)
    key = jax.random.key(7)
    drawn = np.asarray(sample_ids(params, moments, key, jnp.float32(0.7), 5, 2))
    for i in range(5):
        word, context = [], [0, 0]
        for t in range(MAX_LENGTH):
            logits = forward(params, jnp.array([context], jnp.int32), moments).logits[0] / 0.7
            token = int(jax.random.categorical(jax.random.fold_in(jax.random.fold_in(key, i), t), logits))
            word, context = [*word, token], [context[1], token]
            if token == 0:
                break
        assert drawn[i, : len(word)].tolist() == word
        assert not drawn[i, len(word) :].any()


def test_more_words_begin_with_the_fewer():
    model = constant_model([0.2, 0.4, 0.4])
    assert sample_from(model, (), DATASET, n=30)[:7] == sample_from(model, (), DATASET, n=7)
    assert sample_from(model, (), DATASET, n=7) != sample_from(model, (), DATASET, n=7, seed=1)


def test_a_word_that_never_ends_is_cut():
    assert sample_from(constant_model([0.0, 1.0, 0.0]), (), DATASET, n=1) == ["a" * MAX_LENGTH]


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"n": 10**9}, {"seed": -1}, {"temperature": 0.0}, {"temperature": 1e-40}, {"temperature": float("nan")}],
)
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sample_from(constant_model([0.5, 0.25, 0.25]), (), DATASET, **wrong)


def test_new_words_and_duplicates_are_counted():
    samples = Samples("0" * 16, 0, 1.0, ["ann", "bob", "ann", "ann"], [False, True, False, False])
    assert (samples.n_new, samples.n_duplicates) == (1, 2)


@pytest.fixture
def folder(normed_folder) -> Path:
    return normed_folder


def test_the_command_prints_words_of_the_best_run_and_how_many_are_new(folder, capsys):
    assert sample([str(folder), "--n", "5"]) == 0
    *words, blank, summary = capsys.readouterr().out.splitlines()
    best = open_sweep(folder).best["run_id"]
    assert len(words) == 5 and blank == ""
    assert best in summary and "of 5 words are not in the training part" in summary


def test_a_run_may_be_named_by_the_beginning_of_its_id_and_kept(folder, capsys):
    row = open_sweep(folder).rows[-1]
    assert sample([str(folder), "--run", row["run_id"][:9], "--n", "3", "--seed", "5", "--keep"]) == 0
    kept = read_samples(folder)[row["run_id"]]
    assert kept.seed == 5
    assert capsys.readouterr().out.splitlines()[:3] == kept.words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no sweep's folder"),
        (["--run", "zzz"], "no run 'zzz'"),
        (["--temperature", "0"], "temperature"),
        (["--runn", "1"], "--run"),
    ],
)
def test_a_mistake_is_one_line(folder, capsys, arguments, message):
    assert sample([*([] if arguments[0] == "nowhere" else [str(folder)]), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
