"""The study of causes: where a curve has its lowest point, which rate transfers, and what its sweeps ask for."""

import math

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.studies import make_study
from experiments.initialisation.cause_figures import cause_figures
from experiments.initialisation.causes import (
    cause_tables,
    contrast_table,
    curve_table,
    depth_best_table,
    depth_rate_table,
    gain_table,
    kind_of,
    minimum_table,
    transfer_table,
    vertex,
)
from experiments.initialisation.tables import write_tables
from experiments.sweeps.catalog import SWEEPS
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import load_dataset
from tests.synthetic import synthetic_row, synthetic_rows

CAUSES = ("scale", "draws", "long-rates", "optimizers", "depth", "activations")


@given(st.floats(-3, 3), st.floats(0.01, 10), st.floats(-5, 5))
def test_the_vertex_of_a_parabola_is_its_lowest_point(place, steepness, height):
    points = [(x, height + steepness * (x - place) ** 2) for x in (-9.0, -5.0, -4.0, -1.0, 0.5, 2.0, 4.0, 7.0)]
    x, y = vertex(points[::-1])
    assert (x, y) == pytest.approx((place, height), abs=1e-6)


def test_a_curve_that_falls_to_its_end_has_no_vertex():
    assert vertex([(0.0, 3.0), (1.0, 2.0), (2.0, 1.0)]) is None
    assert vertex([(0.0, 1.0)]) is None


def scale_rows(best, n_steps, n_seeds=3):
    """Rows whose loss is lowest at a starting scale of `best`, twice the gain."""
    rows = []
    for gain in (0.1, 0.3, 0.5, 1.0, 2.0):
        for seed in range(n_seeds):
            run = RunConfig(init="fan_in", gain=gain, n_steps=n_steps, diagnostics=True, seed=seed)
            loss = 2.1 + 0.01 * (math.log(2 * gain) - math.log(best * (1 + 0.01 * seed))) ** 2
            rows.append(synthetic_row(run, loss) | {"history_preactivation_std": [[2 * gain], [1.0]]})
    return rows


def test_the_minimum_of_each_length_is_found_between_the_gains():
    study = make_study("lengths", [*scale_rows(0.8, 100), *scale_rows(1.3, 1000), *scale_rows(50.0, 5000)])
    first, second, third = minimum_table(study)
    assert (first["steps"], second["steps"]) == (100, 1000)
    assert first["preactivation_std"] == pytest.approx(0.808, rel=1e-3)  # The mean seed's is 1 % higher.
    assert second["preactivation_std"] == pytest.approx(1.313, rel=1e-3)
    assert first["preactivation_std_from"] < 0.8 < 0.808 < first["preactivation_std_to"]
    assert (third["n_seeds"], third["seeds_at_an_end"]) == (0, 3)  # Best beyond the largest gain.


AXES = {
    "hidden_size": (64, 256),
    "learning_rate": (0.1, 0.2, 0.4),
    "parametrization": ("standard", "mup"),
    "weight_decay": (0.0, 1e-3),
}


def transfer_loss(hidden_size, learning_rate, parametrization, weight_decay):
    best = 0.4 if hidden_size == 64 or parametrization == "mup" else 0.1
    return 2.1 + 0.05 * abs(math.log2(learning_rate / best)) - hidden_size / 10_000


def test_what_a_rate_costs_that_does_not_transfer():
    study = make_study("transfer", synthetic_rows(AXES, 3, transfer_loss))
    rows = {
        (row["parametrization"], row["hidden_size"]): row for row in transfer_table(study) if not row["weight_decay"]
    }
    assert {key: row["best_rate"] for key, row in rows.items()} == {
        ("standard", 64): 0.4, ("standard", 256): 0.1, ("mup", 64): 0.4, ("mup", 256): 0.4,
    }  # fmt: skip
    assert rows["mup", 256]["difference_at_transferred_rate"] == pytest.approx(0)
    assert rows["standard", 256]["difference_at_transferred_rate"] == pytest.approx(0.1)  # Two doublings too high.


