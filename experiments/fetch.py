"""`python -m experiments.fetch s3://BUCKET/PREFIX DIR`: copy a sweep out of an object store."""

import sys

from experiments.cli.command import command, command_parser, complain, folder_path
from experiments.runner.interrupt import Interruption
from experiments.store import Store, parse_location
from experiments.store.atomic import explained
from experiments.store.mirror import fetch
from experiments.sweeps.text import count, printable


@command("fetch")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser("fetch", "Copy a sweep from an object store into a folder; again, only what is new.")
    parser.add_argument("source", metavar="s3://BUCKET/PREFIX", help="what --out was; or gs://, az://")
    parser.add_argument("folder", type=folder_path, metavar="DIR", help="the folder to copy it into")
    options = parser.parse_args(arguments)
    source, target = Store(parse_location(options.source)), Store(options.folder)
    with target.lock(), explained(target.root):
        for message in fetch(source, target):
            complain("fetch", message)
    n_runs = len(target.run_ids())
    if not n_runs:
        raise ValueError(f"{options.source} has no finished run: run a sweep with --out {options.source} first")
    print(f"{printable(str(target.root))} has {count(n_runs, 'run')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
