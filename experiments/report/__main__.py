"""`python -m experiments.report [DIR]`: the page of a sweep's folder, built anew from its shards."""

import argparse
import sys
from collections.abc import Sequence

from experiments.command import command_parser, one_line_errors
from experiments.report.build import write_report


@one_line_errors("report")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    path = write_report(parse(arguments).folder)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB, opens offline)")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("report", "Write report.html of a sweep's folder: one page that opens offline.")
    parser.add_folder()
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
