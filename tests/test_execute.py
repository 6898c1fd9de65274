"""The local executor and its rules, with a toy train function: laws and injected faults, without JAX."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from experiments.runner.devices import available_cores
from experiments.runner.local_executor import execute
from experiments.runner.plan import Cohort
from experiments.runner.protocol import (
    DONE,
    FAILED,
    MAX_ATTEMPTS,
    STEPS,
    CannotContinue,
    Failure,
    Fault,
    Ledger,
    Progress,
    Task,
    failure_of,
)
from experiments.runner.worker import Job
from experiments.store import Store
from mlp_lm.config import RunConfig
from tests import processes, toy

TWO = (available_cores() * 2)[:2]


def run_toy(root: Path, start, cohorts: list[Cohort], cores=TWO, stopping=lambda: False) -> list[Progress]:
    return list(execute(cohorts, Job("", root, start=start), cores, stopping))


def failures(events: list[Progress]) -> dict[str, str]:
    return {run.run_id: event.failure for event in events if event.failure for run in event.cohort.runs}


def test_two_workers_and_one_cohort(tmp_path):
    (cohort,) = toy.toy_cohorts(1)
    events = run_toy(tmp_path, toy.start_toy, [cohort])
    assert [row["run_id"] for event in events for row in event.rows] == [run.run_id for run in cohort.runs]
    assert sum(event.model_steps for event in events) == toy.N_STEPS * len(cohort.runs)


def test_nothing_to_do_starts_nothing(tmp_path):
    assert run_toy(tmp_path, toy.start_broken, []) == []


def test_worker_that_dies_after_its_write_has_done_its_work(tmp_path):
    cohorts = toy.toy_cohorts(3)
    events = run_toy(tmp_path, toy.start_dying_after_write, cohorts)
    counts = Counter(row["run_id"] for event in events for row in event.rows)
    assert (tmp_path / "death.0").exists()
    assert counts == Counter({run.run_id: 1 for cohort in cohorts for run in cohort.runs})
    assert {path.stem for path in (tmp_path / "manifests").iterdir()} == {cohort.cohort_id for cohort in cohorts}


def test_killed_worker_goes_on_from_the_checkpoint_of_its_cohort(tmp_path):
    (cohort,) = toy.toy_cohorts(1)
    events = run_toy(tmp_path, toy.start_dying_half_way, [cohort])
    assert (tmp_path / "death.0").exists()
    assert len(list(tmp_path.glob("step.*"))) == toy.N_STEPS  # Not one step was done twice.
    assert sum(event.model_steps for event in events) == toy.N_STEPS * len(cohort.runs)
    assert Store(tmp_path).run_ids() == {run.run_id for run in cohort.runs}


@pytest.mark.parametrize(
    "start",
    [toy.start_memory_for_two, toy.start_xla_memory_for_two, toy.start_killed_above_two],
    ids=lambda f: f.__name__,
)
def test_out_of_memory_is_met_by_halving(tmp_path, start):
    cohorts = toy.toy_cohorts(1, n_runs=8)
    events = run_toy(tmp_path, start, cohorts)
    assert failures(events) == {}
    assert Store(tmp_path).run_ids() == {run.run_id for run in cohorts[0].runs}
    assert sorted(len(event.rows) for event in events if event.rows) == [2, 2, 2, 2]


@processes.needs_proc
def test_where_memory_runs_out_fewer_workers_go_on(tmp_path):
    cohorts = toy.toy_cohorts(4)
    events = run_toy(tmp_path, toy.start_killed_beside_another, cohorts)
    assert failures(events) == {}
    assert Store(tmp_path).run_ids() == {run.run_id for cohort in cohorts for run in cohort.runs}


def test_memory_that_never_suffices_fails_those_runs_only(tmp_path):
    cohorts = toy.toy_cohorts(3)
    events = run_toy(tmp_path, toy.start_no_memory, cohorts)
    unlucky = cohorts[1].runs[1]
    assert unlucky.seed == 5
    assert failures(events) == {unlucky.run_id: "MemoryError: out of memory; tried 5 times"}
    assert len(list(tmp_path.glob("attempt.*"))) == MAX_ATTEMPTS
    assert Store(tmp_path).run_ids() == {run.run_id for c in cohorts for run in c.runs} - {unlucky.run_id}


def test_run_that_kills_its_worker_is_given_up_after_five_deaths(tmp_path):
    cohorts = toy.toy_cohorts(3)
    events = run_toy(tmp_path, toy.start_killed_with_seed_5, cohorts)
    assert list(failures(events)) == [cohorts[1].runs[1].run_id]
    assert "SIGKILL" in failures(events)[cohorts[1].runs[1].run_id]
    assert len(list(tmp_path.glob("death.*"))) == MAX_ATTEMPTS


def test_exception_of_one_run_is_cornered(tmp_path):
    cohorts = toy.toy_cohorts(3)
    events = run_toy(tmp_path, toy.start_raising_with_seed_5, cohorts)
    assert failures(events) == {cohorts[1].runs[1].run_id: "ArithmeticError: seed 5 is unlucky; tried 3 times"}


def test_exception_of_every_run_is_soon_believed(tmp_path):
    cohorts = toy.toy_cohorts(12)
    events = run_toy(tmp_path, toy.start_always_raising, cohorts, cores=TWO[:1])
    assert len(failures(events)) == 12 * 4
    assert set(failures(events).values()) <= {
        f"TypeError: a bug in every cohort; tried {n}" for n in ("once", "2 times", "3 times")
    }
    assert len(list(tmp_path.glob("attempt.*"))) < 12 + 3 * MAX_ATTEMPTS


def test_worker_that_cannot_start_ends_the_sweep_with_its_reason(tmp_path):
    with pytest.raises(CannotContinue, match=r"^no worker can start \(ImportError: no module named"):
        run_toy(tmp_path, toy.start_broken, toy.toy_cohorts(10))


def test_an_operating_system_s_error_at_the_start_is_told_too(tmp_path):
    with pytest.raises(CannotContinue, match=r"^no worker can start \(.*permission denied: .names\.txt"):
        run_toy(tmp_path, toy.start_unreadable, toy.toy_cohorts(1))


def test_worker_that_ends_without_a_word_is_replaced(tmp_path):
    cohorts = toy.toy_cohorts(3)
    events = run_toy(tmp_path, toy.start_ending, cohorts)
    assert failures(events) == {}
    assert Store(tmp_path).run_ids() == {run.run_id for cohort in cohorts for run in cohort.runs}


def test_worker_that_is_killed_at_every_start_ends_after_bounded_tries(tmp_path):
    (cohort,) = toy.toy_cohorts(1, n_runs=1)
    events = run_toy(tmp_path, toy.start_dying_at_start, [cohort])
    assert list(failures(events)) == [cohort.runs[0].run_id]
    assert len(list(tmp_path.glob("death.*"))) == MAX_ATTEMPTS


def test_a_signal_without_a_name_is_told_by_its_number(tmp_path):
    (cohort,) = toy.toy_cohorts(1, n_runs=1)
    (reason,) = failures(run_toy(tmp_path, toy.start_killed_by_an_odd_signal, [cohort])).values()
    assert f"its process died (signal {signal.SIGRTMIN + 3})" in reason


@processes.needs_proc
def test_a_worker_killed_while_it_is_idle_is_replaced(tmp_path):
    """The only worker dies between two cohorts: the second one is given to another process, and loses nothing."""
    cohorts, events = toy.toy_cohorts(2), []
    for event in execute(cohorts, Job("", tmp_path, start=toy.start_toy), TWO[:1]):
        events.append(event)
        if event.rows and len(Store(tmp_path).run_ids()) == 4:
            (worker,) = processes.workers(os.getpid())
            os.kill(worker, signal.SIGKILL)
            processes.wait_until(lambda pid=worker: not processes.alive(pid))
    assert failures(events) == {}
    assert Store(tmp_path).run_ids() == {run.run_id for cohort in cohorts for run in cohort.runs}


CALLER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
with open("calls", "a") as file:
    file.write("called ")
from experiments.runner.local_executor import execute
from experiments.runner.worker import Job
from tests import toy
events = list(execute(toy.toy_cohorts(2), Job("", Path("out"), start=toy.start_telling_where), {cores}))
print(sum(len(event.rows) for event in events))
"""


