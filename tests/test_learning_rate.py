"""The learning-rate finder: which rate acts where, and what the rule chooses."""

import csv
import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.learning_rate.__main__ import Finding, main, rising_rates, smooth
from experiments.runner.trainer import training_data
from experiments.sweeps.grids import INIT_NAMES, RunSpec
from mlp_lm.initializers import SCHEMES
from mlp_lm.loss import minibatch_loss
from mlp_lm.minibatches import draw_minibatches
from mlp_lm.model import Architecture
from mlp_lm.rate_finder import rate_range_losses
from mlp_lm.training import draw_weights

ACTING = {"shuffle": True, "adam_epsilon": 1e-2, "dropout": 0.5, "input_dropout": 0.5}
SMALL = RunSpec(hidden_size=6, embedding_dim=2, batch_size=8)


@pytest.fixture
def words(tmp_path, few_words):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(few_words))
    return str(path)


def test_rates_rise_evenly_in_their_exponent():
    rates = rising_rates(1000, -3.0, 0.0)
    assert (len(rates), rates[0], rates[-1]) == (1000, pytest.approx(1e-3), pytest.approx(1.0))
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10 ** (3 / 999))


def test_rate_i_acts_at_step_i(words):
    rates = rising_rates(60, -2.0, 0.5)
    found = rate_range_losses([replace(SMALL, seed=s) for s in (3, 4)], rates, words)
    for losses, seed in zip(found, (3, 4), strict=True):
        np.testing.assert_allclose(losses, losses_by_hand(words, seed, rates), rtol=1e-4)
    # A finder that is off by one, in either direction, gives other numbers.
    for shifted in (np.roll(rates, 1), np.roll(rates, -1)):
        assert not np.allclose(losses_by_hand(words, 3, shifted)[2:], found[0][2:], rtol=1e-4)


def test_what_a_run_asks_for_acts_here_too(words):
    rates = rising_rates(40, -2.0, -1.0)
    wide = replace(SMALL, hidden_size=64, optimizer="adam")
    plain, *others = (
        rate_range_losses([run], rates, words)
        for run in (wide, *(replace(wide, **{field: value}) for field, value in ACTING.items()))
    )
    for field, losses in zip(ACTING, others, strict=True):
        assert not np.allclose(losses, plain, rtol=1e-4), field


def test_full_batches_have_a_rate_too(words, tmp_path, capsys):
    assert main(["--data", words, "--batch-size", "0", "--steps", "50", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert "batch_size 0" in capsys.readouterr().out


def losses_by_hand(words, seed, rates):
    data = training_data(words, 3)
    vocab = data.examples.counts.shape[-1]
    params = draw_weights(seed, SCHEMES["kaiming_tanh"], Architecture(vocab, 3, 2, 6))
    batches = draw_minibatches(np.uint32(seed), jax.numpy.arange(len(rates)), 8, len(data.targets))
    losses = []
    loss_and_grad = jax.jit(jax.value_and_grad(minibatch_loss))
    for rate, batch in zip(rates, batches, strict=True):
        loss, gradient = loss_and_grad(params, data.contexts[batch], data.targets[batch])
        losses.append(float(loss))
        params = jax.tree.map(lambda w, g, rate=rate: w - float(rate) * g, params, gradient)
    return losses


def test_the_rule_finds_the_bottom_of_a_valley():
    rates = rising_rates(1000, -3.0, 0.0)
    exponents = np.log10(rates)
    noise = np.random.default_rng(0).normal(0, 0.05, (8, 1000))
    losses = 2.5 + (exponents + 1.2) ** 2 + noise
    finding = Finding("a valley", {"init": "normal"}, rates, losses)
    assert math.log10(finding.chosen) == pytest.approx(-1.2, abs=0.05)
    assert min(finding.seed_rates) <= finding.chosen <= max(finding.seed_rates)


def test_a_curve_ends_where_it_stops_being_a_number():
    losses = np.linspace(3, 2, 100)
    losses[60] = np.nan
    curve = smooth(losses)
    assert np.isfinite(curve[:60]).all() and np.isinf(curve[60:]).all()
    finding = Finding("diverges", {"init": "normal"}, rising_rates(100, -3, 0), np.stack([losses, losses]))
    assert finding.chosen == pytest.approx(finding.rates[59])


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
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(
        f"normal, hidden_size 4, batch_size 8: learning rate {float(chosen[0]['learning_rate']):.3g}"
    )
    assert (out / "learning_rate.png").read_bytes().startswith(b"\x89PNG")
    # The smallest smoothed loss of a configuration is the one at its chosen rate.
    first = [row for row in curves if row["configuration"] == curves[0]["configuration"]]
    best = min(first, key=lambda row: float(row["loss_smoothed"]))
    assert best["learning_rate"] == chosen[0]["learning_rate"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--init", "nrmal"], "did you mean 'normal'"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--steps", "3"], "--steps must be at least 50, got 3"),
        (["--low-exponent", "1"], "exponents must rise"),
        (["--batch-size", "10000000"], "batch_size 10000000 exceeds"),
        (["--learning-rate", "0.1"], "unknown flag '--learning-rate'"),
    ],
)
def test_a_mistake_is_one_line(arguments, told, capsys, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "none")]) == 2
    message = capsys.readouterr().err
    assert told in message and message.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_every_scheme_has_a_colour_and_a_marker_of_its_own():
    from experiments.analysis.style import SCHEME_COLOURS, SCHEME_MARKERS

    for told in (SCHEME_COLOURS, SCHEME_MARKERS):
        assert set(told) == set(INIT_NAMES)
        assert len(set(told.values())) == len(told)
