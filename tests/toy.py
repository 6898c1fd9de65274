"""A train function without JAX, and faults to inject into it: what executors do does not depend on what is trained.

A toy run is a chain of hashes, one a step, so that a step lost, done twice or done in the wrong place changes its
numbers. `python -m tests.toy FOLDER` runs the toy sweep as a process of its own.
"""

import functools
import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from experiments.runner.interrupt import Interruption
from experiments.runner.local_executor import execute
from experiments.runner.plan import Cohort
from experiments.runner.protocol import Hooks, Rows, Stopped, Train
from experiments.runner.worker import Job
from experiments.store import Store, parse_location
from mlp_lm.config import RunConfig
from tests import processes

N_STEPS = 8
STEP_SECONDS = 0.002


def toy_cohorts(n_cohorts: int = 40, n_runs: int = 4) -> list[Cohort]:
    runs = [RunConfig(n_steps=N_STEPS, n_evaluations=1, seed=i) for i in range(n_cohorts * n_runs)]
    return [Cohort(tuple(runs[i : i + n_runs]), 1.0) for i in range(0, len(runs), n_runs)]


def start_toy(job: Job) -> Train:
    return functools.partial(train_toy, Store(job.root))


def train_toy(store: Store, cohort: Cohort, hooks: Hooks) -> Rows:
    """All runs of a cohort in step with each other, with a checkpoint after every step."""
    checkpoint = store.load_checkpoint(cohort.cohort_id)
    first = checkpoint.metadata["step"] if checkpoint else 0
    state = [checkpoint.tensors["state"][i].tobytes() if checkpoint else b"" for i in range(len(cohort.runs))]
    hooks.on_resume(first * len(cohort.runs))
    for step in range(first, N_STEPS):
        time.sleep(STEP_SECONDS)
        state = [_link(before, run, step) for before, run in zip(state, cohort.runs, strict=True)]
        store.save_checkpoint(cohort.cohort_id, _tensors(state), {"step": step + 1})
        hooks.on_steps(len(cohort.runs))
        if hooks.should_stop():
            raise Stopped
    rows = [_row(run, digest) for run, digest in zip(cohort.runs, state, strict=True)]
    store.write(cohort.cohort_id, rows, _tensors(state))
    return rows


def _link(before: bytes, run: RunConfig, step: int) -> bytes:
    return hashlib.sha256(before + f"{run.run_id} {step}".encode()).digest()


def _tensors(state: list[bytes]) -> dict[str, np.ndarray]:
    return {"state": np.stack([np.frombuffer(digest, np.uint8) for digest in state])}


def _row(run: RunConfig, digest: bytes) -> dict:
    return {"run_id": run.run_id, "dev_loss": float(digest[0]), "wall_seconds": time.monotonic()}


# Faults. Each is a `start` that workers import; a file in the store's folder counts what happened.


def _first_time(job: Job, what: str, times: int = 1) -> bool:
    for i in range(times):
        try:
            os.close(os.open(job.root / f"{what}.{i}", os.O_CREAT | os.O_EXCL))
            return True
        except FileExistsError:
            continue
    return False


def start_dying_after_write(job: Job) -> Train:
    """A worker that stores its first cohort and dies before it says so."""

    def train(cohort: Cohort, hooks: Hooks) -> Rows:
        rows = train_toy(Store(job.root), cohort, hooks)
        if _first_time(job, "death"):
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    return train


def start_dying_half_way(job: Job) -> Train:
    """A worker that is killed once in the middle of a cohort; each step done is counted in a file."""

    def train(cohort: Cohort, hooks: Hooks) -> Rows:
        done = []

        def on_steps(steps: int) -> None:
            _first_time(job, "step", times=1000)
            done.append(steps)
            if len(done) == N_STEPS // 2 and _first_time(job, "death"):
                os.kill(os.getpid(), signal.SIGKILL)
            hooks.on_steps(steps)

        return train_toy(Store(job.root), cohort, Hooks(on_steps, hooks.on_resume, hooks.should_stop))

    return train


def start_killed_on_request(job: Job) -> Train:
    """A worker that is killed once after the file `kill` has come to be."""

    def train(cohort: Cohort, hooks: Hooks) -> Rows:
        if (job.root / "kill").exists() and _first_time(job, "death"):
            os.kill(os.getpid(), signal.SIGKILL)
        return train_toy(Store(job.root), cohort, hooks)

    return train


def _faulty(fault):
    def start(job: Job) -> Train:
        def train(cohort: Cohort, hooks: Hooks) -> Rows:
            fault(cohort, job)
            return train_toy(Store(job.root), cohort, hooks)

        return train

    return start


def _memory_for_two(cohort: Cohort, job: Job) -> None:
    if len(cohort.runs) > 2:
        raise MemoryError("out of memory")


def _xla_memory_for_two(cohort: Cohort, job: Job) -> None:
    if len(cohort.runs) > 2:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.")


