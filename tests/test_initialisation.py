"""The initialisation study: its tables by hand and against the published ones, its command, and what it refuses."""

import csv
import hashlib
import io
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from experiments.analysis.comparisons import tune
from experiments.analysis.results import open_sweep
from experiments.analysis.studies import make_study
from experiments.analysis.style import far_off, far_off_side_by_side, save_figure
from experiments.initialisation import snapshots as snapshots_module
from experiments.initialisation import width as width_module
from experiments.initialisation.__main__ import main
from experiments.initialisation.snapshots import take_snapshots, train_through
from experiments.initialisation.sweep_figures import plot_overview, study_figures, write_figures
from experiments.initialisation.tables import (
    Studies,
    batch_norm_table,
    definition_table,
    depth_table,
    published_table,
    rate_table,
    read_studies,
    scheme_table,
    study_tables,
    write_tables,
)
from experiments.initialisation.width import coordinate_check, width_exponents
from experiments.runner.rows import DIVERGED, DONE, SCHEMA
from experiments.store import Store
from experiments.store.atomic import replace_file
from experiments.sweeps.catalog import SWEEPS
from experiments.sweeps.request import FILE_NAME, Request, encode_request
from experiments.sweeps.text import csv_text
from mlp_lm.config import BUILT_IN, RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.diagnostics import diagnose_runs
from mlp_lm.history import DIAGNOSTICS
from mlp_lm.ngram.baselines import Baseline, Baselines
from mlp_lm.schemes import SCHEMES
from tests.cli import FEW_WORDS, sweep_here

RESULTS = Path(__file__).parents[1] / "results"
PUBLISHED, RATES, DEPTH = (RESULTS / name for name in ("initialisation", "initialisation-rates", "depth"))
BASELINES = Baselines("0" * 64, (".", "a"), (Baseline(3, "modified Kneser-Ney", 2.056, None, 9, 1.5),))
ANALYSES = shutil.ignore_patterns("tables", "figures", "*.md", "*.html")


TRAINED = ("first_", "deep_", "width_1", "width_parametrizations")


@pytest.fixture(scope="module")
def published():
    return read_studies(open_sweep(PUBLISHED), RATES, DEPTH)


def row_of(config, dev_loss, status=DONE, **more):
    """A finished run's row."""
    history = {"history_step": [0, config.n_steps], "history_dev_loss": [3.3, dev_loss]}
    losses = {"train_loss": dev_loss, "dev_loss": dev_loss, "initial_loss": 3.3}
    return {**asdict(config), "run_id": config.run_id, "status": status, **losses, **history, **more}


def rows_of(settings, n_seeds=2, loss=2.1):
    return [row_of(RunConfig(**each, seed=seed), loss + seed / 100) for each in settings for seed in range(n_seeds)]


def without_diagnostics(study):
    """The same study, had its runs not recorded diagnostics."""
    nothing = {"diagnostics": False} | {f"history_{name}": None for name in DIAGNOSTICS}
    return make_study(study.name, [row | nothing for cell in study.cells for row in cell.rows])


def stored_sweep(folder, rows, data_hash):
    """A sweep's folder with these rows and without weights."""
    Store(folder).write("0" * 16, rows, {}, SCHEMA)
    request = Request("mine", "", "ssa2018", data_hash, "", {"mine": [row["run_id"] for row in rows]})
    replace_file(folder / FILE_NAME, encode_request(request))
    return folder


def test_every_scheme_is_swept_with_and_without_batch_norm():
    for name in ("initialisation", "initialisation-rates"):
        runs = [run for study in SWEEPS[name].expand("").values() for run in study.values()]
        named = [name for name in BUILT_IN["init"] if not SCHEMES[name].adjust]  # Those that do not look at the data.
        schemes = {(init, norm) for init in named for norm in (False, True)}
        assert {(run.init, run.batch_norm) for run in runs} == schemes
    rates = sorted({run.learning_rate for run in runs})
    assert (rates[0], rates[-1]) == (0.01, 1.0) and 0.1 in rates
    lecture = next(iter(SWEEPS["initialisation"].expand("")["initialisation"].values()))
    assert (lecture.embedding_dim, lecture.hidden_size, lecture.block_size, lecture.n_steps) == (10, 200, 3, 200_000)


