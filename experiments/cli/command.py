"""What all commands share: the parser, one line for whatever is wrong, and interrupts."""

import argparse
import contextlib
import functools
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from experiments.runner.interrupt import Interrupted, Interruption
from experiments.runner.protocol import CannotContinue
from experiments.sweeps.text import printable
from mlp_lm.config import near_match
from mlp_lm.ideas import Ideas, load_ideas
from mlp_lm.settings import clean_own_environment

LONGEST_MESSAGE = 1_000
SAVED = "everything so far is saved; the same command goes on from here"


def complain(name: str, message: str) -> None:
    """A message of the command NAME on stderr, if there is one."""
    if message:
        print(f"{name}: {printable(message[:LONGEST_MESSAGE])}", file=sys.stderr)


class Output:
    """Standard output or error that cannot fail: its first error is kept, and what comes after that goes nowhere.

    What a command writes into files does not depend on who reads its output: a closed pipe, a full disk, and a terminal
    without the sign for plus or minus change no file.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        """Of a stream, or of none, where the descriptor was closed before this process began."""
        self._stream = stream or io.StringIO()
        self.error: OSError | None = None
        with contextlib.suppress(AttributeError):  # What the encoding lacks is written as an escape.
            self._stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or try to."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Pass on what has been written, or try to."""
        self._try(self._stream.flush)

    def _try(self, act: Callable[..., object], *arguments: str) -> None:
        try:
            act(*arguments)
        except OSError as error:
            self.error = self.error or error
            # What is left in the buffer goes there.
            with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


def command(name: str, saves: bool = False) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Wrap the main function of `python -m experiments.NAME`.

    Whatever is wrong becomes one line on stderr and exit code 2; Ctrl-C and SIGTERM end with 130 and 143, and a closed
    pipe, once everything else is done, with 141. With `saves`, an interrupted command says that it goes on from where
    it was. The function is called with the arguments and the Interruption.
    """

    def wrap(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def run(arguments: list[str] | None = None) -> int:
            clean_own_environment()
            output, errors = Output(sys.stdout), Output(sys.stderr)
            with (
                Interruption() as interruption,
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(errors),
            ):
                try:
                    code = main(arguments, interruption)
                except Interrupted:
                    complain(name, f"interrupted, {SAVED}" if saves else "interrupted")
                    return interruption.exit_code
                except (ValueError, OSError, CannotContinue) as error:
                    complain(name, _explanation(error))
                    return 2
                finally:
                    output.flush()
                if isinstance(output.error, BrokenPipeError):  # Of `| head`.
                    return code or 128 + signal.SIGPIPE
                if output.error:
                    complain(name, f"its output could not be written ({output.error.strerror}); all files are")
                    return code or 2
                return code

        return run

    return wrap


def _explanation(error: Exception) -> str:
    """What an exception says: an OSError names its file first, and has no number."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    return str(error)


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
        arguments = [action for action in self._actions if not action.option_strings]
        forms = {"?": "[{}]", "+": "{} ..."}
        names = [forms.get(str(one.nargs), "{}").format(one.metavar) for one in arguments]
        self.usage = " ".join(["%(prog)s", *names, "[flags]"])
        return super().format_help()

    def add_folder(self, name: str = "folder", default: str = "results/local/default") -> None:
        """The sweep's folder that the command reads, and where its ideas file is; `name` may be a flag."""
        nargs = None if name.startswith("-") else "?"
        text = f"the sweep's folder ({default})"
        self.add_argument(name, nargs=nargs, type=folder_path, default=Path(default), metavar="DIR", help=text)
        self.add_ideas("the ideas file of its runs, where it is no longer the path that the sweep was given")

    def add_ideas(self, help: str = "a Python file that adds schemes, schedules, optimisers or activations") -> None:
        """A file of the user's own schemes, schedules, optimisers and activations, loaded where it is parsed."""
        self.add_argument("--ideas", type=_ideas, metavar="FILE", help=help)

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse the command line, where argparse would let the second of two equal flags win in silence.

        Raises:
            ValueError: a flag is given twice, or something else is wrong.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
        gathered = [
            flag
            for action in self._actions
            if type(action).__name__ == "_AppendAction"
            for flag in action.option_strings
        ]
        for flag in flags:
            if flags.count(flag) > 1 and flag not in gathered:
                self.error(f"{flag} is given twice; give it once, with all its values")
        return super().parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage.

        Raises:
            ValueError: always.
        """
        unknown = message.removeprefix("unrecognized arguments: ").partition(" ")[0]
        if message.startswith("unrecognized") and not unknown:
            message = "an argument is empty; leave it out"
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
