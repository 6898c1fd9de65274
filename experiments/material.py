"""The data of a sweep as its runs need it: vocabulary, split, and the windows of each block size."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mlp_lm.corpus import Corpus, WordSplit, load_corpus, split_words
from mlp_lm.dataset import CountedContexts, Windows, count_contexts, slide_windows
from mlp_lm.text import TextParts, divide, load_text
from mlp_lm.vocabulary import Vocabulary

TEXT = "text"  # What the name of running text begins with: text:VOCABULARY:SOURCE.
SAMPLED_TRAINING = 16  # A running text's training loss is that of every 16th window: all would cost too much.


@dataclass(frozen=True)
class DataSize:
    """What the cost of a run depends on: training windows and tokens of the vocabulary."""

    n_windows: int
    vocab_size: int


@dataclass(frozen=True)
class Material:
    """A corpus, split by word, with its vocabulary."""

    corpus: Corpus
    split: WordSplit
    vocabulary: Vocabulary

    @property
    def name(self) -> str:
        """The name or path of the list."""
        return self.corpus.name

    @property
    def source(self) -> str:
        """What `load_data` knows it as."""
        return self.corpus.name

    @property
    def sha256(self) -> str:
        """A hash of the data."""
        return self.corpus.sha256

    @property
    def n_tokens(self) -> int:
        """Windows of all words, each of which ends with a boundary."""
        return sum(len(word) + 1 for word in self.corpus.words)

    @property
    def n_windows(self) -> int:
        """Windows of the training words, the same for every block size."""
        return sum(len(word) + 1 for word in self.split.train)

    @property
    def size(self) -> DataSize:
        """Training windows and vocabulary."""
        return DataSize(self.n_windows, len(self.vocabulary))

    def windows(self, part: str, block_size: int) -> Windows:
        """Windows of `train`, `dev`, `dev_unseen` or `test`."""
        return slide_windows(getattr(self.split, part), self.vocabulary, block_size)

    def counted(self, block_size: int) -> CountedContexts:
        """Distinct contexts with counts for training, dev and unseen dev words, in this order."""
        parts = [self.windows(part, block_size) for part in ("train", "dev", "dev_unseen")]
        return count_contexts(parts, len(self.vocabulary))


@dataclass(frozen=True)
class TextMaterial:
    """Running text, divided in running order.

    `load_data` knows it as `source`; `sha256` is a hash of the text and of the vocabulary's kind.
    """

    source: str
    sha256: str
    parts: TextParts

    @property
    def name(self) -> str:
        """The name or path of the text."""
        return self.source.split(":", 2)[2]

    @property
    def vocabulary(self) -> Vocabulary:
        """The boundary, the token of rare words, and the frequent words."""
        return self.parts.vocabulary

    @property
    def n_tokens(self) -> int:
        """Windows of all parts."""
        return len(self.parts.train) + len(self.parts.dev) + len(self.parts.test)

    @property
    def size(self) -> DataSize:
        """Training windows and vocabulary."""
        return DataSize(len(self.parts.train), len(self.vocabulary))

    def windows(self, part: str, block_size: int) -> Windows:
        """Windows of `train`, `dev` or `test`."""
        return self.parts.windows(part, block_size)

    def evaluated(self, block_size: int) -> tuple[Windows, Float[np.ndarray, "3 n"]]:
        """The windows on which a run is evaluated, and how often each split holds each of them.

        The splits are every 16th training window, dev, and the dev windows whose context never occurs in training.
        """
        train, dev = (self.windows(part, block_size) for part in ("train", "dev"))
        sample = slice(None, None, SAMPLED_TRAINING)
        n_sampled, n_dev = len(train.targets[sample]), len(dev)
        weights = np.zeros((3, n_sampled + n_dev), np.float32)
        weights[0, :n_sampled] = 1
        weights[1, n_sampled:] = 1
        weights[2, n_sampled:] = unseen(dev, train)
        joined = Windows(
            np.concatenate([train.contexts[sample], dev.contexts]), np.concatenate([train.targets[sample], dev.targets])
        )
        return joined, weights


def unseen(windows: Windows, train: Windows) -> np.ndarray:
    """Which windows have a context that occurs nowhere in training."""
    both = np.concatenate([train.contexts, windows.contexts])
    _, index = np.unique(both, axis=0, return_inverse=True)
    return ~np.isin(index[len(train) :], index[: len(train)])


def load_material(source: str) -> Material:
    """The material of a word list (see mlp_lm.corpus.load_corpus).

    Raises:
        ValueError: the list cannot be had, or is running text.
    """
    material = load_data(source)
    if isinstance(material, TextMaterial):
        raise ValueError(
            f"{source} is running text, which python -m experiments.bengio2003 trains and reports on; give a word list"
        )
    return material


def text_source(source: str, vocabulary: str) -> str:
    """The name under which `load_data` knows a running text (see mlp_lm.text.load_text and divide)."""
    return f"{TEXT}:{vocabulary}:{source}"


@functools.lru_cache(maxsize=2)
def load_data(source: str) -> Material | TextMaterial:
    """The material of a word list, or of the running text that is named `text:VOCABULARY:SOURCE`."""
    kind, _, rest = source.partition(":")
    if kind != TEXT:
        return _load_words(source)
    vocabulary, _, text_name = rest.partition(":")
    text = load_text(text_name)
    digest = hashlib.sha256(f"{text.sha256} {vocabulary}".encode()).hexdigest()
    return TextMaterial(source, digest, divide(text, vocabulary))


def _load_words(source: str) -> Material:
    corpus = load_corpus(source)
    try:
        split = split_words(corpus.words)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return Material(corpus, split, Vocabulary.of(corpus.words))
