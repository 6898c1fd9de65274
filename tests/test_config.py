"""One description of a run: its roles, its program, its numbers, its id, and what it refuses."""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_lm import config as config_module
from mlp_lm.config import AXES, DEFAULTS, LARGE_VOCABULARY, NAMES, Role, RunConfig, run_batch_size

SHAPES = (
    "activation", "batch_norm", "batch_size", "block_size", "direct", "early_stopping", "n_layers", "optimizer",
    "parametrization", "patience", "precision", "schedule", "shuffle",
)  # fmt: skip
WIDTHS = ("embedding_dim", "hidden_size")
SWITCHES = (
    "clip_norm", "dropout", "input_dropout", "momentum", "token_noise", "warmup", "weight_average", "weight_decay",
)  # fmt: skip
NUMBERS = ("adam_epsilon", "decay_at", "decay_factor", "inverse_time_rate", "learning_rate", "seed")
PACE = ("diagnostics", "n_evaluations", "n_steps")
HOST = (
    "base_width", "bias_gain", "data_hash", "draw", "embedding_gain", "gain", "ideas_hash", "init", "output_bias",
    "output_gain",
)  # fmt: skip


def test_every_field_has_one_role():
    listed = {
        Role.SHAPE: SHAPES, Role.WIDTH: WIDTHS, Role.SWITCH: SWITCHES, Role.NUMBER: NUMBERS, Role.PACE: PACE,
        Role.HOST: HOST,
    }  # fmt: skip
    assert {role: tuple(sorted(names)) for role, names in NAMES.items()} == listed
    assert Counter(name for names in NAMES.values() for name in names) == dict.fromkeys(DEFAULTS, 1)
    assert set(DEFAULTS) - set(AXES) == {"seed", "data_hash", "ideas_hash"}


VALUES = {
    "init": ["kaiming_tanh", "normal", "orthogonal"],
    "hidden_size": [200, 0, 20, 30, 64, 600],
    "embedding_dim": [2, 4, 10, 40],
    "block_size": [3, 5],
    "batch_size": [0, 32, 128],
    "n_layers": [1, 2],
    "batch_norm": [False, True],
    "activation": ["tanh", "gelu"],
    "direct": [False, True],
    "shuffle": [False, True],
    "learning_rate": [0.1, 0.3, 1e-3],
    "schedule": ["step_decay", "cosine", "plateau", "inverse_time"],
    "warmup": [0.0, 0.1, 1.0],
    "decay_factor": [0.1, 0.5],
    "decay_at": [0.5, 0.75],
    "patience": [3, 5],
    "inverse_time_rate": [1e-8, 1e-3],
    "momentum": [0.0, 0.5, 0.9],
    "optimizer": ["sgd", "adam", "lion", "muon", "sign_sgd"],
    "adam_epsilon": [1e-8, 1e-4],
    "weight_decay": [0.0, 1e-4, 0.1],
    "clip_norm": [0.0, 1.0, 2.0],
    "dropout": [0.0, 0.1, 0.5],
    "input_dropout": [0.0, 0.2],
    "token_noise": [0.0, 0.05],
    "weight_average": [0.0, 0.999],
    "early_stopping": [False, True],
    "precision": ["float32", "bfloat16"],
    "gain": [1.0, 2.0],
    "embedding_gain": [1.0, 0.5],
    "bias_gain": [1.0, 0.0],
    "output_gain": [1.0, 0.0, 0.1],
    "draw": ["scheme", "uniform", "orthogonal"],
    "output_bias": ["scheme", "zero", "prior"],
    "parametrization": ["standard", "mup", "ntk"],
    "base_width": [200, 64],
    "n_steps": [1000, 5000, 5001, 20_000],
    "n_evaluations": [10, 5],
    "diagnostics": [False, True],
    "seed": [0, 7],
    "data_hash": ["", "ab"],
    "ideas_hash": ["", "cd"],
}
some_fields = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 5), max_size=6).map(
    lambda chosen: {name: VALUES[name][i % len(VALUES[name])] for name, i in chosen.items()}
)


