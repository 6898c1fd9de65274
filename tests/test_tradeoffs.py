"""Pareto fronts of loss against cost."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.studies import make_study
from experiments.analysis.tradeoffs import fronts, pareto_front, plot_tradeoffs, tradeoff_rows
from tests.synthetic import synthetic_rows

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(POINTS)
def test_a_front_holds_exactly_what_no_other_point_dominates(points):
    def dominated(p):
        return any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)

    front = pareto_front(points)
    assert {points[i] for i in front} == {p for p in points if not dominated(p)}
    assert len({points[i] for i in front}) == len(front)  # Of equal points, one.
    costs, losses = zip(*(points[i] for i in front), strict=True)
    assert list(costs) == sorted(costs) and list(losses) == sorted(losses, reverse=True)


def test_the_front_of_a_study():
    # Of 50, 100, 200 and 300 units, 200 are worse than 100.
    loss = {50: 2.3, 100: 2.2, 200: 2.25, 300: 2.1}
    rows = synthetic_rows({"hidden_size": tuple(loss)}, 3, lambda hidden_size: loss[hidden_size])
    for row in rows:
        row["wall_seconds"] = {50: 9.0, 100: 1.0, 200: 2.0, 300: 3.0}[row["hidden_size"]]
    study = make_study("size", rows)
    actual = {cost: [cell.settings["hidden_size"] for cell in cells] for cost, cells in fronts(study).items()}
    assert actual == {"n_params": [50, 100, 300], "wall_seconds": [100, 300]}
    table = [(row["against"], row["hidden_size"], row["cost"]) for row in tradeoff_rows([study])]
    assert ("wall_seconds", 300, 3.0) in table and len(table) == 5
    figure = plot_tradeoffs(study)
    assert figure is not None and len(figure.axes) == 2
    np.testing.assert_array_equal(figure.axes[1].lines[-1].get_xdata(), [1.0, 3.0])
    assert figure.legends and not any(ax.get_legend() for ax in figure.axes)  # It covers no point.


def test_a_study_of_one_cost_has_no_front():
    rows = synthetic_rows({"init": ("normal", "fan_in", "zeros")}, 2, lambda init: 2.0 + len(init))
    study = make_study("init", rows)
    assert fronts(study) == {} and plot_tradeoffs(study) is None  # All have the same parameters and seconds.
