"""What a new user meets first: folders, words and tables that neither mislead nor overwrite."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from experiments.analysis.diagnostics import diagnostic_rows, diagnostic_table, draw_diagnostics
from experiments.analysis.results import EARLIER, open_sweep
from experiments.analysis.studies import make_study
from experiments.export import main as export
from experiments.report.__main__ import main as report
from experiments.report.build import read_report, render
from mlp_lm.history import DIAGNOSTICS, LayerStatistics
from tests.synthetic import synthetic_folder, synthetic_rows, write_request


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
    figure = draw_diagnostics(study)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "2"]
    plt.close(figure)
    page = render(read_report(synthetic_folder(tmp_path, {"depth": recorded_rows()})))
    assert "Inside the models: depth" in page and "10.0%, 20.0%" in page
    plain = synthetic_rows({"n_layers": (1, 2)}, 2, lambda **_: 2.0)
    assert "Inside the models" not in render(read_report(synthetic_folder(tmp_path / "b", {"size": plain})))


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
