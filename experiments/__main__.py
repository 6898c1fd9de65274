"""`mlp-lm COMMAND ...`: the same as `python -m experiments.COMMAND ...`."""

import runpy
import signal
import sys

COMMANDS = (
    "sweep", "report", "compare", "sample", "ensemble", "scaling", "export", "fetch", "learning_rate", "lecture",
    "initialisation",
    "bengio2003", "benchmark",
)  # fmt: skip
USAGE = f"usage: mlp-lm COMMAND ...\n\ncommands: {', '.join(COMMANDS)} (each has --help)"


def main() -> int:
    """The command; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Until the command listens: no traceback.
    name = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else "help"
    if name in ("help", "_h", "__help"):
        print(USAGE)
        return 0
    if name not in COMMANDS:
        from mlp_lm.config import near_match

        print(f"mlp-lm: unknown command {sys.argv[1]!r}; {near_match(name, COMMANDS)}", file=sys.stderr)
        return 2
    del sys.argv[1]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
