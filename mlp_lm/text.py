"""Running text as a stream of words: reading it, and its division in running order (Bengio et al. 2003, section 4)."""

import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mlp_lm.corpus import check_regular, download
from mlp_lm.dataset import Windows
from mlp_lm.small_text import SMALL_TEXT, small_text
from mlp_lm.vocabulary import BOUNDARY, BOUNDARY_ID, Vocabulary

BROWN = "brown"
BROWN_URL = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/brown.zip"
BROWN_SHA256 = "9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6"
BROWN_FILE = re.compile(r"(?:.*/)?c[a-r]\d\d")

TRAINING_TOKENS, VALIDATION_TOKENS = 800_000, 200_000  # Bengio et al. 2003, section 4.1; the rest is the test part.
TRAINING_SHARE, VALIDATION_SHARE = 0.7, 0.15  # Of a text too short for those.
FEWEST_TOKENS = 1_000
RARE = 3  # Words of this frequency or less become one token.
RARE_TOKEN = "<rare>"

TRAINING_VOCABULARY, CLOSED_VOCABULARY = "training", "closed"
VOCABULARIES = (TRAINING_VOCABULARY, CLOSED_VOCABULARY)


@dataclass(frozen=True)
class Text:
    """A text as read: its tokens in running order, punctuation included, upper and lower case kept apart."""

    name: str
    tokens: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class TextParts:
    """Token ids of the training, validation and test parts, in running order."""

    vocabulary: Vocabulary
    train: Int[np.ndarray, " train"]
    dev: Int[np.ndarray, " dev"]
    test: Int[np.ndarray, " test"]

    @property
    def rare_id(self) -> int:
        """The id that all rare words share."""
        return self.vocabulary.ids[RARE_TOKEN]

    def windows(self, part: str, block_size: int) -> Windows:
        """Every token of a part as a target after the `block_size` tokens before it, which may lie in the part before.

        The first tokens of the text have boundaries before them.

        Raises:
            ValueError: block_size below 1.
        """
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        line = np.concatenate([np.full(block_size, BOUNDARY_ID, np.int32), self.train, self.dev, self.test])
        targets = getattr(self, part)
        start = {"train": 0, "dev": len(self.train), "test": len(self.train) + len(self.dev)}[part]
        positions = start + np.arange(len(targets))
        return Windows(line[positions[:, None] + np.arange(block_size)], targets)


def load_text(source: str = SMALL_TEXT) -> Text:
    """The text named `small` (made here) or `brown` (downloaded once), or the file, zip file or folder at a path.

    A folder or zip file is the Brown corpus as nltk packs it; any other file is plain text in UTF-8.

    Raises:
        ValueError: the text cannot be had, or is too short; the message says what to do.
    """
    if source == SMALL_TEXT:
        tokens, sha256 = small_text(), ""
    elif source == BROWN:
        tokens, sha256 = _read_brown(download(BROWN_URL, BROWN_SHA256, "brown.zip"))
    else:
        tokens, sha256 = _read(Path(source))
    if len(tokens) < FEWEST_TOKENS:
        raise ValueError(f"{source}: {len(tokens):,} words are too few; give a text of at least {FEWEST_TOKENS:,}")
    return Text(source, tokens, sha256 or hashlib.sha256("\n".join(tokens).encode()).hexdigest())


def divide(text: Text, vocabulary: str = TRAINING_VOCABULARY) -> TextParts:
    """Cut a text at 800,000 and 1,000,000 tokens (a shorter one at 70 and 85 %), and give its words ids.

    A word that occurs three times or less becomes RARE_TOKEN, as does every word outside the vocabulary. `training`
    counts in the training part alone. `closed` counts in the whole text, as the paper's numbers imply: then the list
    of words, though nothing else, comes from the test part too.

    Raises:
        ValueError: no such vocabulary.
    """
    if vocabulary not in VOCABULARIES:
        raise ValueError(f"unknown vocabulary {vocabulary!r}; known: {', '.join(VOCABULARIES)}")
    first, second = _cuts(len(text.tokens))
    counted = text.tokens[:first] if vocabulary == TRAINING_VOCABULARY else text.tokens
    words = frequent_words(counted)
    known = Vocabulary((BOUNDARY, RARE_TOKEN, *words))
    ids = np.array([known.ids.get(token, known.ids[RARE_TOKEN]) for token in text.tokens], np.int32)
    return TextParts(known, ids[:first], ids[first:second], ids[second:])


def frequent_words(tokens: Sequence[str]) -> tuple[str, ...]:
    """Words of more than RARE occurrences, the most frequent first and then by name; the boundary stands apart."""
    counts = Counter(tokens)
    kept = (word for word, n in counts.items() if n > RARE and word not in (BOUNDARY, RARE_TOKEN))
    return tuple(sorted(kept, key=lambda word: (-counts[word], word)))


def tokenize(text: str) -> tuple[str, ...]:
    """Words and punctuation marks of plain text; an apostrophe or hyphen inside a word is part of it."""
    return tuple(re.findall(r"\w+(?:['’.,-]\w+)*|[^\w\s]", text))


def _cuts(n: int) -> tuple[int, int]:
    if n > (TRAINING_TOKENS + VALIDATION_TOKENS) * 1.05:  # Room for a test part.
        return TRAINING_TOKENS, TRAINING_TOKENS + VALIDATION_TOKENS
    return int(TRAINING_SHARE * n), int((TRAINING_SHARE + VALIDATION_SHARE) * n)


def _read(path: Path) -> tuple[tuple[str, ...], str]:
    try:
        if path.is_dir() or zipfile.is_zipfile(path):
            return _read_brown(path)
        check_regular(path)
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such file; give a path, {SMALL_TEXT!r} (made here) or {BROWN!r} (downloaded)"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a readable text") from None
    try:
        return tokenize(raw.decode("utf-8-sig")), hashlib.sha256(raw).hexdigest()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _read_brown(path: Path) -> tuple[tuple[str, ...], str]:
    """The tokens of the 500 tagged files, by name, and a hash of their contents, packed or not."""
    files = _zipped(path) if path.is_file() else _unpacked(path)
    if not files:
        raise ValueError(f"{path}: no file of the Brown corpus (ca01 to cr09) in it; give nltk's brown.zip or a text")
    contents = [files[name] for name in sorted(files)]
    try:
        tagged = [token for content in contents for token in content.decode("utf-8").split()]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not the Brown corpus as nltk packs it; give nltk's brown.zip") from None
    return tuple(token.rsplit("/", 1)[0] for token in tagged), hashlib.sha256(b"\0".join(contents)).hexdigest()


def _zipped(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if BROWN_FILE.fullmatch(name)]
            return {Path(name).name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, RuntimeError):
        raise ValueError(f"{path}: a damaged zip file; fetch it again") from None


def _unpacked(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if BROWN_FILE.fullmatch(file.name)}
