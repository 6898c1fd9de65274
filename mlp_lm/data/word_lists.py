"""Word lists: reading one, and its random division into training, dev and test words."""

import hashlib
import random
import stat
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from mlp_lm.data.vocabulary import BOUNDARY

DEFAULT_DATA = "ssa2018"  # See mlp_lm/data/README.md for its source.
MAKEMORE_DATA = "makemore"
MAKEMORE_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
MAKEMORE_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
SPLIT_SEED = 42  # The lecture's.
MAX_WORD_LENGTH = 1000  # A longer line is a file of another kind, not a word.
OTHER_KINDS = {  # What a file of another kind begins with, and what to do with it.
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "compressed (gzip); decompress it first",
    b"PK\x03\x04": "compressed (zip); decompress it first",
    b"\xfd7zXZ\0": "compressed (xz); decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed (zstd); decompress it first",
}


def read_word_list(source: str = DEFAULT_DATA) -> tuple[tuple[str, ...], str]:
    """The words of the list named `ssa2018` (embedded) or `makemore` (downloaded once), or of the file at a path.

    Duplicates and order are kept. Also returns the file's sha256.

    Raises:
        ValueError: the list cannot be had or is not a UTF-8 word list; the message says what to do.
    """
    if source == DEFAULT_DATA:
        raw = resources.files("mlp_lm.data").joinpath("ssa2018.txt").read_bytes()
    elif source == MAKEMORE_DATA:
        raw = download(MAKEMORE_URL, MAKEMORE_SHA256, "names.txt").read_bytes()
    else:
        raw = _read_file(Path(source))
    return parse_words(raw, source), hashlib.sha256(raw).hexdigest()


def parse_words(raw: bytes, source: str) -> tuple[str, ...]:
    """One word a line, UTF-8; a byte-order mark, surrounding blanks and empty lines are dropped.

    Raises:
        ValueError: not UTF-8 text, no word at all, or a line that cannot be a word.
    """
    for beginning, kind in OTHER_KINDS.items():
        if raw.startswith(beginning):
            raise ValueError(f"{source}: {kind}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source}: not UTF-8 text (byte {error.start} is {raw[error.start]:#04x}); save it as UTF-8"
        ) from None
    # Only newlines end a word: splitlines() would also cut at form feeds and Unicode separators.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        _check_word(line.strip(), f"{source}, line {number}")
    words = tuple(word for line in lines if (word := line.strip()))
    if not words:
        raise ValueError(f"{source}: no words in the file; give a UTF-8 list with one word a line")
    return words


def split_words(words: Sequence[str], seed: int = SPLIT_SEED) -> dict[str, tuple[str, ...]]:
    """Shuffle with `random.Random(seed)` and cut at 80 % and 90 %, as the makemore lectures do.

    Returns the words of `train`, `dev` and `test`.

    Raises:
        ValueError: too few words for each part to have one.
    """
    shuffled = list(words)
    random.Random(seed).shuffle(shuffled)
    first, second = int(0.8 * len(shuffled)), int(0.9 * len(shuffled))
    split = {"train": shuffled[:first], "dev": shuffled[first:second], "test": shuffled[second:]}
    if not all(split.values()):
        raise ValueError(f"{len(shuffled)} words are too few to split 80/10/10; give at least 10")
    return {part: tuple(words) for part, words in split.items()}


def _check_word(word: str, where: str) -> None:
    if BOUNDARY in word:
        raise ValueError(
            f"{where}: the word {word[:40]!r} contains {BOUNDARY!r}, which marks the word boundary; remove it"
        )
    if "\0" in word:
        raise ValueError(f"{where}: a NUL character; this is not a text file with one word a line")
    if len(word) > MAX_WORD_LENGTH:
        raise ValueError(f"{where}: {len(word)} characters; a word has at most {MAX_WORD_LENGTH}, one word a line")


def _read_file(path: Path) -> bytes:
    check_regular(path, "a UTF-8 list with one word a line")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such file; give a path, {DEFAULT_DATA!r} (embedded) or {MAKEMORE_DATA!r} (downloaded)"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read ({reason}); give a readable word list") from None


def check_regular(path: Path, wanted: str) -> None:
    """Refuse what is no regular file, before reading it, and say what is `wanted` instead.

    Raises:
        ValueError: a folder, a FIFO, a device, or a name that no result could hold.
    """
    if any(0xD800 <= ord(c) < 0xE000 for c in str(path)):  # Bytes that are no UTF-8; no result could name the file.
        raise ValueError(f"{path}: a name that is not UTF-8; rename the file")
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # Reading it says what is wrong.
        return
    if not stat.S_ISREG(mode):  # Reading a FIFO would wait for its writer.
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ValueError(f"{path} is {kind}; give {wanted}")


def download(url: str, sha256: str, file_name: str) -> Path:
    """A file kept in the user's cache folder, downloaded at the first time and checked by its hash.

    Raises:
        ValueError: it cannot be had.
    """
    # Only needed here, and slow to import.
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    folder = pooch.os_cache("mlp-lm")
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", file_name, path=folder))
    except (requests.RequestException, OSError, ValueError) as error:
        raise ValueError(
            f"{file_name} could not be downloaded ({type(error).__name__}); fetch {url} elsewhere, and save it as "
            f"{folder / file_name}"
        ) from None
