"""Runs chosen in rounds, and what fits a limit of time."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.results import open_sweep
from experiments.report.build import read_report, render
from experiments.report.sections import round_rows
from experiments.runner.plan import make_plan
from experiments.runner.run import Planner, RunOptions
from experiments.runner.stages import LongerStages, breadth_first, round_name, what_fits
from experiments.store import Store
from experiments.sweeps.grids import Grid, SweepSpec
from mlp_lm.config import CPU_RUNS, RunConfig
from tests import cli
from tests.synthetic import synthetic_folder, synthetic_row

RATES = [0.1 * (i + 1) for i in range(9)]


def finish(stages, loss, at_most=1000):
    rows = {}
    while missing := [(i, c) for runs in stages.wanted(rows).values() for i, c in runs.items() if i not in rows]:
        rows |= {run_id: synthetic_row(config, loss(config)) for run_id, config in missing[:at_most]}
    return rows, stages.wanted(rows)


def studies_of(n_seeds=2):
    grid = Grid("rates", RunConfig(n_steps=100), n_seeds, learning_rate=RATES)
    return SweepSpec("s", "s", (grid,)).expand("")


def test_the_best_third_goes_on_until_one_is_left():
    stages = LongerStages(studies_of(), 3)
    rows, studies = finish(stages, lambda config: 2 + abs(config.learning_rate - 0.52))
    rates = {name: sorted({round(run.learning_rate, 1) for run in runs.values()}) for name, runs in studies.items()}
    assert rates["rates, 3x steps"] == [0.4, 0.5, 0.6] and rates["rates, 9x steps"] == [0.5]
    assert list(studies) == ["rates", "rates, 3x steps", "rates, 9x steps"]
    assert {run.n_steps for run in studies["rates, 9x steps"].values()} == {900}
    assert len(rows) == 2 * (9 + 3 + 1)  # Every round with all seeds.


def test_rounds_of_several_lengths_keep_a_row_each(tmp_path):
    grid = Grid("lengths", RunConfig(), 1, n_steps=(100, 300), learning_rate=RATES[:3])
    stages = LongerStages(SweepSpec("s", "s", (grid,)).expand(""), 3)
    rows, studies = finish(stages, lambda config: 2 + abs(config.learning_rate - 0.2) - config.n_steps / 1e6)
    asked = {name: [rows[run_id] for run_id in runs] for name, runs in studies.items()}
    results = open_sweep(synthetic_folder(tmp_path, asked))
    results = replace(results, request=replace(results.request, design=stages.design))
    ((name, first, lines),) = round_rows(results)
    assert (name, len(first.cells)) == ("lengths", 6)
    assert len({line[0] for line in lines}) == 6 and sum(bool(line[2]) for line in lines) == 2


def test_the_steps_given_are_not_exceeded():
    _, studies = finish(LongerStages(studies_of(), 3, most_steps=300), lambda config: config.learning_rate)
    assert list(studies) == ["rates", "rates, 3x steps"]


def test_rounds_are_the_same_after_any_interruption():
    stages = LongerStages(studies_of(), 3)

    def loss(config):
        return float(np.random.default_rng(config.seed + int(100 * config.learning_rate) + config.n_steps).random())

    assert finish(stages, loss, 1) == finish(stages, loss, 5) == finish(stages, loss)


def test_a_configuration_that_diverged_does_not_go_on():
    stages = LongerStages(studies_of(1), 3)
    rows = {}
    for run_id, config in stages.wanted({})["rates"].items():
        rows[run_id] = synthetic_row(config, config.learning_rate, diverged=config.learning_rate < 0.15)
    on = stages.wanted(rows)[round_name("rates", 3)]
    assert sorted(round(run.learning_rate, 1) for run in on.values()) == [
        0.2,
        0.3,
    ]  # A third of the eight that are left.


@given(costs=st.lists(st.floats(0.1, 10), max_size=30), seconds=st.floats(0, 100))
def test_what_fits_is_the_longest_beginning_that_fits(costs, seconds):
    fits = what_fits(list(range(len(costs))), seconds, lambda chosen: sum(costs[i] for i in chosen))
    assert sum(costs[: len(fits)]) <= seconds or not fits
    assert len(fits) == len(costs) or sum(costs[: len(fits) + 1]) > seconds or seconds <= 0
    assert list(fits) == list(range(len(fits)))


def test_breadth_comes_before_seeds():
    runs = [RunConfig(seed=seed, hidden_size=size) for size in (10, 20, 30) for seed in (0, 1, 2)]
    first = breadth_first(runs)
    assert {run.seed for run in first} == {0} and {run.hidden_size for run in first} == {10, 20, 30}
    assert {run.seed for run in breadth_first([run for run in runs if run.seed])} == {1}


@pytest.fixture
def flags(tmp_path):
    few = ("single", "--data", str(cli.FEW_WORDS), "--hidden-size", "4", "--n-steps", "20", "--n-evaluations", "1")
    return (*few, "--workers", "1", "--learning-rate", "0.1", "0.2", "0.3", "--out", str(tmp_path / "out"))


def test_a_sweep_in_rounds(flags, tmp_path):
    old = tmp_path / "out" / "tables" / "differences.csv"  # Of a sweep that was not balanced.
    old.parent.mkdir(parents=True)
    old.write_text("study\n")
    said = cli.sweep_here(*flags, "--seeds", "1", "--then", "3x")
    assert said.code == 0, said.errors
    assert not old.exists() and (old.parent / "effects.csv").exists()
    results = open_sweep(tmp_path / "out")
    assert [len(study.cells) for study in results.studies] == [3, 1]
    assert results.studies[1].best.settings["n_steps"] == 60
    page = render(read_report(tmp_path / "out"))
    assert "runs: the best again with more steps" in page and "60 steps" in page


def test_a_sweep_within_a_time_has_every_configuration_once_before_any_twice(flags, tmp_path):
    nothing = cli.sweep(*flags, "--seeds", "2", "--time", "1s", "--dry-run")
    assert "6 runs, 0 to train" in nothing.output  # Compiling alone is planned to take longer.
    said = cli.sweep(*flags, "--seeds", "2", "--time", "1h", "--dry-run")
    assert "6 runs, 3 to train" in said.output
    assert "every configuration gets one seed before any gets the next" in said.output
    assert cli.sweep_here(*flags, "--seeds", "2", "--time", "1h").code == 0
    assert len(open_sweep(tmp_path / "out").rows) == 6


def test_when_the_time_is_up_it_says_what_is_left(flags, tmp_path):
    said = cli.sweep(*flags, "--seeds", "2", "--time", "1s")
    assert said.code == 0
    assert re.search("(no other run fits into the time|the time is up): 6 runs of 6 are left", said.output)


def test_within_a_time_what_was_begun_without_one_goes_on_whole(tmp_path, few_dataset):
    (runs,) = studies_of(n_seeds=2).values()
    store = Store(tmp_path)
    (started, *_) = make_plan(runs.values(), few_dataset, CPU_RUNS).cohorts
    run_ids = [run.run_id for run in started.runs]
    store.save_checkpoint(started.cohort_id, {}, {"run_ids": run_ids})
    for limit in (1.0, 3600.0):  # It goes on even where it will not come to its end.
        planner = Planner(few_dataset, store, RunOptions(time=3600.0), "cpu")
        planner.deadline = time.monotonic() + limit
        plan = planner.missing(runs, ())
        assert started.cohort_id in {cohort.cohort_id for cohort in plan.cohorts}
    assert {run.seed for run in started.runs} == {0, 1}
    planner.deadline = time.monotonic()
    assert planner.missing(runs, ()).n_runs == 0


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--then", "3"], "'3' is no factor; give one such as 3x"),
        (["--then", "1x"], "'1x' is no factor"),
        (["--then-steps", "100"], "--then-steps is for --then"),
        (["--then", "3x", "--until", "0.1"], "leave one of them out"),
    ],
)
def test_flags_of_rounds_that_make_no_sense(flags, part):
    cli.assert_one_line(cli.sweep(*flags), part)
