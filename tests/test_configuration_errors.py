"""Mistakes in a sweep file or on the command line: field, value and nearest right one, before JAX starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import assert_one_line, sweep

DIGITS = "9" * 400  # Which no float holds.

TOML = {
    "typo in an axis": ("hidden_sise = 3", "'hidden_sise'", "did you mean 'hidden_size'?"),
    "typo in seeds": ("seed = 3", "'seed'", "did you mean 'seeds'?"),
    "typo in a value": ("init = 'kaiming_tan'", "init 'kaiming_tan'", "did you mean 'kaiming_tanh'?"),
    "typo in a schedule": ("schedule = 'cosinus'", "schedule 'cosinus'", "did you mean 'cosine'?"),
    "text for a number": ("learning_rate = '0.1'", "learning_rate must be a number, got '0.1'"),
    "a fraction for a whole number": ("hidden_size = 10.5", "hidden_size must be a whole number, got 10.5"),
    "a truth value for a whole number": ("n_steps = true", "n_steps must be a whole number, got True"),
    "a number for a truth value": ("batch_norm = 1", "batch_norm must be True or False, got 1"),
    "a number for text": ("init = 3", "init must be text, got 3"),
    "a list in a list": ("hidden_size = [[8]]", "hidden_size must be a whole number, got [8]"),
    "a table": ("hidden_size = {a = 1}", "hidden_size: a range is { low = 0.01, high = 1.0, log = true }"),
    "half a range": ("hidden_size = {low = 1}", "hidden_size: a range is {", "got {'low': 1}"),
    "a range upside down": ("hidden_size = {low = 9, high = 1}", "hidden_size: a range goes from a lower to a higher"),
    "a log of zero": ("dropout = {low = 0, high = 0.5, log = true}", "dropout: a range with log starts above 0"),
    "a range of names": ("init = {low = 1, high = 2}", "init has no range; list its values"),
    "a range of halves": ("hidden_size = {low = 1.5, high = 4}", "hidden_size counts in whole numbers"),
    "a range too far": ("dropout = {low = 1.5, high = 4}", "dropout must be below 1"),
    "points of nothing": ("points = 8\nhidden_size = [3, 4]", "points 8: no axis has a range"),
    "no points": ("points = 0\nhidden_size = {low = 1, high = 4}", "points must be from 1", "got 0"),
    "a zip of one": ("zip = ['hidden_size']\nhidden_size = [3, 4]", "zip hidden_size: zip two axes or more"),
    "zips of two lengths": (
        "zip = ['hidden_size', 'block_size']\nhidden_size = [3, 4]\nblock_size = [1, 2, 3]",
        "zip hidden_size block_size: hidden_size has 2, block_size has 3; zipped axes need as many values each",
    ),
    "a zip of what is not there": (
        "zip = ['hidden_size', 'block_size']\nhidden_size = [3, 4]",
        "block_size is no list of values",
    ),
    "a zip of no list": ("zip = 'hidden_size'", "zip must be a list of axes"),
    "a date": ("hidden_size = 2020-01-01", "hidden_size must be a whole number"),
    "NaN": ("learning_rate = nan", "learning_rate must be a positive number, got nan"),
    "infinite": ("learning_rate = [0.1, inf]", "learning_rate must be a positive number, got inf"),
    "NaN momentum": ("momentum = nan", "momentum must be at least 0, got nan"),
    "negative": ("hidden_size = -1", "hidden_size must be at least 0, got -1"),
    "zero": ("block_size = 0", "block_size must be at least 1, got 0"),
    "momentum of one": ("momentum = 1.0", "momentum must be below 1, got 1.0"),
    "momentum with Adam": ("optimizer = 'adam'\nmomentum = 0.9", "momentum 0.9 is of sgd"),
    "Adam's epsilon without Adam": ("adam_epsilon = 1e-5", "adam_epsilon 1e-05 is of adam"),
    "no epsilon": ("optimizer = 'adam'\nadam_epsilon = 0", "adam_epsilon must be a positive number, got 0"),
    "an epsilon that no device holds": (
        "optimizer = 'adam'\nadam_epsilon = 1e-39",
        "adam_epsilon must be at least 1.2e-38",
    ),
    "a full batch in random order": (
        "batch_size = 0\nshuffle = true",
        "batch_size 0",
        "no dropout, token_noise, shuffle or",
    ),
    "an empty axis": ("hidden_size = []", "axis hidden_size is empty"),
    "no seeds": ("seeds = 0", "seeds must be at least 1, got 0"),
    "half a seed": ("seeds = 1.5", "seeds must be a whole number, got 1.5"),
    "10^9 cells": ("seeds = 1000000\nhidden_size = [8, 9]", "2,000,000 runs", "at most 1,000,000"),
    "nothing hidden": ("hidden_size = 0", "hidden_size 0", "direct"),
    "more evaluations than steps": ("n_steps = 5\nn_evaluations = 6", "n_evaluations 6 exceeds n_steps 5"),
    "too many steps": ("n_steps = 3_000_000_000", "n_steps must be at most 2147483647"),
    "a batch beyond the data": ("batch_size = 1_000_000", "batch_size 1000000 exceeds"),
    "weights beyond memory": ("hidden_size = 1_000_000_000", "hidden_size 1000000000", "GiB"),
    "a context beyond memory": ("block_size = 1_000_000_000", "block_size 1000000000", "GiB"),
    "tables nested 2,000 deep": (f"hidden_size = {'[' * 2000}{']' * 2000}", "cannot be read as TOML"),
    "a beaten name": ("name = 3", "name must be text, got 3"),
    **{
        f"400 digits for {name}": (f"{name} = {DIGITS}", part)
        for name, part in (
            ("hidden_size", "hidden_size must be at most"),
            ("learning_rate", "learning_rate must be a positive number, got inf"),
            ("seeds", "seeds must be at most 1,000,000"),
            ("first_seed", "seed must be at most"),
            ("momentum", "momentum must be at least 0, got inf"),
        )
    },
    "no TOML": ("= 3", "cannot be read as TOML"),
    "a key twice": ("n_steps = 3\nn_steps = 4", "cannot be read as TOML"),
}


@pytest.mark.parametrize("case", TOML.values(), ids=TOML.keys())
def test_sweep_files(tmp_path, case):
    line, *parts = case
    path = tmp_path / "mine.toml"
    path.write_text(f"[[study]]\n{line}\n")
    assert_one_line(sweep("--config", str(path), "--dry-run"), *parts)


WHOLE_FILES = {
    "empty": (b"", "no [[study]] table"),
    "typo in the table": (b"[[studies]]\nseeds = 1", "'studies'", "did you mean 'study'?"),
    "one table": (b"[study]\nseeds = 1", "no [[study]] table"),
    "typo at the top": (b"titel = 'x'\n[[study]]", "'titel'", "did you mean 'title'?"),
    "a number for the title": (b"title = 3\n[[study]]", "title must be text, got 3"),
    "a list of data": (b"data = ['a']\n[[study]]", "data must be one file or three (train, dev and test), got 1"),
    "a number for data": (b"data = 3\n[[study]]", "data must be text, got 3"),
    "not UTF-8": (b"title = '\xff'", "cannot be read as TOML"),
    "2,000 arrays in one another": (b"x = " + b"[" * 2000 + b"]" * 2000, "cannot be read as TOML"),
    "NUL": (b"title = '\0'", "cannot be read as TOML"),
}


@pytest.mark.parametrize("case", WHOLE_FILES.values(), ids=WHOLE_FILES.keys())
def test_whole_files(tmp_path, case):
    content, *parts = case
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert_one_line(sweep("--config", str(path), "--dry-run"), *parts, "mine.toml")


def test_files_that_are_none(tmp_path):
    assert_one_line(sweep("--config", str(tmp_path / "missing.toml")), "no such file")
    assert_one_line(sweep("--config", str(tmp_path)), "not a regular file")


FLAGS = {
    "unknown sweep": (["smok"], "unknown sweep 'smok'; did you mean 'smoke'?"),
    "unknown flag": (["--hiden-size", "3"], "--hiden-size", "did you mean '--hidden-size'?"),
    "unknown scheme": (["--init", "xavier_"], "did you mean 'xavier'?"),
    "text for a number": (["--n-steps", "many"], "n_steps must be a whole number, got 'many'"),
    "a range and a value": (["--learning-rate", "0.1:1", "0.5"], "learning_rate: a range stands alone"),
    "no end": (["--learning-rate", "0.1:"], "learning_rate '0.1:' is no range; give low:high or low:high:log"),
    "an unknown spacing": (["--learning-rate", "0.1:1:lin"], "learning_rate '0.1:1:lin' is no range"),
    "points of nothing": (["--points", "8"], "points 8: no axis has a range", "--learning-rate 0.01:1:log"),
    "a zip of an unknown axis": (["--zip", "hidden-sise", "init"], "'hidden_sise'; did you mean 'hidden_size'?"),
    "text for a truth value": (["--direct", "maybe"], "direct must be True or False, got 'maybe'"),
    "an axis without a value": (["--hidden-size"], "--hidden-size", "expected at least one argument"),
    "NaN": (["--learning-rate", "nan"], "learning_rate must be a positive number"),
    "no seeds": (["--seeds", "0"], "seeds must be at least 1, got 0"),
    "no workers": (["--workers", "0"], "workers must be at least 1, got 0"),
    "half a worker": (["--workers", "1.5"], "--workers", "'1.5'"),
    "two sweeps": (["smoke", "--config", "x.toml"], "either a sweep's name or --config", "'smoke'", "'x.toml'"),
    "the default and a file": (["default", "--config", "x.toml"], "either a sweep's name or --config"),
    "a list and a sweep": (["smoke", "--list"], "--list", "leave out a sweep's name"),
    "a list and an axis": (["--list", "--hidden-size", "3"], "--list", "leave out --hidden-size"),
    "more evaluations than steps": (["--n-evaluations", "7", "--n-steps", "6"], "n_evaluations 7 exceeds n_steps 6"),
    "nothing hidden": (["--hidden-size", "0"], "hidden_size 0", "direct"),
    "slice 0": (["--shard", "0/4"], "'0/4' is no slice", "3/64"),
    "slice 5 of 4": (["--shard", "5/4"], "'5/4' is no slice"),
    "no slice": (["--shard", "a"], "'a' is no slice"),
    "an address without Ray": (["--address", "x:1"], "--address is for --executor ray"),
    "slices on Ray": (["--executor", "ray", "--shard", "1/2"], "--shard and --executor ray"),
    "unknown executor": (["--executor", "dask"], "--executor", "'dask'"),
    "a flag given twice": (["--n-steps", "5", "--n-steps=6"], "--n-steps is given twice", "all its values"),
    "no data": (["--data", ""], "data is empty"),
    "no folder": (["--out", ""], "an empty path; give a folder"),
    "a sweep without a name": ([""], "unknown sweep ''"),
    "no address": (["--address", ""], "--address is for --executor ray"),
    "momentum that rounds to 1": (["--momentum", "0.99999999999"], "momentum must be below 1"),
    "a rate that is 0 in float32": (["--learning-rate", "1e-60"], "learning_rate must be at least 1.2e-38"),
    "a rate that is infinite in float32": (["--learning-rate", "1e60"], "at most 3.4e38"),
    "a hundred million layers": (["--n-layers", "100000000"], "n_layers must be at most 1000"),
    "a long name": (["--out", "x" * 300], "a name is too long for this file system; choose another folder"),
    **{f"400 digits for {flag}": ([flag, DIGITS], part) for flag, part in (
        ("--hidden-size", "hidden_size must be at most"), ("--gain", "gain must be at least 0, got inf"),
        ("--seeds", "seeds must be at most 1,000,000"), ("--first-seed", "seed must be at most"),
        ("--n-layers", "n_layers must be"),
    )},
    "two files of data": (["--data", "a", "b"], "data must be one file or three", "got 2"),
    "an empty argument": (["smoke", ""], "an argument is empty; leave it out"),
    "an abbreviated flag": (["--hidden", "8"], "unknown flag '--hidden'"),
    "an abbreviation of one": (["--dry"], "unknown flag '--dry'"),
    "a seed before the first": (["--first-seed", "-1"], "seed must be at least 0, got -1"),
    "no ideas": (["--ideas", "missing.py"], "missing.py: cannot be read", "give a Python file"),
    "10^9 cells": (["--seeds", "1000000000"], "seeds must be at most 1,000,000"),
    "a data name": (["--data", "ssa2019"], "ssa2019: no such file", "ssa2018"),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAGS.values(), ids=FLAGS.keys())
def test_flags(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, *parts = case
    assert_one_line(sweep(*flags), *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [["--hidden-size", "x"], ["smoke", "--dry-run"]])
def test_jax_is_not_imported(flags, tmp_path):
    script = f"import sys; from experiments.sweep import main; main({flags}); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flags", [("--seeds", "3", "--seeds=4"), ("--hidden-size", "8", "--hidden-size", "16")])
def test_a_flag_given_twice_is_refused(flags):
    assert_one_line(sweep("single", "--dry-run", *flags), f"{flags[0]} is given twice")


def test_a_sweep_file_that_names_another_folder_is_refused(tmp_path):
    path = tmp_path / "...toml"
    path.write_text("[[study]]\nhidden_size = 8\n")
    assert_one_line(sweep("--config", str(path), "--dry-run"), "give it a name such as my_sweep.toml")