def test_a_caller_without_a_main_guard_in_another_folder_is_run_once(tmp_path):
    """Not even a module in that folder that hides one of Python's is found, unless the caller's own path has it."""
    there, script = tmp_path / "there", tmp_path / "scripts" / "caller.py"
    (there / "out").mkdir(parents=True)
    (there / "experiments").mkdir()
    (there / "experiments" / "__init__.py").write_text("raise ImportError('of another project')")
    (there / "random.py").write_text("raise ImportError('not that one')")
    script.parent.mkdir()
    script.write_text(CALLER.format(root=str(Path(__file__).parents[1]), cores=TWO))
    done = subprocess.run([sys.executable, str(script)], cwd=there, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
    assert (there / "calls").read_text() == "called "
    assert (there / "out" / "cwd").read_text() == str(there)
    assert Path((there / "out" / "random").read_text()).parent != there


@processes.needs_proc
@pytest.mark.parametrize("to_group", [False, True], ids=["its parent alone", "the whole group"])
def test_a_killed_caller_without_a_main_guard_leaves_no_worker(tmp_path, to_group):
    script = tmp_path / "caller.py"
    (tmp_path / "out").mkdir()
    content = CALLER.format(root=str(Path(__file__).parents[1]), cores=TWO).replace(
        "toy_cohorts(2)", "toy_cohorts(200)"
    )
    script.write_text(f"import os; os.chdir({str(tmp_path)!r})\n{content}")
    with processes.started(str(script)) as process:
        processes.wait_until(lambda: len(processes.workers(process.pid)) == 2)
        pids = processes.children(process.pid)
        (os.killpg if to_group else os.kill)(process.pid, signal.SIGKILL)
        processes.wait_until(lambda: not any(processes.alive(pid) for pid in pids))


@processes.needs_proc
def test_ctrl_c_to_the_whole_group_while_workers_start_is_theirs_to_ignore(tmp_path):
    """Python itself would end a process that is still importing: signals are blocked until the worker ignores them."""
    with processes.started("-m", "tests.toy", str(tmp_path)) as process:
        processes.wait_until(lambda: len(processes.workers(process.pid)) == 2)
        pids = processes.children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=processes.PATIENCE_SECONDS)
        assert (process.returncode, errors) == (130, "")
        processes.wait_until(lambda: not any(processes.alive(pid) for pid in pids))
    assert Store(tmp_path).rows().damaged == ()


