import os
from pathlib import Path

import jax
import pytest

from mlp_lm import ideas
from mlp_lm.config import TABLES
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.data.word_lists import read_word_list, split_words
from mlp_lm.training import training_data

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = os.environ.get("MLP_LM_SHARED_DATA")
needs_lecture_list = pytest.mark.skipif(
    not SHARED, reason="the lecture's list is not ours: set MLP_LM_SHARED_DATA to a folder that holds names.txt"
)


@pytest.fixture(scope="session")
def lecture_words():
    return read_word_list(str(Path(SHARED or "") / "names.txt"))[0]


def dataset_of(words: tuple[str, ...], name: str = "words") -> Dataset:
    """A dataset of a list of words, divided as the lecture does, that no file holds."""
    return Dataset(name, name, "", Vocabulary.of(words), split_words(words), False)


@pytest.fixture(scope="session")
def lecture_dataset(lecture_words):
    return dataset_of(lecture_words)


@pytest.fixture(scope="session")
def few_words():
    """A word list small enough for naive recomputation."""
    return read_word_list()[0][:400]


@pytest.fixture(scope="session")
def few_dataset(few_words, tmp_path_factory):
    """The few words, in a file."""
    path = tmp_path_factory.mktemp("few") / "words.txt"
    path.write_text("\n".join(few_words))
    return load_dataset(str(path))


@pytest.fixture(scope="session")
def few_data(few_dataset):
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
