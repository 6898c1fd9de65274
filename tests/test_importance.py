"""The variance decomposition of a grid."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis import effects
from experiments.analysis.effects import (
    HIGHER,
    SEEDS,
    Importance,
    decompose,
    difference_rows,
    effect_rows,
    imbalance,
    importance,
    importance_rows,
    interaction_rows,
    interactions,
    main_effects,
    rise_from_lowest,
    spaced_places,
)
from experiments.analysis.studies import make_study
from tests.synthetic import synthetic_rows

AXES = {"hidden_size": (50, 100, 200), "embedding_dim": (2, 10), "block_size": (3, 4, 5, 8)}


def importance_of(loss, n_seeds=3, noise=0.0, axes=AXES) -> Importance:
    result = importance(make_study("grid", synthetic_rows(axes, n_seeds, loss, noise)))
    assert isinstance(result, Importance)
    return result


def test_a_loss_of_one_axis_is_explained_by_it_alone():
    shares = {share.axes: share.value for share in importance_of(lambda hidden_size, **_: 2 + 1 / hidden_size).shares}
    assert shares.pop(("hidden_size",)) == pytest.approx(1)
    assert all(abs(value) < 1e-9 for value in shares.values())


def test_shares_by_hand():
    # y = a + 2 b + 4 a b with a, b = +-1: variances 1, 4 and 16 of 21.
    sign = {50: -1, 100: 1, 3: -1, 8: 1}
    axes = {"hidden_size": (50, 100), "block_size": (3, 8)}

    def loss(hidden_size, block_size):
        a, b = sign[hidden_size], sign[block_size]
        return 20 + a + 2 * b + 4 * a * b

    result = importance_of(loss, axes=axes)
    assert [share.axes for share in result.shares] == [("hidden_size", "block_size"), ("block_size",), ("hidden_size",)]
    np.testing.assert_allclose([share.value for share in result.shares], [16 / 21, 4 / 21, 1 / 21])
    assert result.std == pytest.approx(np.sqrt(21))


def test_resampling_in_pieces_changes_nothing(monkeypatch):
    def once() -> Importance:
        return importance_of(lambda hidden_size, block_size, **_: 2 + 1 / hidden_size + 1 / block_size, noise=0.1)

    whole = once()
    monkeypatch.setattr(effects, "MOST_MEANS", 7_000)
    pieces = once()
    for share, same in zip((*whole.shares, whole.seeds), (*pieces.shares, pieces.seeds), strict=True):
        np.testing.assert_allclose([share.value, share.low, share.high], [same.value, same.low, same.high], rtol=1e-9)


def test_three_axes_that_act_together_only_are_told_as_such():
    def loss(hidden_size, embedding_dim, block_size):
        return 5.0 + (-1) ** ((hidden_size == 50) + (embedding_dim == 2) + (block_size == 3))

    axes = {"hidden_size": (50, 100), "embedding_dim": (2, 10), "block_size": (3, 8)}
    assert importance_of(loss, axes=axes).higher.value == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), shape=st.lists(st.integers(2, 4), min_size=1, max_size=3), n_seeds=st.integers(2, 5))
def test_the_parts_make_the_whole_for_any_losses_and_weights(seed, shape, n_seeds):
    rng = np.random.default_rng(seed)
    grid = rng.standard_normal((*shape, n_seeds))
    weights = rng.dirichlet(np.ones(n_seeds), 4)
    names = [f"axis {i}" for i in range(len(shape))]
    shares = decompose(grid, names, weights)
    np.testing.assert_allclose(sum(shares.values()), 1)
    assert all((share > -1e-12).all() for share in shares.values())


def test_shares_agree_with_the_naive_definition():
    rng = np.random.default_rng(1)
    grid = rng.standard_normal((3, 2, 4, 5))
    shares = decompose(grid, ["a", "b", "c"], np.full((1, 5), 0.2))
    cell_means = grid.mean(axis=-1)
    effect_a = [cell_means[i].mean() - cell_means.mean() for i in range(3)]
    assert shares[("a",)][0] == pytest.approx(np.mean(np.square(effect_a)) / grid.var())
    effect_c = [cell_means[:, :, k].mean() - cell_means.mean() for k in range(4)]
    joint = [
        cell_means[i, :, k].mean() - cell_means.mean() - effect_a[i] - effect_c[k]
        for i, k in itertools.product(range(3), range(4))
    ]
    assert shares[("a", "c")][0] == pytest.approx(np.mean(np.square(joint)) / grid.var())
    assert shares[(SEEDS,)][0] == pytest.approx(np.mean(grid.var(axis=-1)) / grid.var())
    assert shares[(HIGHER,)][0] > 0


def test_intervals_hold_the_estimate_and_widen_with_noise():
    def loss(hidden_size, **_):
        return 2 + 1 / hidden_size

    quiet, loud = importance_of(loss, 6, 0.0005), importance_of(loss, 6, 0.01)
    for result in (quiet, loud):
        (first, *_) = [share for share in result.shares if share.axes == ("hidden_size",)]
        assert first.low <= first.value <= first.high
    assert loud.seeds.value > quiet.seeds.value
    width = {name: result.shares[0].high - result.shares[0].low for name, result in (("q", quiet), ("l", loud))}
    assert width["l"] > width["q"] > 0


def unbalanced(drop):
    rows = synthetic_rows(AXES, 2, lambda hidden_size, **_: 2 + 1 / hidden_size)
    return make_study("grid", [row for row in rows if not drop(row)])


def test_an_unbalanced_grid_has_an_honest_word_instead():
    missing = unbalanced(lambda row: row["hidden_size"] == 50 and row["block_size"] == 3)
    assert "only 22 of 24 combinations" in str(importance(missing))
    fewer_seeds = unbalanced(lambda row: row["hidden_size"] == 50 and row["seed"] == 1)
    assert "same seeds" in str(importance(fewer_seeds))


def test_diverged_runs_make_a_grid_unbalanced():
    rows = synthetic_rows(AXES, 2, lambda **_: 2.0)
    rows[0]["status"] = "diverged"
    assert "1 of 48 runs diverged" in str(imbalance(make_study("grid", rows)))


def test_main_effects_and_interactions_by_hand():
    losses = {(50, 3): 2.4, (50, 8): 2.2, (100, 3): 2.3, (100, 8): 2.0}
    axes = {"hidden_size": (50, 100), "block_size": (3, 8)}
    study = make_study("grid", synthetic_rows(axes, 2, lambda hidden_size, block_size: losses[hidden_size, block_size]))
    effects = main_effects(study, "hidden_size")
    assert [effects[value].mean for value in (50, 100)] == pytest.approx([2.3 - 2.15, 0.0])
    pairs = interactions(study)[("hidden_size", "block_size")]
    assert {key: value.mean for key, value in pairs.items()} == pytest.approx({k: v - 2.0 for k, v in losses.items()})
    assert all(value.n == 2 for value in pairs.values())


def test_intervals_of_effects_are_paired_by_seed():
    effects = main_effects(stepping_study(), "hidden_size")
    # By seed 2.3 - 2.15 and 2.5 - 2.3; t = 12.706 with one degree of freedom times a standard error of 0.025.
    assert (effects[50].mean, effects[50].half) == (pytest.approx(0.175), pytest.approx(12.7062 * 0.025, rel=1e-4))
    assert (effects[100].mean, effects[100].half) == (0, 0)


def test_numbers_are_spaced_by_value_and_names_evenly():
    assert spaced_places([2, 3, 8]) == pytest.approx([0, 2 / 6, 2])
    assert spaced_places([0.01, 0.1, 1.0]) == pytest.approx([0, 1, 2])
    assert spaced_places([0, 0.01, 0.1, 1.0]) == pytest.approx([0, 1, 2, 3])
    assert spaced_places([0, 1, 4]) == pytest.approx([0, 0.5, 2])
    assert spaced_places(["a", "b", "c"]) == [0, 1, 2]


STEP_LOSSES = {(50, 3): (2.4, 2.5), (50, 8): (2.2, 2.5), (100, 3): (2.3, 2.2), (100, 8): (2.0, 2.4)}  # One a seed.


def stepping_study():
    axes = {"hidden_size": (50, 100), "block_size": (3, 8)}
    rows = synthetic_rows(axes, 2, lambda **_: 2.0)
    for row in rows:
        row["dev_loss"] = STEP_LOSSES[row["hidden_size"], row["block_size"]][row["seed"]]
    return make_study("grid", rows)


def test_what_a_step_along_an_axis_gains_is_paired_by_seed():
    small, large = (row for row in effect_rows([stepping_study()]) if row["axis"] == "hidden_size")
    assert (small["value"], small["dev_loss"], "to_previous" in small) == (50, pytest.approx(2.4), False)
    # 2.15 - 2.3 and 2.3 - 2.5: a mean of -0.175, and t = 12.706 with one degree of freedom times 0.025.
    assert large["to_previous"] == pytest.approx(-0.175)
    assert large["to_previous_high"] - large["to_previous"] == pytest.approx(12.7062 * 0.025, rel=1e-4)


def test_gains_a_doubling_and_shares_without_the_lower_half_are_told():
    (row,) = (row for row in effect_rows([stepping_study()]) if (row["axis"], row["value"]) == ("block_size", 8))
    assert row["per_doubling"] == pytest.approx(row["to_previous"] / math.log2(8 / 3))
    rows = synthetic_rows({"hidden_size": (50, 100, 200), "block_size": (3, 8)}, 2, lambda **kw: 3 / kw["hidden_size"])
    shares = [row for row in importance_rows([make_study("grid", rows)]) if row["axes"] == "hidden_size"]
    assert [row["without"] for row in shares] == ["", "hidden_size 50"]
    rows = synthetic_rows({"hidden_size": (1, 2, 4), "block_size": (3, 5, 8)}, 2, lambda **kw: 3 / kw["hidden_size"])
    parts = dict.fromkeys(row["without"] for row in importance_rows([make_study("grid", rows)]))
    assert list(parts) == ["", "hidden_size 1", "block_size 3", "hidden_size 1; block_size 3"]


def test_neighbours_in_one_axis_of_an_unbalanced_study_are_compared():
    study = stepping_study()
    assert list(difference_rows([study])) == []
    unbalanced = make_study(
        "grid",
        [
            row
            for cell in study.cells
            for row in cell.rows
            if cell.settings["block_size"] != 8 or cell.settings["hidden_size"] == 50
        ],
    )
    rows = {(row["axis"], row["value"], row["minus_value"]): row for row in difference_rows([unbalanced])}
    assert rows.keys() == {("hidden_size", 100, 50), ("block_size", 8, 3)}
    assert rows["hidden_size", 100, 50]["dev_loss_difference"] == pytest.approx(((2.3 - 2.4) + (2.2 - 2.5)) / 2)
    for cell in unbalanced.cells:
        for row in cell.rows:
            row["dev_unseen_loss"] = None  # Every dev word is one of training's.
    assert all(math.isnan(row["dev_unseen_loss_difference"]) for row in difference_rows([unbalanced]))


def test_a_step_is_told_for_each_value_of_every_other_axis():
    rows = {(r["held_axis"], r["held_value"], r["value"]): r for r in interaction_rows([stepping_study()])}
    assert len(rows) == 8
    assert rows["block_size", 3, 100]["to_previous"] == pytest.approx(((2.3 - 2.4) + (2.2 - 2.5)) / 2)
    assert rows["hidden_size", 100, 8]["to_previous"] == pytest.approx(((2.0 - 2.3) + (2.4 - 2.2)) / 2)
    assert "to_previous" not in rows["hidden_size", 100, 3] and "to_previous" not in rows["block_size", 8, 50]
    assert rows["block_size", 8, 50]["dev_loss"] == pytest.approx(2.35)


def zipped_study():
    """Rates that follow hidden sizes, two of which have the same."""
    rate = {50: 0.2, 100: 0.2, 200: 0.1}
    axes = {"hidden_size": (50, 100, 200), "block_size": (3, 8), "learning_rate": (0.1, 0.2)}
    rows = synthetic_rows(axes, 2, lambda hidden_size, block_size, learning_rate: 2 + 5 / hidden_size + 1 / block_size)
    return make_study("zipped", [row for row in rows if row["learning_rate"] == rate[row["hidden_size"]]])


def test_an_axis_that_follows_another_is_no_factor_of_its_own():
    study = zipped_study()
    assert study.axes == ("hidden_size", "block_size", "learning_rate")
    assert study.factors == ("hidden_size", "block_size")
    result = importance(study)
    assert isinstance(result, Importance)
    assert {share.axes for share in result.shares} == {("hidden_size",), ("block_size",), ("hidden_size", "block_size")}
    assert {row["axis"] for row in effect_rows([study])} == {"hidden_size", "block_size"}
    assert list(difference_rows([study])) == []
    assert study.caution == "With learning_rate in step with hidden_size, their effects cannot be told apart."


def test_of_two_axes_that_settle_each_other_the_first_leads():
    rows = synthetic_rows({"hidden_size": (50, 100), "gain": (1.0, 2.0), "block_size": (3, 8)}, 2, lambda **_: 2.0, 0.1)
    study = make_study("pairs", [row for row in rows if row["hidden_size"] == 50 * row["gain"]])
    assert (study.factors, study.followers) == (("hidden_size", "block_size"), {"gain": "hidden_size"})
    assert not make_study("product", rows).followers
    lines = [row for row in rows if row["block_size"] == 3 or (row["hidden_size"], row["gain"]) == (50, 1.0)]
    assert not make_study("one from a middle", lines).followers


def test_schemes_have_no_previous_one_and_unbalanced_studies_no_effects():
    rows = synthetic_rows({"init": ("normal", "uniform"), "n_layers": (1, 2)}, 2, lambda **_: 2.0, 0.1)
    steps = {row["axis"]: "to_previous" in row for row in effect_rows([make_study("schemes", rows)])}
    assert steps == {"init": False, "n_layers": True}
    assert list(effect_rows([make_study("schemes", rows[1:])])) == []
    assert list(interaction_rows([make_study("schemes", rows[1:])])) == []


def test_how_far_a_run_ends_above_its_lowest_dev_loss():
    rows = synthetic_rows({"hidden_size": (50,)}, 2, lambda **_: 2.0)
    for row, history in zip(rows, ([3.0, 2.0, 2.1], [3.0, 2.2, 2.5]), strict=True):
        row["history_dev_loss"] = history
    rise = rise_from_lowest(make_study("grid", rows).best)
    assert (rise.mean, rise.n) == (pytest.approx((0.1 + 0.3) / 2), 2)
    for row in rows:
        row["history_dev_loss"] = [3.0, None, 2.5]
    assert rise_from_lowest(make_study("grid", rows).best).mean == 0
