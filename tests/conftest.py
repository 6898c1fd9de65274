import os
from pathlib import Path

import jax
import pytest

from mlp_lm.data.word_lists import load_corpus, split_words
from mlp_lm.data.dataset import count_contexts, slide_windows
from mlp_lm.evaluation import EvaluationSet
from mlp_lm.training import TrainingData
from mlp_lm.data.vocabulary import Vocabulary

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = os.environ.get("MLP_LM_SHARED_DATA")
needs_lecture_list = pytest.mark.skipif(
    not SHARED, reason="the lecture's list is not ours: set MLP_LM_SHARED_DATA to a folder that holds names.txt"
)


@pytest.fixture(scope="session")
def lecture_words():
    return load_corpus(str(Path(SHARED or "") / "names.txt")).words


def training_data(words: tuple[str, ...], block_size: int) -> TrainingData:
    """Windows and evaluation set of the training, dev and unseen dev words, as a sweep builds them."""
    split, vocabulary = split_words(words), Vocabulary.of(words)
    parts = [slide_windows(part, vocabulary, block_size) for part in (split.train, split.dev, split.dev_unseen)]
    return TrainingData(
        jax.numpy.asarray(parts[0].contexts),
        jax.numpy.asarray(parts[0].targets),
        EvaluationSet.of(count_contexts(parts, len(vocabulary))),
    )


@pytest.fixture(scope="session")
def few_words():
    """A word list small enough for naive recomputation."""
    return load_corpus().words[:400]


@pytest.fixture(scope="session")
def few_data(few_words):
    return training_data(few_words, 3)
