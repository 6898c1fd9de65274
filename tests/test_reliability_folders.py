"""Folders that can't serve, through the command line: one line with the remedy, and nothing else changed."""

import errno
import io
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from experiments.runner import run
from experiments.runner.protocol import Progress
from experiments.store import Store, atomic
from experiments.sweep import main
from tests.cli import FEW_WORDS, assert_one_line, sweep, sweep_here, train_here, trained_here
from tests.processes import PATIENCE_SECONDS, started

FAST = ("smoke", "--data", str(FEW_WORDS), "--hidden-size", "8", "--n-steps", "20", "--seeds", "1")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_folders_that_cannot_be_made():
    assert_one_line(sweep(*FAST, "--out", "/proc/x"), "/proc/x: cannot be created there; choose another folder")
    assert_one_line(sweep(*FAST, "--out", "/dev/null"), "/dev/null is a file, not a folder")
    assert_one_line(sweep(*FAST, "--out", "/dev/null/x"), "/dev/null is a file where a folder should be")


def test_a_broken_link_and_a_link_to_a_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert_one_line(sweep(*FAST, "--out", str(tmp_path / "link")), "is a link to", "create it or remove the link")
    (tmp_path / "elsewhere").mkdir()
    assert sweep_here(*FAST, "--out", str(tmp_path / "link")).code == 0
    assert Store(tmp_path / "elsewhere").run_ids() == Store(tmp_path / "link").run_ids() != set()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses(tmp_path, monkeypatch, code):
    reasons = ("cannot be written", "no space left")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic, "_write_through", refuse)
    assert_one_line(sweep(*FAST, "--out", str(tmp_path / "out")), str(tmp_path / "out"), reasons[code == errno.ENOSPC])


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs the superuser")
def test_a_disk_that_fills_up_while_workers_train(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    try:
        flags = ("2000" if flag == "8" else flag for flag in FAST)
        flags = (*flags, "--out", str(tmp_path / "out"))
        with started("-m", "experiments.sweep", *flags) as process:
            output, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, output) == (2, "")
        assert "no space left; free some" in errors
        assert "Traceback" not in errors
        assert Store(tmp_path / "out").run_ids() == set()
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_folder_in_use_is_refused(tmp_path):
    with Store(tmp_path).lock():
        assert_one_line(sweep(*FAST, "--out", str(tmp_path)), "is in use by another sweep", "choose another folder")


def test_failed_runs_are_told_kept_and_tried_again(tmp_path, monkeypatch):
    def fail(cohorts, job, cores, stopping):
        yield from (Progress(cohort, failure="out of luck; tried 5 times") for cohort in cohorts)

    flags = (*FAST, "--batch-size", "32", "64", "--out", str(tmp_path))
    assert sweep_here(*FAST, "--batch-size", "32", "--out", str(tmp_path)).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(run, "_executor", lambda options: fail)
        said = sweep(*flags)
    assert said.code == 1
    assert "1 of 2 runs failed: out of luck; tried 5 times (1 run)" in said.errors
    assert "1 of 2 runs failed: out of luck" in (tmp_path / "tables" / "summary.md").read_text()
    said = sweep_here(*flags)
    assert (said.code, said.errors) == (0, "1 of 2 runs were here already\n")
    assert "runs failed" not in (tmp_path / "tables" / "summary.md").read_text()


def test_a_sweep_of_which_every_run_failed_has_no_page(tmp_path, monkeypatch):
    def fail(cohorts, job, cores, stopping):
        yield from (Progress(cohort, failure="out of luck; tried 5 times") for cohort in cohorts)

    monkeypatch.setattr(run, "_executor", lambda options: fail)
    said = sweep(*FAST, "--out", str(tmp_path))
    assert said.code == 1
    assert "1 of 1 runs failed: out of luck; tried 5 times (1 run)" in said.errors
    assert not (tmp_path / "report.html").exists()


def test_what_is_damaged_while_a_sweep_trains_is_told_and_trained_again(tmp_path, monkeypatch):
    rounds = []

    def damaging(cohorts, job, cores, stopping):
        yield from train_here(cohorts, job, cores, stopping)
        rounds.append(len(cohorts))
        if len(rounds) == 1:
            (shard,) = (tmp_path / "shards").glob("*.parquet")
            shard.write_bytes(shard.read_bytes() + b"x")

    monkeypatch.setattr(run, "_executor", lambda options: damaging)
    said = sweep(*FAST, "--out", str(tmp_path))
    assert said.code == 0 and rounds == [1, 1]
    assert said.errors.count("\n") == 1 and ".parquet" in said.errors and "1 of 1 run done" in said.output


@pytest.mark.parametrize(("n_times", "code"), [(1, 0), (9, 2)])
def test_what_is_damaged_after_training_is_told_and_trained_again(tmp_path, monkeypatch, n_times, code):
    list_files, calls = run.analysis_files, []

    def damaging(folder):  # The last that happens before tables are made.
        calls.append(folder)
        if len(calls) <= n_times:
            (shard,) = (tmp_path / "shards").glob("*.parquet")
            shard.write_bytes(shard.read_bytes() + b"x")
        return list_files(folder)

    monkeypatch.setattr(run, "analysis_files", damaging)
    said = sweep_here(*FAST, "--out", str(tmp_path))
    assert said.code == code
    assert "does not match its checksum" in said.errors and "1 cohort must be computed again" in said.errors
    assert ("1 of 1 run done" in said.output) == (code == 0)
    assert ("damaged each time" in said.errors) == (code == 2)


def test_deleted_weights_keep_no_extended_sweep_from_its_tables(tmp_path):
    assert sweep_here(*FAST, "--out", str(tmp_path)).code == 0
    shutil.rmtree(tmp_path / "weights")
    said = sweep_here(*FAST[:-1], "2", "--out", str(tmp_path))
    assert said.code == 0, said.errors
    assert len(Store(tmp_path).run_ids()) == 2
    assert "2 of 2 runs done" in (tmp_path / "tables" / "summary.md").read_text()
    assert (tmp_path / "report.html").exists()


class Full(io.RawIOBase):
    """Output of which nothing can be kept."""

    def writable(self):
        return True

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_report_is_whole_whatever_becomes_of_the_output(tmp_path, monkeypatch, capsys):
    report, plain = tmp_path / "report.html", io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(plain, encoding="ascii"))
    with trained_here():
        assert main([*FAST, "--out", str(tmp_path)]) == 0
    assert b"Report: " in plain.getvalue() and b"\\xb1" in plain.getvalue()
    report.unlink()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(Full()), write_through=True))
    assert main([*FAST, "--out", str(tmp_path)]) == 2
    assert report.exists()
    assert "sweep: its output could not be written" in capsys.readouterr().err
    report.unlink()
    monkeypatch.undo()
    with started("-m", "experiments.sweep", *FAST, "--out", str(tmp_path)) as process:
        process.stdout.close()
        assert process.wait(timeout=PATIENCE_SECONDS) == 128 + signal.SIGPIPE
    assert report.exists()
