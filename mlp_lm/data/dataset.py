"""One dataset, whatever its tokens are: characters of a list of words, or the words of a running text.

A dataset is three parts, `train`, `dev` and `test`, each a tuple of token sequences. The words of a list are sequences
of characters, each of which starts anew after boundaries; a running text is one sequence a part, and a context may
reach back into the part before. What follows from this difference is in this module alone.
"""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from mlp_lm.config import check_name
from mlp_lm.data.texts import (
    BROWN,
    RARE_TOKEN,
    SMALL_TEXT,
    TRAINING_VOCABULARY,
    VOCABULARIES,
    cut_text,
    read_text,
    word_vocabulary,
)
from mlp_lm.data.vocabulary import BOUNDARY, BOUNDARY_ID, Vocabulary
from mlp_lm.data.word_lists import DEFAULT_DATA, MAKEMORE_DATA, SPLIT_SEED, read_word_list, split_words
from mlp_lm.schemes import SCHEMES

PARTS = ("train", "dev", "test")
CHARACTERS, WORDS = "characters", "words"
SAMPLED_TRAINING = 16  # A running text's training loss is that of every 16th window: all would cost too much.
FEW_TOKENS = 200  # Of a part: the standard error of its loss is about 0.1 nats then.
NAMED_TEXTS = (SMALL_TEXT, BROWN)
HEADINGS = ("first name", "firstname", "given name", "name", "names", "text", "title", "token", "word", "words")
NAMED_DATA = (DEFAULT_DATA, MAKEMORE_DATA, *NAMED_TEXTS)


