"""Ctrl-C and SIGTERM: a tidy end the first time, at once the second, no orphan, no traceback, whenever they come."""

import gc
import os
import signal
import sys
import time

import pytest

from experiments.runner.interrupt import Interrupted, Interruption
from experiments.store import Store
from tests import processes
from tests.cli import FEW_WORDS

INTERRUPTS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
each_signal = pytest.mark.parametrize(("number", "code"), INTERRUPTS, ids=["ctrl-c", "sigterm"])
SMALL_SWEEP = ("smoke", "--data", str(FEW_WORDS), "--hidden-size", "8")
LONG_SWEEP = (*SMALL_SWEEP, "--n-steps", "2000000", "--n-evaluations", "1", "--seeds", "8")


def sweep(*arguments: str, **options):
    return processes.started("-m", "experiments.sweep", *arguments, **options)


def end(process) -> tuple[str, str]:
    output, errors = process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert "Traceback" not in errors, errors
    return output, errors


@processes.needs_proc
@each_signal
@pytest.mark.parametrize(
    "to_group", [pytest.param(False, marks=pytest.mark.long), True], ids=["to the parent", "to the group"]
)
def test_first_signal_saves_and_the_next_run_goes_on(tmp_path, number, code, to_group):
    with processes.started("-m", "tests.toy", str(tmp_path)) as process:
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline().startswith("done")
        pids = processes.children(process.pid)
        (os.killpg if to_group else os.kill)(process.pid, number)
        end(process)
        assert process.returncode == code
        processes.wait_until(lambda: not any(processes.alive(pid) for pid in pids))
    store = Store(tmp_path)
    assert 4 <= len(store.run_ids()) < 160
    with processes.started("-m", "tests.toy", str(tmp_path)) as process:
        end(process)
    assert process.returncode == 0
    assert len(store.run_ids()) == 160


@processes.needs_proc
@pytest.mark.parametrize(
    ("number", "code"), [INTERRUPTS[0], pytest.param(*INTERRUPTS[1], marks=pytest.mark.long)], ids=["ctrl-c", "sigterm"]
)
def test_real_training_stops_with_a_checkpoint_and_says_how_to_go_on(tmp_path, number, code):
    with sweep(*LONG_SWEEP, "--out", str(tmp_path)) as process:
        processes.wait_until(lambda: list((tmp_path / "checkpoints").glob("*.safetensors")))
        pids = processes.children(process.pid)
        os.killpg(process.pid, number)
        output, errors = end(process)
        assert process.returncode == code
        processes.wait_until(lambda: not any(processes.alive(pid) for pid in pids))
    assert "the same command goes on from here" in errors.splitlines()[-1]
    assert output == ""
    assert Store(tmp_path).started()


@processes.needs_proc
def test_second_signal_leaves_at_once_and_leaves_nobody_behind(tmp_path):
    with processes.started("-m", "tests.toy", str(tmp_path)) as process:
        processes.wait_until(lambda: processes.workers(process.pid))
        pids = processes.children(process.pid)
        for worker in processes.workers(process.pid):
            os.kill(worker, signal.SIGSTOP)  # They can't hear that they should stop.
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.3)
        process.wait(timeout=processes.PATIENCE_SECONDS)
        assert process.returncode == 130
        for pid in pids:
            if processes.alive(pid):
                os.kill(pid, signal.SIGCONT)
        processes.wait_until(lambda: not any(processes.alive(pid) for pid in pids))


@pytest.mark.parametrize(
    ("command", "delay"), [("sample", 0.3), ("sweep", 0.8), ("report", 1.2), ("sweep", 1.6)], ids=str
)
def test_ctrl_c_during_start_up_and_planning_is_civil(tmp_path, command, delay):
    arguments = [*LONG_SWEEP[:-1], "20000", "--out"] if command == "sweep" else []
    with processes.started("-m", f"experiments.{command}", *arguments, str(tmp_path)) as process:
        time.sleep(delay)  # Anywhere between the first import and the first cohort.
        os.kill(process.pid, signal.SIGINT)
        end(process)
    assert process.returncode in (130, -signal.SIGINT)  # A shell shows 130 for both.


def test_ctrl_c_during_the_summary_is_civil(tmp_path):
    flags = [*SMALL_SWEEP, "--n-steps", "20", "--seeds", "1", "--out", str(tmp_path)]
    script = (
        "import os, signal, sys; from experiments import sweep; from experiments.analysis import summary\n"
        "summary.write_summary = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.exit(sweep.main({flags!r}))"
    )
    with processes.started("-c", script) as process:
        _, errors = end(process)
    assert process.returncode == 130
    assert errors == "sweep: interrupted, everything so far is saved; the same command goes on from here\n"


@each_signal
def test_a_signal_is_raised_unless_deferred(number, code):
    with Interruption() as interruption:
        with interruption.deferred():
            assert not interruption
            os.kill(os.getpid(), number)
            assert interruption
        assert interruption.exit_code == code
    with Interruption() as interruption, pytest.raises(Interrupted):
        os.kill(os.getpid(), number)
    assert interruption.exit_code == code


def test_a_signal_is_not_lost_where_python_ignores_exceptions(capsys):
    def collected(phase: str, info: dict) -> None:
        gc.callbacks.remove(collected)
        os.kill(os.getpid(), signal.SIGINT)

    gc.callbacks.append(collected)
    with Interruption() as interruption, pytest.raises(Interrupted):
        gc.collect()  # Goes on after the exception in its callback.
        time.sleep(processes.PATIENCE_SECONDS)
    assert interruption.exit_code == 130
    assert capsys.readouterr().err == ""


def test_a_signal_that_is_raised_again_is_only_noted_where_it_is_deferred(monkeypatch):
    def collected(phase: str, info: dict) -> None:
        gc.callbacks.remove(collected)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("experiments.runner.interrupt.AGAIN_SECONDS", 0.5)
    gc.callbacks.append(collected)
    with Interruption() as interruption:
        gc.collect()
        with interruption.deferred():
            time.sleep(0.7)
            assert interruption


def test_an_import_is_finished_before_a_signal_ends_it(tmp_path, monkeypatch):
    (tmp_path / "interrupted_module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\nFINISHED = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Interruption() as interruption, pytest.raises(Interrupted):
        import interrupted_module  # noqa: F401

        time.sleep(processes.PATIENCE_SECONDS)
    assert interruption
    assert sys.modules.pop("interrupted_module").FINISHED


def test_handlers_are_put_back():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [*map(signal.getsignal, numbers), sys.unraisablehook]
    with Interruption():
        within = [*map(signal.getsignal, numbers), sys.unraisablehook]
    assert all(one != other for one, other in zip(before, within, strict=True))
    assert [*map(signal.getsignal, numbers), sys.unraisablehook] == before
