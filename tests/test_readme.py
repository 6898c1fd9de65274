"""The README's Python and its sweep file do what they say, and its notebook cell shows a table."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from experiments.sweeps.grids import sweep_from_dict
from mlp_lm.ideas import load_ideas
from tests.cli import sweep

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
    script.write_text(block)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, env=with_this_checkout()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def with_this_checkout() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_the_ideas_file_is_swept_against_built_in_entries(tmp_path):
    file = tmp_path / "my_ideas.py"
    file.write_text(IDEAS)
    choices = ["--init", "snug", "kaiming_tanh", "--activation", "log1p", "tanh"]
    short = ["--n-steps", "20", "--n-evaluations", "1", "--seeds", "1", "--hidden-size", "8"]
    out = str(tmp_path / "out")
    said = sweep("single", "--ideas", str(file), *choices, *short, "--out", out)
    assert (said.code, said.errors) == (0, "")
    assert "4 of 4 runs done" in said.output and "log1p" in said.output
    ideas = load_ideas(file)
    assert {name: set(added) for name, added in ideas.names.items()} == {
        "init": {"snug"}, "activation": {"log1p"}, "schedule": {"linear"}, "optimizer": {"signum"},
    }  # fmt: skip


def test_the_sweep_file_is_one():
    (text,) = (block for block in re.findall(r"(?:^    .*\n|^\n)+", README, flags=re.MULTILINE) if "[[study]]" in block)
    content = tomllib.loads("\n".join(line[4:] for line in text.splitlines()))
    assert len(sweep_from_dict(content, "my_sweep").grids[0]) == 15


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
