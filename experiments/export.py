"""`python -m experiments.export`: a run's weights for PyTorch, all rows for a spreadsheet, runs for TensorBoard."""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.analysis.results import SweepResults, open_sweep
from experiments.cli.command import command, command_parser, folder_path
from experiments.runner.interrupt import Interruption
from experiments.runner.rows import DIVERGED, Row
from experiments.store.atomic import replace_file
from experiments.sweeps.text import count, csv_text, printable
from mlp_lm.config import AXES

EPILOG = """examples:
  python -m experiments.export 8cc387f4cdec7c5d --dir results/local/default --out model.safetensors
  python -m experiments.export --dir results/local/default --rows runs.csv
  python -m experiments.export --dir results/local/default --tensorboard runs/   (needs the extra [tensorboard])

In Python: module.load_state_dict(safetensors.torch.load_file("model.safetensors")), for a module as
mlp_lm/weights.py describes it; sizes, tokens and losses are in the file's metadata."""


@command("export")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser("export", "Write a run's weights for PyTorch, or all rows of a sweep.", EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN_ID", help="the run, or the first characters of its id")
    parser.add_folder("--dir")
    parser.add_argument("--out", type=folder_path, metavar="FILE", help="the safetensors file (RUN_ID.safetensors)")
    parser.add_argument("--rows", type=folder_path, metavar="FILE", help="all rows of the folder, as .csv or .parquet")
    parser.add_argument("--tensorboard", type=folder_path, metavar="DIR", help="all runs, for TensorBoard's HParams")
    options = parser.parse_args(arguments)
    if not (options.run or options.rows or options.tensorboard):
        parser.error("nothing to write: give a RUN_ID, --rows FILE or --tensorboard DIR")
    if options.out and not options.run:
        parser.error("--out is for a run's weights: give its RUN_ID")
    results = open_sweep(options.dir, everything=True)
    if options.run:
        row = results.run(options.run)
        path = options.out or Path(f"{row['run_id']}.safetensors")
        export_weights(results, row, path)
        print(f"wrote {printable(str(path))}")
    if options.rows:
        export_rows(rows_by_study(results), options.rows)
        print(f"wrote {count(len(results.rows), 'row')} to {printable(str(options.rows))}")
    if options.tensorboard:
        export_tensorboard(results.rows, options.tensorboard)
        print(f"wrote {count(len(results.rows), 'run')} to {printable(str(options.tensorboard))}")
    return 0


def export_weights(results: SweepResults, row: Row, path: Path) -> None:
    """Write a run's weights as a safetensors file in PyTorch's names and layout.

    Raises:
        ValueError: its weights were not kept, or its data cannot be had.
    """
    import safetensors.numpy

    from mlp_lm.weights import state_dict

    params, moments = results.load_model(row)
    columns = {name: value for name, value in row.items() if isinstance(value, str | int | float)}
    metadata = {"run": json.dumps(columns), "tokens": json.dumps(results.dataset.vocabulary.tokens)}
    _write(path, safetensors.numpy.save(state_dict(params, moments), metadata))


def rows_by_study(results: SweepResults) -> list[Row]:
    """All rows, each with the names of the studies that it is in."""
    studies: dict[str, list[str]] = defaultdict(list)
    for name, run_ids in results.request.studies.items():
        for run_id in run_ids:
            studies[run_id].append(name)
    return [{"study": ", ".join(studies[row["run_id"]]), **row} for row in results.rows]


def export_rows(rows: Sequence[Row], path: Path) -> None:
    """Write all columns of all rows: Parquet keeps lists as lists, CSV has them as JSON.

    Raises:
        ValueError: neither .csv nor .parquet.
    """
    if path.suffix == ".csv":
        flat = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        _write(path, csv_text(flat).encode())
    elif path.suffix == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows)), sink, compression="zstd")
        _write(path, sink.getvalue().to_pybytes())
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
            for part in ("train", "dev"):
                for step, loss in zip(row["history_step"], row[f"history_{part}_loss"], strict=True):
                    if loss is not None:
                        writer.add_scalar(f"curve/{part}_loss", loss, step)
            settings = {name: row[name] for name in (*AXES, "seed") if row.get(name) is not None}
            writer.add_hparams(settings, _metrics(row), name=".")


def _metrics(row: Row) -> dict[str, Any]:
    names = ("dev_loss", "dev_unseen_loss", "train_loss", "n_params", "wall_seconds")
    metrics = {f"hparam/{name}": row[name] for name in names if row[name] is not None}
    return metrics | {"hparam/diverged": float(row["status"] == DIVERGED)}


def _write(path: Path, data: bytes) -> None:
    """Write a file that is new or a plain one: neither a device nor a link is replaced.

    Raises:
        ValueError: it is another kind of file.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path} is not a regular file; give another one")
    replace_file(path, data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