@dataclass(frozen=True)
class Windows:
    """Positions of token sequences as examples: `contexts [n, block]`, oldest token first, and `targets [n]`."""

    contexts: Int[np.ndarray, "n block"]
    targets: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class CountedContexts:
    """Distinct contexts, and how often each split saw each target after each of them.

    `contexts [m, block]` are the distinct contexts of all the splits together; `counts [split, m, vocab]`.
    A split's exact loss is a count-weighted sum over the m distinct contexts, whatever its number of windows.
    """

    contexts: Int[np.ndarray, "m block"]
    counts: Float[np.ndarray, "split m vocab"]

    @property
    def totals(self) -> Float[np.ndarray, " split"]:
        """Number of windows of each split."""
        return self.counts.sum(axis=(1, 2))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Tokens divided into training, dev and test parts.

    Attributes:
        name: the list's or text's name or path, for people.
        source: the string from which `load_dataset` makes this dataset again, in another process too.
        sha256: a hash of all that the dataset depends on.
        vocabulary: the tokens.
        parts: `train`, `dev` and `test`, each a tuple of sequences of tokens.
        is_running_text: whether each part is one sequence that goes on where the part before ends.
        heading: the first line of a list's file where it looks like the heading of a column, and was taken as a word.
    """

    name: str
    source: str
    sha256: str
    vocabulary: Vocabulary
    parts: Mapping[str, tuple[Sequence[str], ...]]
    is_running_text: bool
    heading: str = ""

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {self.n_windows:,} training windows, {len(self.vocabulary):,} tokens>"

    @cached_property
    def n_tokens(self) -> int:
        """Windows of all parts."""
        return sum(map(self._count_windows, PARTS))

    @cached_property
    def n_windows(self) -> int:
        """Windows of the training part, the same for every block size."""
        return self._count_windows("train")

    @property
    def cautions(self) -> list[str]:
        """What makes results on this dataset doubtful, a sentence each."""
        sentences = []
        n_words = sum(map(len, self.parts.values()))
        n_cells = sum(bool(set(word) & set(",;\t")) for part in PARTS for word in self.parts[part])
        if not self.is_running_text and n_cells > n_words / 2:
            sentences.append(
                f"{self.name}: most lines hold commas or tabs, as a table does; each line is taken as a word"
            )
        if self.heading:
            sentences.append(
                f"{self.name}: the first line, {self.heading!r}, looks like a heading and is taken as a word; "
                "remove it if it is one"
            )
        for part in PARTS[1:]:
            if self._count_windows(part) < FEW_TOKENS:
                sentences.append(
                    f"{self.name}: {self._count_windows(part)} tokens in the {part} part; losses on so few tell little"
                )
        return sentences

    @property
    def unit(self) -> str:
        """What one sequence is called: a text is drawn from as sentences, a list as words."""
        return "sentence" if self.is_running_text else "word"

    @cached_property
    def ids(self) -> Mapping[str, Int[np.ndarray, " n"]]:
        """The token ids of each part of a running text; words outside the vocabulary are its RARE_TOKEN."""
        known, rare = self.vocabulary.ids, self.vocabulary.ids[RARE_TOKEN]
        return {part: np.array([known.get(token, rare) for token in self.parts[part][0]], np.int32) for part in PARTS}

    def windows(self, part: str, block_size: int) -> Windows:
        """The windows of `train`, `dev` or `test`: each token after the `block_size` tokens before it.

        The end of a word is a token as well: the boundary.

        Raises:
            ValueError: block_size below 1, or a token outside the vocabulary.
        """
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        if not self.is_running_text:
            return slide_windows(self.parts[part], self.vocabulary, block_size)
        line = np.concatenate([np.full(block_size, BOUNDARY_ID, np.int32), *(self.ids[part] for part in PARTS)])
        start = sum(len(self.ids[before]) for before in itertools.takewhile(lambda name: name != part, PARTS))
        positions = start + np.arange(len(self.ids[part]))
        return Windows(line[positions[:, None] + np.arange(block_size)], self.ids[part])

    def unseen(self, part: str, block_size: int) -> Bool[np.ndarray, " n"]:
        """Which windows of a part are new: of words that training does not have, or, in a running text, of contexts."""
        if not self.is_running_text:
            known = set(self.parts["train"])
            lengths = [len(word) + 1 for word in self.parts[part]]
            return np.repeat([word not in known for word in self.parts[part]], lengths)
        train, windows = self.windows("train", block_size), self.windows(part, block_size)
        _, index = np.unique(np.concatenate([train.contexts, windows.contexts]), axis=0, return_inverse=True)
        return ~np.isin(index[len(train) :], index[: len(train)])

    def spelled(self, part: str) -> frozenset[str]:
        """The words of a part, or the sentences of a running text's, as `mlp_lm.sampling` spells what it draws."""
        if not self.is_running_text:
            return frozenset(map("".join, self.parts[part]))
        words = (
            self.vocabulary.tokens[i] if i != BOUNDARY_ID else "\n" for i in self.ids[part]
        )  # No word has a newline.
        return frozenset(sentence.strip() + BOUNDARY for sentence in " ".join(words).split("\n")[:-1])

    def counted(self, block_size: int, parts: Sequence[str] = ("train", "dev", "dev_unseen")) -> CountedContexts:
        """Distinct contexts with counts for some parts, of which `dev_unseen` and `test_unseen` are the new windows."""
        return count_contexts([self._part(part, block_size) for part in parts], len(self.vocabulary))

    def sampled(self, block_size: int) -> tuple[Windows, Float[np.ndarray, "3 n"]]:
        """The windows on which a large text is evaluated, and how often each split holds each of them.

        The splits are every 16th training window, dev, and the dev windows whose context never occurs in training.
        """
        train, dev = (self.windows(part, block_size) for part in ("train", "dev"))
        sample = slice(None, None, SAMPLED_TRAINING)
        n_sampled = len(train.targets[sample])
        weights = np.zeros((3, n_sampled + len(dev)), np.float32)
        weights[0, :n_sampled] = 1
        weights[1, n_sampled:] = 1
        weights[2, n_sampled:] = self.unseen("dev", block_size)
        contexts = np.concatenate([train.contexts[sample], dev.contexts])
        return Windows(contexts, np.concatenate([train.targets[sample], dev.targets])), weights

    def check(self, config: Any) -> None:
        """Refuse a configuration (`RunConfig`) that cannot be trained on this dataset.

        Raises:
            ValueError: a batch of more windows than there are, or what needs counted contexts on a running text.
        """
        if config.batch_size > self.n_windows:
            raise ValueError(
                f"batch_size {config.batch_size} exceeds the {self.n_windows} training windows of {self.name}; "
                "give a smaller one, or 0 for all of them"
            )
        if self.is_running_text and config.batch_size == 0:
            raise ValueError(f"batch_size 0 (full-batch gradient descent) is for lists of words; {self.name} is a text")
        if self.is_running_text and SCHEMES[config.init].adjust:
            raise ValueError(
                f"init {config.init} looks at counted contexts, which are for lists of words; {self.name} is a text: "
                "give another scheme"
            )

    def _part(self, part: str, block_size: int) -> Windows:
        name = part.removesuffix("_unseen")
        windows = self.windows(name, block_size)
        if name == part:
            return windows
        new = self.unseen(name, block_size)
        return Windows(windows.contexts[new], windows.targets[new])

    def _count_windows(self, part: str) -> int:
        return sum(len(sequence) + (not self.is_running_text) for sequence in self.parts[part])