def test_full_disk_ends_the_sweep_with_the_stores_own_words(tmp_path):
    with pytest.raises(CannotContinue, match="no space left; free some"):
        run_toy(tmp_path, toy.start_full, toy.toy_cohorts(10))


def test_storage_that_fails_once_is_tried_again_whole(tmp_path):
    (cohort,) = toy.toy_cohorts(1)
    events = run_toy(tmp_path, toy.start_stale_once, [cohort])
    assert [len(event.rows) for event in events if event.rows] == [4]


def test_stopping_saves_what_is_begun_and_starts_no_more(tmp_path):
    cohorts, seen = toy.toy_cohorts(30), []
    for event in execute(cohorts, Job("", tmp_path, start=toy.start_toy), TWO, lambda: len(seen) > 20):
        seen.append(event)
    in_progress = Store(tmp_path).started()
    assert 0 < len(Store(tmp_path).run_ids()) < 120
    assert 1 <= len(in_progress) <= 2
    assert all(0 < metadata["step"] <= toy.N_STEPS for metadata in in_progress.values())


# The rules alone, without processes.


def settle(cohort: Cohort, fault_of) -> tuple[list[Progress], int]:
    """Run a ledger to its end, where `fault_of(cohort, attempt)` is a fault or None."""
    ledger, events, n_tries = Ledger([cohort], lambda _: None), [], 0
    while ledger.pending:
        task = ledger.pending.popleft()
        n_tries += 1
        fault = fault_of(task.cohort, task.attempt)
        events += ledger.note(task, (STEPS, 7))
        events += ledger.note(
            task, (FAILED, Failure(fault, "why")) if fault else (DONE, [{"n": len(task.cohort.runs)}])
        )
    return events, n_tries


