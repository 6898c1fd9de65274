"""`python -m experiments.sample [DIR]`: words from a run of a finished sweep; sentences, where it was one of words."""

import argparse
import sys
from collections.abc import Sequence

from experiments.command import command_parser, one_line_errors
from experiments.findings.finished import data_of, open_finished
from experiments.findings.samples import Samples, draw_samples, draw_sentences, read_samples, write_samples
from experiments.findings.tables import printable
from experiments.material import TextMaterial


@one_line_errors("sample")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    finished = open_finished(options.folder)
    row = finished.run(options.run) if options.run else finished.best
    material = data_of(finished.request)
    drawn = (options.n, options.seed, options.temperature)
    if isinstance(material, TextMaterial):
        if options.keep:
            raise ValueError("--keep is for sweeps of word lists; leave it out")
        print("\n".join(printable(sentence) for sentence in draw_sentences(finished.store, row, material, *drawn)))
        print(f"\nrun {row['run_id']}, seed {options.seed}, temperature {options.temperature:g}")
        return 0
    samples = draw_samples(finished.store, row, material, *drawn)
    print("\n".join(printable(word) or "(the empty word)" for word in samples.words))
    print(f"\n{in_words(samples)}")
    if options.keep:
        write_samples(options.folder, list((read_samples(options.folder) | {row["run_id"]: samples}).values()))
    return 0


def in_words(samples: Samples) -> str:
    """How many are new, and how many were drawn twice."""
    n = len(samples.words)
    return (
        f"run {samples.run_id}, seed {samples.seed}, temperature {samples.temperature:g}: {samples.n_new} of {n} words "
        f"are not in the training list, {samples.n_duplicates} are duplicates"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("sample", "Draw words, or sentences, from a run of a finished sweep.")
    parser.add_folder()
    parser.add_argument("--run", metavar="RUN_ID", help="the run, or the first characters of its id (best on dev)")
    parser.add_argument("--n", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="divides the logits (1.0)")
    parser.add_argument("--keep", action="store_true", help="keep them for this run's place in the report")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
