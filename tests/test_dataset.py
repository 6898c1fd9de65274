"""Windows, splits and counts, against brute force and the lecture's published numbers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_lm.data.dataset import PARTS, absolute_source, count_contexts, load_dataset, slide_windows
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.data.word_lists import DEFAULT_DATA, parse_words, read_word_list, split_words
from tests.conftest import needs_lecture_list

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
    assert sorted([*split["train"], *split["dev"], *split["test"]]) == sorted(words)
    assert len(split["train"]) == int(0.8 * len(words))


def test_lines_end_at_newlines_only_and_blanks_do_not_count():
    raw = "\ufeffanna\r\n bo \n\n\ncarla\u2028dora".encode()
    assert parse_words(raw, "list") == ("anna", "bo", "carla\u2028dora")


@needs_lecture_list
def test_the_lecture_list_has_the_published_windows_and_contexts(lecture_words):
    split, vocabulary = split_words(lecture_words), Vocabulary.of(lecture_words)
    assert [len(part) for part in split.values()] == [25_626, 3_203, 3_204]
    sizes = [len(slide_windows(part, vocabulary, 3)) for part in split.values()]
    assert sizes == [182_625, 22_655, 22_866]
    for block_size, distinct in {3: 5_438, 4: 20_243, 5: 36_544, 8: 50_457}.items():
        windows = slide_windows(split["train"], vocabulary, block_size)
        assert len(np.unique(windows.contexts, axis=0)) == distinct


def test_unseen_windows_are_those_of_words_that_training_does_not_have(few_dataset):
    known = set(few_dataset.parts["train"])
    new = [word for word in few_dataset.parts["dev"] if word not in known]
    expected = slide_windows(new, few_dataset.vocabulary, 3)
    dev, unseen = few_dataset.windows("dev", 3), few_dataset.unseen("dev", 3)
    assert 0 < len(new) <= len(few_dataset.parts["dev"])
    np.testing.assert_array_equal(dev.contexts[unseen], expected.contexts)
    np.testing.assert_array_equal(dev.targets[unseen], expected.targets)


def test_sizes_are_those_of_the_windows(few_dataset):
    sizes = {part: len(few_dataset.windows(part, 5)) for part in PARTS}
    assert (few_dataset.n_windows, few_dataset.n_tokens) == (sizes["train"], sum(sizes.values()))


def test_another_split_seed_is_another_dataset_of_the_same_words():
    one, other = load_dataset(), load_dataset(split_seed=7)
    assert one.parts["dev"] != other.parts["dev"]
    assert sorted(word for part in other.parts.values() for word in part) == sorted(read_word_list()[0])
    assert one.sha256 != other.sha256
    assert load_dataset(other.source) is other


def test_three_files_are_taken_as_they_are(tmp_path):
    parts = {"train": ["anna", "bob"], "dev": ["bob", "carla"], "test": ["dora"]}
    for name, words in parts.items():
        (tmp_path / name).write_text("\n".join(words))
    dataset = load_dataset([str(tmp_path / name) for name in parts])
    assert {part: list(words) for part, words in dataset.parts.items()} == parts
    assert load_dataset(dataset.source) is dataset
    assert load_dataset(absolute_source(dataset.source)).sha256 == dataset.sha256
    (tmp_path / "test").write_text("dana")
    assert load_dataset([f"{tmp_path}/./{name}" for name in parts]).sha256 != dataset.sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": ["a", "b"]}, "one file or three"),
        ({"data": ""}, "data is empty"),
        ({"data": "ssa2018", "tokens": "words"}, "list of words"),
        ({"data": "brown", "tokens": "characters"}, "running text"),
        ({"data": "small", "split_seed": 3}, "split_seed"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(**arguments)
    assert "\n" not in str(error.value)


def test_sources_are_made_absolute_wherever_a_path_is_in_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for named in ("ssa2018", "makemore", "text:closed:brown", "split=3:ssa2018"):
        assert absolute_source(named) == named
    assert absolute_source("words.txt") == f"{tmp_path}/words.txt"
    assert absolute_source("split=3:words.txt") == f"split=3:{tmp_path}/words.txt"
    assert absolute_source("text:training:a.txt") == f"text:training:{tmp_path}/a.txt"
