"""Folders side by side, paired by seed, and merged."""

import contextlib
import csv
import io
import shutil

import numpy as np
import pytest

from experiments.analysis.comparisons import over_seeds_and_words
from experiments.analysis.folder_comparison import compare, merge
from experiments.analysis.results import open_sweep
from experiments.analysis.studies import estimate, paired_difference
from experiments.compare import main
from experiments.report.sections import Section, read_sections, write_sections
from experiments.runner.rows import SCHEMA
from experiments.store import Store
from experiments.sweeps.request import Request
from mlp_lm.evaluation import each_loss
from mlp_lm.mixtures import stretches
from tests import cli
from tests.synthetic import STORE_COLUMNS, synthetic_folder, synthetic_rows, write_request

SIZES = {"hidden_size": (50, 100)}


def folder(path, offset=0.0, n_seeds=4, axes=SIZES, noise=0.01):
    rows = synthetic_rows(axes, n_seeds, lambda **settings: 2.0 + 1 / settings["hidden_size"], noise)
    for row in rows:
        row["dev_loss"] += offset * (1 + 0.1 * row["seed"])
    return synthetic_folder(path, {"size": rows})


def run(*arguments):
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main([str(argument) for argument in arguments])
    return code, output.getvalue(), errors.getvalue()


def test_differences_are_paired_by_seed_over_the_seeds_that_both_have(tmp_path):
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", offset=0.05)
    comparison = compare([open_sweep(a), open_sweep(b)])
    expected = estimate(0.05 * (1 + 0.1 * seed) for seed in range(4))
    assert len(comparison.lines) == 2
    for _, (mine, theirs) in comparison.lines:
        assert mine.difference.mean == 0 and mine.n_equal == 4
        np.testing.assert_allclose(
            [theirs.difference.mean, theirs.difference.low], [expected.mean, expected.low], rtol=1e-6
        )
        assert theirs.n_equal == 0 and theirs.difference.n == 4
    assert comparison.n_apart == len(comparison.differences) == 2


def test_only_common_configurations_are_compared(tmp_path):
    a = folder(tmp_path / "a")
    b = folder(tmp_path / "b", axes={"hidden_size": (100, 300)}, n_seeds=2, noise=0.0)
    c = folder(tmp_path / "c", axes={"hidden_size": (500,)})
    comparison = compare([open_sweep(a), open_sweep(b), open_sweep(c)])
    assert [cell.settings["hidden_size"] for cell, _ in comparison.lines] == [100]
    assert comparison.lines[0][1][2] is None and comparison.lines[0][1][1].difference.n == 2
    with pytest.raises(ValueError, match="have no configuration in common"):
        compare([open_sweep(a), open_sweep(c)])


def test_merged_folders_hold_every_run_once(tmp_path):
    results = []
    for name, sizes in {"a": (50, 100), "b": (100, 300)}.items():
        rows = synthetic_rows({"hidden_size": sizes}, 4, lambda **_: 2.0)
        kept = [{k: v for k, v in row.items() if k not in STORE_COLUMNS} for row in rows]
        Store(tmp_path / name).write(name * 16, kept, {}, SCHEMA)
        listed = {"size": [row["run_id"] for row in rows]}
        write_request(tmp_path / name, Request(name, "A title", "ssa2018", "d" * 64, "a command", listed))
        results.append(open_sweep(tmp_path / name))
    merge(results, tmp_path / "out", "python -m experiments.compare a b --out out")
    merged = open_sweep(tmp_path / "out")
    assert {row["run_id"] for row in merged.rows} == {row["run_id"] for r in results for row in r.rows}
    assert len(merged.rows) == 12 and len(merged.studies) == 1
    assert {row["run_id"]: row["dev_loss"] for row in merged.rows} == {
        row["run_id"]: row["dev_loss"] for r in results for row in r.rows
    }