def test_figures_are_drawn_of_what_is_there(tmp_path):
    schemes = make_study("schemes", [
        synthetic_row(RunConfig(init=init, batch_norm=norm, diagnostics=True, seed=seed), 2.1)
        | {"history_preactivation_std": [[scale], [1.0]]}
        for init, scale in (("kaiming_tanh", 1.6), ("normal", 5.5), ("bengio2003", 0.03))
        for norm in (False, True)
        for seed in range(2)
    ])  # fmt: skip
    plane = {"gain": (0.1, 1.0, 3.0), "output_gain": (0.1, 1.0, 10.0)}
    studies = (
        make_study("lengths", [*scale_rows(0.8, 100), *scale_rows(1.3, 1000)]),
        make_study("map", synthetic_rows(plane, 2, lambda gain, output_gain: 2.1 + (gain - 1) ** 2 + output_gain)),
        make_study("transfer", synthetic_rows(AXES, 2, transfer_loss)),
        make_study("sgd", synthetic_rows(RATED, 2, rated_loss)),
        make_study("depth", synthetic_rows(DEPTHS, 2, depth_loss)),
        make_study("activations", synthetic_rows(GAINS, 2, gain_loss)),
        make_study("draws", synthetic_rows({"draw": ("normal", "uniform", "orthogonal")}, 3, lambda draw: 2.1)),
    )
    causes = {kind_of(study): [study] for study in studies}
    assert len(causes) == len(studies) and None not in causes
    figures = dict(cause_figures(causes, schemes, 27))
    assert figures.keys() == {
        "u_curve", "scale_map", "rate_transfer", "tuned_rates", "depth_rates", "activation_gains"
    }  # fmt: skip
    labels = {text.get_text() for text in figures["u_curve"].axes[0].texts}
    assert labels == {"kaiming_tanh", "normal", "bengio2003"}
    assert len(figures["rate_transfer"].axes) == 4
    for figure in figures.values():
        figure.canvas.draw()
        plt.close(figure)
    assert "nan" not in write_tables(tmp_path, cause_tables(causes, schemes, 27))
    assert not list(cause_figures({}, schemes, 27)) and not list(cause_tables({}, schemes, 27))


def test_schemes_are_measured_against_the_curve_at_their_own_scale():
    study = make_study("lengths", scale_rows(0.8, 200_000))
    schemes = make_study("schemes", [
        synthetic_row(RunConfig(init=init, diagnostics=True, seed=seed, n_steps=200_000), 2.2)
        | {"history_preactivation_std": [[scale], [1.0]]}
        for init, scale in (("fan_in", 1.0), ("bengio2003", 0.01))
        for seed in range(2)
    ])  # fmt: skip
    rows = {row["scheme"]: row for row in curve_table(study, schemes, 27)}
    (at_one,) = (cell.estimate("dev_loss").mean for cell in study.cells if cell.settings["gain"] == 0.5)
    assert rows["fan_in"]["output_gain"] == rows["fan_in"]["curve_output_gain"] == 1.0
    assert rows["fan_in"]["difference"] == pytest.approx(2.2 - at_one)
    assert math.isnan(rows["bengio2003"]["difference"])  # It starts below all of the curve.


RATED = {"init": ("kaiming_tanh", "normal"), "learning_rate": (0.1, 0.2, 0.4)}
DEPTHS = {"n_layers": (1, 5), "batch_norm": (False, True), "gain": (1.0, 5 / 3), "learning_rate": (0.1, 0.2, 0.4)}
GAINS = {"activation": ("relu", "tanh"), "gain": (0.5, 1.0, 2**0.5, 5 / 3), "n_layers": (1, 3)}


def rated_loss(init, learning_rate):
    return 2.1 + abs(math.log(learning_rate / (0.1 if init == "kaiming_tanh" else 0.4))) + 0.05 * (init == "normal")


