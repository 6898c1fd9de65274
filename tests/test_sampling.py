"""Words drawn from a model."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.ensembles import log_linear_mixture
from experiments.analysis.results import open_sweep
from experiments.analysis.trained_models import Samples, draw_samples_together, new_word_lists, read_samples
from experiments.sample import main as sample
from mlp_lm.config import Architecture
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.texts import RARE_TOKEN
from mlp_lm.data.vocabulary import BOUNDARY, Vocabulary
from mlp_lm.initializers import draw_params
from mlp_lm.mixtures import log_average
from mlp_lm.model import Dense, Moments, Params, forward
from mlp_lm.sampling import MAX_LENGTH, sample_from, sample_from_mixture, sample_ids
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
    model = constant_model([0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="at most 100,000"):
        sample_from(model, (), DATASET, n=100_001)
    large = Dataset("large", "large", "", Vocabulary((BOUNDARY, *map(str, range(17_904)))), PARTS, False)
    with pytest.raises(ValueError, match="at most 14,992"):
        sample_from(model, (), large, n=14_993)


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


TWO_MODELS = [(constant_model([0.5, 0.5, 0.0]), ()), (constant_model([0.5, 0.0, 0.5]), ())]


def test_words_of_an_average_have_its_probabilities():
    # Each model alone knows one letter; together half of the letters are of each.
    words = sample_from_mixture(log_average(TWO_MODELS), DATASET, 2, n=4000)
    lengths = np.array([len(word) for word in words])
    assert abs(lengths.mean() - 1.0) < 4 * np.sqrt(2 / 4000)
    text = "".join(words)
    assert abs(text.count("a") / len(text) - 0.5) < 4 * np.sqrt(0.25 / len(text))


def test_words_of_a_mixture_follow_their_contexts():
    # After nothing or b comes a; after a comes b or, as often, the end: words are (ab)*a, and half of them a alone.
    after = np.log(np.array([[1e-300, 1, 1e-300], [0.5, 1e-300, 0.5], [1e-300, 1, 1e-300]]))
    words = sample_from_mixture(lambda contexts: after[contexts[:, -1]], DATASET, 2, n=4000, seed=3)
    assert all(word == "ab" * (len(word) // 2) + "a" for word in words)
    assert abs(np.mean([word == "a" for word in words]) - 0.5) < 4 * np.sqrt(0.25 / 4000)
    # A temperature of 2 takes the root of each, and log-probabilities need not be normalised.
    warm = sample_from_mixture(
        lambda contexts: 2 * after[contexts[:, -1]] + 7, DATASET, 2, n=4000, seed=3, temperature=2
    )
    assert warm == words


def test_more_words_of_a_mixture_begin_with_the_fewer():
    average = log_average(TWO_MODELS)
    many = sample_from_mixture(average, DATASET, 2, n=20_005)
    assert many[:7] == sample_from_mixture(average, DATASET, 2, n=7)
    assert many[20_000:] == sample_from_mixture(average, DATASET, 2, n=20_001)[20_000:] + many[20_001:]
    assert many[:7] != sample_from_mixture(average, DATASET, 2, n=7, seed=1)
    assert many[:10_000] != many[10_000:20_000]


def test_sentences_of_a_mixture_begin_where_some_do_in_the_text():
    parts = dict.fromkeys(PARTS, (("a", "b", BOUNDARY, "b", BOUNDARY),))
    text = Dataset("t", "t", "", Vocabulary((BOUNDARY, RARE_TOKEN, "a", "b")), parts, True)
    beginnings = set()

    def end_at_once(contexts):
        beginnings.update(map(tuple, contexts.tolist()))
        return np.log(np.tile([1.0, 1e-300, 1e-300, 1e-300], (len(contexts), 1)))

    assert sample_from_mixture(end_at_once, text, 2, n=50) == [BOUNDARY] * 50
    assert beginnings == {(0, 0), (3, 0)}  # The beginning of the text, and after "b .".


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"n": 10**9}, {"seed": -1}, {"temperature": 0.0}, {"temperature": 1e-40}, {"temperature": float("nan")}],
)
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sample_from(constant_model([0.5, 0.25, 0.25]), (), DATASET, **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sample_from_mixture(log_average(TWO_MODELS), DATASET, 2, **wrong)


def test_new_words_and_duplicates_are_counted():
    samples = Samples("0" * 16, 0, 1.0, ["ann", "bob", "ann", "ann"], [False, True, False, False])
    assert (samples.n_new, samples.n_duplicates) == (1, 2)


@pytest.fixture
def folder(normed_folder) -> Path:
    return normed_folder


def test_the_command_prints_words_of_the_best_run_and_how_many_are_new(folder, capsys):
    assert sample([str(folder), "--n", "5"]) == 0
    listed, summary = capsys.readouterr().out.split("\n\n")
    words, summary = listed.splitlines(), " ".join(summary.split())
    best = open_sweep(folder).best["run_id"]
    assert len(words) == 5
    assert best in summary and "of 5 words are not in the training part" in summary


def test_a_run_may_be_named_by_the_beginning_of_its_id_and_kept(folder, capsys):
    row = open_sweep(folder).rows[-1]
    assert sample([str(folder), "--run", row["run_id"][:9], "--n", "3", "--seed", "5", "--keep"]) == 0
    kept = read_samples(folder)[row["run_id"]]
    assert kept.seed == 5
    assert capsys.readouterr().out.splitlines()[:3] == kept.words


def test_a_list_to_train_on_has_the_training_words_and_those_drawn(folder, tmp_path, capsys):
    results, out = open_sweep(folder), tmp_path / "student"
    assert sample([str(folder), "--top", "2", "--n", "300", "--out", str(out)]) == 0
    assert "the average of 2 runs" in capsys.readouterr().out
    student = load_dataset([str(out / f"{part}.txt") for part in PARTS])
    own = results.dataset.parts
    assert (student.parts["dev"], student.parts["test"]) == (own["dev"], own["test"])
    drawn = student.parts["train"][len(own["train"]) :]
    assert student.parts["train"] == own["train"] + drawn
    assert 200 < len(drawn) <= 300  # Without empty words.
    assert sample([str(folder), "--top", "2", "--n", "300"]) == 0
    printed = capsys.readouterr().out.splitlines()[:300]
    assert ["".join(word) for word in drawn] == [word for word in printed if word != "(the empty word)"]
    before = (out / "train.txt").read_bytes()
    assert sample([str(folder), "--top", "1", "--n", "5", "--out", str(out)]) == 2
    assert "train.txt is there already; give --out another folder" in capsys.readouterr().err
    assert (out / "train.txt").read_bytes() == before


def test_words_of_runs_with_count_models_are_drawn_from_what_ensemble_mixes(folder):
    results = open_sweep(folder)
    rows, orders = results.ranked(), (2, 4)
    samples = draw_samples_together(results, rows, orders, n=2000)
    mixture = log_linear_mixture(results, rows, orders)
    dev = results.dataset.windows("dev", 4)
    weights = mixture.fit(dev)
    first = mixture.mixed(weights)(np.zeros((1, 4), np.int32))[0]
    expected = np.exp(first - np.logaddexp.reduce(first))
    for letter in "aej":
        p = expected[results.dataset.vocabulary.ids[letter]]
        share = np.mean([word.startswith(letter) for word in samples.words])
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 2000)
    mixed = mixture.mixed(weights)(dev.contexts)
    losses = np.logaddexp.reduce(mixed, axis=1) - mixed[np.arange(len(dev)), dev.targets]
    np.testing.assert_allclose(losses, mixture.losses(dev, weights), atol=1e-5)


def test_no_list_of_words_is_written_of_a_text(tmp_path):
    results = SimpleNamespace(is_running_text=True, folder="a-folder")
    with pytest.raises(ValueError, match="a-folder is of running text"):
        new_word_lists(results, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top", "3"], "--top must be between 1 and 2, the runs with weights, got 3"),
        (["--top", "2", "--keep"], "leave out one of them"),
        (["--log-linear"], "give their number with --top"),
        (["--top", "2", "--log-linear", "13"], "--log-linear must be between 1 and 12, got 13"),
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
