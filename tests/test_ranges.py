"""Ranges, the points that fill them, and axes that go in step."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.sweeps.grids import Grid, SweepSpec, sweep_from_dict
from experiments.sweeps.ranges import Range, draw_points
from experiments.sweeps.request import make_request
from tests import cli

RATE = Range(0.01, 1.0, log=True)
DECAY = Range(1e-5, 1e-2, log=True)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 200), more=st.integers(1, 200), whole=st.booleans())
def test_more_points_extend_fewer(n, more, whole):
    ranges = {"learning_rate": RATE, "momentum": Range(0.0, 0.9)} | ({"hidden_size": Range(4, 300)} if whole else {})
    fewer, all_of_them = draw_points(ranges, n), draw_points(ranges, n + more)
    assert all_of_them[: len(fewer)] == fewer
    assert draw_points(dict(reversed(ranges.items())), n) == fewer  # In whatever order the flags came.


def test_points_fill_a_range_evenly_in_its_own_scale():
    points = draw_points({"learning_rate": RATE, "momentum": Range(0.0, 0.9)}, 64)
    rates = np.array([point["learning_rate"] for point in points])
    momenta = np.array([point["momentum"] for point in points])
    # Of 2^m points of a Sobol sequence, each of 2^m equal intervals of every axis holds one.
    assert sorted((np.log10(rates) + 2) / 2 * 64 // 1) == list(range(64))
    assert sorted(momenta / 0.9 * 64 // 1) == list(range(64))
    assert all(RATE.low <= rate <= RATE.high for rate in rates)


@settings(max_examples=50, deadline=None)
@given(low=st.integers(1, 50), width=st.integers(1, 20), log=st.booleans())
def test_whole_numbers_are_whole_reach_both_ends_and_come_once(low, width, log):
    values = [point["hidden_size"] for point in draw_points({"hidden_size": Range(low, low + width, log)}, 1024)]
    assert sorted(values) == list(range(low, low + width + 1))
    assert all(type(value) is int for value in values)


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), log=st.booleans())
def test_a_share_of_a_range_and_back(share, log):
    range_ = Range(0.01, 1.0, log)
    assert range_.share(range_.value(share, False)) == pytest.approx(share, abs=1e-5)


def test_every_point_meets_every_listed_value_and_seed():
    grid = Grid(n_seeds=2, learning_rate=RATE, weight_decay=DECAY, n_points=8, init=["normal", "fan_in"])
    runs = list(grid)
    assert len(runs) == len(grid) == 8 * 2 * 2
    points = {(run.learning_rate, run.weight_decay) for run in runs}
    assert {(run.learning_rate, run.weight_decay, run.init, run.seed) for run in runs} == {
        (*point, init, seed) for point in points for init in ("normal", "fan_in") for seed in (0, 1)
    }
    assert len(points) == 8


def test_twice_the_points_hold_the_runs_of_half_of_them():
    def run_ids(n_points):
        return set(SweepSpec("s", "s", (Grid(learning_rate=RATE, n_points=n_points),)).expand("")["grid"])

    assert run_ids(8) < run_ids(16)


def test_toml_flags_and_python_mean_the_same():
    from experiments.cli.flags import requested_sweep
    from experiments.sweep import make_parser

    table = {"name": "runs", "seeds": 3, "points": 8, "learning_rate": {"low": 0.01, "high": 1, "log": True}}
    table |= {"hidden_size": [8, 16], "block_size": [2, 3], "zip": ["hidden_size", "block_size"]}
    flags = (
        "single --learning-rate 0.01:1:log --points 8 --hidden-size 8 16 --block-size 2 3 --zip hidden-size block_size"
    )
    python = Grid(
        "runs",
        None,
        3,
        0,
        8,
        [("hidden_size", "block_size")],
        learning_rate=RATE,
        hidden_size=[8, 16],
        block_size=[2, 3],
    )
    expected = list(SweepSpec("s", "s", (python,)).expand("")["runs"])
    assert len(expected) == 8 * 2 * 3
    assert list(sweep_from_dict({"study": [table]}, "s").expand("")["runs"]) == expected
    from_flags = requested_sweep(make_parser().parse_args(flags.split()))
    assert set(from_flags.expand("")["runs"]) == set(expected)
    assert eval(repr(RATE)) == RATE
    assert [(run.hidden_size, run.block_size) for run in python][::3][:2] == [(8, 2), (16, 3)]


def test_a_single_sweep_asks_about_what_it_varies_alone():
    from experiments.cli.flags import requested_sweep
    from experiments.sweep import make_parser

    flags = "single --learning-rate 0.01:1:log --init normal fan_in --n-steps 200"
    assert requested_sweep(make_parser().parse_args(flags.split())).title == "Which init, which learning rate?"


def test_zipped_axes_go_in_step_and_meet_all_others():
    axes = {"hidden_size": [100, 300, 100], "learning_rate": [0.2, 0.1, 0.3], "init": ["normal", "fan_in"]}
    runs = list(Grid(zipped=[("hidden_size", "learning_rate")], **axes))
    pairs = zip(axes["hidden_size"], axes["learning_rate"], strict=True)
    expected = {(*pair, init) for pair, init in itertools.product(pairs, axes["init"])}
    assert {(run.hidden_size, run.learning_rate, run.init) for run in runs} == expected
    assert len(runs) == 6


def test_an_axis_set_anew_breaks_no_zip_in_silence():
    grid = Grid(zipped=[("hidden_size", "learning_rate")], hidden_size=[8, 16], learning_rate=[0.2, 0.1])
    assert len(grid.override({"learning_rate": (0.5, 0.4)})) == 2
    with pytest.raises(ValueError, match="hidden_size has 2, learning_rate has 3"):
        grid.override({"learning_rate": (0.5, 0.4, 0.3)})


def test_the_dry_run_says_how_many_programs_a_range_of_shapes_compiles(tmp_path):
    flags = ("single", "--points", "6", "--seeds", "1", "--dry-run", "--out", str(tmp_path))
    rates = cli.sweep(*flags, "--learning-rate", "0.01:1:log")
    assert "6 runs" in rates.output and "1 program to compile" in rates.output and not rates.errors
    sizes = cli.sweep(*flags, "--hidden-size", "8:4000")
    assert "6 programs to compile" in sizes.output
    assert "values of hidden_size are drawn from a range, which makes 6 programs to compile" in sizes.errors


def test_the_ranges_are_read_back_from_a_request(tmp_path, few_dataset):
    from experiments.sweeps.request import read_request
    from tests.synthetic import write_request

    sweep = SweepSpec("s", "s", (Grid(learning_rate=RATE, hidden_size=Range(4, 8), n_points=4),))
    request = make_request(sweep, sweep.expand(few_dataset.sha256), few_dataset)
    write_request(tmp_path, request)
    assert read_request(tmp_path) == request
    assert request.ranges == {"grid": {"learning_rate": RATE, "hidden_size": Range(4, 8)}}
    assert math.isclose(request.ranges["grid"]["learning_rate"].share(0.1), 0.5)
