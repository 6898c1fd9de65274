"""`python -m experiments.benchmark`: what training costs here, measured as ratios, printed and written as a table."""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    for row in cpu_rows() if options.device == "cpu" else gpu_rows():
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
    from experiments.benchmark import processes, processor
    from experiments.runner.devices import use_device

    use_device("cpu")
    dataset = load_dataset()
    yield from processor.step_rows(dataset)
    yield from processor.order_rows(dataset)
    yield from processor.counting_rows(dataset)
    yield from processor.word_rows()
    step_seconds = processor.reference_step_seconds(dataset)
    _use_cores(cores)
    yield from processes.executor_rows(cores, dataset)
    yield processes.sweep_row(cores, step_seconds)
    yield processes.default_sweep_row()
    yield from processes.compile_rows()
    yield from processes.memory_rows()


def gpu_rows() -> Iterator[Row]:
    """Everything an accelerator can be asked."""
    from experiments.benchmark.accelerator import accelerator_rows

    yield from accelerator_rows(load_dataset())


def write_table(folder: Path, device: str, rows: Sequence[Row]) -> None:
    """Keep the rows as JSON, one file a machine, and write the table of all machines that the folder has.

    A row that an older version measured under another name has a line of its own.
    """
    name = processor_with_units() if device == "cpu" else accelerator_name()
    command = f"python -m experiments.benchmark --device {device}"
    content = {"command": command, "device": name, **provenance(), "rows": [asdict(row) for row in rows]}
    slug = "-".join(re.findall("[a-z0-9]+", name.lower()))
    replace_file(folder / f"{device}-{slug}.json", json.dumps(content, indent=1).encode())
    machines = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{device}-*.json"))]
    replace_file(folder / f"{device}.md", compare_machines(machines, device).encode())


def compare_machines(machines: Sequence[dict[str, Any]], device: str) -> str:
    """The table of all machines side by side, and below it each one's details."""
    measured = [{row["what"]: Row(**row) for row in machine["rows"]} for machine in machines]
    most_rows_first = sorted(measured, key=len, reverse=True)
    targets = {what: row.target for rows in reversed(most_rows_first) for what, row in rows.items()}
    lines = [
        [what, targets[what], *(rows[what].result if what in rows else "-" for rows in measured)]
        for what in dict.fromkeys(what for rows in most_rows_first for what in rows)
    ]
    parts = [
        f"# Benchmark, `--device {device}`",
        "Ratios are medians over interleaved rounds on shared machines.",
        markdown_table(["what", "target", *(machine["device"] for machine in machines)], lines),
    ]
    for machine, rows in zip(machines, measured, strict=True):
        parts += [
            f"## {machine['device']}",
            f"`{machine['command']}`, commit {machine['commit']}, {machine['versions']}.",
            markdown_table(HEADER, [row.cells for row in rows.values()]),
        ]
    return "\n\n".join(parts) + "\n"


def processor_with_units() -> str:
    """The processor's name, its widest vectors, and what it has for bfloat16: matrix units (AMX), or vectors (BF16)."""
    from mlp_lm.large_vocabulary import processor_flags

    kinds = {"avx512f": "AVX-512", "avx2": "AVX2"}, {"amx_bf16": "AMX", "avx512_bf16": "BF16"}
    flags = processor_flags()
    best = [next((units[flag] for flag in units if flag in flags), "") for units in kinds]
    return ", ".join(filter(None, (processor(), *best)))


def accelerator_name() -> str:
    """What JAX calls the accelerator."""
    import jax

    return str(jax.devices()[0].device_kind)


def _use_cores(cores: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
