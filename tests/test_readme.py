"""The README's Python and its sweep file do what they say, and its notebook cell shows a table."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from experiments.analysis.results import open_sweep
from experiments.runner.protocol import Progress
from experiments.runner.rows import SCHEMA
from experiments.store import Store
from experiments.sweeps.grids import sweep_from_dict
from mlp_lm.data import dataset
from mlp_lm.data.word_lists import read_word_list
from mlp_lm.ideas import load_ideas
from tests.cli import FEW_WORDS, QUICK_XLA_FLAGS, sweep_here, train_here
from tests.synthetic import STORE_COLUMNS, synthetic_row

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
IDEAS, *PROGRAMS = BLOCKS


def test_there_are_blocks_for_ideas_training_sweeping_and_the_model():
    assert "SCHEMES[" in IDEAS
    for block, call in zip(PROGRAMS, ("train(", "run_sweep(", "forward("), strict=True):
        assert call in block


@pytest.mark.parametrize("block", PROGRAMS, ids=["train", "run_sweep", "forward"])
def test_a_block_runs_as_a_script_without_a_main_guard(tmp_path, block):
    script = tmp_path / "block.py"
    script.write_text(block.replace("n_steps=2000", "n_steps=20").replace("n_steps=500", "n_steps=20"))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, env=with_this_checkout()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def with_this_checkout() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK_XLA_FLAGS}  # Which no worker takes over.


def test_the_ideas_file_is_swept_against_built_in_entries(tmp_path):
    file = tmp_path / "my_ideas.py"
    file.write_text(IDEAS)
    choices = ["--init", "snug", "kaiming_tanh", "--activation", "log1p", "tanh"]
    short = ["--n-steps", "20", "--n-evaluations", "1", "--seeds", "1", "--hidden-size", "8"]
    out = str(tmp_path / "out")
    said = sweep_here("single", "--data", str(FEW_WORDS), "--ideas", str(file), *choices, *short, "--out", out)
    assert (said.code, said.complaints) == (0, "")
    assert "4 of 4 runs done" in said.output and "log1p" in said.output
    ideas = load_ideas(file)
    assert {name: set(added) for name, added in ideas.names.items()} == {
        "init": {"snug"}, "activation": {"log1p"}, "schedule": {"linear"}, "optimizer": {"signum"},
    }  # fmt: skip


def sweep_file() -> str:
    """The README's sweep in TOML."""
    (text,) = (block for block in re.findall(r"(?:^    .*\n|^\n)+", README, flags=re.MULTILINE) if "[[study]]" in block)
    return "\n".join(line[4:] for line in text.splitlines())


def test_the_sweep_file_is_one():
    assert len(sweep_from_dict(tomllib.loads(sweep_file()), "my_sweep").grids[0]) == 15