def slide_windows(words: Sequence[Sequence[str]], vocabulary: Vocabulary, block_size: int) -> Windows:
    """The windows of `words`: each token and the closing boundary, after the `block_size` tokens before it."""
    # One long line of ids, each word led by block_size boundaries; its windows that start inside one word are kept.
    line = [i for word in words for i in (*[BOUNDARY_ID] * block_size, *vocabulary.encode(word), BOUNDARY_ID)]
    starts = np.ones(len(line), dtype=bool)
    ends = np.cumsum(np.array([len(word) for word in words], dtype=np.int64) + block_size + 1)
    for k in range(block_size):
        starts[ends - 1 - k] = False
    positions = np.flatnonzero(starts)
    ids = np.array(line, dtype=np.int32)
    return Windows(ids[positions[:, None] + np.arange(block_size)], ids[positions + block_size])


def count_contexts(splits: Sequence[Windows], vocab_size: int) -> CountedContexts:
    """Compress the windows of several splits to their common distinct contexts."""
    everything = np.concatenate([split.contexts for split in splits])
    contexts, index = np.unique(everything, axis=0, return_inverse=True)
    counts = np.zeros((len(splits), len(contexts), vocab_size), dtype=np.float32)
    owner = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    np.add.at(counts, (owner, index, np.concatenate([split.targets for split in splits])), 1.0)
    return CountedContexts(contexts, counts)


@lru_cache(maxsize=4)
def _load(source: str, files: tuple[tuple[str, int, int], ...]) -> Dataset:
    """The dataset of a source, whose `files` are now those of `_files`."""
    return _load_text(source) if is_text_source(source) else _load_words(source)


def is_text_source(source: str) -> bool:
    """Whether the dataset of this `source` is running text."""
    return source.startswith("text:")


def load_dataset(
    data: str | Path | Sequence[str] = DEFAULT_DATA,
    tokens: Literal["characters", "words"] | None = None,
    vocabulary: str = TRAINING_VOCABULARY,
    split_seed: int = SPLIT_SEED,
) -> Dataset:
    """A dataset by its name, its file, or its three files.

    Args:
        data: `ssa2018` (an embedded list of names), `makemore` (the lecture's list, downloaded once), `small` (a text
            made here), `brown` (the Brown corpus, downloaded once), the path of a file or, for Brown, of nltk's zip
            file or folder; three paths are the training, dev and test parts as they are. Also a dataset's `source`.
        tokens: `characters` of a list with one word a line, or `words` of a running text; by default `words` for
            `small`, `brown` and a zip file.
        vocabulary: where the words of a text are counted, `training` or `closed` (see `word_vocabulary`).
        split_seed: of the shuffle before a list is cut 80/10/10; a text is cut in running order.

    Raises:
        ValueError: the data cannot be had or used; the message says what to do.
    """
    source = dataset_source(data, tokens, vocabulary, split_seed)
    return _load(source, _files(source))


def dataset_source(
    data: str | Path | Sequence[str],
    tokens: str | None = None,
    vocabulary: str = TRAINING_VOCABULARY,
    split_seed: int = SPLIT_SEED,
) -> str:
    """The `source` of the dataset that `load_dataset` makes of these arguments, in one string.

    A path alone, or `text:VOCABULARY:PATH`, with `split=SEED:` before it or `files:[...]` in its place where need be.

    Raises:
        ValueError: arguments that contradict each other.
    """
    if tokens is not None:
        check_name("tokens", tokens, (CHARACTERS, WORDS))
    if isinstance(data, Path):
        data = str(data)
    if isinstance(data, str):
        if data.startswith(("text:", "split=", "files:")):
            if (tokens, vocabulary, split_seed) != (None, TRAINING_VOCABULARY, SPLIT_SEED):
                raise ValueError(
                    f"{data} says how it is read; give the data anew with tokens, vocabulary or split_seed"
                )
            return _checked_source(data)
        path = data
        is_text = data in NAMED_TEXTS or data.endswith(".zip") if tokens is None else tokens == WORDS
    else:
        if len(data) != len(PARTS):
            raise ValueError(f"data must be one file or three (train, dev and test), got {len(data)}")
        path, is_text = f"files:{json.dumps(list(data))}", tokens == WORDS
    if not path:
        raise ValueError("data is empty; give ssa2018, makemore, brown, small or a file")
    if path in (DEFAULT_DATA, MAKEMORE_DATA) and is_text:
        raise ValueError(f"{path} is a list of words, whose tokens are characters; give a text for tokens words")
    if path in NAMED_TEXTS and not is_text:
        raise ValueError(f"{path} is running text, whose tokens are words; leave out tokens characters")
    if split_seed != SPLIT_SEED and (is_text or path.startswith("files:")):
        raise ValueError("split_seed is of lists that are shuffled; leave it out for running text and for three files")
    if vocabulary != TRAINING_VOCABULARY and not is_text:
        raise ValueError(f"vocabulary {vocabulary} is of running text, and {path} is a list of words; leave it out")
    if is_text:
        return f"text:{vocabulary}:{path}"
    return path if split_seed == SPLIT_SEED else f"split={split_seed}:{path}"


