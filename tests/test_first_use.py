"""What a new user meets first: folders, words and tables that neither mislead nor overwrite."""

import csv
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pooch
import pytest

from experiments.analysis.diagnostics import diagnostic_rows, diagnostic_table, plot_diagnostics
from experiments.analysis.results import EARLIER, open_sweep
from experiments.analysis.studies import make_study
from experiments.cli.flags import requested_sweep
from experiments.cli.terminal import Display
from experiments.export import main as export
from experiments.report.__main__ import main as report
from experiments.report.build import read_report, render
from experiments.runner.plan import Cohort, Plan
from experiments.runner.protocol import Progress
from experiments.sweep import make_parser
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import load_dataset
from mlp_lm.data.word_lists import MAKEMORE_URL, download
from mlp_lm.history import DIAGNOSTICS, LayerStatistics
from tests.cli import FEW_WORDS, assert_one_line, sweep, sweep_here
from tests.synthetic import synthetic_folder, synthetic_row, synthetic_rows, write_request


def recorded_rows() -> list[dict]:
    """Two seeds of models of one and two layers, whose diagnostics are the numbers of their layers or matrices."""
    rows = synthetic_rows({"n_layers": (1, 2)}, 2, lambda n_layers: 2.0 + 0.1 * n_layers)
    for row in rows:
        for name in DIAGNOSTICS:
            n = row["n_layers"] + (0 if name in LayerStatistics._fields else 2)
            row[f"history_{name}"] = [[(i + 1) * scale for i in range(n)] for scale in (0.1, 0.2, 0.3, 0.4, 0.5)]
    return rows


def test_diagnostics_have_a_row_a_layer_or_matrix_at_both_ends():
    rows = list(diagnostic_rows([make_study("depth", recorded_rows())]))
    deep = {(row["statistic"], row["place"]): row for row in rows if row["n_layers"] == 2}
    saturated = deep["saturated_share", "layer 2"]
    assert (saturated["start"], saturated["end"], saturated["n_seeds"]) == (0.2, 1.0, 2)
    matrices = [place for statistic, place in deep if statistic == "gradient_std"]
    assert matrices == ["embedding", "hidden 1", "hidden 2", "output"]
    assert len(rows) == sum((6 * n + 4 * (n + 2)) for n in (1, 2))


def test_diagnostics_are_a_table_a_figure_and_a_section_of_the_report(tmp_path):
    study = make_study("depth", recorded_rows())
    header, rows = diagnostic_table(study)
    assert header[:2] == ["n layers", "saturated, step 0"]
    assert rows[1][:3] == ["2", "10.0%, 20.0%", "50.0%, 100.0%"]
    figure = plot_diagnostics(study)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2"]
    # Three artists a matrix: embedding, hidden and output of one layer; one hidden matrix more of two.
    assert len(figure.axes[-1].lines) == 3 * (3 + 4)
    plt.close(figure)
    page = render(read_report(synthetic_folder(tmp_path, {"depth": recorded_rows()})))
    assert "Inside the models: depth" in page and "10.0%, 20.0%" in page
    plain = synthetic_rows({"n_layers": (1, 2)}, 2, lambda **_: 2.0)
    assert "Inside the models" not in render(read_report(synthetic_folder(tmp_path / "b", {"size": plain})))


def test_saturation_of_an_idea_that_is_not_loaded_is_shown_where_some_was_recorded():
    rows = [row | {"activation": "of_a_file"} for row in recorded_rows()]
    assert diagnostic_table(make_study("bounded", rows))[1][0][1] == "10.0%"
    unbounded = [row | {"history_saturated_share": [[0.0] * row["n_layers"]] * 5} for row in rows]
    assert diagnostic_table(make_study("unbounded", unbounded))[1][0][1] == "-"


@pytest.fixture
def extended(tmp_path) -> Path:
    """A folder of two studies, of which the last request asks for one alone."""
    rows = synthetic_rows({"hidden_size": (50, 100)}, 2, lambda hidden_size: 2 + 1 / hidden_size)
    folder = synthetic_folder(tmp_path / "sweep", {"size": rows[:2], "others": rows[2:]})
    request = open_sweep(folder).request
    write_request(folder, type(request)(**{**request.__dict__, "studies": {"size": request.studies["size"]}}))
    return folder


