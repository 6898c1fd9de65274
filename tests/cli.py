"""The sweep command in this process: its exit code, and what it said."""

import contextlib
import io
from typing import NamedTuple

from experiments.sweep import main


class Said(NamedTuple):
    code: int
    output: str
    errors: str


def sweep(*arguments: str) -> Said:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(list(arguments))
    return Said(code, output.getvalue(), errors.getvalue())


def assert_one_line(said: Said, *parts: str) -> None:
    """Refused with code 2 and one line that holds these parts and nothing that acts on a terminal."""
    assert (said.code, said.output) == (2, "")
    assert said.errors.startswith("sweep: ")
    assert said.errors.endswith("\n")
    assert said.errors[:-1].isprintable(), said.errors
    for part in parts:
        assert part in said.errors
