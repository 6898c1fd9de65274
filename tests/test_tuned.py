"""Tuned studies: no seed is judged by its own choice, and what is compared stays paired."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.comparisons import tolerated, tune, tuned_rows, tuned_study, tunings
from experiments.analysis.studies import make_study
from experiments.sweeps.ranges import Range
from mlp_lm.config import RunConfig
from tests.synthetic import synthetic_row, synthetic_rows

RATES = (0.1, 0.2, 0.4)
LOSSES = st.lists(st.lists(st.floats(2, 3), min_size=3, max_size=3), min_size=3, max_size=3)  # By rate, then by seed.


def study_of(losses):
    return make_study(
        "rates",
        [
            synthetic_row(RunConfig(learning_rate=rate, seed=seed), loss)
            for rate, by_seed in zip(RATES, losses, strict=True)
            for seed, loss in enumerate(by_seed)
        ],
    )


def rates_by_seed(losses):
    return {row["seed"]: row["learning_rate"] for row in tune(study_of(losses).cells).rows}


@given(LOSSES, st.integers(0, 2), st.lists(st.floats(2, 3), min_size=3, max_size=3))
def test_what_a_seed_is_judged_at_does_not_depend_on_its_own_losses(losses, seed, others):
    changed = [[*row[:seed], other, *row[seed + 1 :]] for row, other in zip(losses, others, strict=True)]
    by_mean = {sum(row[s] for s in range(3) if s != seed) for row in losses}
    if len(by_mean) == 3:  # Ties are broken by the order of the cells, which is that of their means.
        assert rates_by_seed(losses)[seed] == rates_by_seed(changed)[seed]


def loss(hidden_size, gain, learning_rate):
    best = {100: 0.1, 300: 0.4}[hidden_size]
    return 2.0 + (learning_rate != best) * 0.1 + abs(gain - 1.0) * 0.01 + hidden_size / 10_000


AXES = {"hidden_size": (100, 300), "gain": (0.5, 1.0, 2.0), "learning_rate": RATES}


def test_every_configuration_gets_its_own_best_value():
    study = make_study("x", synthetic_rows(AXES, 3, loss))
    tuned = tuned_study(study, ("learning_rate",))
    assert tuned.axes == ("hidden_size", "gain") and len(tuned.cells) == 6
    assert {(c.settings["hidden_size"], c.settings["learning_rate"]) for c in tuned.cells} == {(100, 0.1), (300, 0.4)}
    both = tuned_study(study, ("learning_rate", "gain"))
    assert [(c.settings["hidden_size"], c.settings["gain"]) for c in both.cells] == [(100, 1.0), (300, 1.0)]
    assert both.to_best(both.cells[1]).mean == pytest.approx(0.02)  # It would be 0.12 at one rate for both.


def test_one_seed_is_judged_by_its_own_choice():
    best = tune(study_of([[2.5], [2.1], [2.3]]).cells)
    assert best.settings["learning_rate"] == best.rows[0]["learning_rate"] == 0.2
    assert best.estimate("dev_loss").mean == 2.1


def test_the_table_has_each_axis_alone_and_all_together():
    rows = list(tuned_rows([make_study("x", synthetic_rows(AXES, 3, loss, noise=0.001))]))
    assert {row["tuned"] for row in rows} == {"learning_rate", "gain", "learning_rate x gain"}
    both = [row for row in rows if row["tuned"] == "learning_rate x gain"]
    assert [(row["learning_rate"], row["at_edge"]) for row in both] == [(0.1, True), (0.4, True)]
    (first,) = [r for r in rows if r["tuned"] == "gain" and (r["hidden_size"], r["learning_rate"]) == (100, 0.1)]
    assert not first["at_edge"] and "1" in first["tolerated"].split(", ")


def test_what_is_close_is_tolerated_and_what_is_far_is_not():
    losses = {0.1: 2.0, 0.2: 2.0001, 0.4: 2.5}
    rows = synthetic_rows({"learning_rate": RATES}, 5, lambda learning_rate: losses[learning_rate], noise=0.01)
    assert [cell.settings["learning_rate"] for cell in tolerated(make_study("x", rows).cells)][-1] != 0.4
    assert len(tolerated(make_study("x", rows).cells)) == 2


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"hidden_size": (1, 2), "learning_rate": (0.1, 0.2)}, []),  # Two values are no choice worth a table.
        ({"learning_rate": RATES}, []),  # The ranked table says it already.
        ({"hidden_size": (1, 2), "learning_rate": RATES}, [("learning_rate",)]),
        ({"gain": RATES, "learning_rate": RATES}, [("learning_rate",), ("gain",)]),
    ],
)
def test_only_choices_are_tuned(axes, expected):
    study = make_study("x", synthetic_rows(axes, 1, lambda **_: 2.0))
    assert tunings(study) == expected
    drawn = make_study("x", synthetic_rows(axes, 1, lambda **_: 2.0), {"learning_rate": Range(0.1, 1.0)})
    assert ("learning_rate",) not in tunings(drawn)
