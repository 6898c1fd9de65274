"""Windows, splits and counts, against brute force and the lecture's published numbers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_lm.data.dataset import _load, absolute_source, count_contexts, dataset_source, load_dataset, slide_windows
from mlp_lm.data.texts import tokenize
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
        actual = {(tuple(counted.contexts[i]), k): counts[i, k] for i, k in zip(*np.nonzero(counts), strict=True)}
        assert actual == Counter((tuple(c), t) for c, t in zip(windows.contexts, windows.targets, strict=True))


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


# --- One dataset, from whatever it is loaded ---

NAMES = "\n".join(read_word_list(DEFAULT_DATA)[0][:60]) + "\n"
TEXT = "The dog saw a cat in the room . A cat was near the dog on Monday .\n" * 100


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a word list, three others, a text and three others."""
    monkeypatch.chdir(tmp_path)
    for name in ("names.txt", "text"):
        (tmp_path / name).write_text(NAMES)
    for name, words in (("a.txt", "emma\nava\nmia\n"), ("b.txt", "ava\nzoe\n"), ("c: d.txt", "bob\n")):
        (tmp_path / name).write_text(words)
    (tmp_path / "story").write_text(TEXT)
    (tmp_path / "empty").write_text("")
    for i, part in enumerate(("t1", "t2", "t3"), start=1):
        (tmp_path / part).write_text(TEXT[: 700 * i])
    return tmp_path


THREE_LISTS, THREE_TEXTS = ["a.txt", "b.txt", "c: d.txt"], ["t1", "t2", "t3"]
LOADED = {
    "a word list": {"data": "names.txt"},
    "another split": {"data": "names.txt", "split_seed": 7},
    "three lists": {"data": THREE_LISTS},
    "a text": {"data": "story", "tokens": "words"},
    "a text with a closed vocabulary": {"data": "story", "tokens": "words", "vocabulary": "closed"},
    "three texts": {"data": THREE_TEXTS, "tokens": "words"},
    "the embedded list": {"data": "ssa2018"},
    "the embedded list, another split": {"data": "ssa2018", "split_seed": 0},
    "the small text": {"data": "small"},
}


def content(dataset):
    return dataset.sha256, dataset.vocabulary, dict(dataset.parts), dataset.is_running_text


@pytest.mark.parametrize("arguments", LOADED.values(), ids=LOADED.keys())
def test_a_source_makes_the_same_dataset_again_in_any_folder(folder, monkeypatch, arguments):
    dataset = load_dataset(**arguments)
    assert dataset_source(dataset.source) == dataset.source
    _load.cache_clear()
    again = load_dataset(dataset.source)
    assert again is not dataset
    assert (again.source, content(again)) == (dataset.source, content(dataset))
    absolute = absolute_source(dataset.source)
    assert absolute_source(absolute) == absolute
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    _load.cache_clear()
    assert content(load_dataset(absolute)) == content(dataset)


def test_a_file_that_was_edited_is_read_anew(folder):
    before = load_dataset("names.txt")
    assert load_dataset(folder / "names.txt").sha256 == before.sha256
    (folder / "names.txt").write_text((folder / "names.txt").read_text() + "\nzoe")
    assert load_dataset("names.txt").sha256 != before.sha256


def test_a_file_may_be_named_as_a_source_begins(folder):
    assert content(load_dataset("text")) == content(load_dataset("names.txt"))
    for before in ("", "split=7:", "text:closed:"):
        assert absolute_source(f"{before}text") == f"{before}{folder / 'text'}"


def test_sources_and_hashes_tell_datasets_apart(folder):
    datasets = [load_dataset(**arguments) for arguments in LOADED.values()]
    assert len({dataset.source for dataset in datasets}) == len({dataset.sha256 for dataset in datasets}) == len(LOADED)


def test_a_split_seed_shuffles_anew_and_the_lecture_s_is_42(folder):
    plain, other = load_dataset("names.txt"), load_dataset("names.txt", split_seed=7)
    assert load_dataset("names.txt", split_seed=42) is plain
    assert plain.parts == split_words(NAMES.split(), 42)
    assert other.parts == split_words(NAMES.split(), 7)
    assert other.vocabulary == plain.vocabulary
    assert other.sha256 != plain.sha256
    every = [sorted(word for part in dataset.parts.values() for word in part) for dataset in (plain, other)]
    assert every[0] == every[1] == sorted(NAMES.split())


