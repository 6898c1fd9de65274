"""`python -m experiments.benchmark`: what training costs here, measured as ratios, printed and written as a table."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from experiments.benchmark.rounds import Row
from experiments.cli.command import command, command_parser, folder_path
from experiments.runner.devices import available_cores, choose_device
from experiments.runner.interrupt import Interruption
from experiments.runner.rows import processor, provenance
from experiments.runner.run import RESULTS
from experiments.store.atomic import replace_file
from experiments.sweeps.text import markdown_table
from mlp_lm.data.dataset import load_dataset
from mlp_lm.settings import SINGLE_THREADED

HEADER = ("what", "measured", "target", "met", "detail")


@command("benchmark")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """Run the benchmark on the device asked for."""
    parser = command_parser("benchmark", "Measure what steps, evaluations, compilations and sweeps cost, as ratios.")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where training runs (cpu)")
    default = RESULTS / "benchmark"
    parser.add_argument("--out", type=folder_path, default=default, metavar="DIR", help=f"of the table ({default})")
    options = parser.parse_args(arguments)
    choose_device(options.device)
    rows = []
    for row in cpu_rows() if options.device == "cpu" else accelerator_rows():
        rows.append(row)
        print(" | ".join(row.cells), flush=True)
    write_table(options.out, options.device, rows)
    return 0


def cpu_rows() -> Iterator[Row]:
    """Everything a processor can be asked, pinned to one core where one core is what is measured."""
    cores = available_cores()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SINGLE_THREADED}".strip()
    _use_cores(cores[:1])
    # JAX counts the cores when it starts.
    from experiments.benchmark import device, processes
    from experiments.runner.devices import use_device

    use_device("cpu")
    dataset = load_dataset()
    yield from device.step_rows(dataset)
    yield from device.counting_rows(dataset)
    yield from device.word_rows()
    step_seconds = device.reference_step_seconds(dataset)
    _use_cores(cores)
    yield processes.scaling_row(cores, dataset)
    yield processes.sweep_row(cores, step_seconds)
    yield from processes.compile_rows()
    yield from processes.memory_rows()


def accelerator_rows() -> Iterator[Row]:
    """A training step on an accelerator."""
    from experiments.benchmark import device

    yield from device.accelerator_rows(load_dataset())


def write_table(folder: Path, device: str, rows: Sequence[Row]) -> None:
    """Write the rows as JSON and as Markdown, with what they were measured on."""
    import jax

    name = processor() if device == "cpu" else jax.devices()[0].device_kind
    command = f"python -m experiments.benchmark --device {device}"
    content = {"command": command, "device": name, **provenance(), "rows": [asdict(row) for row in rows]}
    head = f"# Benchmark on {name}\n\n`{command}`, commit {content['commit']}, {content['versions']}.\n"
    note = "Ratios are medians over interleaved rounds on a shared machine.\n"
    replace_file(folder / f"{device}.json", json.dumps(content, indent=1).encode())
    table = markdown_table(HEADER, [row.cells for row in rows])
    replace_file(folder / f"{device}.md", f"{head}\n{note}\n{table}\n".encode())


def _use_cores(cores: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