def _killed_above_two(cohort: Cohort, job: Job) -> None:
    if len(cohort.runs) > 2:
        os.kill(os.getpid(), signal.SIGKILL)


def _killed_beside_another(cohort: Cohort, job: Job) -> None:
    """Killed by the kernel unless it is the only one that trains: there is memory for one worker."""
    (job.root / f"training.{os.getpid()}").touch()
    time.sleep(0.05)
    others = {int(path.suffix[1:]) for path in job.root.glob("training.*")} - {os.getpid()}
    if any(map(processes.alive, others)):
        os.kill(os.getpid(), signal.SIGKILL)


def _killed_with_seed_5(cohort: Cohort, job: Job) -> None:
    if any(run.seed == 5 for run in cohort.runs):
        _first_time(job, "death", times=1000)
        os.kill(os.getpid(), signal.SIGKILL)


def _no_memory(cohort: Cohort, job: Job) -> None:
    if any(run.seed == 5 for run in cohort.runs):
        _first_time(job, "attempt", times=1000)
        raise MemoryError("out of memory")


def _raises_with_seed_5(cohort: Cohort, job: Job) -> None:
    _first_time(job, "attempt", times=1000)
    if any(run.seed == 5 for run in cohort.runs):
        raise ArithmeticError("seed 5 is unlucky\nand here is more")


def _always_raises(cohort: Cohort, job: Job) -> None:
    _first_time(job, "attempt", times=1000)
    raise TypeError("a bug in every cohort")


def _full(cohort: Cohort, job: Job) -> None:
    raise OSError(28, f"{job.root}: no space left; free some")


def _stale_once(cohort: Cohort, job: Job) -> None:
    if _first_time(job, "stale"):
        raise OSError(116, "stale file handle")


def start_memory_for_one(job: Job) -> Train:
    """A cohort that starts beside another one finds no memory left."""

    def train(cohort: Cohort, hooks: Hooks) -> Rows:
        others = list(job.root.glob("training.*"))
        own = job.root / f"training.{cohort.cohort_id}"
        own.touch()
        try:
            if others:
                _first_time(job, "collision", times=1000)
                raise MemoryError("out of memory")
            time.sleep(0.1)
            return train_toy(Store(job.root), cohort, hooks)
        finally:
            own.unlink()

    return train


# Module-level names, because a worker imports them by name.
start_memory_for_two = _faulty(_memory_for_two)
start_xla_memory_for_two = _faulty(_xla_memory_for_two)
start_killed_above_two = _faulty(_killed_above_two)
start_killed_beside_another = _faulty(_killed_beside_another)
start_killed_with_seed_5 = _faulty(_killed_with_seed_5)
start_no_memory = _faulty(_no_memory)
start_raising_with_seed_5 = _faulty(_raises_with_seed_5)
start_always_raising = _faulty(_always_raises)
start_full = _faulty(_full)
start_stale_once = _faulty(_stale_once)
for _name, _start in list(globals().items()):
    if _name.startswith("start_"):
        _start.__qualname__ = _name


def start_broken(job: Job) -> Train:
    raise ImportError("no module named 'jaxlib.of_another_python'")


def start_unreadable(job: Job) -> Train:
    raise PermissionError(13, "permission denied", "names.txt")


def start_ending(job: Job) -> Train:
    """A worker that ends without a word, as code of others may have it."""

    def train(cohort: Cohort, hooks: Hooks) -> Rows:
        if _first_time(job, "death"):
            os._exit(3)
        return train_toy(Store(job.root), cohort, hooks)

    return train


def start_dying_at_start(job: Job) -> Train:
    _first_time(job, "death", times=1000)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def start_killed_by_an_odd_signal(job: Job) -> Train:
    os.kill(os.getpid(), signal.SIGRTMIN + 3)  # Which has no name.
    raise AssertionError("unreachable")


def start_telling_where(job: Job) -> Train:
    """A worker that leaves its current folder, and where it found modules, in files."""
    import random

    (job.root / "cwd").write_text(str(Path.cwd()))
    (job.root / "random").write_text(str(random.__file__))
    return start_toy(job)


def main(folder: str, n_workers: str = "2", executor: str = "local") -> int:
    cores = (sorted(os.sched_getaffinity(0)) * int(n_workers))[: int(n_workers)]
    store, run = Store(parse_location(folder)), execute
    if executor == "ray":
        from experiments.runner.ray_executor import on_ray

        run = on_ray()
    with Interruption() as interruption, store.lock():
        done = store.run_ids()
        missing = [cohort for cohort in toy_cohorts() if cohort.runs[0].run_id not in done]
        print("ready", flush=True)
        with interruption.deferred():
            for event in run(missing, Job("", store.location, start=start_toy), cores, interruption.__bool__):
                if event.rows:
                    print("done", event.cohort.cohort_id, flush=True)
    return interruption.exit_code if interruption else 0


if __name__ == "__main__":
    from tests import toy  # Under this name workers can import what is started in them.

    sys.exit(toy.main(*sys.argv[1:]))
