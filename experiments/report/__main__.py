"""`python -m experiments.report [DIR]`: the page of a sweep's folder, built anew from its shards."""

import sys

from experiments.cli.command import command, command_parser
from experiments.report.build import write_report
from experiments.runner.interrupt import Interruption


@command("report")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser("report", "Write report.html of a sweep's folder: one page that opens offline.")
    parser.add_folder()
    parser.add_argument("--all", action="store_true", help="also the runs of earlier requests in this folder")
    options = parser.parse_args(arguments)
    path = write_report(options.folder, options.all)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB, opens offline)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
