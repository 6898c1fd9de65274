"""Weights that PyTorch loads, and rows that other tools read."""

import csv
import itertools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.analysis.results import open_sweep
from experiments.export import export_rows, export_tensorboard
from experiments.export import main as export
from mlp_lm.config import Architecture
from mlp_lm.initializers import init_params
from mlp_lm.model import Moments, Params, forward
from mlp_lm.schemes import SCHEMES
from mlp_lm.weights import state_dict
from tests.synthetic import synthetic_rows

ARCHITECTURES = [
    Architecture(27, 3, 10, 50),
    Architecture(27, 5, 4, 30, n_layers=3, batch_norm=True),
    Architecture(27, 2, 3, 20, n_layers=2, direct=True),
    Architecture(27, 2, 3, 0, direct=True),
]


def torch_module(architecture: Architecture):
    """The module that mlp_lm/weights.py describes, written from its description alone."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its forward pass cannot be compared")

    class Network(torch.nn.Module):
        def __init__(self, a: Architecture):
            super().__init__()
            widths = [a.block_size * a.embedding_dim] + [a.hidden_size] * a.n_layers
            pairs = list(itertools.pairwise(widths))
            self.embedding = torch.nn.Embedding(a.vocab_size, a.embedding_dim)
            self.hidden = torch.nn.ModuleList(torch.nn.Linear(i, o, bias=not a.batch_norm) for i, o in pairs)
            norms = [torch.nn.BatchNorm1d(o) for _, o in pairs] if a.batch_norm else []
            self.norms = torch.nn.ModuleList(norms)
            self.output = torch.nn.Linear(a.hidden_size, a.vocab_size)
            self.direct = torch.nn.Linear(widths[0], a.vocab_size, bias=False) if a.direct else None

        def forward(self, contexts):
            x = features = self.embedding(contexts).flatten(1)
            for i, layer in enumerate(self.hidden):
                x = layer(x)
                x = torch.tanh(self.norms[i](x) if self.norms else x)
            return self.output(x) + (self.direct(features) if self.direct is not None else 0)

    return torch, Network(architecture).eval()


def torch_logits(architecture: Architecture, tensors, contexts) -> np.ndarray:
    torch, module = torch_module(architecture)
    module.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in tensors.items()})
    with torch.no_grad():
        return module(torch.as_tensor(contexts.astype(np.int64))).numpy()


def random_moments(params: Params) -> tuple[Moments, ...]:
    rng = np.random.default_rng(0)
    draws = [rng.standard_normal((2, len(norm.gain))).astype(np.float32) for norm in params.norms]
    return tuple(Moments(jnp.asarray(mean), jnp.asarray(spread**2 + 0.5)) for mean, spread in draws)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_pytorch_computes_the_same_logits(architecture):
    params = init_params(jax.random.key(3), SCHEMES["kaiming_tanh"], architecture)
    moments = random_moments(params)
    contexts = np.random.default_rng(1).integers(0, 27, (64, architecture.block_size)).astype(np.int32)
    own = np.asarray(jax.jit(lambda *arguments: forward(*arguments).logits)(params, jnp.asarray(contexts), moments))
    theirs = torch_logits(architecture, state_dict(params, moments), contexts)
    np.testing.assert_allclose(theirs, own, atol=1e-5)


@pytest.fixture
def folder(normed_folder) -> Path:
    return normed_folder


def test_a_trained_run_is_exported_whole(folder, tmp_path):
    load_file = pytest.importorskip("safetensors.torch", reason="PyTorch is not installed").load_file
    finished = open_sweep(folder)
    row = finished.best
    path = tmp_path / "model.safetensors"
    assert export([row["run_id"][:10], "--dir", str(folder), "--out", str(path)]) == 0
    params, moments = finished.load_model(row)
    contexts = np.random.default_rng(1).integers(0, 27, (64, row["block_size"])).astype(np.int32)
    architecture = Architecture(27, row["block_size"], row["embedding_dim"], row["hidden_size"], batch_norm=True)
    theirs = torch_logits(architecture, load_file(path), contexts)
    np.testing.assert_allclose(theirs, np.asarray(forward(params, jnp.asarray(contexts), moments).logits), atol=1e-5)


def test_the_file_tells_its_run_and_tokens(folder, tmp_path):
    import safetensors

    row = open_sweep(folder).best
    path = tmp_path / "model.safetensors"
    assert export([row["run_id"], "--dir", str(folder), "--out", str(path)]) == 0
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert json.loads(metadata["run"])["dev_loss"] == row["dev_loss"]
    assert json.loads(metadata["tokens"])[:3] == [".", "a", "b"]


def test_rows_are_the_same_in_csv_and_parquet(tmp_path):
    rows = synthetic_rows({"hidden_size": (50, 100)}, 3, lambda **_: 2.0, 0.1)
    rows[0]["device"] = "=cmd()"
    export_rows(rows, tmp_path / "rows.parquet")
    export_rows(rows, tmp_path / "rows.csv")
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == rows
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["dev_loss"]) for row in read] == [row["dev_loss"] for row in rows]
    assert [json.loads(row["history_dev_loss"]) for row in read] == [row["history_dev_loss"] for row in rows]
    assert read[0]["device"] == "'=cmd()"  # A spreadsheet would run it.


def test_tensorboard_gets_every_run(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed (the extra [tensorboard])")
    rows = synthetic_rows({"hidden_size": (50, 100)}, 1, lambda **_: 2.0)
    export_tensorboard(rows, tmp_path)
    for row in rows:
        # A writer names its file by the second, so that a slow machine has several.
        content = b"".join(events.read_bytes() for events in (tmp_path / row["run_id"]).glob("events*"))
        assert b"curve/dev_loss" in content and b"hparam/dev_loss" in content and b"hidden_size" in content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write"),
        (["zz"], "no run 'zz'"),
        (["--rows", "rows.xls"], "rows.xls"),
        (["--rows", "a.csv", "--out", "b"], "--out"),
    ],
)
def test_a_mistake_is_one_line(folder, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert export([*arguments, "--dir", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to("/dev/null"), os.mkdir],
    ids=["FIFO", "link", "link to a device", "folder"],
)
def test_what_is_no_plain_file_is_left_as_it_is(folder, tmp_path, capsys, make):
    path = tmp_path / "runs.csv"
    make(path)
    before = path.lstat()
    assert export(["--dir", str(folder), "--rows", str(path)]) == 2
    assert capsys.readouterr().err == f"export: {path} is not a regular file; give another one\n"
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert [one.name for one in tmp_path.iterdir()] == ["runs.csv"]
