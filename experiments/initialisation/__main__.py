"""`python -m experiments.initialisation [DIR]`: the tables and figures of the initialisation study.

Three parts: `sweeps` reads the sweeps `initialisation`, `initialisation-rates` and `depth`, which come first;
`snapshots` looks into first minibatches and short trainings of deep networks; `width` is the coordinate check.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlp_lm.data.material import load_material

from experiments.analysis.finished import Finished, material_of, open_finished
from experiments.cli.command import command_parser, one_line_errors
from experiments.initialisation.study import read_study, write_sweep_part
from experiments.store.atomic import make_folder
from experiments.sweeps.request import FILE_NAME

PARTS = ("sweeps", "snapshots", "width")


@one_line_errors("initialisation")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    finished = _open_if_wanted(options)
    data = options.data or (finished.request.data if finished else "ssa2018")
    load_material(data)
    for name in ("figures", "tables"):
        make_folder(options.folder / name)
    if finished and "sweeps" in options.part:
        study = read_study(finished, options.rates, options.depth)
        print(write_sweep_part(options.folder, study, len(material_of(finished.request).vocabulary)))
    if {"snapshots", "width"} & set(options.part):
        # JAX only where something is trained.
        from experiments.initialisation.trained import write_snapshots, write_width

        if "snapshots" in options.part:
            print(write_snapshots(options.folder, data, options.seeds))
        if "width" in options.part:
            print(write_width(options.folder, data, options.seeds))
    print(f"Written to {options.folder / 'tables'} and {options.folder / 'figures'}.")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag or a wrong value.
    """
    parser = command_parser("initialisation", __doc__.split("\n")[0].split(": ")[1])
    parser.add_folder(default="results/initialisation")
    parser.add_argument("--rates", type=Path, metavar="DIR", help="of the sweep initialisation-rates (beside DIR)")
    parser.add_argument("--depth", type=Path, metavar="DIR", help="of the sweep depth (beside DIR)")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="write these parts only")
    parser.add_argument("--data", metavar="DATA", help="of snapshots and width (that of DIR's sweep, or ssa2018)")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="of snapshots and width (4)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    options.rates = options.rates or options.folder.parent / "initialisation-rates"
    options.depth = options.depth or options.folder.parent / "depth"
    return options


def _open_if_wanted(options: argparse.Namespace) -> Finished | None:
    """The sweep's folder, which the other parts can do without."""
    there = (options.folder / FILE_NAME).exists()
    return open_finished(options.folder) if there or "sweeps" in options.part else None


if __name__ == "__main__":
    sys.exit(main())
