"""What a terminal shows while a sweep trains, and a page that is written while it does."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from rich.live import Live

from experiments.analysis.results import load_baselines, open_sweep
from experiments.analysis.summary import Summary
from experiments.cli import summary, terminal
from experiments.cli.terminal import Display
from experiments.report.build import watch_report
from experiments.runner.plan import Cohort, Plan
from experiments.runner.protocol import Progress
from experiments.sweeps.request import read_request
from mlp_lm.config import RunConfig
from tests.synthetic import synthetic_folder, synthetic_row, synthetic_rows, write_request

COHORTS = tuple(
    Cohort(tuple(RunConfig(hidden_size=size, seed=seed, n_steps=100) for seed in range(3)), 2.0)
    for size in (8, 16, 32, 64, 100)
)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(terminal.time, "monotonic", clock.monotonic)
    return clock


def display_of(width, is_terminal=True, n_done=0):
    """A display on a terminal of this width, and what it writes."""
    display = Display(Plan(COHORTS), n_done, 5.0)
    written = io.StringIO()
    display.console = Console(file=written, width=width, height=20, force_terminal=is_terminal)
    display.live = Live(console=display.console, auto_refresh=False, transient=True)
    return display, written


def finish(display, cohort, loss):
    rows = tuple(synthetic_row(run, loss + 0.01 * run.seed) for run in cohort.runs)
    display.show(Progress(cohort, model_steps=300))
    display.show(Progress(cohort, rows=rows))


def test_the_three_best_so_far_have_intervals_over_their_seeds():
    display, _ = display_of(80)
    for cohort, loss in zip(COHORTS, (2.5, 2.1, 2.3, 2.2, 2.4), strict=True):
        finish(display, cohort, loss)
    best = display.best_so_far()
    # Of 2.10, 2.11 and 2.12: a mean of 2.11 ± 4.303 x 0.01 / sqrt(3).
    assert best == [
        "1. 2.1100 ± 0.0248 3 seeds: hidden_size 16",
        "2. 2.2100 ± 0.0248 3 seeds: hidden_size 64",
        "3. 2.3100 ± 0.0248 3 seeds: hidden_size 32",
    ]


@pytest.mark.parametrize("pace", [0.2, 1.0, 5.0])
def test_after_a_tenth_the_time_left_holds_within_a_third(clock, pace):
    """Whatever the plan was off by, where the pace is as even as the plan says."""
    seconds = sum(cohort.seconds for cohort in COHORTS)
    display = Display(Plan(COHORTS), 0, seconds)
    for i in range(1, 50):
        clock.now += pace * seconds / 50
        display.show(Progress(COHORTS[(i - 1) // 10], model_steps=30))
        if i > 5:
            assert display.seconds_left == pytest.approx(pace * seconds * (1 - i / 50), rel=1 / 3)


def test_neither_starting_nor_what_an_earlier_process_trained_enters_the_time_left(clock):
    seconds = sum(cohort.seconds for cohort in COHORTS)
    display = Display(Plan(COHORTS), 0, seconds)
    clock.now += 5 * seconds  # Workers start and compile.
    display.show(Progress(COHORTS[0], model_steps=300, resumed=True))
    for i in range(1, 40):
        clock.now += seconds / 50
        display.show(Progress(COHORTS[1 + (i - 1) // 10], model_steps=30))
        if i > 4:
            assert display.seconds_left == pytest.approx(seconds * (1 - (10 + i) / 50), rel=1 / 3)


@pytest.mark.parametrize("width", [24, 80, 120])
def test_it_fits_the_terminal(width):
    display, written = display_of(width)
    with display:
        for cohort in COHORTS[:2]:
            finish(display, cohort, 2.0)
    lines = written.getvalue().replace("\r", "\n").splitlines()
    visible = [Console(width=500).render_str(line).plain for line in lines]
    assert max(len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) for line in visible) <= width


def test_it_says_what_was_here_already_and_is_quiet_without_a_terminal():
    display, written = display_of(80, is_terminal=False, n_done=4)
    with display:
        for cohort in COHORTS[:2]:
            finish(display, cohort, 2.0)
    assert written.getvalue() == "4 of 19 runs were here already\n"
    assert display.line().startswith("10/19 runs")


@pytest.mark.parametrize("width", [24, 40, 80, 120])
def test_the_table_of_a_finished_sweep_loses_no_name_at_any_width(tmp_path, monkeypatch, width):
    rows = synthetic_rows(
        {"init": ("kaiming_tanh", "scaled_hidden")}, 3, lambda init: 2 + 0.5 * (init == "scaled_hidden")
    )
    results = open_sweep(synthetic_folder(tmp_path, {"size": rows}))
    written = io.StringIO()
    console = Console(file=written, width=width, highlight=False, markup=False)
    monkeypatch.setattr(summary, "stdout_console", lambda: console)
    monkeypatch.setattr(summary, "answers", lambda *_: [])
    summary.print_summary(Summary(results, load_baselines(tmp_path, results.request), {}, {}), tmp_path)
    table = written.getvalue().partition("Losses in")[0]
    assert max(map(len, table.splitlines())) <= width
    # Where a cell is wrapped, the lines of a row are read one after the other.
    assert "scaled_hidden" in re.sub("[^a-z_]", "", table) and "…" not in table
    assert ("2.5000 ± 0.0000  +0.5000 ± 0.0000" in table) == (width >= 80)


def test_a_watched_report_follows_the_runs_until_all_are_there(tmp_path):
    rows = synthetic_rows({"hidden_size": (50, 100)}, 3, lambda **_: 2.0, 0.01)
    folder = synthetic_folder(tmp_path, {"size": rows})
    asked = read_request(folder)
    more = [RunConfig(hidden_size=300, seed=seed, n_steps=100, n_evaluations=4) for seed in range(3)]
    studies = {"size": [*asked.studies["size"], *(run.run_id for run in more)]}
    write_request(folder, replace(asked, studies=studies))
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:  # At the first look nothing is new.
            write_request(folder, asked)

    seen = list(watch_report(folder, sleep))
    assert [(n_done, n_asked) for n_done, n_asked, _ in seen] == [(6, 9), (6, 6)]
    assert len(slept) == 2 and np.all(np.array(slept) > 0)
    assert 'http-equiv="refresh"' not in seen[-1][2].read_text()  # A finished page stays as it is.


def test_a_page_of_a_sweep_that_goes_on_reloads_itself(tmp_path):
    from experiments.report.build import write_report

    rows = synthetic_rows({"hidden_size": (50, 100)}, 2, lambda **_: 2.0, 0.01)
    folder = synthetic_folder(tmp_path, {"size": rows})
    assert '<meta http-equiv="refresh" content="5">' in write_report(folder, refresh=5).read_text()
