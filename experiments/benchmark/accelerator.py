"""Rows of an accelerator: a model-step of the reference run, with wide blocks."""

import statistics
from collections.abc import Iterator
from dataclasses import replace

import jax

from experiments.benchmark.device import DATA, REFERENCE
from experiments.benchmark.rounds import ROUNDS, seconds
from experiments.benchmark.row import Row
from experiments.runner.devices import use_device
from experiments.runner.trainer import start_block, training_data
from mlp_lm.training import advance_block

WIDTHS = (128, 512, 1024, 2048)
TARGET_WIDTH, TARGET_MICROSECONDS = 1024, 0.35  # Memory traffic alone takes 0.17 on an H100.
LECTURE_STEPS = 200_000
N_STEPS = 500


def rows() -> Iterator[Row]:
    """Microseconds a model-step at several widths, and what a thousand trainings of the lecture's length come to."""
    use_device("gpu")
    for width in WIDTHS:
        step = step_seconds(width)
        what = f"a model-step of the reference run, {width} runs side by side"
        if width == TARGET_WIDTH:
            yield Row.at_most(what, step * 1e6, "µs", TARGET_MICROSECONDS)
            thousand = f"{1000 * LECTURE_STEPS * step:.0f} s"
            yield Row(f"1,000 trainings of {LECTURE_STEPS:,} steps, from it", None, "", "about 60 s", None, thousand)
        else:
            yield Row(what, step * 1e6, "µs", "stated", None, "")


def step_seconds(width: int) -> float:
    """The median seconds of a model-step in a block of `width` runs."""
    data = training_data(DATA, REFERENCE.block_size)
    block = start_block(tuple(replace(REFERENCE, seed=seed) for seed in range(width)), DATA, width)

    def train() -> None:
        jax.block_until_ready(advance_block(block.states, block.varied, data, 0, N_STEPS, LECTURE_STEPS, block.program))

    timed = seconds(train, N_STEPS * width)
    timed()
    return statistics.median(timed() for _ in range(ROUNDS))
