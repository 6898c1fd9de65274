"""The page of a sweep: what it says, and that nothing in its data can become part of it."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments.analysis.ensembles import EnsembleRow
from experiments.analysis.looks import HeldOut
from experiments.analysis.studies import make_study
from experiments.analysis.trained_models import Samples, write_samples
from experiments.report.__main__ import main as report
from experiments.report.build import embedded_json, page_data, read_report, render, write_report
from experiments.report.page_data import BEST, CLOSE, MAX_CURVE_POINTS, OVER, UNDER, fit_of, plane_of, thinned
from experiments.store.small_files import write_small
from mlp_lm.config import RunConfig
from tests.synthetic import synthetic_folder, synthetic_row, synthetic_rows

SIZES = {"hidden_size": (50, 100, 200), "embedding_dim": (2, 10), "block_size": (3, 8)}
HOSTILE = [
    "<script>alert(1)</script>",
    "]]>",
    "\"'><img src=x onerror=alert(1)>",
    r"$\badcmd$",
    "עברית\u202eabc",
    "👩‍👩‍👧",
    "\u2028",
]


def size_rows(n_seeds: int = 3):
    return synthetic_rows(SIZES, n_seeds, lambda hidden_size, embedding_dim, **_: 2 + 10 / hidden_size, 0.001)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return synthetic_folder(tmp_path_factory.mktemp("sweep"), {"size": size_rows()})


@pytest.fixture(scope="module")
def page(folder) -> str:
    return render(read_report(folder))


class Elements(HTMLParser):
    """The elements of a page, with the text inside scripts as browsers read it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.data: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "script" and attributes.get("id") == "data":
            self.data["data"] = self.data.get("data", "") + data


def test_the_head_answers_in_one_sentence_with_its_interval(page):
    text = re.search(r'id="answer"><p>(.*?)</p>', page, re.DOTALL).group(1)
    assert text.count(". ") == 0 and text.endswith(".")
    assert "Of 12 configurations" in text and "hidden_size 200" in text
    assert re.search(r": 2\.0\d\d\d nats per token \(95 % interval 2\.0\d\d\d to 2\.0\d\d\d, 3 seeds\)", text)
    # The count model of the synthetic folder with the lowest loss, 2.4 - 0.05 * 7.
    assert re.search(r"(better|worse) than the best count model \(absolute discount, 7 context tokens: 2\.0500\)", text)


def test_the_answer_names_the_test_loss_only_of_the_same_runs(folder):
    actual = read_report(folder)
    best = actual.results.studies[0].best
    ids = [row["run_id"] for row in best.finished]
    looks = {"size": HeldOut(1, "winner of size", "", ids, [2.1, 2.2, 2.3])}
    assert "test words it has" in render(replace(actual, looks=looks))
    assert "test words it has" not in render(replace(actual, looks={}))


def write_ensembles(folder: Path, run_ids) -> None:
    rows = [
        EnsembleRow("2 best runs", "", None, 2, 100, 1.95, 1.96, None, run_ids),
        EnsembleRow("", "5-gram", None, 0, 0, 1.97, 1.98, None, []),
    ]
    write_small(folder, "ensembles.json", [asdict(row) for row in rows])


def test_ensembles_are_shown_of_runs_that_are_asked_for_now_only(tmp_path):
    rows = size_rows()
    synthetic_folder(tmp_path, {"size": rows[:6]})
    write_ensembles(tmp_path, [row["run_id"] for row in rows[:2]])
    assert "2 best runs" in render(read_report(tmp_path))
    write_ensembles(tmp_path, [row["run_id"] for row in rows[5:7]])  # The last one is no longer asked for.
    assert "Ensembles" not in render(read_report(tmp_path))


def test_a_table_of_ensembles_that_cannot_be_read_is_left_out(tmp_path):
    synthetic_folder(tmp_path, {"size": size_rows()[:2]})
    write_ensembles(tmp_path, [])
    assert "Ensembles" in render(read_report(tmp_path))
    sound = (tmp_path / "ensembles.json").read_text()
    (tmp_path / "ensembles.json").write_text(sound.replace("1.95", "1.15"))  # An edited digit.
    assert "Ensembles" not in render(read_report(tmp_path))
    write_small(tmp_path, "ensembles.json", [{"networks": "2 best runs", "dev_loss": 1.95}])
    assert "Ensembles" not in render(read_report(tmp_path))


def test_cells_carry_the_numbers_of_their_rows(folder):
    data = page_data(read_report(folder))
    cells = data["studies"][0]["cells"]
    assert [cell["dev"][0] for cell in cells] == sorted(cell["dev"][0] for cell in cells)
    for cell in cells:
        losses = [data["runs"]["dev_loss"][run] for run in cell["runs"]]
        assert cell["dev"][0] == pytest.approx(np.mean(losses), abs=2e-5)
        assert cell["n"] == 3 and cell["dev"][1] < cell["dev"][0] < cell["dev"][2]
    assert {len(data["embeddings"]), len(data["curves"]), len(data["runs"]["id"])} == {36}


def test_baselines_stand_in_the_ranked_table_and_at_all_seven_lengths(folder, page):
    names = [entry["name"] for entry in page_data(read_report(folder))["baselines"]]
    assert names[0] == "absolute discount, 7 context tokens"
    assert sum("floor" in name for name in names) == 1 and "uniform" in names[-1]
    counts = page[page.index('class="counts"') :]
    assert [f">{k}</th>" in counts for k in range(1, 8)] == [True] * 7
    assert counts.count("(0.70)") == 7