def depth_loss(n_layers, batch_norm, gain, learning_rate):
    return (
        2.1 + 0.1 * abs(math.log2(learning_rate / (0.4 if batch_norm else 0.2))) + 0.01 * batch_norm + 0.02 * (gain > 1)
    )


def gain_loss(activation, gain, n_layers):
    return 2.1 + 0.1 * abs(math.log(gain / (2**0.5 if activation == "relu" else 1.0))) - 0.01 * n_layers


def test_every_cell_of_a_depth_study_is_compared_at_its_own_best_rate():
    study = make_study("depth", synthetic_rows(DEPTHS, 3, depth_loss))
    table = {(row["n_layers"], row["batch_norm"], row["gain"]): row for row in depth_rate_table(study)}
    assert {row["best_rate"] for (_, batch_norm, _), row in table.items() if batch_norm} == {0.4}
    assert {row["best_rate"] for (_, batch_norm, _), row in table.items() if not batch_norm} == {0.2}
    assert table[5, True, 1.0]["difference_of_batch_norm"] == pytest.approx(0.01)  # Not 0.11, as at rate 0.2.
    assert table[5, True, 1.0]["difference_to_gain"] == pytest.approx(-0.02)
    best = {(row["n_layers"], row["batch_norm"]): row for row in depth_best_table(study)}
    assert [(row["gain"], row["best_rate"]) for row in best.values()] == [(1.0, 0.2), (1.0, 0.4)] * 2
    assert best[1, True]["difference_of_batch_norm"] == pytest.approx(0.01)


def test_what_a_textbook_gain_costs_is_measured_from_the_best_one():
    table = {row["activation"]: row for row in gain_table(make_study("x", synthetic_rows(GAINS, 3, gain_loss)))}
    assert (table["relu"]["best_gain"], table["tanh"]["best_gain"]) == (2**0.5, 1.0)
    assert table["tanh"]["difference_at_5/3"] == pytest.approx(0.1 * math.log(5 / 3))
    assert table["relu"]["difference_at_sqrt2"] == pytest.approx(0)
    assert table["relu"]["difference_at_1"] == pytest.approx(0.1 * math.log(2) / 2)


def test_contrasts_are_against_a_reference_that_was_chosen_beforehand():
    rows = synthetic_rows({"draw": ("normal", "uniform")}, 3, lambda draw: 2.1 if draw == "normal" else 2.0)
    first, second = contrast_table(make_study("draws", rows), {"draw": "normal"})
    assert (first["draw"], first["difference"], first["verdict"]) == ("normal", 0.0, "reference")
    assert second["difference"] == pytest.approx(-0.1) and second["n_seeds"] == 3


def test_a_folder_without_a_study_of_causes_is_of_no_kind():
    assert kind_of(make_study("x", synthetic_rows({"hidden_size": (10, 20)}, 2, lambda hidden_size: 2.0))) is None
    assert kind_of(make_study("x", synthetic_rows(RATED | {"n_layers": (1, 2)}, 2, lambda **_: 2.0))) is None


@pytest.mark.parametrize("name", [*(f"initialisation-{cause}" for cause in CAUSES), "rate-transfer"])
def test_the_sweeps_of_causes_can_be_trained(name):
    studies = SWEEPS[name].expand("")
    assert all(0 < len(runs) <= 1000 for runs in studies.values())
    for runs in studies.values():
        for run in runs.values():
            load_dataset().check(run)


def test_the_sweep_of_scales_holds_what_its_tables_need():
    studies = SWEEPS["initialisation-scale"].expand("")
    lengths = make_study("lengths", [synthetic_row(run, 2.0) for run in studies["lengths"].values()])
    plane = make_study("map", [synthetic_row(run, 2.0) for run in studies["map"].values()])
    assert set(lengths.axes) == {"gain", "output_gain", "n_steps"} and set(plane.axes) == {"gain", "output_gain"}
    assert all(cell.settings["diagnostics"] for cell in lengths.cells)