@pytest.mark.parametrize("fault", [Fault.DEATH, Fault.MEMORY, Fault.STORAGE, Fault.ERROR])
@pytest.mark.parametrize("n_runs", [1, 3, 16])
def test_every_fault_ends_after_bounded_tries_and_loses_no_run(fault, n_runs):
    (cohort,) = toy.toy_cohorts(1, n_runs=n_runs)
    events, n_tries = settle(cohort, lambda *_: fault)
    failed = [run.run_id for event in events if event.failure for run in event.cohort.runs]
    assert sorted(failed) == sorted(run.run_id for run in cohort.runs)
    assert n_tries <= 2**MAX_ATTEMPTS
    assert sum(event.model_steps for event in events) == 0  # Lost steps are taken back.


def test_first_death_repeats_the_cohort_whole_and_later_ones_halve_it():
    (cohort,) = toy.toy_cohorts(1, n_runs=8)
    tried = []
    settle(
        cohort, lambda piece, attempt: tried.append(len(piece.runs)) or (Fault.DEATH if len(piece.runs) > 4 else None)
    )
    assert tried == [8, 8, 4, 4]


def test_failed_task_that_is_in_the_store_is_done():
    (cohort,) = toy.toy_cohorts(1)
    ledger = Ledger([], lambda _: [{"run_id": "stored"}])
    (event,) = ledger.note(Task(cohort), (FAILED, Failure(Fault.DEATH, "why")))
    assert event.rows == ({"run_id": "stored"},)
    assert not ledger.pending


def test_workers_compile_different_programs_first():
    narrow, wide = ([Cohort((RunConfig(hidden_size=h, seed=s),), 1.0) for s in range(3)] for h in (100, 200))
    ledger = Ledger([*narrow, *wide], lambda _: None)
    first = ledger.next_task([])
    second = ledger.next_task([first])
    assert (first.cohort, second.cohort) == (narrow[0], wide[0])
    third = ledger.next_task([first, second])  # Nobody is left to compile anything else.
    assert third.cohort == narrow[1]
    list(ledger.note(second, (DONE, [])))
    assert ledger.next_task([first, third]).cohort == wide[1]  # Whose program is done; the other one's is not.
    list(ledger.note(first, (DONE, [])))
    assert [ledger.next_task([third]).cohort for _ in range(2)] == [narrow[2], wide[2]]  # Longest first again.


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), Failure(Fault.MEMORY, "MemoryError")),
        (RuntimeError("RESOURCE_EXHAUSTED: x"), Failure(Fault.MEMORY, "RuntimeError: RESOURCE_EXHAUSTED: x")),
        (ValueError("first\nsecond"), Failure(Fault.ERROR, "ValueError: first")),
        (ValueError("\n \n"), Failure(Fault.ERROR, "ValueError")),
        (OSError(28, "DIR: no space left"), Failure(Fault.UNWRITABLE, "DIR: no space left")),
        (OSError(5, "input/output error"), Failure(Fault.STORAGE, "OSError: input/output error")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exceptions_are_told_in_one_line(error, failure):
    assert failure_of(error) == failure


@pytest.mark.parametrize("number", [28, 122, 30, 13])
def test_full_and_forbidden_storage_is_hopeless(number):
    assert failure_of(OSError(number, "DIR: remedy")).fault is Fault.UNWRITABLE


def test_a_cohort_that_was_halved_leaves_no_checkpoint(tmp_path):
    (cohort,) = toy.toy_cohorts(1, n_runs=8)
    store = Store(tmp_path)
    store.save_checkpoint(cohort.cohort_id, {}, {"step": 1})
    run_toy(tmp_path, toy.start_memory_for_two, [cohort])
    assert store.started() == {}
    assert len(store.run_ids()) == 8


def test_a_cohort_that_is_tried_again_whole_keeps_its_checkpoint():
    (cohort,), forgotten = toy.toy_cohorts(1), []
    ledger = Ledger([], lambda _: None, forgotten.append)
    list(ledger.note(Task(cohort), (FAILED, Failure(Fault.DEATH, "why"))))
    assert (forgotten, len(ledger.pending)) == ([], 1)
    list(ledger.note(ledger.pending.popleft(), (FAILED, Failure(Fault.DEATH, "why"))))
    assert (forgotten, len(ledger.pending)) == ([cohort], 2)
