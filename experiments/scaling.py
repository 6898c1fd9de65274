"""`python -m experiments.scaling DIR`: power laws of loss against parameters and compute, and what they predict."""

import sys
from collections.abc import Iterator

import matplotlib.pyplot as plt

from experiments.analysis.results import SweepResults, open_beside, open_sweep
from experiments.analysis.scaling import Scaling, law_rows, measure_scaling, plot_scaling, point_rows
from experiments.analysis.style import STYLE, save_figure
from experiments.cli.command import command, command_parser, folder_path, positive
from experiments.cli.terminal import print_table, stdout_console
from experiments.runner.interrupt import Interruption
from experiments.store.atomic import replace_file
from experiments.sweeps.text import count, csv_text, printable

EPILOG = """examples:
  python -m experiments.sweep scaling --data makemore      five widths at four lengths, each at several rates
  python -m experiments.scaling results/local/scaling --at 132675 264675
  python -m experiments.scaling results/local/scaling --held-out results/local/scaling-larger

Networks of one size are taken at their best settings, judged on seeds that did not choose them. Writes
tables/scaling.csv, tables/scaling_laws.csv and figures/scaling.png into DIR."""


@command("scaling")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    description = "Fit loss = floor + factor x size^-exponent to a sweep of several sizes."
    parser = command_parser("scaling", description, EPILOG)
    parser.add_folder()
    text = "sweeps left out of the fit and compared with its predictions"
    parser.add_argument("--held-out", type=folder_path, nargs="+", default=[], metavar="DIR", help=text)
    text = "parameter counts at which to predict the loss, for the longest training that has a law"
    parser.add_argument("--at", type=positive, nargs="+", default=[], metavar="INT", help=text)
    options = parser.parse_args(arguments)
    results = open_sweep(options.folder)
    scaling = measure_scaling(results, [open_beside(results, folder, "--held-out") for folder in options.held_out])
    points, laws = point_rows(scaling, options.at), law_rows(scaling)
    replace_file(results.folder / "tables" / "scaling.csv", csv_text(points).encode())
    replace_file(results.folder / "tables" / "scaling_laws.csv", csv_text(laws).encode())
    with plt.rc_context(STYLE):
        save_figure(plot_scaling(scaling), results.folder / "figures" / "scaling.png")
    print_table(
        ("law", "points", "floor", "exponent", "noise"),
        [
            (f"{n_steps:,} steps" if n_steps else "compute", law.n, law.number(0), law.number(2), f"{law.noise:.4f}")
            for _, n_steps, law in scaling.laws
        ],
    )
    print()
    longest = max(scaling.by_params)
    print_table(
        (f"parameters, {longest:,} steps", "dev", "law", "dev minus law"),
        [
            (
                f"{row['parameters']:,}" + ("" if row["in_fit"] else " (not in the fit)"),
                f"{row['dev_loss']:.4f}" if "dev_loss" in row else "-",
                f"{row['law']:.4f} ± {row['law_high'] - row['law']:.4f}",
                f"{row['minus_law']:+.4f}" if "minus_law" in row else "-",
            )
            for row in points
            if row["n_steps"] == longest
        ],
    )
    print()
    for sentence in sentences(results, scaling):
        stdout_console().print(printable(sentence))
    print(printable(f"Written to {results.folder / 'tables'} and {results.folder / 'figures'}."))
    return 0


def sentences(results: SweepResults, scaling: Scaling) -> Iterator[str]:
    """What weakens these laws, or is missing."""
    n_asked = len(results.request.run_ids)
    if len(results.rows) < n_asked:
        yield f"{len(results.rows)} of {count(n_asked, 'run')} are done: a size without all its seeds is judged by few."
    if min(point.loss.n for point in scaling.points) < 2:
        yield "One seed: each size is judged at settings that this seed chose, so losses are a little too low."
    if scaling.at_edge:
        axes = ", ".join(sorted({axis for point in scaling.at_edge for axis in point.at_edge}))
        n = count(len(scaling.at_edge), "point")
        yield f"{n} with a best {axes} at the edge of what was tried (column at_edge): a better one may lie beyond."
    yield from scaling.left_out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
