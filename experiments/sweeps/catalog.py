"""The named sweeps."""

from dataclasses import replace

from experiments.sweeps.grids import Grid, SweepSpec
from mlp_lm.activations import ACTIVATIONS
from mlp_lm.config import RunConfig
from mlp_lm.parametrizations import PARAMETRIZATIONS
from mlp_lm.schemes import PRIOR_BIAS, RELU_GAIN, SAMPLES, SCHEMES, TANH_GAIN, ZERO_BIAS

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
ADAMW_RATES = (0.001, 0.002, 0.004, 0.008, 0.016)

NAMED = tuple(name for name, scheme in SCHEMES.items() if scheme.adjust is None)  # Those that look at no data.
NORMS = (False, True)
RATES = tuple(round(10 ** (-2 + i / 3), 4) for i in range(7))  # 0.01 to 1; the fourth is the lecture's 0.1.

ADAM_RATES = tuple(round(10 ** (-4 + i / 3), 5) for i in range(7))  # 0.0001 to 0.01.

# Of weights of standard deviation 1 / sqrt(fan_in), under which the first preactivations' is close to the gain.
PLAIN = replace(LECTURE, init="fan_in")
GAINS = tuple(round(0.05 * 160 ** (i / 11), 3) for i in range(12))  # 0.05 to 8; `normal` is at 5.5.
OUTPUT_GAINS = tuple(round(0.03 * 500 ** (i / 6), 3) for i in range(7))  # 0.03 to 15; `normal` is at 14.
LECTURE_OUTPUT = 0.141  # Output weights of 0.01, as the lecture has them, over 200 hidden units.

_SWEEPS = (
    SweepSpec(
        "default",
        "Which size, which initialisation? Small enough for a first look.",
        (
            Grid(
                "size",
                RunConfig(n_steps=10_000),
                n_seeds=3,
                hidden_size=(100, 300),
                embedding_dim=(2, 10),
                block_size=(3, 8),
                batch_size=(32, 128),
            ),
            Grid(
                "initialisation",
                RunConfig(n_steps=10_000),
                n_seeds=5,
                init=("normal", "uniform", "scaled_output", "scaled_hidden", "kaiming_tanh"),
            ),
            Grid("initialisation", RunConfig(n_steps=10_000, batch_norm=True), n_seeds=5),
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
                init=NAMED,
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
                init=NAMED,
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
        "initialisation-scale",
        "Which scale of hidden and output weights is best, and does the optimum move with the length of training?",
        (
            Grid(
                "lengths",
                replace(PLAIN, n_evaluations=4, diagnostics=True),
                n_seeds=8,
                gain=GAINS,
                output_gain=(LECTURE_OUTPUT, 1.0),
                n_steps=(20_000, 60_000, 200_000),
            ),
            Grid(
                "map",
                replace(PLAIN, n_steps=20_000, n_evaluations=2),
                n_seeds=3,
                gain=GAINS,
                output_gain=OUTPUT_GAINS,
            ),
        ),
    ),
    SweepSpec(
        "initialisation-draws",
        "At one scale: the distribution of the weights, scaling by the data, and the prior output bias.",
        (
            Grid("draws", replace(PLAIN, diagnostics=True), n_seeds=8, draw=tuple(SAMPLES)),
            Grid(
                "data",
                replace(PLAIN, diagnostics=True),
                n_seeds=8,
                init=("fan_in", "lsuv", "unit_variance"),
                output_bias=(ZERO_BIAS, PRIOR_BIAS),
            ),
        ),
    ),
    SweepSpec(
        "initialisation-long-rates",
        "Six schemes at seven rates, at the lecture's full length: what is left of their differences?",
        (
            Grid(
                "rates",
                LECTURE,
                n_seeds=6,
                init=("normal", "uniform", "kaiming_tanh", "fan_in", "xavier", "bengio2003"),
                learning_rate=RATES,
            ),
        ),
    ),
    SweepSpec(
        "initialisation-optimizers",
        "Does Adam make the scheme matter less? Every scheme at seven rates of each.",
        (
            Grid("sgd", RunConfig(n_steps=60_000), n_seeds=3, init=NAMED, learning_rate=RATES),
            Grid("adam", RunConfig(n_steps=60_000, optimizer="adam"), n_seeds=3, init=NAMED, learning_rate=ADAM_RATES),
        ),
    ),
    SweepSpec(
        "initialisation-depth",
        "Depth, gain and batch norm, each at its own best rate.",
        (
            Grid(
                "depth",
                RunConfig(init="fan_in", hidden_size=100, n_steps=40_000),
                n_seeds=4,
                n_layers=(1, 2, 3, 5),
                batch_norm=NORMS,
                gain=(1.0, TANH_GAIN, 3.0),
                learning_rate=RATES[1:6],
            ),
        ),
    ),
    SweepSpec(
        "initialisation-activations",
        "Is sqrt(2) the gain of ReLU, and 5/3 that of tanh, in loss and not only in scale?",
        (
            Grid(
                "activations",
                RunConfig(init="fan_in", n_steps=40_000),
                n_seeds=4,
                activation=tuple(ACTIVATIONS),
                gain=(0.25, 0.5, 0.7, 1.0, RELU_GAIN, TANH_GAIN, 2.0, 2.8, 4.0),
                n_layers=(1, 3),
            ),
        ),
    ),
    SweepSpec(
        "rate-transfer",
        "Does a learning rate found on a narrow network suit a wide one? Three parametrisations of the width.",
        (
            Grid(
                "transfer",
                RunConfig(init="fan_in", n_steps=20_000, n_evaluations=2),
                n_seeds=2,
                hidden_size=(64, 128, 256, 512, 1024, 2048),
                learning_rate=RATES,
                parametrization=tuple(PARAMETRIZATIONS),
                weight_decay=(0.0, 1e-3),
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
    SweepSpec(
        "records-noise",
        "AdamW without dropout, with tokens of the context replaced at random: how many, and at which decay?",
        (
            Grid(
                "noise and decay",
                ADAMW,
                n_seeds=1,
                token_noise=(0.0, 0.01, 0.03, 0.1),
                weight_decay=(0.02, 0.05),
            ),
        ),
        data="makemore",
    ),
    SweepSpec(
        "records",
        "AdamW without dropout: which decay and rate are best?",
        (
            Grid(
                "decay and rate",
                ADAMW,
                n_seeds=1,
                weight_decay=(0.02, 0.035, 0.05, 0.07),
                learning_rate=(0.0007, 0.001, 0.0015),
            ),
        ),
        data="makemore",
    ),
    SweepSpec(
        "scaling",
        "Loss against parameters and steps: small networks, each at its own rate and decay.",
        (
            Grid(
                "scaling",
                ADAMW,
                n_seeds=2,
                hidden_size=(12, 25, 50, 100, 200),
                learning_rate=ADAMW_RATES,
                weight_decay=(0.01, 0.05),
            ),
            Grid(
                "scaling",
                ADAMW,
                n_seeds=2,
                hidden_size=(12, 25, 50, 100, 200),
                learning_rate=ADAMW_RATES,
                n_steps=(12_500, 25_000, 50_000),
            ),
        ),
        data="makemore",
    ),
    SweepSpec(
        "scaling-larger",
        "Networks that the law of the sweep `scaling` is to foretell.",
        (Grid("larger", ADAMW, n_seeds=2, hidden_size=(600, 1200), learning_rate=(0.0005, *ADAMW_RATES[:2])),),
        data="makemore",
    ),
)

SWEEPS = {sweep.name: sweep for sweep in _SWEEPS}
