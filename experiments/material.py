"""The word list of a sweep as its runs need it: vocabulary, split, and the windows of each block size."""

import functools
from dataclasses import dataclass

from mlp_lm.corpus import Corpus, WordSplit, load_corpus, split_words
from mlp_lm.dataset import CountedContexts, Windows, count_contexts, slide_windows
from mlp_lm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Material:
    """A corpus, split by word, with its vocabulary."""

    corpus: Corpus
    split: WordSplit
    vocabulary: Vocabulary

    @property
    def n_windows(self) -> int:
        """Windows of the training words, the same for every block size."""
        return sum(len(word) + 1 for word in self.split.train)

    def windows(self, part: str, block_size: int) -> Windows:
        """Windows of `train`, `dev`, `dev_unseen` or `test`."""
        return slide_windows(getattr(self.split, part), self.vocabulary, block_size)

    def counted(self, block_size: int) -> CountedContexts:
        """Distinct contexts with counts for training, dev and unseen dev words, in this order."""
        parts = [self.windows(part, block_size) for part in ("train", "dev", "dev_unseen")]
        return count_contexts(parts, len(self.vocabulary))


@functools.lru_cache(maxsize=2)
def load_material(source: str) -> Material:
    """The material of a word list (see mlp_lm.corpus.load_corpus)."""
    corpus = load_corpus(source)
    try:
        split = split_words(corpus.words)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return Material(corpus, split, Vocabulary.of(corpus.words))
