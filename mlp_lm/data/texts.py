"""Running text: reading it as tokens, and its division in running order (Bengio et al. 2003, section 4)."""

import functools
import hashlib
import itertools
import random
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlp_lm.data.vocabulary import BOUNDARY, Vocabulary
from mlp_lm.data.word_lists import check_regular, download

SMALL_TEXT = "small"
SMALL_SENTENCES = 6_000
SMALL_SEED = 2003

# One expansion a line, `|` between alternatives; what has no rule of its own is a word.
_GRAMMAR = """
SENTENCE: SCENE . | SCENE . | SCENE , and SCENE . | PERSON said that SCENE . | when SCENE , SCENE .
SCENE: DOER ACT PLACE | DOER ACT PLACE TIME | the QUALITY DOING was in the ROOM | TIME DOER ACT | THING was on the SEAT
DOER: the ANIMAL | a ANIMAL | the QUALITY ANIMAL | PERSON | a QUALITY ANIMAL
ACT: was MOVING | is MOVING | SAW DOER | SAW the QUALITY ANIMAL | ATE the FOOD
PLACE: in the ROOM | in a ROOM | near the SEAT | behind the SEAT | across the ROOM
THING: the FOOD | a FOOD | the QUALITY FOOD
DOING: ANIMAL | FOOD
TIME: in the morning | at night | on Monday | on Friday | every day | in the evening | before noon
ANIMAL: dog | cat | horse | bird | mouse | fox | rabbit | sheep | goat | wolf | bear | duck
PERSON: Mary | John | Alice | Peter | Anna | Paul | Clara | Henry
MOVING: walking | running | sleeping | sitting | waiting | jumping | resting | hiding
SAW: saw | heard | followed | found | watched | chased
ATE: ate | stole | dropped | liked | wanted
FOOD: bread | cheese | apple | cake | soup | fish | corn | plum
ROOM: room | bedroom | kitchen | garden | barn | house | field | hall
SEAT: table | chair | bench | bed | fence | tree | door | window
QUALITY: small | old | young | grey | quiet | hungry | tired | brown | happy | big
"""

BROWN = "brown"
BROWN_URL = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/brown.zip"
BROWN_SHA256 = "9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6"
BROWN_FILE = re.compile(r"(?:.*/)?c[a-r]\d\d")
MAX_TEXT_BYTES = 64 << 20  # Unpacked; the Brown corpus has 10 MB.
PIECE = 4096  # Bytes read at once from an archive.
WANTED = "nltk's brown.zip or its folder, or a text in UTF-8"

TRAINING_TOKENS, VALIDATION_TOKENS = 800_000, 200_000  # Bengio et al. 2003, section 4.1; the rest is the test part.
TRAINING_SHARE, VALIDATION_SHARE = 0.7, 0.15  # Of a text too short for those.
FEWEST_TOKENS = 1_000
RARE = 3  # Words of this frequency or less become one token.
RARE_TOKEN = "<rare>"

TRAINING_VOCABULARY, CLOSED_VOCABULARY = "training", "closed"
VOCABULARIES = (TRAINING_VOCABULARY, CLOSED_VOCABULARY)


def read_text(source: str = SMALL_TEXT) -> tuple[tuple[str, ...], str]:
    """The tokens of the text named `small` (made here) or `brown` (downloaded once), or at a path, in running order.

    A folder or zip file is the Brown corpus as nltk packs it; any other file is plain text in UTF-8. Punctuation is
    kept, and upper and lower case are kept apart. Also returns a hash of the text.

    Raises:
        ValueError: the text cannot be had; the message says what to do.
    """
    if source == SMALL_TEXT:
        tokens = small_text()
        return tokens, hashlib.sha256("\n".join(tokens).encode()).hexdigest()
    return _read(download(BROWN_URL, BROWN_SHA256, "brown.zip") if source == BROWN else Path(source))


def cut_text(tokens: Sequence[str], source: str) -> dict[str, Sequence[str]]:
    """Cut a text at 800,000 and 1,000,000 tokens (a shorter one at 70 and 85 %) into `train`, `dev` and `test`.

    Raises:
        ValueError: fewer than 1,000 tokens.
    """
    n = len(tokens)
    if n < FEWEST_TOKENS:
        raise ValueError(f"{source}: {n:,} words are too few; give a text of at least {FEWEST_TOKENS:,}")
    first, second = int(TRAINING_SHARE * n), int((TRAINING_SHARE + VALIDATION_SHARE) * n)
    if n > (TRAINING_TOKENS + VALIDATION_TOKENS) * 1.05:  # Room for a test part.
        first, second = TRAINING_TOKENS, TRAINING_TOKENS + VALIDATION_TOKENS
    return {"train": tokens[:first], "dev": tokens[first:second], "test": tokens[second:]}


