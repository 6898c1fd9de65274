import os
from pathlib import Path

import jax
import pytest

from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.word_lists import read_word_list
from mlp_lm.training import TrainingData, training_data

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = os.environ.get("MLP_LM_SHARED_DATA")
needs_lecture_list = pytest.mark.skipif(
    not SHARED, reason="the lecture's list is not ours: set MLP_LM_SHARED_DATA to a folder that holds names.txt"
)


@pytest.fixture(scope="session")
def lecture_words():
    return read_word_list(str(Path(SHARED or "") / "names.txt"))[0]


@pytest.fixture(scope="session")
def few_words():
    """A word list small enough for naive recomputation."""
    return read_word_list()[0][:400]


@pytest.fixture(scope="session")
def few_dataset(few_words, tmp_path_factory) -> Dataset:
    """The dataset of `few_words`."""
    path = tmp_path_factory.mktemp("few") / "words.txt"
    path.write_text("\n".join(few_words))
    return load_dataset(str(path))


@pytest.fixture(scope="session")
def few_data(few_dataset) -> TrainingData:
    return training_data(few_dataset, 3)
