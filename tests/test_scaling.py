"""Power laws of loss against size: what they are fitted to, and what they predict."""

import csv

import numpy as np
import pytest

from experiments.analysis.results import open_sweep
from experiments.analysis.scaling import FEWEST_POINTS, fit, frontier_of, measure_scaling, point_rows, points_of
from experiments.scaling import main
from mlp_lm.config import RunConfig
from tests.synthetic import synthetic_folder, synthetic_row, synthetic_rows

SIZES = (10, 20, 40, 80, 160)  # Hidden units, of which a synthetic row makes 27 x 10 + units parameters.


def loss_of(n_params: int, factor: float = 40.0) -> float:
    return 1.9 + factor / n_params


@pytest.fixture
def folder(tmp_path):
    def loss(hidden_size, learning_rate):
        return loss_of(270 + hidden_size) + learning_rate - 0.1

    rows = synthetic_rows({"hidden_size": SIZES, "learning_rate": (0.1, 0.15, 0.2)}, 2, loss)
    return synthetic_folder(tmp_path / "small", {"size": rows})


def test_the_law_that_points_follow_is_found():
    x = np.geomspace(1e3, 1e5, 6)
    law = fit(x, 1.9 + 30 * x**-0.5)
    np.testing.assert_allclose(law.numbers, [1.9, 30 * law.scale**-0.5, 0.5], rtol=1e-5)
    assert law(1e6).mean == pytest.approx(1.9 + 30e-3, abs=1e-6)
    assert law.noise < 1e-7


def test_nineteen_of_twenty_intervals_hold_the_next_point():
    x, n, rng = np.geomspace(1e3, 1e5, 8), 400, np.random.default_rng(0)
    held = 0
    for _ in range(n):
        curve = 1.9 + 30 * np.append(x, 2e5) ** -0.5 + 0.003 * rng.standard_normal(9)
        predicted = fit(x, curve[:-1])(2e5)
        held += predicted.low < curve[-1] < predicted.high
    # Three standard deviations of a binomial count are 3.3 %; the law is not linear, so the interval is approximate.
    assert 0.91 < held / n < 0.985


def test_a_point_is_a_size_at_its_best_rate(folder):
    points = points_of(open_sweep(folder))
    assert [point.n_params for point in points] == [270 + size for size in SIZES]
    assert all(point.cell.settings["learning_rate"] == 0.1 for point in points)
    assert all(point.at_edge == ("learning_rate",) for point in points)
    # All weights but the 27 x 10 of the embedding; 6 operations each, 32 windows, 100 steps.
    assert [point.flops for point in points] == [6 * size * 32 * 100 for size in SIZES]


def test_the_frontier_holds_what_nothing_cheaper_beats(folder):
    points = points_of(open_sweep(folder))
    assert frontier_of(points) == points
    worse = synthetic_rows({"hidden_size": (320,), "learning_rate": (0.1,)}, 2, lambda **_: 2.4)
    wide = points_of(open_sweep(synthetic_folder(folder.parent / "wide", {"size": worse})))
    assert frontier_of([*points, *wide]) == points


def test_points_that_are_held_out_change_no_law(folder):
    larger = synthetic_rows({"hidden_size": (640, 1280)}, 2, lambda hidden_size: loss_of(270 + hidden_size) + 0.01)
    held_out = open_sweep(synthetic_folder(folder.parent / "larger", {"size": larger}))
    alone, beside = (measure_scaling(open_sweep(folder), others) for others in ((), (held_out,)))
    np.testing.assert_array_equal(alone.by_params[100].numbers, beside.by_params[100].numbers)
    for point in beside.others:
        assert point.loss.mean - beside.predicted(point).mean == pytest.approx(0.01, abs=1e-4)
    assert beside.by_flops is None  # All are as long.
    with pytest.raises(ValueError, match="no size and length"):
        measure_scaling(open_sweep(folder), [open_sweep(folder)])


