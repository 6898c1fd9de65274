"""`python -m experiments.export`: a run's weights for PyTorch, all rows for a spreadsheet, runs for TensorBoard."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.command import command_parser, one_line_errors
from experiments.findings.analysis import Row
from experiments.findings.finished import Finished, data_of, open_finished
from experiments.findings.tables import csv_text
from experiments.record import DIVERGED
from experiments.spec import AXES
from experiments.store.atomic import replace_file

EPILOG = """examples:
  python -m experiments.export 8cc387f4cdec7c5d --dir results/default --out model.safetensors
  python -m experiments.export --dir results/default --rows runs.csv
  python -m experiments.export --dir results/default --tensorboard runs/     (needs the extra [tensorboard])

In Python: module.load_state_dict(safetensors.torch.load_file("model.safetensors")), for a module as
experiments/torch_names.py describes it; sizes, tokens and losses are in the file's metadata."""


@one_line_errors("export")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    finished = open_finished(options.dir)
    if options.run:
        row = finished.run(options.run)
        path = options.out or Path(f"{row['run_id']}.safetensors")
        export_weights(finished, row, path)
        print(f"wrote {path}")
    if options.rows:
        export_rows(finished.rows, options.rows)
        print(f"wrote {len(finished.rows):,} rows to {options.rows}")
    if options.tensorboard:
        export_tensorboard(finished.rows, options.tensorboard)
        print(f"wrote {len(finished.rows):,} runs to {options.tensorboard}")
    return 0


def export_weights(finished: Finished, row: Row, path: Path) -> None:
    """Write a run's weights as a safetensors file in PyTorch's names and layout.

    Raises:
        ValueError: its weights were not kept, or its data cannot be had.
    """
    import safetensors.numpy

    from experiments.findings.trained import load_model
    from experiments.torch_names import state_dict

    material = data_of(finished.request)
    params, moments = load_model(finished.store, row, material)
    told = {name: value for name, value in row.items() if isinstance(value, str | int | float)}
    metadata = {"run": json.dumps(told), "tokens": json.dumps(material.vocabulary.tokens)}
    replace_file(path, safetensors.numpy.save(state_dict(params, moments), metadata))


def export_rows(rows: Sequence[Row], path: Path) -> None:
    """Write all columns of all rows: Parquet keeps lists as lists, CSV has them as JSON.

    Raises:
        ValueError: neither .csv nor .parquet.
    """
    if path.suffix == ".csv":
        replace_file(path, csv_text([{name: _flat(value) for name, value in row.items()} for row in rows]).encode())
    elif path.suffix == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows)), sink, compression="zstd")
        replace_file(path, sink.getvalue().to_pybytes())
    else:
        raise ValueError(f"{path}: rows are written as .csv or .parquet; give a file that ends so")


def export_tensorboard(rows: Sequence[Row], folder: Path) -> None:
    """Write every run for TensorBoard's HParams page, with its curves.

    Raises:
        ValueError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError("tensorboardX is not installed; install mlp-lm[tensorboard]") from None
    for row in rows:
        with SummaryWriter(str(folder / row["run_id"])) as writer:
            _write_curves(writer, row)
            settings = {name: row[name] for name in (*AXES, "seed") if row.get(name) is not None}
            writer.add_hparams(settings, _metrics(row), name=".")


def _write_curves(writer: Any, row: Row) -> None:
    for part in ("train", "dev"):
        for step, loss in zip(row["history_step"], row[f"history_{part}_loss"], strict=True):
            if loss is not None:
                writer.add_scalar(f"curve/{part}_loss", loss, step)


def _metrics(row: Row) -> dict[str, float]:
    names = ("dev_loss", "dev_unseen_loss", "train_loss", "n_params", "wall_seconds")
    told = {f"hparam/{name}": row[name] for name in names if row[name] is not None}
    return told | {"hparam/diverged": float(row["status"] == DIVERGED)}


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("export", "Write a run's weights for PyTorch, or all rows of a sweep.", EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN_ID", help="the run, or the first characters of its id")
    parser.add_folder("--dir")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the safetensors file (RUN_ID.safetensors)")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="all rows, as .csv or .parquet")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="all runs, for TensorBoard's HParams")
    options = parser.parse_args(arguments)
    if not (options.run or options.rows or options.tensorboard):
        parser.error("nothing to write: give a RUN_ID, --rows FILE or --tensorboard DIR")
    if options.out and not options.run:
        parser.error("--out is for a run's weights: give its RUN_ID")
    return options


if __name__ == "__main__":
    sys.exit(main())
