"""`python -m tests.check`: format, lint, types and tests, in this order; stops at the first that fails."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy", "-p", "mlp_lm", "-p", "experiments"),
    ("pytest", "-q", "-n", "auto"),
)


def main(pytest_arguments: Sequence[str]) -> int:
    """Run the checks; further arguments go to pytest."""
    for check in CHECKS:
        extra = pytest_arguments if check[0] == "pytest" else ()
        print(f"== {' '.join((*check, *extra))}", flush=True)
        code = subprocess.run([sys.executable, "-m", *check, *extra], cwd=Path(__file__).parents[1]).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