def test_a_size_that_a_smaller_one_beats_is_not_in_the_fit(folder):
    rows = open_sweep(folder).rows + synthetic_rows(
        {"hidden_size": (320,), "learning_rate": (0.1,)}, 2, lambda **_: 2.4
    )
    scaling = measure_scaling(open_sweep(synthetic_folder(folder.parent / "more", {"size": rows})))
    shown = {row["parameters"]: row["in_fit"] for row in point_rows(scaling)}
    assert shown == {270 + size: size != 320 for size in (*SIZES, 320)}


def test_several_lengths_have_a_law_of_compute(tmp_path):
    wide, steps = (1000, 2000, 4000, 8000), (10, 40, 160, 640)
    n_params = [270 + size for size in wide]

    def row(size, n_steps, seed):
        run = RunConfig(hidden_size=size, n_steps=n_steps, n_evaluations=4, seed=seed)
        best = 1.9 + 0.1 * (size * n_steps / 1e6) ** -0.5  # Of the sizes that suit their lengths.
        end = 1.9 + 0.0442 * (8000 / size) ** 2  # Of the longest.
        return synthetic_row(run, best if size == wide[steps.index(n_steps)] else end + (n_steps != 640))

    rows = [row(size, n_steps, seed) for size in wide for n_steps in steps for seed in (0, 1)]
    scaling = measure_scaling(open_sweep(synthetic_folder(tmp_path, {"size": rows})))
    assert [point.size for point in frontier_of(scaling.points)] == list(zip(n_params, steps, strict=True))
    assert scaling.by_flops is not None
    np.testing.assert_allclose(scaling.by_flops.numbers[[0, 2]], [1.9, 0.5], rtol=1e-3)
    assert [against for against, *_ in scaling.laws][-1] == "flops"


def test_losses_without_a_floor_have_no_law():
    x = np.geomspace(1e3, 1e5, 6)
    with pytest.raises(ValueError, match="fix no floor"):
        fit(x, 5 - 0.1 * np.log(x))
    far = fit(x, 0.1 + 9e3 / x)  # The largest is far more than five times the smallest.
    np.testing.assert_allclose([far.numbers[0], far.numbers[2]], [0.1, 1.0], rtol=1e-3)


def test_the_command(folder, capsys):
    larger = synthetic_rows({"hidden_size": (640,)}, 2, lambda hidden_size: loss_of(270 + hidden_size))
    beside = synthetic_folder(folder.parent / "larger", {"size": larger})
    assert main([str(folder), "--held-out", str(beside), "--at", "5000"]) == 0
    shown = capsys.readouterr().out
    table, _, notes = shown.rpartition("\n\n")
    assert "910 (not in the fit)" in table and max(map(len, table.splitlines())) <= 80
    assert "5 points with a best learning_rate at the edge" in notes
    rows = list(csv.DictReader((folder / "tables" / "scaling.csv").read_text().splitlines()))
    assert [row["parameters"] for row in rows] == [*(str(270 + size) for size in SIZES), "910", "5000"]
    assert [row["in_fit"] for row in rows] == ["True"] * 5 + ["False"] * 2
    assert float(rows[-1]["law"]) == pytest.approx(loss_of(5000), abs=1e-4)
    (law,) = csv.DictReader((folder / "tables" / "scaling_laws.csv").read_text().splitlines())
    assert float(law["floor"]) == pytest.approx(1.9, abs=1e-4)
    assert (folder / "figures" / "scaling.png").stat().st_size > 5_000


def test_too_few_sizes_and_other_data_are_refused(folder, tmp_path, capsys):
    rows = synthetic_rows(
        {"hidden_size": SIZES[: FEWEST_POINTS - 1]}, 2, lambda hidden_size: loss_of(270 + hidden_size)
    )
    few = synthetic_folder(tmp_path / "few", {"size": rows})
    assert main([str(few)]) == 2
    assert "needs 4 sizes or more" in capsys.readouterr().err
    other = synthetic_folder(tmp_path / "other", {"size": rows})
    path = other / "request.json"
    path.write_text(path.read_text().replace("d" * 64, "e" * 64))
    assert main([str(folder), "--held-out", str(other)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
