import os
import string
from collections.abc import Sequence
from pathlib import Path

import jax
import pytest

from mlp_lm import ideas
from mlp_lm.config import TABLES
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.data.word_lists import read_word_list, split_words
from mlp_lm.training import TrainingData, training_data

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = os.environ.get("MLP_LM_SHARED_DATA")
needs_lecture_list = pytest.mark.skipif(
    not SHARED, reason="the lecture's list is not ours: set MLP_LM_SHARED_DATA to a folder that holds names.txt"
)


@pytest.fixture(scope="session")
def lecture_dataset() -> Dataset:
    return load_dataset(str(Path(SHARED or "") / "names.txt"))


@pytest.fixture(scope="session")
def lecture_words():
    return read_word_list(str(Path(SHARED or "") / "names.txt"))[0]


def dataset_of(words: Sequence[str], alphabet: str = string.ascii_lowercase) -> Dataset:
    """These words, divided as `load_dataset` divides them, with a vocabulary of the whole alphabet."""
    return Dataset("words", "words", "0" * 64, Vocabulary.of([alphabet]), split_words(words), False)


@pytest.fixture(scope="session")
def few_words():
    """A word list small enough for naive recomputation."""
    return read_word_list()[0][:400]


@pytest.fixture(scope="session")
def few_dataset(few_words) -> Dataset:
    """The few words, with a vocabulary of 27 tokens."""
    return dataset_of(few_words)


@pytest.fixture(scope="session")
def few_data(few_dataset) -> TrainingData:
    return training_data(few_dataset, 3)


@pytest.fixture
def tables():
    """The tables of definitions by field; what a test adds to them, or loads, is undone."""
    before = {name: dict(table) for name, table in TABLES.items()}
    yield TABLES
    ideas._remove_added()
    for name, table in TABLES.items():
        table.clear()
        table.update(before[name])
