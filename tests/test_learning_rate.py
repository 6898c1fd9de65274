"""The learning-rate finder: which rate acts where, and what the rule chooses."""

import csv
import math
import os
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.analysis.rate_curves import LossCurve, rising_rates, smooth
from experiments.analysis.style import scheme_style
from experiments.learning_rate import main
from mlp_lm import rate_finder
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.loss import minibatch_loss
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.rate_finder import rate_finder_losses
from mlp_lm.schemes import SCHEMES
from mlp_lm.training import initial_params, training_data
from tests import processes
from tests.cli import FEW_WORDS

ACTING = {"shuffle": True, "adam_epsilon": 1e-2, "dropout": 0.5, "input_dropout": 0.5}
SMALL = RunConfig(hidden_size=6, embedding_dim=2, batch_size=8)
loss_and_grad = jax.jit(jax.value_and_grad(minibatch_loss))


@pytest.fixture(scope="module")
def words():
    return str(FEW_WORDS)


@pytest.fixture(scope="module")
def dataset(words):
    return load_dataset(words)


def valley(bottom: float, n_seeds: int = 8) -> LossCurve:
    """Noisy losses that are lowest at 10 ** bottom, between 0.001 and 1."""
    rates = rising_rates(1000, -3.0, 0.0)
    noise = np.random.default_rng(0).normal(0, 0.05, (n_seeds, 1000))
    return LossCurve({"init": "normal"}, rates, 2.5 + (np.log10(rates) - bottom) ** 2 + noise)


def test_rates_rise_evenly_in_their_exponent():
    rates = rising_rates(1000, -3.0, 0.0)
    assert (len(rates), rates[0], rates[-1]) == (1000, pytest.approx(1e-3), pytest.approx(1.0))
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10 ** (3 / 999))


def test_rate_i_acts_at_step_i(dataset):
    rates = rising_rates(60, -2.0, 0.5)
    finder = rate_finder_losses(SMALL, dataset, rates, [3, 4])
    for losses, seed in zip(finder, (3, 4), strict=True):
        np.testing.assert_allclose(losses, losses_by_hand(dataset, seed, rates), rtol=1e-4)
    # A finder that is off by one, in either direction, gives other numbers.
    for shifted in (np.roll(rates, 1), np.roll(rates, -1)):
        assert not np.allclose(losses_by_hand(dataset, 3, shifted)[2:], finder[0][2:], rtol=1e-4)


def losses_by_hand(dataset, seed, rates):
    data = training_data(dataset, 3)
    params = initial_params(replace(SMALL, seed=seed, n_steps=100_000), dataset)  # Too long to be padded.
    batches = draw_minibatches(np.uint32(seed), jax.numpy.arange(len(rates)), 8, len(data.targets))
    losses = []
    for rate, batch in zip(rates, batches, strict=True):
        loss, gradient = loss_and_grad(params, data.contexts[batch], data.targets[batch])
        losses.append(float(loss))
        params = jax.tree.map(lambda w, g, rate=rate: w - float(rate) * g, params, gradient)
    return losses


def test_what_a_run_asks_for_acts_here_too(dataset):
    rates = rising_rates(40, -2.0, -1.0)
    wide = replace(SMALL, hidden_size=64, optimizer="adam")
    plain, *others = (
        rate_finder_losses(config, dataset, rates)
        for config in (wide, *(replace(wide, **{field: value}) for field, value in ACTING.items()))
    )
    for field, losses in zip(ACTING, others, strict=True):
        assert not np.allclose(losses, plain, rtol=1e-4), field


def test_stretches_change_no_bit(dataset, monkeypatch):
    """A call of a few steps can be interrupted; and whole blocks of drawn minibatches end in the middle of some."""
    rates, config = rising_rates(260, -2.0, 0.0), replace(SMALL, momentum=0.9)
    whole = rate_finder_losses(config, dataset, rates, [3, 4])
    stretches = iter([1, 90, *[7] * 100])
    monkeypatch.setattr(rate_finder, "next_stretch", lambda steps, seconds: next(stretches))
    np.testing.assert_array_equal(rate_finder_losses(config, dataset, rates, [3, 4]), whole)
    assert next(stretches) >= 7 and len(list(stretches)) < 85


