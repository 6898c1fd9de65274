"""Seeds one look at a time: the error rate, the saving, and decisions that depend on rows alone."""

import html
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments.analysis import sequential_simulation as simulation
from experiments.analysis.results import load_baselines, open_sweep
from experiments.analysis.sequential import (
    BEHIND,
    BEST,
    FAILED,
    KNOWN,
    OUT_OF_SEEDS,
    Outcome,
    SeedStages,
    Verdict,
    compare_pairs,
    decide,
    planned_looks,
    prior_freedom,
    step_down,
)
from experiments.analysis.sequential_figures import seed_rows
from experiments.analysis.sequential_simulation import (
    ALLOWED,
    MEANS,
    N_CONFIGURATIONS,
    SPREADS,
    count_errors,
    mean_runs,
    scenarios,
    simulate,
    width_of_all,
    write_simulation,
)
from experiments.analysis.studies import Estimate
from experiments.analysis.words import after_looks, answers
from experiments.report.build import read_report, render
from experiments.sweeps.grids import Grid, SweepSpec
from experiments.sweeps.request import read_request
from tests import cli
from tests.synthetic import synthetic_folder, synthetic_row, synthetic_rows, write_request


def losses_from(table):
    return [dict(enumerate(row)) for row in table.tolist()]


def test_few_sweeps_make_any_false_statement():
    # 120 sweeps of 6 equal configurations: at most 5 % err, of which 12 are the 99 % quantile.
    n_wrong = count_errors(scenarios(6)["all equal"], 120, np.random.default_rng(0))
    assert n_wrong <= stats.binom.ppf(0.99, 120, ALLOWED)


def test_pairs_that_are_distinguished_at_every_look_are_taken_off_once():
    # Counted at each look, they would leave Holm's procedure nothing to correct for: 19 % of these sweeps would err.
    assert count_errors(scenarios(22)["quiet among noisy"], 60, np.random.default_rng(0)) <= 2


def test_an_error_is_counted_where_there_is_one():
    means, draw = np.array([1.0, 0.0]), np.stack([np.zeros(32), np.ones(32)]) + 1e-9 * np.arange(32)
    rng = np.random.default_rng(0)
    assert count_errors((means, lambda rng: draw), 3, rng) == 3  # The better one draws the higher losses.
    assert count_errors((means[::-1], lambda rng: draw), 3, rng) == 0


@pytest.mark.long
@pytest.mark.parametrize("m", N_CONFIGURATIONS)
def test_at_most_five_percent_of_sweeps_make_any_false_statement(m):
    for name, scenario in scenarios(m).items():
        n_wrong = count_errors(scenario, 1000, np.random.default_rng(0))
        assert n_wrong <= stats.binom.ppf(0.99, 1000, ALLOWED), name


def test_it_needs_less_than_a_third_of_the_runs_that_all_seeds_for_all_would_take():
    rng = np.random.default_rng(0)
    n_runs = mean_runs(MEANS, SPREADS, 0.003, 30, rng)
    assert n_runs < 6 * 32 / 3
    assert n_runs < 6 * 8  # And fewer than eight seeds for all, which would leave the two best open.
    draws = (MEANS[:, None] + SPREADS[:, None] * rng.standard_normal((6, 32)) for _ in range(30))
    assert all(simulate(losses, 0.003).verdicts[0].reason in (BEST, KNOWN) for losses in draws)


def test_what_some_seeds_for_all_know_is_the_interval_of_a_paired_t_test():
    # Two that are equal: the interval of their difference, of standard deviation sqrt(2), at the level of one pair.
    known = width_of_all(np.zeros(2), np.ones(2), 8, 300, np.random.default_rng(0))
    assert known == pytest.approx(stats.t.ppf(0.975, 7) * math.sqrt(2 / 8), rel=0.05)
    assert width_of_all(np.array([0.0, 1.0]), np.full(2, 1e-6), 8, 3, np.random.default_rng(0)) is None


def test_a_simulation_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "N_CONFIGURATIONS", (2,))
    write_simulation(tmp_path, {"six schemes": (MEANS, SPREADS)}, n_repeats=10)
    rates, runs = ((tmp_path / "tables" / f"{name}.csv").read_text() for name in ("error_rate", "runs"))
    assert rates.count("\n") == 1 + len(scenarios(2)) and runs.count("\n") == 1 + len(simulation.WIDTHS)
    assert (tmp_path / "figures" / "simulation.png").stat().st_size > 1000


