"""`python -m experiments.sample [DIR]`: words (or sentences of a running text) from a trained run."""

import sys

from experiments.analysis.results import open_sweep
from experiments.analysis.trained_models import draw_samples, read_samples, write_samples
from experiments.cli.command import command, command_parser
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.interrupt import Interruption
from experiments.sweeps.text import count, printable


@command("sample")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser("sample", "Draw words, or sentences, from a run of a finished sweep.")
    parser.add_folder()
    parser.add_argument("--run", metavar="RUN_ID", help="the run, or the first characters of its id (best on dev)")
    parser.add_argument("--n", type=int, default=20, metavar="INT", help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="seed of the draws (0)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="FLOAT", help="divides the logits (1.0)")
    parser.add_argument("--keep", action="store_true", help="keep them as this run's samples in the report")
    options = parser.parse_args(arguments)
    results = open_sweep(options.folder)
    use_compilation_cache()
    row = results.best if options.run is None else results.run(options.run)
    samples = draw_samples(results, row, options.n, options.seed, options.temperature)
    if options.keep:
        kept = read_samples(options.folder) | {row["run_id"]: samples}
        write_samples(options.folder, list(kept.values()))
    print("\n".join(printable(word) or "(the empty word)" for word in samples.words))
    print(
        f"\nrun {samples.run_id}, seed {samples.seed}, temperature {samples.temperature:g}: {samples.n_new} of "
        f"{count(len(samples.words), results.dataset.unit)} are not in the training part, {samples.n_duplicates} "
        f"{'is a duplicate' if samples.n_duplicates == 1 else 'are duplicates'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
