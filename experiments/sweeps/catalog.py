"""The named sweeps."""

from dataclasses import replace

from experiments.sweeps.grids import Grid, SweepSpec
from mlp_lm.config import RunConfig
from mlp_lm.schemes import SCHEMES, TANH_GAIN

LECTURE = RunConfig(n_steps=200_000)  # d = 10, h = 200, block 3, batch 32, 0.1 then 0.01 half-way.

# Lecture 2's network before it grows; it is evaluated every 1,000 steps.
LECTURE_SMALL = RunConfig(
    init="normal", hidden_size=100, embedding_dim=2, schedule="constant", n_steps=30_000, n_evaluations=30
)

# Block 8 and 24 dimensions are the grid's best; 100,000 steps of twice the lecture's batch, on a cosine from 0.2.
LONG = RunConfig(
    hidden_size=600,
    embedding_dim=24,
    block_size=8,
    batch_size=64,
    learning_rate=0.2,
    schedule="cosine",
    weight_decay=1e-4,
    n_steps=100_000,
)

ADAMW = replace(LONG, optimizer="adam", learning_rate=1e-3, weight_decay=0.05)

NORMS = (False, True)
RATES = tuple(round(10 ** (-2 + i / 3), 4) for i in range(7))  # 0.01 to 1; the fourth is the lecture's 0.1.

_SWEEPS = (
    SweepSpec(
        "default",
        "Which size, which initialisation? Small enough for a first look.",
        (
            Grid(
                "size",
                RunConfig(n_steps=6_000),
                n_seeds=3,
                hidden_size=(100, 300),
                embedding_dim=(2, 10),
                block_size=(3, 8),
                batch_size=(32, 128),
            ),
            Grid(
                "initialisation",
                RunConfig(n_steps=20_000),
                n_seeds=5,
                init=("normal", "uniform", "scaled_output", "scaled_hidden", "kaiming_tanh"),
            ),
            Grid("initialisation", RunConfig(n_steps=20_000, batch_norm=True), n_seeds=5),
        ),
    ),
    SweepSpec("single", "One configuration, to add axes to.", (Grid("runs", n_seeds=3),)),
    SweepSpec(
        "smoke",
        "A few seconds, to see that everything works.",
        (Grid("size", RunConfig(n_steps=200, n_evaluations=2, embedding_dim=2), n_seeds=2, hidden_size=(8, 16)),),
    ),
    SweepSpec(
        "lecture",
        "The trainings of the makemore lectures, with seeds.",
        (
            Grid(
                "minibatches",
                replace(LECTURE_SMALL, n_steps=100, n_evaluations=100),
                n_seeds=4,
                batch_size=(0, 32),
            ),
            Grid("longer", LECTURE_SMALL, n_seeds=8, schedule=("constant", "step_decay", "plateau")),
            Grid("longer", replace(LECTURE_SMALL, hidden_size=300), n_seeds=8),
            Grid("longer", replace(LECTURE_SMALL, batch_size=128), n_seeds=8),
            Grid("longer", replace(LECTURE_SMALL, embedding_dim=10), n_seeds=8),
            # The lecture's JavaScript port.
            Grid("longer", replace(LECTURE_SMALL, init="uniform", embedding_dim=3, block_size=4), n_seeds=8),
            Grid("initialisation", LECTURE, n_seeds=4, init=("normal", "kaiming_tanh")),
        ),
        data="makemore",
    ),
    SweepSpec(
        "initialisation",
        "Every scheme, with and without batch norm, at the lecture's full length.",
        (
            Grid(
                "initialisation",
                replace(LECTURE, n_evaluations=40, diagnostics=True),
                n_seeds=8,
                init=tuple(SCHEMES),
                batch_norm=NORMS,
            ),
        ),
    ),
    SweepSpec(
        "initialisation-rates",
        "Every scheme at its own best learning rate: is it better, or does it only shift the rate?",
        (
            Grid(
                "rates",
                RunConfig(n_steps=20_000),
                n_seeds=3,
                init=tuple(SCHEMES),
                batch_norm=NORMS,
                learning_rate=RATES,
            ),
        ),
    ),
    SweepSpec(
        "depth",
        "From which depth on do the gain of the weights and batch norm matter?",
        (
            Grid(
                "depth",
                # The lecture's deep network has five hidden layers of 100 (part 3).
                RunConfig(init="fan_in", hidden_size=100, n_steps=40_000, n_evaluations=20, diagnostics=True),
                n_seeds=5,
                n_layers=(1, 2, 3, 5),
                gain=(1.0, TANH_GAIN, 3.0),
                batch_norm=NORMS,
            ),
        ),
    ),
    SweepSpec(
        "grid",
        "Hidden size, embedding, context and batch: what matters most, and where does it saturate?",
        (
            Grid(
                "grid",
                RunConfig(n_steps=50_000),
                n_seeds=3,
                hidden_size=(50, 100, 200, 300),
                embedding_dim=(2, 3, 10, 24),
                block_size=(2, 3, 4, 5, 8),
                batch_size=(32, 128),
            ),
        ),
        data="makemore",
    ),
    SweepSpec(
        "best",
        "How far does a flat network go? Wider, deeper, with decay, batch norm, AdamW and dropout, on a long cosine.",
        (
            Grid("best", LONG, n_seeds=4, hidden_size=(300, 600, 1000), weight_decay=(1e-4, 3e-4)),
            Grid("best", replace(LONG, hidden_size=300, n_layers=2), n_seeds=4, batch_norm=NORMS),
            Grid("best", replace(LONG, block_size=10), n_seeds=4),
            Grid("best", ADAMW, n_seeds=4, dropout=(0.05, 0.1)),
        ),
        data="makemore",
    ),
)

SWEEPS = {sweep.name: sweep for sweep in _SWEEPS}
