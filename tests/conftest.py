import os
from pathlib import Path

import jax
import pytest

from experiments.runner.compilation_cache import use_compilation_cache
from mlp_lm import ideas
from mlp_lm.config import TABLES
from mlp_lm.data.dataset import Dataset, load_dataset
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.data.word_lists import read_word_list, split_words
from mlp_lm.training import training_data
from tests import cli

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Keep compiled programs in `.pytest_cache`, for all processes of the tests and for the next time."""
    os.environ["XDG_CACHE_HOME"] = str(config.cache.mkdir("mlp-lm"))  # Of commands that tests start, too.
    import matplotlib.font_manager  # noqa: F401  (makes its list of fonts there now, which a command would mention)

    use_compilation_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # XLA reads its flags once, so commands that tests start have none, unless a test gives them some.
    os.environ["XLA_FLAGS"] = cli.QUICK_XLA_FLAGS
    jax.devices()
    del os.environ["XLA_FLAGS"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Halves of the suite in order, so that few modules set up their fixtures twice; who is done first takes over."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None  # `load` is the default.


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
    return read_word_list(str(cli.FEW_WORDS))[0]


@pytest.fixture(scope="session")
def few_dataset():
    """The same as a dataset; whatever trains on it shares compiled programs with whatever else does."""
    return load_dataset(cli.FEW_WORDS)


@pytest.fixture(scope="session")
def normed_folder(tmp_path_factory):
    """The folder of a finished sweep of two small models with batch norm; tests may add files, but train nothing."""
    folder = tmp_path_factory.mktemp("normed") / "sweep"
    flags = ("--data", str(cli.FEW_WORDS), "--out", str(folder), "--seeds", "1", "--batch-norm", "true")
    assert cli.sweep_here("smoke", *flags).code == 0
    return folder


@pytest.fixture(scope="session")
def few_data(few_dataset):
    return training_data(few_dataset, 3)


@pytest.fixture(autouse=True)
def tables():
    """The tables of definitions by field; what a test adds to them, or loads, is undone."""
    before = {name: dict(table) for name, table in TABLES.items()}
    yield TABLES
    ideas._remove_added()
    for name, table in TABLES.items():
        table.clear()
        table.update(before[name])