def test_what_is_damaged_in_a_merged_folder_is_said_and_stays_there(tmp_path, capsys):
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b")
    results = [open_sweep(a), open_sweep(b)]
    (shard,) = (a / "shards").iterdir()
    shard.write_bytes(shard.read_bytes() + b"!")
    merge(results, tmp_path / "out", "")
    assert capsys.readouterr().err.count("does not match its checksum: left out") == 1
    assert shard.exists() and not (a / "damaged").exists()
    assert len(open_sweep(tmp_path / "out").rows) == len(results[1].rows)  # All are in the other folder as well.


def test_a_run_with_two_results_is_refused_and_nothing_is_written(tmp_path):
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", offset=0.05)
    with pytest.raises(ValueError, match=r"has dev_loss .* keep them apart"):
        merge([open_sweep(a), open_sweep(b)], tmp_path / "out", "")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_a_table_that_fits_80_columns(tmp_path):
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b", offset=0.05)
    code, output, _ = run(a, b)
    assert code == 0 and "2 configurations in common; 0 of 8 runs are the same run" in output
    assert "2 of 2 differences, paired by seed, have a 95 % interval without 0" in output
    table = output[output.index("configuration") :].splitlines()
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "a"], "give each folder once"),
        (["a", "--out", "b"], "--out merges two folders or more, got one"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(tmp_path, arguments, said):
    folder(tmp_path / "a")
    code, _, errors = run(*(name if name.startswith("--") else tmp_path / name for name in arguments))
    assert code == 2 and said in errors and len(errors.splitlines()) == 1


def test_a_folder_without_weights_says_how_to_have_them(with_weights, tmp_path):
    bare = shutil.copytree(with_weights, tmp_path / "bare", ignore=shutil.ignore_patterns("weights"))
    code, _, errors = run(bare)
    assert code == 2 and "keeps no weights of its runs: train them with another --out" in errors
    assert len(errors.splitlines()) == 1


@pytest.fixture(scope="module")
def with_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "sweep"
    axes = ("--init", "kaiming_tanh", "normal", "--hidden-size", "8", "--n-steps", "40")
    assert cli.sweep_here("smoke", *axes, "--seeds", "3", "--data", str(cli.FEW_WORDS), "--out", str(path)).code == 0
    return path


def test_one_folder_is_compared_within_over_seeds_and_words(with_weights):
    code, output, _ = run(with_weights)
    assert code == 0 and max(map(len, output.splitlines()[:8])) <= 80
    with (with_weights / "tables" / "word_intervals.csv").open() as file:
        (row,) = csv.DictReader(file)
    results = open_sweep(with_weights)
    (study,) = results.studies
    reference, other = sorted(study.cells, key=lambda cell: cell.settings["init"])
    expected = paired_difference(other, reference)
    assert float(row["difference"]) == pytest.approx(expected.mean, abs=1e-5)
    assert float(row["difference_high"]) == pytest.approx(expected.high, abs=1e-5)
    windows, words = results.dataset.windows("dev", 3), stretches(results.dataset, "dev")[0]
    losses = [
        np.subtract(*(each_loss(*results.load_model(run)[:1], windows) for run in pair), dtype=np.float64)
        for pair in zip(other.finished, reference.finished, strict=True)
    ]
    both, p = over_seeds_and_words(np.stack(losses), words)
    actual = [float(row[f"difference_over_both_{end}"]) for end in ("low", "high")]
    assert actual == pytest.approx([both.low, both.high], abs=1e-6)
    assert float(row["p_difference"]) == pytest.approx(p, rel=1e-3)
    assert (
        both.half >= expected.half - 1e-6
        and row["reference"] == "kaiming_tanh"
        and row["init"] == "normal"
        and row["n_seeds"] == "3"
    )
    page = (with_weights / "report.html").read_text()
    assert "differences with other dev words" in page
    assert (
        f"{study.name}: differences with other dev words" in (with_weights / "tables" / "word_intervals.md").read_text()
    )


def test_comparing_again_replaces_its_own_section_and_no_other(with_weights):
    write_sections(with_weights, [Section("Mine", (), "A text.")])
    for _ in range(2):
        assert run(with_weights)[0] == 0
    assert [section.title for section in read_sections(with_weights)][:1] == ["Mine"]
    assert len(read_sections(with_weights)) == 2