def test_three_lists_are_the_parts_as_they_are(folder):
    dataset = load_dataset(THREE_LISTS)
    assert dataset.parts == {"train": ("emma", "ava", "mia"), "dev": ("ava", "zoe"), "test": ("bob",)}
    assert dataset.vocabulary.tokens == (".", *sorted(set("emmaavamiazoebob")))
    assert (dataset.n_windows, dataset.n_tokens, dataset.unit) == (5 + 4 + 4, 13 + 8 + 4, "word")
    assert dataset.unseen("dev", 2).tolist() == [False] * 4 + [True] * 4  # ava is known, zoe is new.


def test_three_texts_are_the_parts_as_they_are(folder):
    dataset = load_dataset(THREE_TEXTS, tokens="words")
    tokens = [tokenize(TEXT[: 700 * i]) for i in (1, 2, 3)]
    assert [sequence for part in dataset.parts.values() for sequence in part] == tokens
    assert (dataset.n_windows, dataset.n_tokens) == (len(tokens[0]), sum(map(len, tokens)))
    kept = {token for token in tokens[0] if tokens[0].count(token) > 3}
    assert set(dataset.vocabulary.tokens) == kept | {".", "<rare>"}


@pytest.mark.parametrize("data", ["ssa2018", "small"])
def test_lists_and_texts_answer_the_same_questions(data):
    dataset = load_dataset(data)
    assert dataset.n_windows == len(dataset.windows("train", 2))
    assert dataset.n_tokens == sum(len(dataset.windows(part, 5)) for part in ("train", "dev", "test"))
    for part in ("dev", "test"):
        windows, unseen = dataset.windows(part, 2), dataset.unseen(part, 2)
        assert len(unseen) == len(windows) and 0 < unseen.sum() < len(windows)
        counted = dataset.counted(2, (part, f"{part}_unseen"))
        assert counted.totals.tolist() == [len(windows), unseen.sum()]
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        dataset.windows("dev", 0)


REFUSED = [
    ({"data": ""}, "data is empty; give ssa2018, makemore, brown, small or a file"),
    ({"data": ["a.txt", "b.txt"]}, "data must be one file or three (train, dev and test), got 2"),
    ({"data": "ssa2018", "tokens": "words"}, "ssa2018 is a list of words, whose tokens are characters"),
    ({"data": "small", "tokens": "characters"}, "small is running text, whose tokens are words"),
    ({"data": "small", "split_seed": 7}, "split_seed is of lists that are shuffled; leave it out"),
    ({"data": THREE_LISTS, "split_seed": 7}, "split_seed is of lists that are shuffled; leave it out"),
    ({"data": "story", "tokens": "words", "vocabulary": "open"}, "unknown vocabulary 'open'; known: training, closed"),
    ({"data": "names.txt", "vocabulary": "closed"}, "vocabulary closed is of running text, and names.txt is a list"),
    ({"data": "text:training:story", "vocabulary": "closed"}, "text:training:story says how it is read"),
    ({"data": "split=7:names.txt", "split_seed": 8}, "split=7:names.txt says how it is read"),
    ({"data": "text:story"}, "data text:story has another form than text:VOCABULARY:PATH"),
    ({"data": "files:names.txt"}, "data files:names.txt has another form than files:"),
    ({"data": 'files:["names.txt"]'}, "has another form than files:"),
    ({"data": "files:[1, 2, 3]"}, "has another form than files:"),
    ({"data": "files:5"}, "has another form than files:"),
    ({"data": ["story", "empty", "story"], "tokens": "words"}, "empty: no words in the file"),
    ({"data": "split=x:names.txt"}, "data split=x:names.txt has another form than split=SEED:PATH"),
    ({"data": "nowhere.txt"}, "nowhere.txt: no such file"),
    ({"data": "nowhere", "tokens": "words"}, "nowhere: no such file"),
    ({"data": ["a.txt", "b.txt", "nowhere.txt"]}, "nowhere.txt: no such file"),
    ({"data": "a.txt"}, "a.txt: 3 words are too few to split 80/10/10"),
    ({"data": "names.txt", "tokens": "words"}, "names.txt: 60 words are too few; give a text of at least 1,000"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_is_no_dataset_is_refused_in_one_line(folder, arguments, message):
    with pytest.raises(ValueError) as error:
        load_dataset(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_tokens_are_refused():
    with pytest.raises(ValueError, match=r"^unknown tokens 'word'; did you mean 'words'\?$"):
        dataset_source("names.txt", "word")
