"""`python -m experiments.sweep [NAME]`: train every run of a sweep that is not there yet, and say what came of it."""

import signal

if __name__ == "__main__":  # Until `main` listens, Ctrl-C ends this process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from collections.abc import Sequence

from experiments.catalog import SWEEPS
from experiments.findings.summary import write_summary
from experiments.material import Material, load_material
from experiments.options import parse, requested_sweep
from experiments.report.build import write_report
from experiments.runner import Command, guard, run_sweep
from experiments.running.interrupt import Interruption
from experiments.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 where runs failed, 2 a mistake, 130 or 143 interrupted."""

    def body(interruption: Interruption) -> int:
        options = parse(arguments)
        if options.list:
            print_catalog()
            return 0
        sweep = requested_sweep(options)
        load_material(sweep.data)  # A list of words: running text is another command's.
        return run_sweep(SWEEP, sweep, options, interruption)

    return guard(SWEEP, body)


def print_catalog() -> None:
    """The named sweeps, with their number of runs and steps."""
    for sweep in SWEEPS.values():
        runs = [run for runs in sweep.expand("").values() for run in runs.values()]
        steps = sum(run.n_steps for run in runs)
        print(f"{sweep.name:20} {len(runs):6,} runs {steps / 1e6:8,.2f} million steps   {sweep.title}")


def _analyse(store: Store, material: Material, any_run: bool) -> None:
    print(write_summary(store, material))
    if any_run:
        write_report(store.root)


SWEEP = Command("sweep", _analyse)

if __name__ == "__main__":
    sys.exit(main())
