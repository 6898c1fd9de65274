"""Comparisons with a reference: equivalence, difference, and the correction for their number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.analysis.comparisons import (
    EQUIVALENT,
    HIGHER,
    LOWER,
    UNRESOLVED,
    compare,
    comparison_rows,
    holm,
    over_seeds_and_words,
    over_words,
    p_of_difference,
    p_of_equivalence,
    p_text,
    reference_of,
)
from experiments.analysis.studies import estimate, make_study
from mlp_lm.config import RunConfig
from tests.synthetic import synthetic_row, synthetic_rows

samples = st.lists(st.integers(-1000, 1000), min_size=2, max_size=10).map(lambda values: [v / 1e5 for v in values])


@settings(max_examples=200, deadline=None)
@given(samples.filter(lambda values: len(set(values)) > 1), st.floats(1e-4, 0.02))
def test_p_values_are_those_of_scipys_t_tests(values, margin):
    two_sided = stats.ttest_1samp(values, 0)
    assert p_of_difference(values) == pytest.approx(two_sided.pvalue, abs=1e-12)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert p_of_equivalence(values, margin) == pytest.approx(max(above, below), abs=1e-12)
    # Equivalent at 5 % exactly where the 90 % interval lies within the margin.
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (p_of_equivalence(values, margin) < 0.05) == (-margin < interval.low and interval.high < margin)


def test_values_without_spread_and_single_ones():
    assert p_of_difference([0.01, 0.01]) == 0 and p_of_difference([0.0, 0.0]) == 1
    assert p_of_equivalence([0.001, 0.001], 0.005) == 0 and p_of_equivalence([0.01, 0.01], 0.005) == 1
    assert math.isnan(p_of_difference([0.01])) and math.isnan(p_of_equivalence([], 0.005))


def test_holm_by_hand():
    # The smallest times four, the next times three, and none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, math.nan, 0.02]) == pytest.approx([0.9, math.nan, 0.04], nan_ok=True)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_claims_what_stepping_down_claims(p_values):
    claimed, left = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
    while left and p_values[left[0]] * len(left) < 0.05:
        claimed.add(left.pop(0))
    assert {i for i, p in enumerate(holm(p_values)) if p < 0.05} == claimed


def test_at_most_one_study_in_twenty_has_a_false_claim():
    rng = np.random.default_rng(0)
    false = [min(holm([p_of_difference(rng.standard_normal(8)) for _ in range(10)])) < 0.05 for _ in range(400)]
    assert np.mean(false) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_verdicts():
    # By scheme, the difference from the reference and its spread over eight seeds.
    schemes = {
        "kaiming_tanh": (0, 0), "fan_in": (0, 1e-3), "xavier": (0.05, 1e-3), "scaled_hidden": (-0.003, 1e-4),
        "normal": (0.002, 0.03),
    }  # fmt: skip
    rows = []
    for init, (mean, spread) in schemes.items():
        noise = spread * np.array([-3, -2, -1, -0.5, 0.5, 1, 2, 3])
        rows += [synthetic_row(RunConfig(init=init, seed=i), 2.1 + mean + float(noise[i])) for i in range(8)]
    cells = {cell.settings["init"]: cell for cell in make_study("schemes", rows).cells}
    actual = {c.cell.settings["init"]: c for c in compare(cells.values(), cells["kaiming_tanh"])}
    verdicts = {init: comparison.verdict for init, comparison in actual.items()}
    assert verdicts == {"fan_in": EQUIVALENT, "xavier": HIGHER, "scaled_hidden": LOWER, "normal": UNRESOLVED}
    assert actual["scaled_hidden"].within_margin and not actual["normal"].within_margin
    # Four comparisons: the smallest p-value is four times its own.
    one = compare([cells["xavier"]], cells["kaiming_tanh"])[0]
    assert one.p_difference <= actual["xavier"].p_difference <= 4 * one.p_difference


def test_the_reference_is_the_default_configuration_where_it_ran():
    def falling(hidden_size):
        return 2.3 - hidden_size / 1000

    study = make_study("x", synthetic_rows({"hidden_size": (100, 200, 300)}, 3, falling))
    assert reference_of(study).settings["hidden_size"] == RunConfig().hidden_size == 200
    others = make_study("x", synthetic_rows({"hidden_size": (100, 300)}, 3, falling))
    assert reference_of(others) is others.best
    rows = {row["hidden_size"]: row for row in comparison_rows([study])}
    assert rows.keys() == {100, 300} and {row["reference"] for row in rows.values()} == {"hidden_size 200"}
    assert rows[300]["difference"] == pytest.approx(-0.1) and rows[300]["verdict"] == LOWER


def test_single_seeds_are_not_compared():
    assert not list(comparison_rows([make_study("x", synthetic_rows({"gain": (1.0, 2.0)}, 1, lambda gain: gain))]))


def test_an_interval_over_words_is_that_of_words_drawn_anew():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 12, 300)
    words = np.repeat(np.arange(300), lengths)
    losses = rng.gamma(2, 1, len(words)) + rng.normal(0, 1, 300)[words]  # Tokens of a word are alike.
    actual = over_words(losses, words)
    assert actual.mean == pytest.approx(losses.mean())
    sums = np.bincount(words, losses)
    drawn = rng.integers(0, 300, (4000, 300))
    means = sums[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)
    assert actual.half == pytest.approx(1.96 * means.std(), rel=0.05)
    alone = over_words(losses, np.arange(len(losses)))
    assert alone.half < 0.8 * actual.half  # As if tokens were independent.


def crossed(rng, of_seeds: float, of_words: float, of_both: float, n_seeds: int = 5, n_words: int = 200):
    """Losses of tokens of words of several lengths, with effects of these sizes, whose true mean is zero."""
    words = np.repeat(np.arange(n_words), rng.integers(2, 6, n_words))
    effects = of_seeds * rng.standard_normal((n_seeds, 1)) + of_words * rng.standard_normal(n_words)
    return (effects + of_both * rng.standard_normal((n_seeds, n_words)))[:, words], words


@pytest.mark.parametrize("effects", [(0.1, 1, 1), (0.02, 1, 2), (0.2, 0, 1), (0, 1, 0.5), (0, 0, 1)])
def test_nineteen_of_twenty_intervals_over_seeds_and_words_hold_the_true_mean(effects):
    rng = np.random.default_rng(0)
    intervals = [over_seeds_and_words(*crossed(rng, *effects))[0] for _ in range(1000)]
    held = np.mean([one.low <= 0 <= one.high for one in intervals])
    assert held > 0.93  # More is no fault: where words and seeds have no effect of their own, the interval is too wide.
    assert held < 0.97 or effects == (0, 0, 1)


def test_without_an_effect_of_words_an_interval_over_both_is_that_over_seeds_and_without_one_of_seeds_over_words():
    rng = np.random.default_rng(0)
    words = np.repeat(np.arange(40), rng.integers(2, 6, 40))
    of_seeds, tokens = rng.standard_normal(6), rng.standard_normal(len(words))
    both, p = over_seeds_and_words(np.repeat(of_seeds[:, None], len(words), axis=1), words)
    assert (both.mean, both.low, both.high) == pytest.approx(tuple(vars(estimate(of_seeds)).values())[:3])
    assert p == pytest.approx(p_of_difference(list(of_seeds)))
    both, _ = over_seeds_and_words(np.repeat(tokens[None], 6, axis=0), words)
    alone = over_words(tokens, words)
    assert (both.mean, both.low, both.high) == pytest.approx((alone.mean, alone.low, alone.high))


def test_p_over_both_is_below_one_in_twenty_exactly_where_the_interval_excludes_zero():
    rng = np.random.default_rng(0)
    for _ in range(200):
        losses, words = crossed(rng, 0.1, 1, 1, n_words=30)
        both, p = over_seeds_and_words(losses, words)
        assert (p < 0.05) == (both.low > 0 or both.high < 0)
        assert p >= p_of_difference(losses.mean(axis=1).tolist()) - 1e-12
    assert over_seeds_and_words(np.zeros((3, 4)), np.arange(4))[1] == 1


def test_a_constant_difference_has_no_width_over_words_and_one_word_has_no_interval():
    words = np.repeat([0, 1, 2], [2, 3, 4])
    assert over_words(np.full(9, 0.25), words).half == pytest.approx(0, abs=1e-12)
    assert over_words(np.arange(9.0), np.zeros(9, int)).high == np.inf
    both, p = over_seeds_and_words(np.arange(18.0).reshape(2, 9), np.zeros(9, int))
    assert both.high == np.inf and math.isnan(p)
    assert (p_text(p), p_text(0.00009), p_text(0.0123)) == ("nan", "below 0.0001", "0.0123")