def test_the_best_rate_of_a_seed_is_chosen_on_the_others():
    # Rate 1.0 is best on average, and by far for seed 2 alone: the other seeds would choose 0.1 for it.
    losses = {0.1: [2.0, 2.0, 2.0], 1.0: [2.1, 2.1, 1.0]}
    rows = [
        row_of(RunConfig(learning_rate=rate, seed=seed), loss)
        for rate, by_seed in losses.items()
        for seed, loss in enumerate(by_seed)
    ]
    best = tune(make_study("rates", rows).cells)
    assert best.settings["learning_rate"] == 1.0
    assert {row["seed"]: row["dev_loss"] for row in best.rows} == {0: 2.1, 1: 2.1, 2: 2.0}


def test_a_rate_at_which_a_seed_diverged_is_not_chosen():
    rows = [row_of(RunConfig(learning_rate=0.1, seed=s), 2.2) for s in range(2)]
    rows += [
        row_of(RunConfig(learning_rate=1.0, seed=0), 2.0),
        row_of(RunConfig(learning_rate=1.0, seed=1), None, DIVERGED),
    ]
    assert tune(make_study("rates", rows).cells).settings["learning_rate"] == 0.1


def test_differences_are_paired_by_seed_at_the_default_and_at_the_best_rates():
    rows = []
    for seed, luck in enumerate((0.0, 0.5, -0.3)):
        for rate, kaiming, normal in ((0.1, 2.1, 2.3), (1.0, 2.4, 2.15)):
            rows.append(row_of(RunConfig(init="kaiming_tanh", learning_rate=rate, seed=seed), kaiming + luck))
            rows.append(row_of(RunConfig(init="normal", learning_rate=rate, seed=seed), normal + luck))
    table = {row["scheme"]: row for row in rate_table(make_study("rates", rows))}
    normal = table["normal"]
    assert normal["difference_at_default_rate"] == pytest.approx(0.2)
    assert normal["difference_at_best_rates"] == pytest.approx(0.05)
    # What the seeds have in common cancels.
    assert normal["difference_at_best_rates_high"] == pytest.approx(0.05)
    assert (normal["best_rate"], table["kaiming_tanh"]["best_rate"]) == (1.0, 0.1)


def test_a_scheme_whose_every_run_diverged_is_last_and_has_no_number():
    rows = rows_of({"init": init, "learning_rate": rate} for init in ("kaiming_tanh", "xavier") for rate in (0.1, 1.0))
    rows += [row_of(RunConfig(init="normal", learning_rate=r), None, DIVERGED) for r in (0.1, 1.0)]
    table = rate_table(make_study("rates", rows))
    assert table[-1]["scheme"] == "normal"
    assert math.isnan(table[-1]["dev_loss_at_best_rate"]) and math.isnan(table[-1]["difference_at_best_rates"])


def rates_without(init, rate):
    settings = [(i, r) for i in ("kaiming_tanh", "normal") for r in (0.1, 1.0)]
    kept = [(i, r) for i, r in settings if (i, r) != (init, rate)]
    return [row_of(RunConfig(init=i, learning_rate=r, seed=s), 2.1 + r / 10 + s / 100) for i, r in kept for s in (0, 1)]


def test_a_scheme_without_the_default_rate_has_no_number_there():
    table = {row["scheme"]: row for row in rate_table(make_study("rates", rates_without("normal", 0.1)))}
    assert math.isnan(table["normal"]["dev_loss_at_default_rate"])
    assert math.isnan(table["normal"]["difference_at_default_rate"])
    assert table["normal"]["difference_at_best_rates"] == pytest.approx(0.09)
    assert table["kaiming_tanh"]["difference_at_default_rate"] == 0
    table = {row["scheme"]: row for row in rate_table(make_study("rates", rates_without("kaiming_tanh", 0.1)))}
    assert table["normal"]["dev_loss_at_default_rate"] == pytest.approx(2.115)
    assert math.isnan(table["normal"]["difference_at_default_rate"])


def test_rates_without_the_reference_still_have_tables_and_figures(tmp_path):
    schemes = make_study("schemes", rows_of({"init": init} for init in ("kaiming_tanh", "normal")))
    rates = rows_of({"init": init, "learning_rate": rate} for init in ("normal", "xavier") for rate in (0.2, 1.0))
    studies = Studies(schemes, make_study("rates", rates), None, BASELINES)
    text = write_tables(tmp_path, study_tables(studies))
    assert "at its own best one" in text and "nan" not in text
    write_figures(tmp_path, study_figures(studies))
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "overview", "schemes_curves", "schemes_forest", "rates_curves",
    }  # fmt: skip


