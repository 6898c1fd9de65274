"""The benchmark's command: measure, print a table, and write it to `results/benchmark/`."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from experiments.analysis.tables import markdown_table
from experiments.benchmark.row import Row
from experiments.cli.command import command_parser, one_line_errors
from experiments.runner.devices import choose_device
from experiments.runner.local_executor import SINGLE_THREADED, available_cores
from experiments.runner.rows import processor, provenance
from experiments.store.atomic import make_folder, replace_file

HEADER = ("what", "measured", "target", "met", "detail")


@one_line_errors("benchmark")
def main() -> int:
    """Run the benchmark on the device asked for."""
    parser = command_parser("benchmark", __doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where training runs")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark"), help="folder of the table")
    options = parser.parse_args()
    choose_device(options.device)
    rows = []
    for row in cpu_rows() if options.device == "cpu" else gpu_rows():
        rows.append(row)
        print(" | ".join(row.cells), flush=True)
    _write(options.out, options.device, rows)
    return 0


def cpu_rows() -> Iterator[Row]:
    """Everything a processor can be asked, pinned to one core where one core is what is measured."""
    cores = available_cores()
    _use_one_core(cores[0])
    from experiments.benchmark import device, processes, words  # JAX counts the cores when it starts.

    yield from device.step_rows()
    yield from device.counting_rows()
    yield from words.word_rows()
    step_seconds = device.reference_step_seconds()
    _use_cores(cores)
    yield processes.scaling_row(cores)
    yield processes.sweep_row(cores, step_seconds)
    yield from processes.compile_rows()
    yield from processes.memory_rows()


def gpu_rows() -> Iterator[Row]:
    """The accelerator's rows."""
    from experiments.benchmark import accelerator

    yield from accelerator.rows()


def _use_one_core(core: int) -> None:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SINGLE_THREADED}".strip()
    _use_cores((core,))


def _use_cores(cores: tuple[int, ...]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _write(folder: Path, device: str, rows: list[Row]) -> None:
    import jax

    name = processor() if device == "cpu" else jax.devices()[0].device_kind
    command = f"python -m experiments.benchmark --device {device}"
    content = {"command": command, "device": name, **provenance(), "rows": [asdict(row) for row in rows]}
    head = f"# Benchmark on {name}\n\n`{command}`, commit {content['commit']}, {content['versions']}.\n"
    note = "Ratios are medians over interleaved rounds on a shared machine.\n"
    table = markdown_table(HEADER, [row.cells for row in rows])
    make_folder(folder)
    replace_file(folder / f"{device}.json", json.dumps(content, indent=1).encode())
    replace_file(folder / f"{device}.md", f"{head}\n{note}\n{table}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
