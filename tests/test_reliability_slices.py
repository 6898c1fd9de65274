"""Slices of one sweep in processes of their own, on one folder, and the run that puts them together."""

from experiments.store import Store
from tests.cli import FEW_WORDS, assert_one_line, sweep, sweep_here, without_progress
from tests.processes import PATIENCE_SECONDS, started
from tests.test_reliability_training import contents

FLAGS = (
    "smoke",
    "--data",
    str(FEW_WORDS),
    "--hidden-size",
    "4",
    "8",
    "--batch-size",
    "32",
    "64",
    "128",
    "--n-steps",
    "20",
    "--seeds",
    "2",
)
PLACES = ("cohort_id", "weights_index")


def without_places(stored: dict) -> dict:
    return {run_id: ({k: v for k, v in row.items() if k not in PLACES}, w) for run_id, (row, w) in stored.items()}


def test_slices_side_by_side_make_the_sweep(tmp_path):
    whole, sliced = str(tmp_path / "whole"), str(tmp_path / "sliced")
    assert sweep(*FLAGS, "--out", whole).code == 0  # By workers too: their programs are single-threaded.
    command = ("-m", "experiments.sweep", *FLAGS, "--out", sliced, "--workers", "1", "--shard")
    with started(*command, "1/3") as first, started(*command, "2/3") as second:
        for process in (first, second):
            output, errors = process.communicate(timeout=2 * PATIENCE_SECONDS)
            assert (process.returncode, without_progress(errors)) == (0, "")
            assert "4 runs of this slice are done" in output  # One program, and so one cohort, a batch size.
    assert not (tmp_path / "sliced" / "tables").exists()
    assert len(Store(tmp_path / "sliced").run_ids()) == 8
    assert sweep(*FLAGS, "--out", sliced, "--dry-run").output.startswith("smoke: 12 runs, 4 to train")
    assert sweep(*FLAGS, "--out", sliced).code == 0  # Trains what the third slice did not, and writes the tables.
    own, theirs = (without_places(contents(Store(tmp_path / name))) for name in ("sliced", "whole"))
    assert own == theirs


def test_slices_share_a_folder_and_the_whole_waits(tmp_path):
    with Store(tmp_path).lock(shared=True):
        assert_one_line(sweep(*FLAGS, "--out", str(tmp_path)), "is in use by another sweep")
        assert "to train" in sweep(*FLAGS, "--out", str(tmp_path), "--shard", "2/3", "--dry-run").output
    with Store(tmp_path).lock():
        assert_one_line(sweep(*FLAGS, "--out", str(tmp_path), "--shard", "1/3"), "is in use by another sweep")


def test_more_slices_than_cohorts_leave_the_last_ones_idle(tmp_path):
    said = sweep(*FLAGS, "--out", str(tmp_path), "--shard", "60/64")
    assert (said.code, said.complaints) == (0, "")
    assert said.output.startswith("0 runs of this slice are done")


def test_a_checkpoint_of_another_cut_goes_once_its_runs_are_done(tmp_path):
    flags = ("smoke", "--data", str(FEW_WORDS), "--hidden-size", "8", "--n-steps", "20", "--out", str(tmp_path))
    assert sweep_here(*flags, "--seeds", "1").code == 0
    store = Store(tmp_path)
    (done,) = store.run_ids()
    store.save_checkpoint("0123abcd", {}, {"run_ids": [done, "f" * 16]})  # As a cut of more seeds would have left it.
    store.save_checkpoint("4567abcd", {}, {"run_ids": ["f" * 16]})
    assert sweep_here(*flags, "--seeds", "1").code == 0
    assert store.started().keys() == {"4567abcd"}