def test_the_reasons_by_hand():
    steady = np.tile([0.0, 1e-4, -1e-4, 2e-4], 8)  # Noise so small that the looks are decided by the means alone.
    other = np.roll(steady, 1)
    one = decide(losses_from(np.stack([2 + steady, 3 + other])), 0.01, 32)
    assert [one.verdicts[i].reason for i in range(2)] == [BEST, BEHIND] and one.finished
    assert one.n_wanted == {0: 3, 1: 3}
    close = decide(losses_from(np.stack([2 + steady, 2 + other])), 0.05, 32)
    assert [close.verdicts[i].reason for i in range(2)] == [KNOWN, KNOWN]
    noise = np.random.default_rng(0).standard_normal((2, 5))
    noisy = decide(losses_from(noise), 1e-9, 5)
    assert [noisy.verdicts[i].reason for i in range(2)] == [OUT_OF_SEEDS] * 2 and noisy.n_wanted == {0: 5, 1: 5}
    diverged = [dict(enumerate(2 + steady)), dict(enumerate(2 + other)) | {1: None}]
    assert decide(diverged, 0.05, 32).verdicts[1].reason == FAILED


def test_decisions_do_not_depend_on_seeds_beyond_their_look_nor_on_dropped_configurations():
    rng = np.random.default_rng(4)
    table = MEANS[:, None] + SPREADS[:, None] * rng.standard_normal((6, 32))
    full = decide(losses_from(table), 0.003, 32)
    kept = [dict(enumerate(row[: full.n_wanted[place]])) for place, row in enumerate(table.tolist())]
    assert len({full.n_wanted[place] for place in range(6)}) > 1
    assert decide(kept, 0.003, 32) == full


def test_the_intervals_of_one_pair_are_those_of_a_paired_t_test():
    table = np.random.default_rng(1).standard_normal((2, 8))
    differences, errors, freedom = compare_pairs(table)
    expected = stats.ttest_rel(table[0], table[1])
    assert differences[0, 1] / errors[0, 1] == pytest.approx(expected.statistic)
    assert freedom == expected.df == 7


def test_variances_are_raised_and_never_lowered():
    table = np.random.default_rng(1).standard_normal((8, 3)) * np.linspace(0.5, 3, 8)[:, None]
    _, errors, freedom = compare_pairs(table)
    raw = (table[:, None] - table[None]).var(axis=2, ddof=1) / 3
    assert (errors**2 >= raw - 1e-12).all() and 2 <= freedom <= 2 + 3 * 2


def test_likeness_of_variances_is_worth_what_they_were_drawn_with():
    rng = np.random.default_rng(0)
    true = 10 / rng.chisquare(10, 20_000)  # A scaled inverse chi-squared of 10 degrees of freedom.
    assert prior_freedom(true * rng.chisquare(4, 20_000) / 4, 4) == pytest.approx(10, rel=0.1)
    assert prior_freedom(rng.chisquare(4, 200) / 4, 4) > 20


def test_step_down_is_holms_procedure():
    rng = np.random.default_rng(2)
    differences = rng.standard_normal((4, 4)) * 3
    differences -= differences.T
    errors = np.ones((4, 4))
    apart = step_down(differences, errors, 10.0, 0.05, 6)
    rows, columns = np.triu_indices(4, 1)
    p_values = 2 * stats.t.sf(np.abs(differences[rows, columns]), 10)
    # Adjusted p-values (Holm 1979): the running maximum of (m - i) p.
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate((6 - np.arange(6)) * p_values[order])
    expected = np.zeros(6, bool)
    expected[order] = adjusted <= 0.05
    assert (apart[rows, columns] == expected).all() and 0 < expected.sum() < 6


def test_looks_end_at_the_last_seed():
    assert planned_looks(32) == (3, 5, 8, 12, 20, 32)
    assert planned_looks(10) == (3, 5, 8, 10)
    assert planned_looks(3) == (3,)


def test_stages_ask_for_what_the_rows_leave_open_however_often_they_are_interrupted():
    sweep = SweepSpec("s", "s", (Grid("a", n_seeds=32, hidden_size=[8, 16, 32, 64, 100, 200]),))
    studies = sweep.expand("")
    stages = SeedStages(studies, 0.003, 32)
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((6, 32))
    sizes = [8, 16, 32, 64, 100, 200]

    def row(config):
        place = sizes.index(config.hidden_size)
        return synthetic_row(config, MEANS[place] + SPREADS[place] * noise[place, config.seed])

    def run(at_most):
        """Rounds that are cut off after so many runs, until nothing is wanted."""
        rows = {}
        while missing := [(i, c) for i, c in stages.wanted(rows)["a"].items() if i not in rows]:
            rows |= {run_id: row(config) for run_id, config in missing[:at_most]}
        return rows

    whole = run(1000)
    assert run(1) == run(7) == whole
    everything = {run_id: row(config) for run_id, config in studies["a"].items()}
    assert stages.wanted(everything)["a"].keys() == whole.keys()  # In any company.
    assert 18 <= len(whole) < 192