def or_none(fields):
    try:
        return RunConfig(**fields)
    except ValueError:  # Fields that contradict each other.
        return None


@st.composite
def two_configs(draw):
    """Two configurations that differ in a few fields, if any."""
    first = draw(some_fields)
    pair = or_none(first), or_none(first | draw(some_fields))
    return pair if all(pair) else (RunConfig(), RunConfig())


def padded_widths(config):
    """The rule anew: short runs that do not depend on their width take the next listed one."""
    own = (config.hidden_size, config.embedding_dim)
    is_orthogonal = "orthogonal" in (config.draw, config.init if config.draw == "scheme" else "")
    exact = not config.dropout and not config.input_dropout and not is_orthogonal and config.optimizer != "muon"
    # Every activation here has f(0) = 0.
    if config.n_steps > 5000 or not exact:
        return own
    listed = ((32, 64, 128, 256, 512), (4, 16, 32))
    return tuple(min([w for w in widths if w >= n and n], default=n) for n, widths in zip(own, listed, strict=True))


def compiled(config):
    shapes = [getattr(config, name) for name in SHAPES]
    return *shapes, *padded_widths(config), *(getattr(config, name) > 0 for name in SWITCHES)


def test_the_fields_that_vary_here_are_all_of_them():
    assert VALUES.keys() == DEFAULTS.keys()
    assert all(DEFAULTS[name] in values for name, values in VALUES.items())


@settings(max_examples=400, deadline=None)
@given(two_configs())
def test_programs_differ_exactly_if_shape_padded_width_or_a_switch_does(pair):
    one, other = pair
    assert (one.program() == other.program()) == (compiled(one) == compiled(other))
    same_pace = all(getattr(one, name) == getattr(other, name) for name in PACE)
    assert (one.company == other.company) == (compiled(one) == compiled(other) and same_pace)
    assert one.trained_widths == padded_widths(one)


@settings(max_examples=200, deadline=None)
@given(some_fields)
def test_a_program_is_its_own_program_and_has_the_shapes_and_switches_of_its_runs(chosen):
    config = or_none(chosen) or RunConfig()
    program = config.program()
    assert program.program() == program
    assert compiled(program)[: len(SHAPES)] == compiled(config)[: len(SHAPES)]
    assert (program.hidden_size, program.embedding_dim) == config.trained_widths
    assert all((getattr(program, name) > 0) == (getattr(config, name) > 0) for name in SWITCHES)
    assert not any(getattr(program, name) != DEFAULTS[name] for name in (*NUMBERS, *PACE, *HOST))


@settings(max_examples=200, deadline=None)
@given(some_fields)
def test_a_number_is_none_exactly_where_its_switch_is_off(chosen):
    config = or_none(chosen) or RunConfig()
    numbers = config.numbers()
    assert set(numbers._fields) == {*NUMBERS, *SWITCHES, "rate_factors"}
    assert (numbers.rate_factors is None) == (config.parametrization == "standard")
    for name in SWITCHES:
        assert (getattr(numbers, name) is None) == (getattr(config, name) == 0)
    for name, number in numbers._asdict().items():
        if number is not None and name != "rate_factors":
            assert type(number) is (np.uint32 if name == "seed" else np.float32)
            assert number == type(number)(getattr(config, name))