def test_a_notebook_cell_runs_a_sweep_and_shows_its_table(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        "from experiments import Grid, run_sweep\n"
        "run_sweep(Grid(hidden_size=[8, 16], n_steps=20, n_evaluations=1), seeds=2, out='out')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (shown,) = (output for output in notebook.cells[0].outputs if output.output_type == "execute_result")
    assert "<table>" in shown["data"]["text/html"] and "hidden_size" in shown["data"]["text/html"]
    assert "4 of 4 runs" in shown["data"]["text/plain"]


# What makes a command of the README small: it is the same command otherwise.
SHORT = "--n-steps 20 --n-evaluations 1 --seeds 1 --hidden-size 4 --embedding-dim 2 --block-size 2 --batch-size 16"
SHORT += " --init normal kaiming_tanh --batch-norm False"
SMALL = {
    "sweep": SHORT.split(),
    "learning_rate": ["--steps", "50", "--seeds", "1", "--hidden-size", "4", "--embedding-dim", "2"],
    "bengio2003": ["--models", "MLP9", "--seeds", "1", "--epochs", "0.02"],
    "initialisation": ["--part", "sweeps"],
    "ensemble": ["--top", "2"],
    "sample": [],
    "scaling": [],
    "export": [],
    "report": [],
    "compare": [],
}
PUBLISHED_ALIKE = ["results/records", "results/records-noise"]  # Two folders with configurations in common.
ELSEWHERE = ("s3://", "gs://", "$", "ray", "/shared")  # Buckets and clusters are not here.


def commands() -> list[list[str]]:
    """The commands of the README that this machine can run, in their order, as lists of words."""
    lines = re.findall(r"python -m experiments\.[^`#\n]*", README)
    return [line.split()[2:] for line in lines if not any(word in line for word in ELSEWHERE)]


def smaller(words: list[str], small: list[str]) -> list[str]:
    """A command with flags that make it small, but for those that it has itself."""
    starts = [i for i, word in enumerate(small) if word.startswith("--")]
    groups = [small[start:end] for start, end in zip(starts, [*starts[1:], None], strict=False)]
    unwanted = {
        *words,
        *(["--seeds"] if "--until" in words else []),
        *(["--hidden-size"] if "scaling" in words else []),
    }
    return words + [word for group in groups if group[0] not in unwanted for word in group]


def train_few_here(cohorts, job, slots, stopping):
    """An executor in this process: it trains where weights are read later, and elsewhere makes rows up."""
    store = Store(job.root)
    for cohort in cohorts:
        if store.root.name in ("default", "bengio2003-small"):
            yield from train_here([cohort], job, slots)
        else:
            rows = [synthetic_row(run, 2.0 + run.seed / 100 + 1 / run.hidden_size) for run in cohort.runs]
            kept = [{name: value for name, value in row.items() if name not in STORE_COLUMNS} for row in rows]
            store.write(cohort.cohort_id, kept, {}, SCHEMA)
            yield Progress(cohort, rows=tuple(rows))


@pytest.fixture
def few_words_for_all(monkeypatch):
    """Few words in place of the named lists, of which one would have to be downloaded."""
    named = ("ssa2018", "makemore")
    monkeypatch.setattr(
        dataset, "read_word_list", lambda source: read_word_list(str(FEW_WORDS) if source in named else source)
    )
    dataset._load.cache_clear()
    yield
    dataset._load.cache_clear()


@pytest.mark.usefixtures("few_words_for_all", "tables")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_after_all_commands_of_the_readme_a_fresh_clone_is_clean(tmp_path, monkeypatch, capsys, few_words):
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, tmp_path / "clone"], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setattr("experiments.runner.run.execute", train_few_here)
    monkeypatch.setattr("experiments.analysis.ensembles.LIST_ORDERS", (2, 3))
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: Image.new("RGB", (9, 9)).save(file, "png"))
    files = {
        "my_words.txt": "\n".join(few_words),
        "train.txt": "\n".join(few_words[:300]),
        "dev.txt": "\n".join(few_words[300:350]),
        "test.txt": "\n".join(few_words[350:]),
        "my_text.txt": "the cat saw a dog . " * 300,
        "my_ideas.py": IDEAS,
        "my_sweep.toml": sweep_file().replace("makemore", "ssa2018"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    stand_ins = {name: str(tmp_path / name) for name in files}
    stand_ins |= {"brown": "small", "DIR": "results/local/initialisation", "50000": "200"}
    done = set()
    for program, *words in commands():
        name = program.removeprefix("experiments.")
        if name not in SMALL or "--help" in words:
            continue
        if name == "sweep" and not words:
            words = ["--seeds", "2"]  # Its configurations are compared later.
        if words == ["DIR", "DIR"]:
            words = PUBLISHED_ALIKE
        if "RUN_ID" in words:
            stand_ins["RUN_ID"] = open_sweep("results/local/default").best["run_id"]
        arguments = [stand_ins.get(word, word) for word in smaller(words, [] if "--list" in words else SMALL[name])]
        module = program if (ROOT / "experiments" / f"{name}.py").exists() else f"{program}.__main__"
        assert importlib.import_module(module).main(arguments) == 0, (program, words, capsys.readouterr().err)
        done.add(name)
        if name == "report":  # Which is there to write this one file.
            subprocess.run(["git", "checkout", "--quiet", f"{words[0]}/report.html"], check=True)
    assert done == SMALL.keys()
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    # What a command was told to write beside the results is the user's own.
    assert {line[3:] for line in status.splitlines()} <= {"model.safetensors", "runs.csv"}
