"""The named sweeps."""

from experiments.spec import INIT_NAMES, Grid, RunSpec, SweepSpec

LECTURE = RunSpec(n_steps=200_000)  # d = 10, h = 200, block 3, batch 32, 0.1 then 0.01 half-way.

_SWEEPS = (
    SweepSpec(
        "default",
        "Which size, which initialisation? Small enough for a first look.",
        (
            Grid(
                "size",
                RunSpec(n_steps=6_000),
                (
                    ("hidden_size", (100, 300)),
                    ("embedding_dim", (2, 10)),
                    ("block_size", (3, 8)),
                    ("batch_size", (32, 128)),
                ),
                n_seeds=3,
            ),
            Grid(
                "initialisation",
                RunSpec(n_steps=20_000),
                (("init", ("normal", "uniform", "scaled_output", "scaled_hidden", "kaiming_tanh")),),
                n_seeds=5,
            ),
            Grid("initialisation", RunSpec(n_steps=20_000, batch_norm=True), n_seeds=5),
        ),
    ),
    SweepSpec(
        "smoke",
        "A few seconds, to see that everything works.",
        (Grid("size", RunSpec(n_steps=200, n_evaluations=2, embedding_dim=2), (("hidden_size", (8, 16)),), 2),),
    ),
    SweepSpec(
        "initialisation",
        "Every scheme, with and without batch norm, at the lecture's full length.",
        (Grid("initialisation", LECTURE, (("init", INIT_NAMES), ("batch_norm", (False, True))), n_seeds=8),),
    ),
)

SWEEPS = {sweep.name: sweep for sweep in _SWEEPS}