# As the ids of the runs that are published: one that changes makes every stored result another's.
RUN_IDS = [
    ({}, "7674a781fc38e94c"),
    ({"init": "normal"}, "70df30b563b2e1d6"),
    ({"hidden_size": 300, "embedding_dim": 2}, "4e37e26f7369626b"),
    ({"block_size": 8, "seed": 7}, "212c46c522600e14"),
    ({"batch_size": 0, "schedule": "inverse_time"}, "2f71bd2877466eab"),
    ({"n_layers": 3, "batch_norm": True, "gain": 1.5}, "01d943ee91634e2b"),
    ({"direct": True, "hidden_size": 0}, "5ac60c403b2abe2e"),
    ({"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.0001}, "d280820248d1f948"),
    ({"optimizer": "adam", "adam_epsilon": 1e-06, "learning_rate": 0.001}, "4489b453ea8b5251"),
    ({"dropout": 0.2, "input_dropout": 0.1, "early_stopping": True, "schedule": "plateau"}, "bf36d193573b9e9d"),
    ({"shuffle": True, "precision": "bfloat16", "n_steps": 1000, "n_evaluations": 1}, "39ef05c10223b1b3"),
    ({"diagnostics": True, "data_hash": "ab" * 32, "schedule": "cosine"}, "9714ca42c4acc9b1"),
    ({"token_noise": 0.05}, "82d75748a6eb72f3"),
    ({"weight_average": 0.9}, "d79886135b6229b2"),
    ({"schedule": "constant", "n_steps": 200_000, "seed": 4_294_967_295}, "880f05dcf3d0a65d"),
]


@pytest.mark.parametrize(("fields", "run_id"), RUN_IDS)
def test_run_ids_never_change(fields, run_id):
    assert RunConfig(**fields).run_id == run_id


def test_a_new_field_at_its_default_leaves_a_run_id_unchanged(monkeypatch):
    @dataclass(frozen=True)
    class Wider(RunConfig):
        depth_of_thought: int = 5

    monkeypatch.setitem(config_module.DEFAULTS, "depth_of_thought", 5)
    monkeypatch.setitem(config_module._RULES, "depth_of_thought", {})
    for fields_, run_id in RUN_IDS:
        assert Wider(**fields_).run_id == run_id
        assert Wider(**fields_, depth_of_thought=6).run_id != run_id


@settings(max_examples=200, deadline=None)
@given(two_configs())
def test_run_ids_differ_exactly_if_a_field_does(pair):
    one, other = pair
    assert (one.run_id == other.run_id) == (one == other)
    assert RunConfig(**json.loads(json.dumps(asdict(one)))).run_id == one.run_id


@pytest.fixture
def users_python():
    """Without the checks of annotations that only tests have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_a_whole_number_is_the_number(users_python):
    for name in ("learning_rate", "clip_norm", "weight_decay", "gain"):
        one, other = RunConfig(**{name: 1}), RunConfig(**{name: 1.0})
        assert (one, one.run_id) == (other, other.run_id)
        assert type(getattr(one, name)) is float
    assert RunConfig(clip_norm=1).numbers().clip_norm.dtype == np.float32
    counted = RunConfig(hidden_size=np.int64(50), learning_rate=np.float32(0.5), direct=np.True_)
    assert counted.run_id == RunConfig(hidden_size=50, learning_rate=0.5, direct=True).run_id


@pytest.mark.parametrize(
    "wrong",
    [{"hidden_size": 20.5}, {"hidden_size": True}, {"learning_rate": "fast"}, {"batch_norm": 1}, {"n_steps": None}],
)
def test_a_value_of_another_type_is_refused(users_python, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} must be of type .*, got {next(iter(wrong.values()))!r}$"):
        RunConfig(**wrong)


# What a device would take for 0, 1 or infinity.
OUTSIDE_FLOAT32 = [
    ("momentum", 1 - 1e-9, "below 1"),
    ("dropout", 1 - 1e-9, "below 1"),
    ("input_dropout", 1 - 1e-9, "below 1"),
    ("learning_rate", 1e-46, "float32"),
    ("learning_rate", 1e-39, "float32"),  # A subnormal number.
    ("learning_rate", 1e39, "float32"),
    ("weight_decay", 1e-40, "float32"),
    ("clip_norm", 1e300, "float32"),
    ("adam_epsilon", 1e-40, "float32"),
    ("inverse_time_rate", 1e-50, "float32"),
    ("warmup", 1e-50, "float32"),
    ("gain", 1e-50, "float32"),
]
OWNERS = {"adam_epsilon": {"optimizer": "adam"}, "inverse_time_rate": {"schedule": "inverse_time"}}


@pytest.mark.parametrize(("name", "value", "message"), OUTSIDE_FLOAT32)
def test_what_is_another_number_on_a_device_is_refused(name, value, message):
    with pytest.raises(ValueError, match=f"^{name} must be .*{message}.*, got {re.escape(str(value))}$"):
        RunConfig(**OWNERS.get(name, {}), **{name: value})


@pytest.mark.parametrize("name", [f.name for f in fields(RunConfig) if type(f.default) is float])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_no_number_is_infinite_negative_or_none(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be [^\n]*, got {value}$"):
        RunConfig(**OWNERS.get(name, {}), **{name: value})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"init": "kaimng_tanh"}, "unknown init 'kaimng_tanh'; did you mean 'kaiming_tanh'?"),
        ({"activation": "swish!"}, "unknown activation 'swish!'"),
        ({"optimizer": "adan"}, "did you mean 'adam'?"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1, got 0"),
        ({"patience": 0, "schedule": "plateau"}, "patience must be at least 1, got 0"),
        ({"n_layers": 1001}, "n_layers must be at most 1000, got 1001"),
        ({"n_steps": 2**31}, "n_steps must be at most 2147483647, got 2147483648"),
        ({"seed": 2**32}, "seed must be at most 4294967295, got 4294967296"),
        ({"warmup": 1.5}, "warmup must be at most 1, got 1.5"),
        ({"decay_at": 1.5}, "decay_at must be at most 1, got 1.5"),
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum 0.9 is of sgd; leave it out with optimizer adam"),
        ({"adam_epsilon": 1e-4}, "adam_epsilon 0.0001 is of adam; leave it out with optimizer sgd"),
        ({"decay_factor": 0.5, "schedule": "cosine"}, "decay_factor 0.5 is of step_decay; leave it out with"),
        ({"patience": 4}, "patience 4 is of plateau; leave it out with schedule step_decay"),
        ({"inverse_time_rate": 1e-3}, "inverse_time_rate 0.001 is of inverse_time"),
        ({"batch_size": 0, "dropout": 0.1}, "batch_size 0 (full-batch gradient descent) has no dropout"),
        ({"hidden_size": 0}, "hidden_size 0 leaves nothing between context and output"),
        ({"parametrization": "mu"}, "unknown parametrization 'mu'; did you mean 'mup'?"),
        ({"parametrization": "mup", "optimizer": "lion"}, "mup is for sgd and adam, got optimizer lion"),
        (
            {"parametrization": "mup", "hidden_size": 0, "direct": True},
            "mup is for hidden units; hidden_size 0 has none",
        ),
        ({"parametrization": "ntk", "init": "lsuv"}, "init lsuv takes its scales from the data, not from the"),
        ({"base_width": 64}, "base_width 64 is of mup and ntk; leave it out with parametrization standard"),
        ({"n_evaluations": 11, "n_steps": 10}, "n_evaluations 11 exceeds n_steps 10"),
        ({"batch_norm": True, "precision": "bfloat16"}, "precision bfloat16 is for models without batch norm"),
    ],
)
def test_what_no_run_can_have_is_refused_in_one_line(wrong, message):
    with pytest.raises(ValueError) as error:
        RunConfig(**wrong)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(st.integers(1, 10**6), st.integers(1, 50))
def test_evaluations_are_evenly_spaced_and_end_with_the_last_step(n_steps, n_evaluations):
    n_evaluations = min(n_evaluations, n_steps)
    steps = RunConfig(n_steps=n_steps, n_evaluations=n_evaluations).evaluation_steps
    assert (len(steps), steps[0], steps[-1]) == (n_evaluations + 1, 0, n_steps)
    assert np.ptp(np.diff(steps)) <= 1


def test_fewer_runs_train_side_by_side_where_batches_or_vocabularies_are_large():
    plain = RunConfig()
    assert run_batch_size(plain, 27, 4) == 4
    assert run_batch_size(replace(plain, batch_size=33), 27, 4) == 2
    assert run_batch_size(replace(plain, batch_size=0), 27, 4) == 2
    assert run_batch_size(plain, LARGE_VOCABULARY + 1, 4) == 1
    assert run_batch_size(plain, LARGE_VOCABULARY + 1, 256) == 4
