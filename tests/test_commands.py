"""What all commands share: whoever reads their output, and whenever Ctrl-C comes, files are whole and errors civil."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest

from experiments import compare, ensemble, export, fetch, learning_rate, sample, scaling, sweep
from experiments.benchmark import __main__ as benchmark
from experiments.bengio2003 import __main__ as bengio2003
from experiments.cli.command import command
from experiments.initialisation import __main__ as initialisation
from experiments.lecture import __main__ as lecture
from experiments.report import __main__ as report
from tests.synthetic import synthetic_folder, synthetic_rows

FOLDER_COMMANDS = {
    "report": (report.main, lambda folder: [folder], "report.html"),
    "export": (export.main, lambda folder: ["--dir", folder, "--rows", f"{folder}/runs.csv"], "runs.csv"),
}
# A function that each command calls once it works, by the module that it looks it up in.
WORK = {
    "sweep": (sweep, "load_dataset", ["smoke", "--dry-run"]),
    "bengio2003": (bengio2003, "load_dataset", ["--dry-run"]),
    "report": (report, "write_report", ["x"]),
    "sample": (sample, "open_sweep", ["x"]),
    "ensemble": (ensemble, "open_sweep", ["x"]),
    "export": (export, "open_sweep", ["--dir", "x", "--rows", "x.csv"]),
    "fetch": (fetch, "fetch", ["s3://bucket/x", "x"]),
    "learning_rate": (learning_rate, "load_dataset", []),
    "initialisation": (initialisation, "open_sweep", []),
    "benchmark": (benchmark, "choose_device", []),
    "compare": (compare, "open_sweep", ["x", "y"]),
    "lecture": (lecture, "load_words", []),
    "scaling": (scaling, "open_sweep", ["x"]),
}


@pytest.fixture
def folder(tmp_path):
    return synthetic_folder(tmp_path, {"size": synthetic_rows({"hidden_size": [8, 16]}, 2, lambda hidden_size: 2.5)})


@pytest.mark.parametrize(("name", "flags"), [("report", []), ("report", ["--watch"]), ("export", [])])
def test_the_name_of_a_folder_reaches_the_terminal_escaped(tmp_path, name, flags, capsys):
    odd = tmp_path / "red\x1b[31m\nline"
    synthetic_folder(odd, {"size": synthetic_rows({"hidden_size": [8, 16]}, 2, lambda hidden_size: 2.5)})
    main, arguments, _ = FOLDER_COMMANDS[name]
    assert main([*arguments(str(odd)), *flags]) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output and r"red\x1b[31m\x0aline" in output


class Failing(io.StringIO):
    """An output of which every write fails."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def write(self, text: str) -> int:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("name", FOLDER_COMMANDS)
@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [(errno.EPIPE, 141, ""), (errno.ENOSPC, 2, "its output could not be written (No space left on device)")],
    ids=["closed pipe", "full disk"],
)
def test_an_output_that_fails_changes_no_file(folder, name, code, exit_code, message, monkeypatch, capsys):
    main, arguments, written = FOLDER_COMMANDS[name]
    assert main(arguments(str(folder))) == 0
    expected = (folder / written).read_bytes()
    (folder / written).unlink()
    monkeypatch.setattr(sys, "stdout", Failing(code))
    capsys.readouterr()
    assert main(arguments(str(folder))) == exit_code
    assert (folder / written).read_bytes() == expected
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == bool(message)


def test_what_an_encoding_lacks_is_written_as_an_escape(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", output)

    @command("example")
    def main(arguments, interruption):
        print("2.1 ± 0.1 │ “x”")
        return 0

    assert main([]) == 0
    output.flush()
    assert output.buffer.getvalue() == b"2.1 \\xb1 0.1 \\u2502 \\u201cx\\u201d\n"


def test_a_closed_standard_output_and_error_are_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    @command("example")
    def main(arguments, interruption):
        print("to nobody")
        raise ValueError("which nobody reads")

    assert main([]) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_real_streams():
    """A pipe whose reader has gone, a full device, and what is flushed when the process ends."""
    script = (
        "from experiments.cli.command import command\n@command('x')\ndef main(arguments, interruption):\n"
        "  for _ in range(9999): print(7)\n  return 0\nraise SystemExit(main([]))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, open(writer, "w") as closed:  # noqa: PTH123
        for stream, code, message in (
            (closed, 141, b""),
            (full, 2, b"x: its output could not be written (No space left"),
        ):
            done = subprocess.run([sys.executable, "-c", script], stdout=stream, stderr=subprocess.PIPE)
            assert done.returncode == code
            assert done.stderr.startswith(message)
            assert done.stderr.count(b"\n") == bool(message)


@pytest.mark.parametrize("name", WORK)
def test_ctrl_c_ends_every_command_with_one_line(name, tmp_path, monkeypatch, capsys):
    module, work, arguments = WORK[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, work, lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    assert module.main(arguments) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{name}: interrupted")
    assert said.err.count("\n") == 1


def test_commands_do_without_docstrings():
    modules = ", ".join(module.__name__ for module, *_ in WORK.values())
    script = f"import {modules}\nfor each in ({modules},):\n try: each.main(['--help'])\n except SystemExit: pass"
    done = subprocess.run([sys.executable, "-OO", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("usage: ") == len(WORK)


def test_ctrl_c_while_a_command_is_imported_leaves_no_traceback():
    """Python has set `sys.argv[0]` to `-m` while it looks for the module, and imports the package above it."""
    script = (
        "import signal, sys; sys.argv = {argv}; sys.orig_argv = ['python', *{argv}, {module!r}]; import experiments; "
        "sys.exit(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)"
    )
    cases = {("-m", "experiments.sample"): 1, ("-m", "somebodys.own"): 0, ("-c", "experiments.sample"): 0}
    for (argv, module), is_default in cases.items():
        text = script.format(argv=[argv], module=module)
        assert subprocess.run([sys.executable, "-c", text]).returncode == is_default