def test_a_sweep_until_a_width(tmp_path):
    flags = ("single", "--data", str(cli.FEW_WORDS), "--hidden-size", "4", "--n-steps", "30", "--n-evaluations", "1")
    flags += ("--init", "kaiming_tanh", "zeros", "--workers", "1", "--until", "1.0", "--max-seeds", "5")
    out = tmp_path / "out"
    dry = cli.sweep(*flags, "--out", str(out), "--dry-run")
    assert "6 runs, 6 to train" in dry.output and "looks at 3, 5 seeds" in dry.output
    assert cli.sweep_here(*flags, "--out", str(out)).code == 0
    results = open_sweep(out)
    table = list(seed_rows(results))
    assert len(table) == 2 and all(row["n_seeds"] in (3, 5) for row in table)
    assert len(results.rows) == sum(row["n_seeds"] for row in table)
    assert (out / "tables" / "seeds.csv").exists() and (out / "figures" / "runs_seeds.png").exists()
    page = render(read_report(out))
    assert "how many seeds, and why no more" in page and "Holm 1979" in page
    # What may be concluded counts the looks, as the plain interval of a lead would not.
    (answer,) = answers(results, load_baselines(out, results.request), {})
    assert "all looks" in answer and "lead over the next" not in answer and answer in html.unescape(page)
    assert "They do not count that seeds were added" in page
    done = cli.sweep(*flags, "--out", str(out), "--dry-run")
    assert f"{len(results.rows)} runs, 0 to train" in done.output
    assert math.isclose(results.request.design["until"], 1.0)


def test_an_answer_says_what_the_looks_conclude():
    def outcome(*reasons):
        nothing = Estimate(0.0, 0.0, 0.0, 3)
        return Outcome({place: Verdict(reason, 3, nothing, 0) for place, reason in enumerate(reasons)})

    known = list(after_looks(outcome(KNOWN, KNOWN, BEHIND), 0.01))
    assert known == [
        "2 are left after all looks, their differences known within ±0.01",
        "1 other is worse (at most 5 % for any error in this)",
    ]
    assert list(after_looks(outcome(BEST, BEHIND, BEHIND), 0.01))[1].startswith("2 others are worse")
    assert list(after_looks(outcome(OUT_OF_SEEDS, OUT_OF_SEEDS), 0.01)) == [
        "2 are left, which these seeds do not tell apart"
    ]
    assert not list(after_looks(outcome(BEST), 0.01)) and not list(after_looks(outcome(FAILED, FAILED), 0.01))


def test_eight_seeds_for_all_are_compared_with_once_where_eight_are_the_most(tmp_path):
    rows = synthetic_rows({"hidden_size": (50, 100)}, 3, lambda hidden_size: 2 + hidden_size, 1e-6)
    folder = synthetic_folder(tmp_path, {"size": rows})
    design = {"until": 0.01, "max_seeds": 8, "first_seed": 0}
    write_request(folder, replace(read_request(folder), design=design))
    page = render(read_report(folder))
    assert "6 runs, 62 % fewer than 8 seeds for all." in page


def test_looks_begin_at_the_first_seed_of_a_sweep_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[[study]]\nfirst_seed = 10\nhidden_size = [4, 8]\nn_steps = 30\n")
    dry = cli.sweep("--config", str(file), "--until", "1.0", "--max-seeds", "5", "--dry-run")
    assert dry.code == 0 and "6 runs, 6 to train" in dry.output


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--until", "0"], "--until must be a positive number"),
        (["--until", "0.1", "--max-seeds", "2"], "--max-seeds must be at least 3"),
        (["--max-seeds", "8"], "--max-seeds 8 is for --until"),
        (["--until", "0.1", "--seeds", "4"], "give --max-seeds instead of --seeds"),
        (["--until", "0.1", "--shard", "1/2"], "--until needs the losses of all runs"),
        (["--time", "2x"], "'2x' is no time; give one such as 2h, 45m or 90s"),
        (["--time", "2h", "--shard", "1/2"], "--shard trains a slice of the whole sweep"),
    ],
)
def test_flags_that_make_no_sense(flags, part):
    cli.assert_one_line(cli.sweep(*flags), part)
