"""`python -m experiments.sample [DIR]`: words (or sentences of a running text) from trained runs."""

import sys
from pathlib import Path

from experiments.analysis.ensembles import check_context_lengths, log_linear_orders
from experiments.analysis.results import open_sweep
from experiments.analysis.trained_models import (
    draw_samples,
    draw_samples_together,
    new_word_lists,
    read_samples,
    write_samples,
    write_word_lists,
)
from experiments.cli.command import command, command_parser
from experiments.cli.terminal import stdout_console, working
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.interrupt import Interruption
from experiments.sweeps.text import count, printable

EPILOG = """examples:
  python -m experiments.sample results/local/grid --temperature 0.8
  python -m experiments.sample results/local/grid --top 10 --n 500000 --out results/local/student
  python -m experiments.sweep --data results/local/student/train.txt results/local/student/dev.txt \\
    results/local/student/test.txt

The second draws from ten runs together, and the third trains one network on the training words and these, to give
alone what the ten give together: distillation by drawn words (Kim and Rush 2016)."""


@command("sample")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser("sample", "Draw words, or sentences, from runs of a finished sweep.", EPILOG)
    parser.add_folder()
    parser.add_argument("--run", metavar="RUN_ID", help="the run, or the first characters of its id (best on dev)")
    parser.add_argument("--top", type=int, metavar="INT", help="the average of the K best runs instead")
    text = "with --top: their log-linear mixture with count models, as of `ensemble --log-linear`, fitted to dev"
    parser.add_argument("--log-linear", type=int, nargs="*", metavar="INT", help=text)
    parser.add_argument("--n", type=int, default=20, metavar="INT", help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="seed of the draws (0)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="FLOAT", help="divides the logits (1.0)")
    parser.add_argument("--keep", action="store_true", help="keep them as this run's samples in the report")
    text = "write lists to train on instead: train.txt, the training words and these, and dev.txt and test.txt"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    options = parser.parse_args(arguments)
    if options.top is not None and (options.run is not None or options.keep):
        parser.error("--top is of several runs, and --run and --keep are of one; leave out one of them")
    if options.top is None and options.log_linear is not None:
        parser.error("--log-linear mixes runs together; give their number with --top")
    check_context_lengths("--log-linear", options.log_linear or ())
    results = open_sweep(options.folder)
    lists = None if options.out is None else new_word_lists(results, options.out)
    use_compilation_cache()
    draws = options.n, options.seed, options.temperature
    if options.top is None:
        row = results.best if options.run is None else results.run(options.run)
        samples, who = draw_samples(results, row, *draws), f"run {row['run_id']}"
    else:
        ranked = results.ranked()
        if not 1 <= options.top <= len(ranked):
            parser.error(f"--top must be between 1 and {len(ranked)}, the runs with weights, got {options.top}")
        orders = log_linear_orders(results, options.log_linear)
        with working("words of several runs ..."):
            samples = draw_samples_together(results, ranked[: options.top], orders, *draws)
        who = f"the average of {count(options.top, 'run')}" + " with count models" * bool(orders)
    if options.keep:
        write_samples(options.folder, list((read_samples(options.folder) | {samples.run_id: samples}).values()))
    if lists is None:
        print("\n".join(printable(word) or "(the empty word)" for word in samples.words) + "\n")
    else:
        write_word_lists(results.dataset, samples.words, lists)
        print(f"Lists: {printable(str(options.out))}/train.txt, dev.txt and test.txt")
    stdout_console().print(
        f"{who}, seed {samples.seed}, temperature {samples.temperature:g}: {samples.n_new:,} of "
        f"{count(len(samples.words), results.dataset.unit)} are not in the training part, {samples.n_duplicates:,} "
        f"{'is a duplicate' if samples.n_duplicates == 1 else 'are duplicates'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
