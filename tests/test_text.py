"""Running text: reading, dividing, windows."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_lm.data.dataset import PARTS, SAMPLED_TRAINING, Dataset, load_dataset
from mlp_lm.data.texts import RARE_TOKEN, cut_text, read_text, small_text, tokenize, word_vocabulary
from mlp_lm.data.vocabulary import BOUNDARY, BOUNDARY_ID
from mlp_lm.ngram.counts import continuation_counts, count_ngrams
from mlp_lm.ngram.models import choose_discount, held_out_loss, kneser_ney
from tests.conftest import SHARED

needs_brown = pytest.mark.skipif(
    not SHARED, reason="the Brown corpus is not ours: set MLP_LM_SHARED_DATA to a folder that holds brown.zip"
)

TAGGED = "\n\n\tThe/at jury/nn said/vbd 1/2/cd of/in it/ppo ./.\n\n\n\tIt/pps ended/vbd ./.\n"
SENTENCE = ("The", "jury", "said", "1/2", "of", "it", ".", "It", "ended", ".")


def text_of(tokens, counted="training") -> Dataset:
    """These tokens, divided as `load_dataset` divides a text, however few they are."""
    parts = {"train": tokens[: int(0.7 * len(tokens))]}
    parts["dev"] = tokens[len(parts["train"]) : int(0.85 * len(tokens))]
    parts["test"] = tokens[int(0.85 * len(tokens)) :]
    if len(tokens) >= 1000:
        assert parts == cut_text(tokens, "a text")
    sequences = {part: (sequence,) for part, sequence in parts.items()}
    return Dataset("t", "t", "", word_vocabulary(parts, counted), sequences, True)


def write_brown(folder, n=150):
    """A folder as nltk unpacks it: tagged files, and others that are none of the corpus."""
    folder.mkdir()
    for i in range(n):
        (folder / f"c{'ab'[i % 2]}{i // 2:02d}").write_text(TAGGED)
    for name in ("README", "CONTENTS", "cats.txt"):
        (folder / name).write_text("not/nn text/nn")
    return folder


def test_the_brown_corpus_reads_the_same_packed_and_unpacked(tmp_path):
    folder = write_brown(tmp_path / "brown")
    packed = tmp_path / "brown.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"brown/{file.name}")
    one, other = read_text(str(folder)), read_text(str(packed))
    assert one[0] == other[0] == SENTENCE * 150
    assert one[1] == other[1]


def test_plain_text_is_cut_into_words_and_marks():
    assert tokenize("Don't stop—it's 3.14, she said.") == (
        "Don't", "stop", "—", "it's", "3.14", ",", "she", "said", ".",
    )  # fmt: skip


BAD = {
    "empty": (b"", "0 words are too few"),
    "short": (b"one two three.", "4 words are too few"),
    "UTF-16": (("word " * 2000).encode("utf-16"), "not UTF-8"),
    "damaged zip": (b"PK\x03\x04" + b"x" * 100, "words are too few"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(str(path), "words")
    assert "\n" not in str(error.value)


def test_missing_files_and_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_text(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no file of the Brown corpus"):
        read_text(str(tmp_path))


@given(st.lists(st.sampled_from("abcdefghij."), min_size=100, max_size=300), st.sampled_from(["training", "closed"]))
def test_parts_join_to_the_text_and_rare_words_to_one_token(tokens, vocabulary):
    text = text_of(tokens, vocabulary)
    joined = np.concatenate([text.ids[part] for part in PARTS])
    counted = tokens[: len(text.ids["train"])] if vocabulary == "training" else tokens
    kept = {token for token in counted if counted.count(token) > 3} | {BOUNDARY}
    assert [text.vocabulary.tokens[i] for i in joined] == [t if t in kept else RARE_TOKEN for t in tokens]


def test_the_training_vocabulary_knows_nothing_of_the_test_part():
    tokens = small_text()
    changed = (*tokens[: int(0.85 * len(tokens))], *["entirely", "new", "words"] * 5000)[: len(tokens)]
    one, other = text_of(tokens), text_of(changed)
    assert one.vocabulary == other.vocabulary
    np.testing.assert_array_equal(one.ids["train"], other.ids["train"])
    assert text_of(changed, "closed").vocabulary != one.vocabulary


def test_windows_run_on_from_one_part_into_the_next():
    text = load_dataset("small")
    n_train, n_dev = len(text.ids["train"]), len(text.ids["dev"])
    line = np.concatenate([text.ids[part] for part in PARTS])
    for part, start in (("train", 0), ("dev", n_train), ("test", n_train + n_dev)):
        windows = text.windows(part, 4)
        np.testing.assert_array_equal(windows.targets, text.ids[part])
        for j in (0, 1, 5, len(windows) - 1):
            before = [line[start + j - k] if start + j - k >= 0 else BOUNDARY_ID for k in (4, 3, 2, 1)]
            np.testing.assert_array_equal(windows.contexts[j], before)


def test_evaluated_windows_are_a_sample_of_training_all_of_dev_and_its_unseen_contexts():
    text = load_dataset("small")
    windows, weights = text.sampled(4)
    train, dev = text.windows("train", 4), text.windows("dev", 4)
    assert weights.sum(axis=1).tolist()[:2] == [len(train.targets[::SAMPLED_TRAINING]), len(dev)]
    known = {tuple(context) for context in train.contexts.tolist()}
    unseen = [tuple(context) not in known for context in dev.contexts.tolist()]
    np.testing.assert_array_equal(weights[2, -len(dev) :], unseen)
    np.testing.assert_array_equal(windows.contexts[-len(dev) :], dev.contexts)


@needs_brown
def test_the_brown_corpus_and_its_published_count_models():
    path = str(Path(SHARED or "") / "brown.zip")
    assert len(load_dataset(path).vocabulary) == 14_114
    text = load_dataset(path, vocabulary="closed")
    assert text.n_tokens == 1_161_192
    assert len(text.vocabulary) == 17_905
    assert [len(text.ids[part]) for part in PARTS] == [800_000, 200_000, 161_192]
    train, dev, test = (text.windows(part, 2) for part in PARTS)
    counts = count_ngrams(train.contexts, train.targets, 2, len(text.vocabulary))
    discount = choose_discount(continuation_counts(counts), counts.locate(dev.contexts, dev.targets))
    perplexity = math.exp(held_out_loss(kneser_ney(counts, discount), test.contexts, test.targets))
    assert perplexity == pytest.approx(323, rel=0.1)  # Bengio et al. 2003, Table 1.
