"""Word lists of every kind through the command line: each works as documented, or gets one clear line."""

import gzip
import os
import socket

import pytest

from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.data.word_lists import read_word_list
from tests.cli import assert_one_line, sweep

NAMES = "\n".join(read_word_list()[0][:200]) + "\n"


def dry_run(path, *flags):
    return sweep("smoke", "--dry-run", "--data", str(path), "--out", f"{path}.out", *flags)


def words_of(raw: bytes, folder) -> tuple[str, ...]:
    path = folder / "words"
    path.write_bytes(raw)
    assert dry_run(path).code == 0
    return read_word_list(str(path))[0]


WORK = {
    "plain": (NAMES.encode(), "emma"),
    "no final newline": (NAMES.strip().encode(), "emma"),
    "many final newlines": ((NAMES + "\n\n\n").encode(), "emma"),
    "CRLF": (NAMES.replace("\n", "\r\n").encode(), "emma"),
    "CR alone": (NAMES.replace("\n", "\r").encode(), "emma"),
    "byte-order mark": (b"\xef\xbb\xbf" + NAMES.encode(), "emma"),
    "blanks around words": (NAMES.replace("\n", "\t \n").encode(), "emma"),
    "blanks inside words": (("mary ann\n" * 20).encode(), "mary ann"),
    "only duplicates": (b"emma\n" * 50, "emma"),
    "ten words": (b"emma\nolivia\nava\nmia\nzoe\nann\nida\neva\nkim\nleo\n", "emma"),
    "one character a word": (b"a\n" * 30, "a"),
    "numbers": (b"".join(b"%d\n" % n for n in range(100)), "0"),
    "punctuation": (b"a,b;c\n<x>&|y\n" * 20, "a,b;c"),
    "combining marks": ("e\u0301mile\n".encode() * 20, "e\u0301mile"),
    "right to left": ("שרה\nמרים\n".encode() * 20, "שרה"),
    "emoji of many code points": ("👩\u200d👩\u200d👧x\n".encode() * 20, "👩\u200d👩\u200d👧x"),
    "beyond the basic plane": ("𝒜𝒷\n".encode() * 20, "𝒜𝒷"),
    "control characters": (b"a\x07b\x1b[31mc\n" * 20, "a\x07b\x1b[31mc"),
    "form feed and Unicode line separator inside": ("a\x0cb\u2028c\n".encode() * 20, "a\x0cb\u2028c"),
    "a word of 1000 characters": (b"a" * 1000 + b"\n" + NAMES.encode(), "a" * 1000),
}


@pytest.mark.parametrize(("raw", "first"), WORK.values(), ids=WORK.keys())
def test_these_lists_work(tmp_path, raw, first):
    assert words_of(raw, tmp_path)[0] == first


REFUSED = {
    "empty": (b"", "no words in the file"),
    "blank lines only": (b"\n \n\t\n", "no words in the file"),
    "a byte-order mark only": (b"\xef\xbb\xbf", "no words in the file"),
    "one character": (b"a", "too few"),
    "two words": (b"emma\n" * 2, "too few"),
    "NUL": (b"emma\nol\0ivia\n" * 10, "line 2: a NUL character"),
    "invalid UTF-8": (b"emma\n\xff\xfe\n" * 10, "not UTF-8 text (byte 5 is 0xff)"),
    "Latin-1": ("zoé\n".encode("latin-1") * 20, "save it as UTF-8"),
    "UTF-16": (NAMES.encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (NAMES.encode("utf-16-le"), "NUL"),
    "gzip": (gzip.compress(NAMES.encode()), "compressed"),
    "zip": (b"PK\x03\x04" + bytes(100), "compressed"),
    "a line of 10 MB": (b"a" * 10_000_000, "10000000 characters; a word has at most 1000"),
    "a full stop inside a word": (b"emma\nst.john\n" * 10, "line 2: the word 'st.john' contains '.'"),
    "escape sequences and a full stop": (b"\x1b[31mred.\n" * 20, "contains '.'"),
    "an encoded surrogate": (b"\xed\xa0\x80a\n" * 20, "not UTF-8"),
}


@pytest.mark.parametrize(("raw", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_these_lists_get_one_line(tmp_path, raw, message):
    path = tmp_path / "words.txt"
    path.write_bytes(raw)
    assert_one_line(dry_run(path), str(path), message)
    assert not (tmp_path / "words.txt.out").exists()


def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert_one_line(dry_run(tmp_path / "fifo"), "not a regular file")


def test_other_things_than_files(tmp_path):
    assert_one_line(dry_run(tmp_path), "is a folder")
    assert_one_line(dry_run("/dev/zero"), "not a regular file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert_one_line(dry_run(tmp_path / "s"), "not a regular file")
    assert_one_line(dry_run(tmp_path / "missing"), "no such file", "ssa2018")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert_one_line(dry_run(tmp_path / "loop"), "cannot be read")
    assert_one_line(dry_run(tmp_path / ("x" * 300)), "cannot be read")
    assert_one_line(dry_run(tmp_path / "words" / "\0"), "cannot be read")


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "words.txt"
    path.write_text(NAMES)

    def forbidden(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "read_bytes", forbidden)  # The superuser may read everything.
    assert_one_line(dry_run(path), "cannot be read (Permission denied)")


def test_a_link_to_a_file_works(tmp_path):
    (tmp_path / "words.txt").write_text(NAMES)
    (tmp_path / "link").symlink_to(tmp_path / "words.txt")
    assert dry_run(tmp_path / "link").code == 0


def test_characters_unseen_in_training_are_in_the_vocabulary(tmp_path):
    # The whole list gives the vocabulary, as in the lecture: some of 100 single characters are in dev only.
    characters = [chr(0x4E00 + i) for i in range(100)]
    words = words_of("\n".join(characters).encode(), tmp_path)
    assert set(Vocabulary.of(words).tokens) == {".", *characters}


@pytest.mark.parametrize(
    "raw",
    [b"a\n" * 30, pytest.param(("中\n" * 15 + "文\n" * 15).encode(), marks=pytest.mark.long)],
    ids=["one character", "two characters"],
)
def test_a_degenerate_list_is_trained_to_its_end(tmp_path, raw):
    path = tmp_path / "words.txt"
    path.write_bytes(raw)
    said = sweep("smoke", "--data", str(path), "--out", str(tmp_path / "out"), "--hidden-size", "4", "--seeds", "1")
    assert said.code == 0
    assert all("tell little" in line for line in said.errors.splitlines()), said.errors  # A caution: few words.
    assert "1 of 1 run done" in said.output


def test_a_vocabulary_too_large_for_memory_gets_one_line(tmp_path, monkeypatch):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(chr(0x4E00 + i) + chr(0x4E00 + 3 * i) for i in range(3000)))
    monkeypatch.setattr("experiments.runner.plan.machine_memory", lambda: 2**28)
    said = dry_run(path, "--workers", "1")
    # 3 splits of float32 counts, on host and device: 24 bytes for each of some 6,000 contexts x 6,000 tokens.
    assert_one_line(said, "distinct contexts", "a worker has 0.2 GiB", "fewer words or different characters")