def word_vocabulary(parts: Mapping[str, Sequence[str]], counted: str = TRAINING_VOCABULARY) -> Vocabulary:
    """The boundary, RARE_TOKEN, and the words that occur more than three times; all other words become RARE_TOKEN.

    `training` counts words in the training part alone. `closed` counts them in all parts, as the numbers of Bengio et
    al. 2003 imply: then the list of words, though nothing else, comes from the test part too.

    Raises:
        ValueError: no such way to count.
    """
    if counted not in VOCABULARIES:
        raise ValueError(f"unknown vocabulary {counted!r}; known: {', '.join(VOCABULARIES)}")
    tokens = parts["train"] if counted == TRAINING_VOCABULARY else itertools.chain.from_iterable(parts.values())
    return Vocabulary((BOUNDARY, RARE_TOKEN, *frequent_words(tokens)))


def frequent_words(tokens: Iterable[str]) -> tuple[str, ...]:
    """Words of more than RARE occurrences, the most frequent first and then by name; the boundary stands apart."""
    counts = Counter(tokens)
    kept = (word for word, n in counts.items() if n > RARE and word not in (BOUNDARY, RARE_TOKEN))
    return tuple(sorted(kept, key=lambda word: (-counts[word], word)))


def tokenize(text: str) -> tuple[str, ...]:
    """Words and punctuation marks of plain text; an apostrophe or hyphen inside a word is part of it."""
    return tuple(re.findall(r"\w+(?:['’.,-]\w+)*|[^\w\s]", text))


def _read(path: Path) -> tuple[tuple[str, ...], str]:
    try:
        if path.is_dir():
            return _read_brown(path, _unpacked(path))
        check_regular(path, WANTED)  # Before it is opened: a FIFO would wait for its writer, a device never ends.
        if zipfile.is_zipfile(path):
            return _read_brown(path, _zipped(path))
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


def _read_brown(path: Path, files: Mapping[str, bytes]) -> tuple[tuple[str, ...], str]:
    """The tokens of the 500 tagged files, by name, and a hash of their contents, packed or not."""
    if not files:
        raise ValueError(f"{path}: no file of the Brown corpus (ca01 to cr09) in it; give nltk's brown.zip or a text")
    contents = [files[name] for name in sorted(files)]
    try:
        tagged = [token for content in contents for token in content.decode("utf-8").split()]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not the Brown corpus as nltk packs it; give nltk's brown.zip") from None
    return tuple(token.rsplit("/", 1)[0] for token in tagged), hashlib.sha256(b"\0".join(contents)).hexdigest()


def _zipped(path: Path) -> dict[str, bytes]:
    """The corpus's files in an archive, by name without folders."""
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if BROWN_FILE.fullmatch(member.filename)]
            names = [Path(member.filename).name for member in members]
            twice = next((name for name in names if names.count(name) > 1), None)
            size = sum(member.file_size for member in members)
            if twice is None and size <= MAX_TEXT_BYTES:
                # In small pieces, of which no more is unpacked than the size that the archive declares.
                for name, member in zip(names, members, strict=True):
                    with archive.open(member) as file:
                        files[name] = b"".join(iter(functools.partial(file.read, PIECE), b""))
    except Exception:  # A damaged archive can provoke anything: zlib.error, LZMAError, EOFError, NotImplementedError...
        raise ValueError(f"{path}: a damaged zip file; fetch it again") from None
    if twice is not None:
        raise ValueError(f"{path}: two files named {twice} in it; give nltk's brown.zip as it is")
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"{path}: unpacks to more than {MAX_TEXT_BYTES >> 20} MiB; give nltk's brown.zip as it is")
    return files


def _unpacked(path: Path) -> dict[str, bytes]:
    files = {file.name: file for file in path.iterdir() if BROWN_FILE.fullmatch(file.name)}
    for file in files.values():
        check_regular(file, "nltk's folder of the Brown corpus as it is unpacked")
    if sum(file.stat().st_size for file in files.values()) > MAX_TEXT_BYTES:
        raise ValueError(f"{path}: more than {MAX_TEXT_BYTES >> 20} MiB; give nltk's folder of the Brown corpus")
    return {name: file.read_bytes() for name, file in files.items()}


@functools.cache
def small_text() -> tuple[str, ...]:
    """A small text of plain English sentences, made here from a grammar, the same on every machine.

    Words of one kind occur in the same positions, so a model that learns which words are alike can judge sentences it
    never saw: the "dog was running in a room" of Bengio et al. 2003, section 1.
    """
    rules = dict(line.split(": ", 1) for line in _GRAMMAR.strip().splitlines())
    choices = {name: [option.split() for option in options.split(" | ")] for name, options in rules.items()}
    rng = random.Random(SMALL_SEED)

    def expand(symbol: str) -> list[str]:
        if symbol not in choices:
            return [symbol]
        return [token for part in rng.choice(choices[symbol]) for token in expand(part)]

    return tuple(token for _ in range(SMALL_SENTENCES) for token in expand("SENTENCE"))