def test_the_page_loads_nothing_from_anywhere(page):
    for tag, attributes in Elements(page).tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    directives = dict(part.split(maxsplit=1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", directives["script-src"])


def test_hostile_names_stay_text(tmp_path):
    tokens = [".", *HOSTILE]
    rows = synthetic_rows({"hidden_size": (50, 100)}, 2, lambda hidden_size: 2 + 1 / hidden_size)
    for row in rows:
        row["device"] = HOSTILE[0]
    studies = {HOSTILE[0]: rows, HOSTILE[2]: rows[:2]}
    synthetic_folder(tmp_path, studies, tokens, title=HOSTILE[2])
    write_samples(tmp_path, [Samples(rows[2]["run_id"], 0, 1.0, HOSTILE, [True] * len(HOSTILE))])
    text = render(read_report(tmp_path))
    elements = Elements(text)
    assert sum(tag == "script" for tag, _ in elements.tags) == 2
    assert not any(
        tag == "img" or any(name.startswith("on") for name in attributes) for tag, attributes in elements.tags
    )
    data = json.loads(elements.data["data"])
    assert data["tokens"] == tokens
    assert [study["name"] for study in data["studies"]] == [HOSTILE[0], HOSTILE[2]]
    assert next(iter(data["samples"].values()))["words"] == HOSTILE


def test_json_in_the_page_reads_back_as_it_was():
    value = {"a": [*HOSTILE, "</script>", "<!--", "&amp;", "\ud800", None, 1.5]}
    text = str(embedded_json(value))
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)
    text.encode()


def test_five_thousand_runs_stay_below_two_megabytes(tmp_path):
    axes = {"hidden_size": tuple(range(10, 210, 10)), "embedding_dim": (2, 3, 10, 24), "block_size": (2, 3, 4, 5, 8)}
    axes["learning_rate"] = (0.05, 0.1, 0.2, 0.4)
    rows = synthetic_rows(axes, 3, lambda hidden_size, **_: 2 + 10 / hidden_size, 0.01)
    assert len(rows) == 4800
    assert write_report(synthetic_folder(tmp_path, {"grid": rows})).stat().st_size < 2_000_000


def test_jax_is_not_imported(folder):
    code = (
        f"import sys; from experiments.report.__main__ import main; code = main([{str(folder)!r}]); "
        "sys.exit(code or 'jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_unbalanced_study_says_so(tmp_path):
    rows = synthetic_rows({"init": ("normal", "uniform"), "batch_norm": (False, True)}, 2, lambda **_: 2.0, 0.1)
    kept = [row for row in rows if not (row["init"] == "normal" and row["batch_norm"])]
    text = render(read_report(synthetic_folder(tmp_path, {"initialisation": kept})))
    assert "only 3 of 4 combinations" in text and 'class="importance"' not in text


def test_a_sweep_of_nothing_but_diverged_runs_has_a_page(tmp_path):
    rows = [synthetic_row(RunConfig(seed=seed), 2.0, diverged=True) for seed in range(2)]
    for row in rows:
        row |= {"dev_loss": None, "train_loss": None, "dev_unseen_loss": None, "history_dev_loss": [None] * 5}
    assert "every run diverged, so there is no answer" in render(
        read_report(synthetic_folder(tmp_path, {"size": rows}))
    )


@pytest.mark.parametrize(("folder_name", "message"), [("nowhere", "no sweep's folder"), ("empty", "no finished run")])
def test_a_mistake_is_one_line(tmp_path, capsys, folder_name, message):
    synthetic_folder(tmp_path / "empty", {})
    assert report([str(tmp_path / folder_name)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def fits(train: float, dev: float) -> str:
    """The name of a configuration with these losses beside one with train 2.0 and dev 2.1."""
    losses = {50: (2.0, 2.1), 100: (train, dev)}
    rows = synthetic_rows({"hidden_size": (50, 100)}, 3, lambda **_: 2.0, 0.0)
    for row in rows:
        luck = 0.001 * row["seed"] * (row["hidden_size"] == 100)
        row["train_loss"], row["dev_loss"] = (loss + luck for loss in losses[row["hidden_size"]])
    study = make_study("size", rows)
    assert fit_of(study.best, study) == BEST
    return fit_of(study.cells[1], study)


def test_fits_are_named_by_comparison_with_the_best():
    assert fits(train=2.2, dev=2.2) == UNDER
    assert fits(train=1.8, dev=2.2) == OVER
    assert fits(train=1.8, dev=2.1) == CLOSE


def test_a_plane_keeps_two_dimensions_as_they_are_and_projects_more():
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((1, 27, 2))
    np.testing.assert_array_equal(plane_of(flat, [0]).places, flat)
    turned = flat @ np.linalg.qr(rng.standard_normal((10, 10)))[0][:2]
    actual = plane_of(turned, [0])
    assert actual.explained == pytest.approx(1) and actual.is_projected
    distances = [np.linalg.norm(p[0][:, None] - p[0][None], axis=-1) for p in (flat, actual.places)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-9)


def test_a_plane_over_training_has_the_last_step_s_basis():
    tables = np.random.default_rng(0).standard_normal((3, 27, 5))
    np.testing.assert_allclose(plane_of(tables, [0, 1, 2]).places[-1], plane_of(tables[-1:], [2]).places[0])


@pytest.mark.parametrize("n", [1, 2, MAX_CURVE_POINTS, MAX_CURVE_POINTS + 1, 1000])
def test_thinning_keeps_both_ends(n):
    kept = thinned(n)
    assert kept[0] == 0 and kept[-1] == n - 1 and len(kept) == min(n, MAX_CURVE_POINTS) == len(set(kept))
