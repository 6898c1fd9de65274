"""`python -m experiments.initialisation [DIR]`: the tables and figures of the initialisation study."""

import argparse
import itertools
import sys

from experiments.analysis.results import open_sweep
from experiments.analysis.studies import paired_difference
from experiments.analysis.style import scheme_label
from experiments.cli.command import command, command_parser, folder_path, positive
from experiments.cli.flags import add_data_flags, requested_source
from experiments.cli.terminal import print_table, working
from experiments.initialisation.cause_figures import cause_figures
from experiments.initialisation.causes import KINDS, cause_tables, read_causes
from experiments.initialisation.sweep_figures import study_figures, write_figures
from experiments.initialisation.tables import REFERENCE, Studies, by_scheme, read_studies, study_tables, write_tables
from experiments.runner.interrupt import Interruption
from experiments.runner.run import RESULTS
from experiments.store.atomic import make_folder
from experiments.sweeps.request import FILE_NAME
from experiments.sweeps.text import printable
from mlp_lm.data.dataset import load_dataset
from mlp_lm.data.word_lists import DEFAULT_DATA

SWEEPS, SNAPSHOTS, WIDTH = PARTS = ("sweeps", "snapshots", "width")
EPILOG = f"""examples:
  python -m experiments.sweep initialisation            first the sweep itself, into {RESULTS}/initialisation
  python -m experiments.initialisation                  then all three parts of the study
  python -m experiments.initialisation --part sweeps --rates {RESULTS}/initialisation-rates --depth {RESULTS}/depth
  python -m experiments.initialisation results/initialisation --part sweeps --rates results/initialisation-rates \\
      --depth results/depth                             the published study anew, in its own folder

sweeps: tables and figures of finished sweeps; snapshots: minibatches and deep networks at single steps;
width: which schemes keep their scale as the hidden layer grows. Tables and figures are written into DIR."""


@command("initialisation")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    is_sweep = SWEEPS in options.part or (options.folder / FILE_NAME).exists()
    results = open_sweep(options.folder) if is_sweep else None
    studies = read_studies(results, options.rates, options.depth) if results and SWEEPS in options.part else None
    causes = read_causes(results, options.causes) if results and studies else {}
    source = requested_source(options, results.request.data if results else DEFAULT_DATA)
    dataset = load_dataset(source) if {SNAPSHOTS, WIDTH} & set(options.part) else None
    if results and dataset and dataset.sha256 != results.request.data_hash:
        raise ValueError(
            f"{results.folder} holds a sweep on {results.request.data}, and not on {source}; name another folder, or "
            "leave out --data"
        )
    for name in ("tables", "figures"):  # Before anything is trained.
        make_folder(options.folder / name)
    if studies:
        vocab_size = len(studies.baselines.tokens)
        tables = itertools.chain(study_tables(studies), cause_tables(causes, studies.schemes, vocab_size))
        write_tables(options.folder, tables)
        _print_schemes(studies)
        of_causes = cause_figures(causes, studies.schemes, vocab_size)
        with working("figures ..."):
            write_figures(options.folder, itertools.chain(study_figures(studies), of_causes))
    if dataset:
        # JAX only where something is trained.
        from experiments.initialisation.snapshots import write_snapshots
        from experiments.initialisation.width import write_width

        if SNAPSHOTS in options.part:
            print("Training for snapshots: first minibatches, and deep networks by layer ...", flush=True)
            print(printable(str(write_snapshots(options.folder, dataset, options.seeds))))
        if WIDTH in options.part:
            print("Training at several widths: which schemes keep their scale ...", flush=True)
            write_width(options.folder, dataset, options.seeds)
    print(printable(f"Written to {options.folder / 'tables'} and {options.folder / 'figures'}."))
    return 0


def _print_schemes(studies: Studies) -> None:
    cells = by_scheme(studies.schemes)
    reference = cells[REFERENCE][0]
    rows = [
        (scheme_label(*scheme), cell.estimate("dev_loss"), paired_difference(cell, reference).signed())
        for scheme, (cell, *_) in cells.items()
    ]
    print_table(("scheme", "dev", f"minus {scheme_label(*REFERENCE)}, paired by seed"), rows)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag, a wrong value, or a flag of a part that is not asked for.
    """
    parser = command_parser("initialisation", "Tables and figures of the initialisation study.", EPILOG)
    parser.add_folder(default=str(RESULTS / "initialisation"))
    sweeps = {"--rates": "initialisation-rates", "--depth": "depth"}
    for flag, sweep in sweeps.items():
        text = f"the folder of a sweep such as {sweep}, on the same data (default: none)"
        parser.add_argument(flag, type=folder_path, metavar="DIR", help=text)
    causes = ", ".join(dict.fromkeys(sweep for *_, sweep in KINDS.values()))
    text = f"folders of sweeps such as {causes}, on the same data (default: none)"
    parser.add_argument("--causes", type=folder_path, nargs="+", default=[], metavar="DIR", help=text)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="write these parts only")
    parser.add_argument("--seeds", type=positive, default=4, metavar="INT", help="of snapshots and width (4)")
    add_data_flags(parser, words=False)
    options = parser.parse_args(arguments)
    flags = {flag.removeprefix("--"): {SWEEPS} for flag in (*sweeps, "--causes")} | {"data": {SNAPSHOTS, WIDTH}}
    for name, parts in flags.items():
        if getattr(options, name) and not parts & set(options.part):
            parser.error(f"--{name} is of --part {' and '.join(sorted(parts))}; leave it out, or write that part too")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
