"""Texts that cannot be read: each is refused in one line, soon, and whatever it holds."""

import os
import threading
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlp_lm.data.texts import read_text

TAGGED = b"The/at jury/nn said/vbd it/ppo ./.\n" * 40
METHODS = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "LZMA": zipfile.ZIP_LZMA}


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def refusal(path) -> str:
    """The message, which comes within seconds: a FIFO without a writer would be waited for."""
    messages = []

    def read():
        try:
            read_text(str(path))
        except ValueError as error:
            messages.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert not reader.is_alive(), "still reading"
    (message,) = messages
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["FIFO", "device"])
def test_what_never_ends_is_not_opened(tmp_path, make):
    make(tmp_path / "text")
    assert "is not a regular file; give nltk's brown.zip" in refusal(tmp_path / "text")


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "not a regular file"), (os.mkdir, "a folder")])
def test_a_folder_whose_file_is_none_is_refused(tmp_path, make, kind):
    (tmp_path / "ca01").write_bytes(TAGGED)
    make(tmp_path / "ca02")
    assert f"ca02 is {kind}" in refusal(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_whole_archives_are_read_and_damaged_ones_refused(tmp_path, method):
    content = bytes(range(33, 127)) * 400 + b" " + TAGGED
    path = write_zip(tmp_path / "brown.zip", [("brown/ca01", content)], METHODS[method])
    tokens, _ = read_text(str(path))
    assert tokens[-5:] == ("The", "jury", "said", "it", ".")
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + bytes(byte ^ 0xFF for byte in whole[60:90]) + whole[90:])
    assert "a damaged zip file; fetch it again" in refusal(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), method=st.sampled_from(sorted(METHODS)))
def test_any_damaged_byte_is_read_as_before_or_refused(tmp_path, place, byte, method):
    path = write_zip(tmp_path / "brown.zip", [("brown/ca01", TAGGED), ("brown/ca02", TAGGED)], METHODS[method])
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= byte
    path.write_bytes(content)
    try:
        tokens, _ = read_text(str(path))
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert set(tokens) <= {"The", "jury", "said", "it", "."}  # A date, or the name of one member.


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("brown/ca01", "brown/ca01"), ("one/ca01", "other/ca01")])
def test_two_members_of_one_name_are_refused(tmp_path, names):
    path = write_zip(tmp_path / "brown.zip", [(name, TAGGED) for name in names])
    assert "two files named ca01" in refusal(path)


def test_an_archive_that_unpacks_to_more_than_a_text_is_refused(tmp_path):
    zeros = bytes(22 << 20)
    path = write_zip(tmp_path / "brown.zip", [(f"ca0{i}", zeros) for i in range(3)])
    assert path.stat().st_size < 1 << 20
    assert "unpacks to more than 64 MiB" in refusal(path)
    with (tmp_path / "cb01").open("wb") as sparse:
        sparse.truncate(65 << 20)
    assert "more than 64 MiB" in refusal(tmp_path)


def test_an_archive_that_says_less_than_it_holds_is_refused(tmp_path):
    path = write_zip(tmp_path / "brown.zip", [("ca01", b"x/y " * 1000)])
    size = (4000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (40).to_bytes(4, "little")))
    assert "a damaged zip file" in refusal(path)