def _checked_source(source: str) -> str:
    """A source as it is.

    Raises:
        ValueError: it has another form.
    """
    if source.startswith("text:"):
        _, vocabulary, path = [*source.split(":", 2), "", ""][:3]
        if not path:
            raise ValueError(f"data {source} has another form than text:VOCABULARY:PATH")
        check_name("vocabulary", vocabulary, VOCABULARIES)
    if source.startswith("split=") and not re.fullmatch(r"split=-?\d+:.+", source):
        raise ValueError(f"data {source} has another form than split=SEED:PATH")
    with contextlib.suppress(ValueError):
        before, paths = _split_source(source)
        if not before.endswith("files:") or len(paths) == len(PARTS):
            return source
    raise ValueError(f'data {source} has another form than files:["TRAIN", "DEV", "TEST"]')


def absolute_source(source: str) -> str:
    """The same source with absolute paths, for a process with another current folder."""
    before, paths = _split_source(source)
    absolute = [path if path in NAMED_DATA else str(Path(path).absolute()) for path in paths]
    return f"{before}{json.dumps(absolute) if before.endswith('files:') else absolute[0]}"


def _split_source(source: str) -> tuple[str, list[str]]:
    """A source as what stands before its paths, and these.

    Raises:
        ValueError: what follows `files:` is no list of paths.
    """
    start = source.find(":", len("text:")) + 1 if source.startswith(("text:", "split=")) else 0
    before, path = source[:start], source[start:]
    if path.startswith("files:"):
        paths = json.loads(path.removeprefix("files:"))
        if not (isinstance(paths, list) and all(isinstance(each, str) for each in paths)):
            raise ValueError(f"{path} is no list of paths")
        return f"{before}files:", paths
    return before, [path]


def _files(source: str) -> tuple[tuple[str, int, int], ...]:
    """The path, time of change and size of each file of a source, by which a cache knows that it was edited."""
    stamps = []
    for path in map(Path, _split_source(absolute_source(source))[1]):
        with contextlib.suppress(OSError, ValueError):  # No such file, or no such name: reading it will say so.
            status = path.stat()
            stamps.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def _load_words(source: str) -> Dataset:
    before, paths = _split_source(source)
    if before.endswith("files:"):
        lists = [read_word_list(path) for path in paths]
        parts: dict[str, tuple[str, ...]] = {part: words for part, (words, _) in zip(PARTS, lists, strict=True)}
        vocabulary = Vocabulary.of(word for words in parts.values() for word in words)
        return Dataset(" ".join(paths), source, _hash(*(sha for _, sha in lists)), vocabulary, parts, False)
    path, seed = paths[0], int(before.removeprefix("split=").removesuffix(":")) if before else SPLIT_SEED
    words, sha256 = read_word_list(path)
    try:
        parts = split_words(words, seed)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if seed != SPLIT_SEED:
        sha256 = _hash(sha256, f"split={seed}")
    heading = words[0] if words[0].strip('"').casefold().replace("_", " ") in HEADINGS else ""
    return Dataset(path, source, sha256, Vocabulary.of(words), parts, False, heading)


def _load_text(source: str) -> Dataset:
    before, paths = _split_source(source)
    counted = before.split(":")[1]
    texts = [read_text(path) for path in paths]
    if before.endswith("files:"):
        for path, (tokens, _) in zip(paths, texts, strict=True):
            if not tokens:
                raise ValueError(f"{path}: no words in the file; give a text")
        parts: dict[str, Sequence[str]] = {part: tokens for part, (tokens, _) in zip(PARTS, texts, strict=True)}
        text_hash = _hash(*(sha for _, sha in texts))
    else:
        ((tokens, text_hash),) = texts
        parts = cut_text(tokens, paths[0])
    sequences = {part: (tokens,) for part, tokens in parts.items()}
    return Dataset(" ".join(paths), source, _hash(text_hash, counted), word_vocabulary(parts, counted), sequences, True)


def _hash(*texts: str) -> str:
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()
