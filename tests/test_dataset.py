"""Windows, splits and counts, against brute force and the lecture's published numbers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_lm.data.dataset import count_contexts, slide_windows
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.data.word_lists import DEFAULT_DATA, parse_words, read_word_list, split_words
from tests.conftest import dataset_of, needs_lecture_list

words_lists = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=12)


def brute_force_windows(words, vocabulary, block_size):
    for word in words:
        context = [0] * block_size
        for i in [*vocabulary.encode(word), 0]:
            yield tuple(context), i
            context = [*context[1:], i]


@given(words_lists, st.integers(1, 8))
def test_windows_are_those_of_the_lecture_loop(words, block_size):
    vocabulary = Vocabulary.of(words)
    windows = slide_windows(words, vocabulary, block_size)
    pairs = [(tuple(c), int(t)) for c, t in zip(windows.contexts, windows.targets, strict=True)]
    assert pairs == list(brute_force_windows(words, vocabulary, block_size))


@given(words_lists, words_lists, st.integers(1, 4))
def test_counts_are_those_of_the_windows(first, second, block_size):
    vocabulary = Vocabulary.of([*first, *second])
    splits = [slide_windows(words, vocabulary, block_size) for words in (first, second)]
    counted = count_contexts(splits, len(vocabulary))
    assert len({tuple(c) for c in counted.contexts}) == len(counted.contexts)
    for windows, counts in zip(splits, counted.counts, strict=True):
        found = {(tuple(counted.contexts[i]), k): counts[i, k] for i, k in zip(*np.nonzero(counts), strict=True)}
        assert found == Counter((tuple(c), t) for c, t in zip(windows.contexts, windows.targets, strict=True))


def test_the_boundary_is_token_0_whatever_sorts_before_it():
    vocabulary = Vocabulary.of(["a-b", "c!"])
    assert vocabulary.tokens == (".", "!", "-", "a", "b", "c")
    assert vocabulary.decode([*vocabulary.encode("a-b"), 0, 5]) == "a-b"


def test_a_token_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="'z' is not in the vocabulary"):
        slide_windows(["az"], Vocabulary.of(["a"]), 3)


def test_the_embedded_list_is_the_published_one():
    words, sha256 = read_word_list(DEFAULT_DATA)
    assert len(words) == 32_178
    assert sha256 == "a311634f5113663f131a60cd0c76afb8420199991dbd9045773b8a2949ada835"
    assert len(Vocabulary.of(words)) == 27


@given(st.lists(st.text("ab", min_size=1), min_size=10, max_size=50), st.integers(0, 9))
def test_a_split_is_a_partition(words, seed):
    split = split_words(words, seed)
    assert list(split) == ["train", "dev", "test"]
    assert sorted([*split["train"], *split["dev"], *split["test"]]) == sorted(words)
    assert len(split["train"]) == int(0.8 * len(words))


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=10, max_size=50), st.integers(1, 4))
def test_unseen_windows_are_those_of_the_words_that_training_does_not_have(words, block_size):
    dataset = dataset_of(words, "ab")
    for part in ("dev", "test"):
        windows, unseen = dataset.windows(part, block_size), dataset.unseen(part, block_size)
        new_words = [word for word in dataset.parts[part] if word not in set(dataset.parts["train"])]
        pairs = list(zip(map(tuple, windows.contexts[unseen]), windows.targets[unseen], strict=True))
        assert pairs == list(brute_force_windows(new_words, dataset.vocabulary, block_size))


def test_lines_end_at_newlines_only_and_blanks_do_not_count():
    raw = "\ufeffanna\r\n bo \n\n\ncarla\u2028dora".encode()
    assert parse_words(raw, "list") == ("anna", "bo", "carla\u2028dora")


@needs_lecture_list
def test_the_lecture_list_has_the_published_windows_and_contexts(lecture_dataset):
    assert [len(words) for words in lecture_dataset.parts.values()] == [25_626, 3_203, 3_204]
    sizes = [len(lecture_dataset.windows(part, 3)) for part in ("train", "dev", "test")]
    assert sizes == [182_625, 22_655, 22_866]
    assert (lecture_dataset.n_windows, lecture_dataset.n_tokens) == (182_625, sum(sizes))
    for block_size, distinct in {3: 5_438, 4: 20_243, 5: 36_544, 8: 50_457}.items():
        windows = lecture_dataset.windows("train", block_size)
        assert len(np.unique(windows.contexts, axis=0)) == distinct
