"""The sweep command in this process: its exit code, and what it said."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.runner.protocol import Progress
from experiments.runner.trainer import train_cohort
from experiments.store import Store
from experiments.sweep import main
from mlp_lm.data.dataset import load_dataset

# Small enough for naive recomputation, and to train on in no time; the first words of the embedded list.
FEW_WORDS = Path(__file__).with_name("few_words.txt")

# Programs of the tests' own process are optimised less, which keeps their bits and compiles them in half the time. A
# command that is given these flags as well reads the same programs from the cache. XLA ends a process that gives it a
# flag it does not have, and says which: a later jaxlib may have lost the second one.
QUICK_XLA_FLAGS = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"


class Said(NamedTuple):
    code: int
    output: str
    errors: str

    @property
    def complaints(self) -> str:
        return without_progress(self.errors)


def without_progress(errors: str) -> str:
    """What stderr holds beside the lines of progress, which a slow machine has more of."""
    return re.sub(r"^\d+/\d+ runs, .* left\n", "", errors, flags=re.MULTILINE)


def sweep(*arguments: str) -> Said:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(list(arguments))
    return Said(code, output.getvalue(), errors.getvalue())


def train_here(cohorts, job, slots, stopping=lambda: False) -> Iterator[Progress]:
    """An executor that trains in this process."""
    dataset, store = load_dataset(job.data), Store(job.root)
    for cohort in cohorts:
        yield Progress(cohort, rows=tuple(train_cohort(cohort, dataset, store)))


@contextlib.contextmanager
def trained_here() -> Iterator[None]:
    """Commands train in this process: for tests of what is made of the results, because workers take long to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.runner.run.execute", train_here)
        yield


def sweep_here(*arguments: str) -> Said:
    """The command, training in this process."""
    with trained_here():
        return sweep(*arguments)


def assert_one_line(said: Said, *parts: str) -> None:
    """Refused with code 2 and one line that holds these parts and nothing that acts on a terminal."""
    assert (said.code, said.output) == (2, "")
    assert said.errors.startswith("sweep: ")
    assert said.errors.endswith("\n")
    assert said.errors[:-1].isprintable(), said.errors
    for part in parts:
        assert part in said.errors
