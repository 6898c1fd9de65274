"""`python -m experiments.fetch s3://BUCKET/PREFIX DIR`: copy a sweep out of an object store."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.command import command_parser, one_line_errors
from experiments.store import Store, parse_location
from experiments.store.atomic import explained
from experiments.store.mirror import fetch


@one_line_errors("fetch")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    source, target = Store(parse_location(options.source)), Store(options.folder)
    with target.lock(), explained(target.root):
        for message in fetch(source, target):
            print(f"fetch: {message}", file=sys.stderr)
    n_runs = len(target.run_ids())
    if not n_runs:
        raise ValueError(f"{options.source} has no finished run: run a sweep with --out {options.source} first")
    print(f"{target.root} has {n_runs:,} runs")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("fetch", "Copy a sweep from an object store into a folder; again, only what is new.")
    parser.add_argument("source", metavar="s3://BUCKET/PREFIX", help="what --out was; or gs://BUCKET/PREFIX")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to copy it into")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
