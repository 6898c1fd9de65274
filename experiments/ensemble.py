"""`python -m experiments.ensemble DIR`: averages of a sweep's runs, and their mixtures with count models."""

import sys

from experiments.analysis.ensembles import (
    LIST_ORDERS,
    as_table,
    check_context_lengths,
    log_linear_orders,
    measure_ensembles,
    write_ensembles,
)
from experiments.analysis.looks import this_command
from experiments.analysis.positions import write_positions
from experiments.analysis.results import open_sweep
from experiments.cli.command import command, command_parser
from experiments.cli.terminal import print_table, stdout_console, working
from experiments.report.build import write_report
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.interrupt import Interruption
from experiments.sweeps.text import printable
from mlp_lm.ngram.baselines import TEXT_LENGTHS

EPILOG = """examples:
  python -m experiments.ensemble results/local/grid --top 10
  python -m experiments.ensemble results/local/grid --context-length 3 4 5 6 7    with count models of all these
  python -m experiments.ensemble results/local/grid --log-linear       with several count models, by powers
  python -m experiments.ensemble results/local/grid --test     also the test loss of the one chosen on dev

Writes tables/ensembles.csv and tables/ensembles.md, and the report anew, which shows them; of words, also where in a
word the loss is (tables/positions.csv, figures/positions.png)."""

MAX_TOP = 100  # All members' probabilities are held in memory.


@command("ensemble")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    description = "Average the probabilities of a sweep's runs, and mix them with count models."
    parser = command_parser("ensemble", description, EPILOG)
    parser.add_folder()
    parser.add_argument("--top", type=int, default=5, metavar="INT", help="average the 2, 3, ... K best runs (5)")
    text = "tokens of context of the count models (of each family, the number that is best on dev)"
    parser.add_argument("--context-length", type=int, nargs="+", metavar="INT", help=text)
    text = (
        "also mix several orders of modified Kneser-Ney log-linearly, with weights by how often a context was seen: "
        f"context lengths ({' '.join(map(str, LIST_ORDERS))}; of a running text {' '.join(map(str, TEXT_LENGTHS))}, "
        "which takes minutes: some ten on a text like Brown)"
    )
    parser.add_argument("--log-linear", type=int, nargs="*", metavar="INT", help=text)
    parser.add_argument("--test", action="store_true", help="also the test loss of what is best on dev")
    options = parser.parse_args(arguments)
    if not 1 <= options.top <= MAX_TOP:
        parser.error(f"--top must be between 1 and {MAX_TOP}, got {options.top}")
    check_context_lengths("--context-length", options.context_length or ())
    check_context_lengths("--log-linear", options.log_linear or ())
    results = open_sweep(options.folder)
    use_compilation_cache()
    log_linear = log_linear_orders(results, options.log_linear)
    test = this_command("experiments.ensemble", arguments) if options.test else None
    with working("averages, mixtures and the report ..."):
        ensembles = measure_ensembles(results, options.top, options.context_length, test, log_linear)
        kept = write_ensembles(results, ensembles)
        write_positions(results, ensembles)
        path = write_report(results.folder)
    header, cells, notes = as_table(kept)
    print_table(header[:5], [row[:5] for row in cells], n_names=3)
    for note in notes:
        stdout_console().print(f"\n{note}")
    print(f"\nReport: {printable(str(path))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
