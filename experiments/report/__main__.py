"""`python -m experiments.report [DIR]`: the page of a sweep's folder, built anew from its shards."""

import sys
import time

from experiments.cli.command import command, command_parser
from experiments.cli.terminal import working
from experiments.report.build import watch_report, write_report
from experiments.runner.interrupt import Interruption
from experiments.sweeps.text import count, printable


@command("report")
def main(arguments: list[str] | None, interruption: Interruption) -> int:
    """The command; returns its exit code."""
    parser = command_parser("report", "Write report.html of a sweep's folder: one page that opens offline.")
    parser.add_folder()
    parser.add_argument("--all", action="store_true", help="also the runs of earlier requests in this folder")
    text = "write it again whenever more runs are finished, until all are; an open page reloads itself"
    parser.add_argument("--watch", action="store_true", help=text)
    options = parser.parse_args(arguments)
    if options.watch and options.all:
        parser.error("--watch follows the runs last asked for; leave out --all")
    if options.watch:
        for n_done, n_asked, path in watch_report(options.folder, time.sleep):
            state = f"{n_done} of {count(n_asked, 'run')}: {path}" if path else "no finished run yet"
            print(printable(state), flush=True)
        return 0
    with working("the report ..."):
        path = write_report(options.folder, options.all)
    print(f"wrote {printable(str(path))} ({path.stat().st_size / 1e6:.1f} MB, opens offline)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