def test_full_batches_have_a_rate_too(words, tmp_path, capsys):
    assert main(["--data", words, "--batch-size", "0", "--steps", "50", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert "batch_size 0" in capsys.readouterr().out


def test_the_rule_finds_the_bottom_of_a_valley():
    curve = valley(-1.2)
    assert math.log10(curve.chosen) == pytest.approx(-1.2, abs=0.05)
    assert min(curve.chosen_by_seed) <= curve.chosen <= max(curve.chosen_by_seed)
    assert not curve.at_edge and "edge" not in str(curve)


@pytest.mark.parametrize(("bottom", "flag"), [(-4.0, "--low-exponent"), (1.0, "--high-exponent")])
def test_a_choice_at_the_edge_says_how_to_widen_the_range(bottom, flag):
    curve = valley(bottom)
    assert curve.at_edge
    assert str(curve).endswith(f"(at the edge of the range: widen it with {flag})")


def test_a_curve_ends_where_it_stops_being_a_number():
    losses = np.linspace(3, 2, 100)
    losses[60] = np.nan
    smoothed = smooth(losses)
    assert np.isfinite(smoothed[:60]).all() and np.isinf(smoothed[60:]).all()
    curve = LossCurve({"init": "normal"}, rising_rates(100, -3, 0), np.stack([losses, losses]))
    assert curve.chosen == pytest.approx(curve.rates[59])


def test_smoothing_leaves_a_straight_line():
    line = np.linspace(5.0, 1.0, 1000)
    np.testing.assert_allclose(smooth(line)[100:-100], line[100:-100], rtol=1e-6)


def test_the_command_writes_a_curve_and_a_choice_for_every_configuration(words, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--data", words, "--out", str(out), "--seeds", "2", "--steps", "80", "--batch-size", "8"]
    assert main([*flags, "--init", "normal", "fan_in", "--hidden-size", "4", "6"]) == 0
    curves = list(csv.DictReader((out / "learning_rate.csv").read_text().splitlines()))
    chosen = list(csv.DictReader((out / "chosen.csv").read_text().splitlines()))
    assert len(chosen) == 4 and len(curves) == 4 * 80
    assert [(row["init"], row["hidden_size"]) for row in chosen] == [
        ("normal", "4"), ("normal", "6"), ("fan_in", "4"), ("fan_in", "6"),
    ]  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"normal, hidden_size 4, batch_size 8: learning rate {float(chosen[0]['learning_rate']):.3g}"
    )
    assert lines[-1] == f"Written to {out}" and max(map(len, lines[len(chosen) : -1])) <= 80
    assert (out / "learning_rate.png").read_bytes().startswith(b"\x89PNG")
    # The smallest smoothed loss of a configuration is the one at its chosen rate.
    first = [row for row in curves if row["configuration"] == curves[0]["configuration"]]
    best = min(first, key=lambda row: float(row["loss_smoothed"]))
    assert best["learning_rate"] == chosen[0]["learning_rate"]
    for row, line in zip(chosen, lines, strict=False):
        rates = [r["learning_rate"] for r in curves if r["configuration"] == line.partition(": learning rate")[0]]
        assert row["at_edge"] == str(row["learning_rate"] in (rates[0], rates[-1]))
        assert ("edge" in line) == (row["at_edge"] == "True")


def test_rates_too_low_are_flagged_in_the_table(words, tmp_path):
    low = ["--low-exponent", "-9", "--high-exponent", "-2", "--hidden-size", "4", "--batch-size", "0"]
    assert main(["--data", words, "--out", str(tmp_path), "--seeds", "1", "--steps", "50", *low]) == 0
    [row] = csv.DictReader((tmp_path / "chosen.csv").read_text().splitlines())
    # Full batches have no noise: the loss falls to the last and largest of rates that are all too low.
    assert (row["at_edge"], float(row["learning_rate"])) == ("True", pytest.approx(0.01))


def test_each_dataset_has_a_folder_of_its_own(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in ([], ["--data", words]):
        assert main([*data, "--seeds", "1", "--steps", "50", "--hidden-size", "4", "--batch-size", "8"]) == 0
    folders = {path.name for path in (tmp_path / "results" / "local").iterdir()}
    assert folders == {"learning-rate", f"learning-rate-{FEW_WORDS.stem}"}


def test_ideas_can_be_compared(words, tmp_path, capsys, tables):
    ideas = tmp_path / "ideas.py"
    ideas.write_text("from mlp_lm import SCHEMES\nSCHEMES['mine'] = SCHEMES['fan_in']\n")
    flags = ["--data", words, "--seeds", "1", "--steps", "50", "--hidden-size", "4", "--batch-size", "8"]
    assert main([*flags, "--ideas", str(ideas), "--init", "mine", "fan_in", "--out", str(tmp_path / "out")]) == 0
    mine, fan_in, *_ = capsys.readouterr().out.splitlines()
    assert mine.removeprefix("mine") == fan_in.removeprefix("fan_in")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--init", "nrmal"], "did you mean 'normal'"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--steps", "3"], "--steps must be between 50 and 1,000,000, got 3"),
        (["--low-exponent", "1"], "exponents must rise"),
        (["--batch-size", "10000000"], "batch_size 10000000 exceeds"),
        (["--learning-rate", "0.1"], "unknown flag '--learning-rate'"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "none")]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_ctrl_c_is_one_line(tmp_path):
    slow = ["--seeds", "4", "--init", *SCHEMES]  # Many short calls: a signal is heard after the one it comes in.
    with processes.started("-m", "experiments.learning_rate", *slow, "--out", str(tmp_path / "out")) as process:
        processes.wait_until((tmp_path / "out").exists)  # The command line is right, and training begins.
        os.kill(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert (process.returncode, output, errors) == (130, "", "learning_rate: interrupted\n")


def test_every_scheme_has_a_colour_and_a_marker_of_its_own():
    styles = [scheme_style(name) for name in SCHEMES]
    for key in ("color", "marker"):
        assert len({style[key] for style in styles}) == len(SCHEMES)