def test_every_scheme_of_a_study_says_what_it_draws_and_whose_it_is():
    table = definition_table(make_study("x", rows_of({"init": init} for init in BUILT_IN["init"])))
    assert [row["scheme"] for row in table] == sorted(BUILT_IN["init"])
    assert all(row["draws"] and row["source"] for row in table) and len({row["draws"] for row in table}) == len(table)


def test_the_scheme_table_measures_the_start_against_the_uniform_guess():
    history = {"history_saturated_share": [[0.5], [0.25]], "history_dead_units": [[3.0], [1.0]]}
    rows = [row | history for row in rows_of({"init": init} for init in ("normal", "kaiming_tanh"))]
    first = scheme_table(make_study("schemes", rows), math.log(27))[0]
    assert first["initial_loss_above_log_vocab"] == pytest.approx(3.3 - math.log(27))
    assert (first["initial_saturated_share"], first["final_saturated_share"]) == (0.5, 0.25)
    assert (first["initial_dead_units"], first["final_dead_units"]) == (3.0, 1.0)
    assert first["difference"] == 0.0


def test_the_depth_table_compares_with_the_gain_of_tanh_at_the_same_depth():
    configs = [
        RunConfig(init="fan_in", n_layers=n, gain=g, seed=s) for n in (1, 5) for g in (1.0, 5 / 3) for s in (0, 1)
    ]
    history = {"history_activation_std": [[0.6, 0.3]], "history_saturated_share": [[0.1, 0.0]]}
    rows = [row_of(config, 2.0 + 0.01 * config.n_layers * (config.gain == 1), **history) for config in configs]
    table = depth_table(make_study("depth", rows))
    assert [(row["hidden layers"], row["gain"]) for row in table] == [(1, 1), (1, 1.6667), (5, 1), (5, 1.6667)]
    assert [row["difference"] for row in table] == pytest.approx([0.01, 0.0, 0.05, 0.0])
    assert table[0]["first_layer_initial_activation_std"] == 0.6
    assert table[0]["last_layer_initial_activation_std"] == 0.3


def test_batch_norm_is_paired_by_seed_within_a_scheme():
    rows = [
        row_of(RunConfig(init=i, batch_norm=norm, seed=s), loss + s / 10 + norm * 0.03)
        for i, norms, loss in (("normal", (False, True), 2.2), ("kaiming_tanh", (False,), 2.1))
        for norm in norms
        for s in range(3)
    ]
    (row,) = batch_norm_table(make_study("x", rows))
    assert row["scheme"] == "normal"
    assert [row[name] for name in ("difference_low", "difference", "difference_high")] == pytest.approx([0.03] * 3)


def test_the_overview_notes_what_is_far_off_and_draws_the_count_models():
    schemes = [("normal", 2.2), ("kaiming_tanh", 2.1), ("fan_in", 2.11), ("xavier", 2.12), ("uniform", 2.13)]
    rows = [
        row_of(RunConfig(init=i, seed=s), loss + s / 1000) for i, loss in [*schemes, ("zeros", 9.0)] for s in (0, 1)
    ]
    counts = tuple(Baseline(n, "modified Kneser-Ney", loss, 0.5, 9, 1.5) for n, loss in ((3, 2.056), (5, 1.974)))
    figure = plot_overview(make_study("x", rows), Baselines("0" * 64, (".", "a"), counts))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "kaiming_tanh"
    assert [text.get_text() for text in ax.texts] == ["9.00 →"]
    assert ax.get_xlim()[1] < 3
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert labels[-2:] == [
        "modified Kneser-Ney, 3 context tokens: 2.056",
        "modified Kneser-Ney, 5 context tokens: 1.974",
    ]
    plt.close(figure)


def test_only_what_would_flatten_the_others_is_far_off():
    assert far_off([2.10, 2.11, 2.12, 2.13, 2.82]) < 2.82
    assert far_off([2.10, 2.11, 2.12, 2.13, 2.15]) == math.inf
    assert far_off([2.1, 2.1]) == far_off([2.1]) == math.inf


def test_side_by_side_only_what_no_group_needs_is_far_off():
    schemes = [2.10, 2.11, 2.12, 2.13, 2.14, 2.15, 2.16, 2.17, 2.40, 2.82]
    rates = [2.10, 2.20, 2.41]
    assert far_off(schemes) < 2.40
    assert far_off_side_by_side([schemes, rates]) == 2.41
    assert far_off_side_by_side([[2.0, 2.2], [2.1, 2.1]]) == math.inf