def test_all_rows_are_exported_with_their_study(extended, tmp_path):
    assert export(["--dir", str(extended), "--rows", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open() as file:
        assert sorted(row["study"] for row in csv.DictReader(file)) == [EARLIER, EARLIER, "size", "size"]


def test_the_report_shows_all_runs_where_asked_to(extended):
    def pages_of(*flags: str) -> str:
        assert report([str(extended), *flags]) == 0
        return (extended / "report.html").read_text("utf-8")

    assert EARLIER in pages_of("--all") and EARLIER not in pages_of()


def test_a_folder_without_weights_names_the_command_that_trains_them_again(extended):
    shutil.rmtree(extended / "weights")
    with pytest.raises(ValueError, match=r"keeps no weights .* another --out \(python -m experiments.sweep\)"):
        open_sweep(extended).ranked()


def test_a_request_names_the_runs_of_all_earlier_ones_that_it_leaves_out(tmp_path):
    def said(*sizes: str) -> str:
        flags = ["--data", str(FEW_WORDS), "--n-steps", "20", "--n-evaluations", "1", "--seeds", "1"]
        done = sweep_here("single", *flags, "--hidden-size", *sizes, "--out", str(tmp_path / "a"))
        assert done.code == 0
        return done.output

    assert "leaves out" not in said("4", "5")
    assert "asked for 1 run that this command leaves out" in said("4")
    assert "asked for 1 run that this command leaves out" in said("4", "6")  # The last request had it no more.
    assert "leaves out" not in said("4", "5", "6")


@pytest.mark.parametrize(
    ("flags", "title"),
    [
        (["--hidden-size", "8", "16", "--n-steps", "200"], "Which hidden size?"),
        (["--init", "normal", "zeros", "--learning-rate", "0.1:1"], "Which init, which learning rate?"),
        (["--n-steps", "200"], "One configuration"),
        (["--n-steps", "200", "--title", "Mine"], "Mine"),
    ],
)
def test_the_title_of_a_sweep_asks_for_what_has_several_values(flags, title):
    assert requested_sweep(make_parser().parse_args(["single", *flags])).title == title


def test_help_is_short_and_names_values_by_their_kind(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: python -m experiments.sweep [NAME] [flags]"
    text = "\n".join(lines)
    for flag in ("--hidden-size INT ...", "--learning-rate FLOAT ...", "--init NAME ...", "--seeds INT"):
        assert flag in text
    groups = ["options:", "data:", "model (", "training (", "details of training ("]
    groups += ["runs chosen by what is known so far:", "this machine:", "many machines:"]
    places = [text.index(f"\n{group}") for group in groups]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--hidden-siz", "3"], ["did you mean '--hidden-size'?"]),
        (["--seed", "3"], ["did you mean '--seeds'?"]),
        (["--hidden-size", "50,100"], ["separate values by spaces"]),
        (
            ["--n-steps", "5", "--n-evaluations", "10"],
            ["n_evaluations 10", "n_steps 5", "give n_evaluations 5 or fewer"],
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(flags, parts):
    assert_one_line(sweep("smoke", *flags), *parts)


def test_a_table_taken_for_words_and_tiny_parts_are_named(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("name,count\n" + "".join(f"anna{i},{i}\n" for i in range(20)))
    cautions = load_dataset(str(table)).cautions
    assert "most lines hold commas" in cautions[0]
    assert "dev part; losses on so few tell little" in cautions[1]
    assert load_dataset().cautions == []


@pytest.mark.parametrize(("first", "is_heading"), [("Name", True), ('"first_name"', True), ("emma", False)])
def test_the_heading_of_a_column_is_named(first, is_heading, tmp_path):
    column = tmp_path / "column.csv"
    column.write_text("\n".join([first, *load_dataset().parts["train"][:5000], "name"]))
    cautions = load_dataset(str(column)).cautions
    assert len(cautions) == is_heading and all(repr(first) in caution for caution in cautions)


def test_a_best_rate_at_the_edge_of_those_tried_and_single_seeds_are_named():
    def caution(losses: dict[float, float], seeds: int = 2) -> str:
        rows = synthetic_rows({"learning_rate": tuple(losses)}, seeds, lambda learning_rate: losses[learning_rate])
        return make_study("rates", rows).caution

    assert "0.1, is the lowest one tried" in caution({0.1: 2.0, 0.3: 2.1, 1.0: 2.2})
    assert "1, is the highest one tried" in caution({0.1: 2.2, 0.3: 2.1, 1.0: 2.0})
    assert caution({0.1: 2.2, 0.3: 2.0, 1.0: 2.1}) == ""
    assert "One seed each" in caution({0.1: 2.2, 0.3: 2.0, 1.0: 2.1}, seeds=1)


def test_nothing_is_best_where_all_diverged_and_an_empty_split_is_a_dash():
    diverged = [synthetic_row(RunConfig(seed=seed), 2.0, diverged=True) for seed in range(2)]
    study = make_study("size", diverged)
    assert study.to_best_words(study.best) == "-"
    rows = [row | {"dev_unseen_loss": None} for row in synthetic_rows({"hidden_size": (50,)}, 2, lambda **_: 2.0)]
    assert str(make_study("size", rows).best.estimate("dev_unseen_loss")) == "-"


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ([], ""),
        (["--data", "makemore"], "default-makemore"),
        (["--data", "lists/a.txt", "lists/b.txt", "lists/c.txt"], "default-a-b-c"),
        (["--data", "brown", "--vocabulary", "closed"], "default-closed-brown"),
        (["--split-seed", "7"], "default-split=7-ssa2018"),
    ],
)
def test_sweeps_on_other_data_have_folders_of_their_own(flags, folder):
    assert requested_sweep(make_parser().parse_args(flags)).folder == folder


def test_the_time_left_ends_at_zero():
    plan = Plan((Cohort((RunConfig(n_steps=100, n_evaluations=1),), 5.0),))
    display = Display(plan, 0, 60.0)
    display.show(Progress(plan.cohorts[0], model_steps=100))
    assert display.seconds_left == pytest.approx(0)


def test_data_that_cannot_be_downloaded_has_a_remedy_that_every_command_has(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", fail)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    with pytest.raises(ValueError, match=f"names.txt could not be downloaded .*save it as {tmp_path}/names.txt"):
        download(MAKEMORE_URL, "0", "names.txt")
