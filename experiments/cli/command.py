"""What all commands share: the parser, one line for whatever is wrong, and interrupts."""

import argparse
import errno
import functools
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from experiments.runner.interrupt import Interrupted, Interruption
from experiments.runner.protocol import CannotContinue, first_line
from experiments.sweeps.text import printable
from mlp_lm.config import near_match
from mlp_lm.ideas import Ideas, load_ideas
from mlp_lm.settings import clean_own_environment

SAVED = "everything so far is saved; the same command goes on from here"


def complain(name: str, message: str) -> None:
    """A message of the command NAME on stderr, if there is one."""
    if message:
        print(f"{name}: {printable(message)}", file=sys.stderr)


def command(name: str, saves: bool = False) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Wrap the main function of `python -m experiments.NAME`.

    Whatever is wrong becomes one line on stderr and exit code 2; Ctrl-C and SIGTERM end with 130 and 143, a closed pipe
    with 141. With `saves`, an interrupted command says that it goes on from where it was. The function is called with
    the arguments and the Interruption.
    """

    def wrap(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def run(arguments: list[str] | None = None) -> int:
            clean_own_environment()
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # What an ASCII terminal cannot show.
            with Interruption() as interruption:
                try:
                    code = main(arguments, interruption)
                    sys.stdout.flush()
                    return code
                except Interrupted:
                    complain(name, f"interrupted, {SAVED}" if saves else "interrupted")
                    return interruption.exit_code
                except BrokenPipeError:  # Of `| head`.
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    return 128 + signal.SIGPIPE
                except (ValueError, OSError, CannotContinue) as error:
                    # Ours are one line, but for names of files that are not.
                    text = str(error) if isinstance(error, ValueError) else first_line(error)
                    complain(name, _UNPRINTED if _is_of_output(error) else text)
                    return 2

        return run

    return wrap


_UNPRINTED = "the output cannot be written, for no space is left there; files that the command makes are whole"


def _is_of_output(error: Exception) -> bool:
    """Whether it is of a print: errors of files have a name or an explanation."""
    return type(error) is OSError and error.errno == errno.ENOSPC and error.filename is None


def command_parser(name: str, description: str, epilog: str | None = None) -> "Parser":
    """The parser of `python -m experiments.NAME`; the epilog keeps its lines."""
    prog = f"python -m experiments.{name}"
    return Parser(prog, description=description, epilog=epilog, formatter_class=HelpFormatter, allow_abbrev=False)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """`--seeds INT ...` where argparse would write `--seeds INT [INT ...]`."""

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        text = super()._format_args(action, default_metavar)
        return f"{text.split()[0]} ..." if action.nargs == argparse.ONE_OR_MORE else text


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError, naming the flag that was probably meant."""

    def format_help(self) -> str:
        """The help, whose usage leaves flags to their lists below it."""
        places = [action for action in self._actions if not action.option_strings]
        names = [f"[{one.metavar}]" if one.nargs == "?" else str(one.metavar) for one in places]
        self.usage = " ".join(["%(prog)s", *names, "[flags]"])
        return super().format_help()

    def add_folder(self, name: str = "folder", default: str = "results/local/default") -> None:
        """The sweep's folder that the command reads; `name` may be a flag."""
        nargs = None if name.startswith("-") else "?"
        text = f"the sweep's folder ({default})"
        self.add_argument(name, nargs=nargs, type=folder_path, default=Path(default), metavar="DIR", help=text)

    def add_ideas(self) -> None:
        """A file of the user's own schemes, schedules, optimisers and activations, loaded where it is parsed."""
        text = "a Python file that adds schemes, schedules, optimisers or activations"
        self.add_argument("--ideas", type=_ideas, metavar="FILE", help=text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but a flag given twice, of which the first would be lost, is refused."""
        given = [text.partition("=")[0] for text in (sys.argv[1:] if args is None else args) if text.startswith("--")]
        for flag in dict.fromkeys(given):
            if given.count(flag) > 1 and flag in self._option_string_actions:
                self.error(f"{flag} is given twice; give it once, with several values behind it where it takes them")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage.

        Raises:
            ValueError: always.
        """
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if message.startswith("unrecognized") and unknown.startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            message = f"unknown flag {unknown!r}; {near_match(unknown.partition('=')[0], flags)}"
        raise ValueError(f"{message} (--help shows all flags)")


def _ideas(path: str) -> Ideas:
    try:
        return load_ideas(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def folder_path(text: str) -> Path:
    """A folder's path.

    Raises:
        ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty path; give a folder")
    return Path(text)


def positive(text: str) -> int:
    """A whole number of at least 1, as a flag's type.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text[:40]!r}")
    return int(text)