def test_a_figure_is_kept_in_few_colours(tmp_path):
    figure, ax = plt.subplots()
    ax.imshow(np.random.default_rng(0).random((40, 40, 3)))
    save_figure(figure, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "P" and picture.size == (640, 480)
        assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_a_published_run_is_judged_by_where_one_more_run_would_fall():
    rows = [
        row_of(RunConfig(init=i, seed=s), loss + 0.01 * s)
        for i, loss in (("normal", 2.16), ("kaiming_tanh", 2.2))
        for s in (0, 1, 2)
    ]
    dev = {row["scheme"]: row for row in published_table(make_study("x", rows)) if row["split"] == "dev"}
    assert {scheme: row["inside"] for scheme, row in dev.items()} == {"normal": True, "kaiming_tanh": False}
    # Student's t with two degrees of freedom, 4.3027, times 0.01 sqrt(4 / 3).
    assert dev["normal"]["predicted_high"] == pytest.approx(2.17 + 0.049682, abs=1e-6)


# The published sweeps.


def read_csv(text):
    return [{name: _as_number(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


def _as_number(text):
    try:
        return float(text)
    except ValueError:
        return text


def test_tables_of_the_published_sweeps_have_the_published_numbers(published):
    tables = {table.name: read_csv(csv_text(table.rows)) for table in study_tables(published)}
    names = {"schemes", "scheme_comparisons", "definitions", "places", "batch_norm", "published", "rates", "depth"}
    assert tables.keys() == names
    del tables["definitions"]  # Words, which are worded better since.
    for name, rows in tables.items():
        expected = read_csv((PUBLISHED / "tables" / f"{name}.csv").read_text("utf-8"))
        assert [list(row) for row in rows] == [list(row) for row in expected]
        for row, same in zip(rows, expected, strict=True):
            for column, value in row.items():
                words = isinstance(value, str)
                assert value == (same[column] if words else pytest.approx(same[column], rel=1e-12, abs=1e-12)), column


def test_the_published_results_agree_with_the_lecture(published):
    dev = {row["scheme"]: row["loss"] for row in published_table(published.schemes) if row["split"] == "dev"}
    assert 2.15 <= dev["normal"] <= 2.19
    assert dev["scaled_output"] < dev["normal"]
    for scheme in ("scaled_hidden", "kaiming_tanh", "kaiming_tanh + batch norm"):
        assert 2.09 <= dev[scheme] <= 2.13


def test_only_the_lectures_own_configuration_is_compared_with_its_numbers(published):
    rows = [{**row, "hidden_size": 100} for cell in published.schemes.cells for row in cell.rows]
    smaller = replace(published, schemes=make_study("smaller", rows))
    other_data = replace(published, baselines=replace(published.baselines, data_hash="0" * 64))
    for studies in (smaller, other_data):
        assert "published" not in [table.name for table in study_tables(studies)]


def test_sweeps_without_diagnostics_have_tables_and_the_other_figures(published, tmp_path):
    schemes, depth = without_diagnostics(published.schemes), without_diagnostics(published.depth)
    studies = replace(published, schemes=schemes, rates=None, depth=depth)
    assert "nan" not in write_tables(tmp_path, study_tables(studies))
    figures = dict(study_figures(studies))
    assert figures.keys() == {"overview", "schemes_curves", "schemes_forest", "depth_scales"}
    assert len(figures["depth_scales"].axes) == 2  # Losses alone.
    for figure in figures.values():
        plt.close(figure)


def test_the_command_reads_sweeps_and_writes_into_its_own_folder(tmp_path, monkeypatch, capsys):
    # As a user has them, beside each other; only the first is named.
    for folder in (PUBLISHED, RATES, DEPTH):
        shutil.copytree(folder, tmp_path / "results" / "local" / folder.name, ignore=ANALYSES)
    monkeypatch.chdir(tmp_path)
    assert main(["--part", "sweeps"]) == 0
    folder = tmp_path / "results" / "local" / "initialisation"
    written = {path.stem for path in (folder / "tables").iterdir()}
    assert written == {"schemes", "scheme_comparisons", "definitions", "places", "batch_norm", "published"}
    assert f"Written to {folder.relative_to(tmp_path)}/tables" in capsys.readouterr().out
    for other in ("initialisation-rates", "depth"):
        assert not (folder.parent / other / "tables").exists()


def test_the_command_goes_on_from_a_sweep(tmp_path, capsys):
    flags = ["--data", str(FEW_WORDS), "--n-steps", "20", "--n-evaluations", "2", "--seeds", "2", "--hidden-size", "6"]
    schemes = ["--init", "kaiming_tanh", "normal"]
    assert sweep_here("initialisation", *flags, *schemes, "--out", str(tmp_path / "mine")).code == 0
    capsys.readouterr()
    assert main([str(tmp_path / "mine"), "--part", "sweeps"]) == 0
    assert "kaiming_tanh + batch norm" in capsys.readouterr().out
    rows = read_csv((tmp_path / "mine" / "tables" / "schemes.csv").read_text())
    assert len(rows) == 4 and all(0 <= row["initial_saturated_share"] <= 1 for row in rows)
    assert (tmp_path / "mine" / "figures" / "schemes_updates.png").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--part", "all"], ["invalid choice: 'all'"]),
        (["--seeds", "0"], ["--seeds", "at least 1", "'0'"]),
        (["--part", "sweeps"], ["none/request.json is missing"]),
        (["--part", "width", "--rates", str(RATES)], ["--rates is of --part sweeps"]),
        (["--part", "sweeps", "--data", "ssa2018"], ["--data is of --part snapshots and width"]),
        (["--part", "width", "--data", "/nowhere"], ["/nowhere: no such file"]),
    ],
)
def test_a_mistake_is_one_line(arguments, parts, tmp_path, capsys):
    assert main([str(tmp_path / "none"), *arguments]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts) and message.count("\n") == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--rates", "/nowhere"], ["--rates", "/nowhere/request.json is missing"]),
        (["--rates", ""], ["--rates", "an empty path"]),
        (["--rates", str(DEPTH)], ["--rates", "n_layers", "not in init and learning_rate"]),
        (["--rates", str(PUBLISHED)], ["--rates", "not in init and learning_rate"]),
        (["--depth", str(RATES)], ["--depth", "learning_rate", "not in n_layers and gain"]),
        (["--causes", "/nowhere"], ["--causes", "/nowhere/request.json is missing"]),
        (["--causes", str(DEPTH)], ["--causes", "none of its studies is one of causes", "rate-transfer"]),
        (["--causes", str(RATES), "/nowhere"], ["--causes", "/nowhere/request.json is missing"]),
    ],
)
def test_a_sweep_that_is_not_the_one_asked_for_is_refused(arguments, parts, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(PUBLISHED, folder, ignore=ANALYSES)
    assert main([str(folder), "--part", "sweeps", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts) and message.count("\n") == 1
    assert not (folder / "tables").exists()


def test_snapshots_of_other_data_are_not_mixed_into_a_sweeps_folder(tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(PUBLISHED, folder, ignore=ANALYSES)
    assert main([str(folder), "--part", "width", "--data", str(FEW_WORDS)]) == 2
    assert f"{folder} holds a sweep on makemore, and not on {FEW_WORDS}" in capsys.readouterr().err
    assert not (folder / "tables").exists()


def test_the_first_folder_must_compare_schemes_with_the_reference(tmp_path):
    with pytest.raises(ValueError, match=r"differ in n_layers, .* not in init"):
        read_studies(open_sweep(DEPTH), None, None)
    others = stored_sweep(tmp_path / "others", rows_of({"init": init} for init in ("normal", "xavier")), "0" * 64)
    with pytest.raises(ValueError, match="no finished run of kaiming_tanh"):
        read_studies(open_sweep(others), None, None)
    diverged = [row_of(RunConfig(init=init), None, DIVERGED) for init in ("kaiming_tanh", "normal")]
    with pytest.raises(ValueError, match="no finished run; run its sweep first"):
        read_studies(open_sweep(stored_sweep(tmp_path / "diverged", diverged, "0" * 64)), None, None)


def test_sweeps_on_different_data_are_not_compared(tmp_path):
    rows = rows_of({"init": init, "learning_rate": rate} for init in ("normal", "kaiming_tanh") for rate in (0.1, 1.0))
    rates = stored_sweep(tmp_path / "rates", rows, "1" * 64)
    with pytest.raises(ValueError, match=r"--rates .* was trained on ssa2018, and .* on makemore"):
        read_studies(open_sweep(PUBLISHED), rates, None)


# What the study trains itself.


def test_snapshots_are_of_the_models_own_units():
    dataset = load_dataset(FEW_WORDS)
    configs = [RunConfig(init="normal", hidden_size=20, n_layers=2, seed=seed) for seed in range(2)]
    first, later = take_snapshots(configs, (0, 30), dataset)
    assert first.activations.shape == first.gradients.shape == (2, 2, 32, 20)
    np.testing.assert_allclose(np.tanh(first.preactivations), first.activations, atol=1e-6)
    assert not np.allclose(first.activations, later.activations)
    initial, _ = (diagnose_runs(batch) for batch in train_through(configs, (0, 30), dataset))
    assert initial["saturated_share"].shape == (2, 2)
    # 32 windows say about the same as all of them.
    share = (np.abs(first.activations[:, 0]) > 0.99).mean()
    assert share == pytest.approx(initial["saturated_share"][:, 0].mean(), abs=0.1)


def test_the_coordinate_check_finds_which_schemes_keep_their_scale():
    rows = coordinate_check(load_dataset(FEW_WORDS), 2, n_layers=2, widths=(32, 128), schemes=("normal", "fan_in"))
    assert len(rows) == 2 * 2 * 4
    drift = width_exponents(rows, "preactivation_std", 0)
    # Sums of `width` terms of unit variance have a standard deviation of sqrt(width), unless divided by it.
    assert drift["normal"] == pytest.approx(0.5, abs=0.1)
    assert drift["fan_in"] == pytest.approx(0.0, abs=0.1)


def test_exponents_are_those_of_a_power_law():
    rows = [{"scheme": "a", "hidden_size": w, "step": 0, "x": 3.0 * w**-0.75} for w in (32, 64, 512)]
    assert width_exponents(rows, "x", 0)["a"] == pytest.approx(-0.75)


def test_snapshots_and_width_need_no_sweep(tmp_path, monkeypatch, capsys):
    figures = set()
    for module in (snapshots_module, width_module):
        monkeypatch.setattr(module, "SCHEMES", dict.fromkeys(("kaiming_tanh", "zeros")))
        monkeypatch.setattr(module, "save_figure", lambda figure, path: plt.close(figure) or figures.add(path.name))
    # All of them small and of one depth, so that they share compiled programs.
    monkeypatch.setattr(snapshots_module, "LECTURE", RunConfig(hidden_size=8))
    monkeypatch.setattr(snapshots_module, "DEEP", RunConfig(init="fan_in", hidden_size=8))
    monkeypatch.setattr(snapshots_module, "DEEP_SCHEMES", ("normal",))
    monkeypatch.setattr(snapshots_module, "GAINS", {"gain 3": 3.0})
    monkeypatch.setattr(snapshots_module, "DEEP_STEPS", (0, 2))
    monkeypatch.setattr(snapshots_module, "UPDATE_STEPS", (0, 2))
    monkeypatch.setattr(width_module, "WIDTHS", {1: (8, 16)})
    flags = ["--part", "snapshots", "width", "--data", str(FEW_WORDS), "--seeds", "1"]
    assert main([str(tmp_path / "mine"), *flags]) == 0
    assert "Snapshots: 2 schemes" in capsys.readouterr().out
    assert "| zeros" in (tmp_path / "mine" / "tables" / "width.md").read_text()
    tables = {path.name for path in (tmp_path / "mine" / "tables").iterdir()}
    assert tables == {"deep_layers.csv", "width_1.csv", "width_parametrizations.csv", "width.csv", "width.md"}
    layers = read_csv((tmp_path / "mine" / "tables" / "deep_layers.csv").read_text())
    assert len(layers) == 3 * 2  # Networks and steps, of one hidden layer.
    for name in ("deep_layers", "width_1", "width"):  # The columns of the published study.
        header = (PUBLISHED / "tables" / f"{name}.csv").read_text().splitlines()[0]
        assert (tmp_path / "mine" / "tables" / f"{name}.csv").read_text().splitlines()[0] == header
    assert figures == {path.name for path in (PUBLISHED / "figures").iterdir() if path.stem.startswith(TRAINED)}


def test_diagnostics_leave_the_ids_of_older_runs():
    # The hash of [results version, {fields that are not at their default}], as it was before there were diagnostics.
    assert RunConfig().run_id == hashlib.sha256(b"[1, {}]").hexdigest()[:16]
    assert RunConfig(diagnostics=True).run_id != RunConfig().run_id
