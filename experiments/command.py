"""What the small commands share: a wrong command line, or an input that cannot be used, is one line and code 2."""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from experiments.spec import near_match


def one_line_errors(name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Wrap a command's main function: ValueError and OSError become one line on stderr and exit code 2."""

    def wrap(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def command(*arguments) -> int:
            try:
                return main(*arguments)
            except (ValueError, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2

        return command

    return wrap


def command_parser(name: str, description: str, epilog: str | None = None) -> "Parser":
    """The parser of `python -m experiments.NAME`; the epilog keeps its lines."""
    form = argparse.RawDescriptionHelpFormatter
    return Parser(f"python -m experiments.{name}", description=description, epilog=epilog, formatter_class=form)


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError, naming the flag that was probably meant."""

    def add_folder(self, name: str = "folder", default: str = "results/default") -> None:
        """The sweep's folder that the command reads; `name` may be a flag."""
        nargs = None if name.startswith("-") else "?"
        text = f"the sweep's folder ({default})"
        self.add_argument(name, nargs=nargs, type=Path, default=Path(default), metavar="DIR", help=text)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage.

        Raises:
            ValueError: always.
        """
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if message.startswith("unrecognized") and unknown.startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            message = f"unknown flag {unknown!r}; {near_match(unknown, flags)}"
        raise ValueError(f"{message} (--help shows all flags)")
