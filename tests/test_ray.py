"""The Ray executor, with a toy train function and a cluster on this machine: the rules of the local one, and faults."""

# ruff: noqa: F401, F811  (a fixture of another test module)

import importlib.util
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import processes, toy
from tests.objects import address
from tests.test_reliability import contents

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install 'mlp-lm[ray]'", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own.

from experiments.runner.ray_executor import TASKS_PER_SLOT, from_anywhere, on_ray  # noqa: E402
from experiments.runner.worker import Job  # noqa: E402
from experiments.store import Store  # noqa: E402


@pytest.fixture(scope="module")
def cluster(address):
    """A node with two processors beside the driver's, which has no work to do; the environment leads to a bucket."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("local"))
    for cohort in toy.toy_cohorts():
        toy.train_toy(store, cohort, toy.Hooks())
    return contents(store.root)


def run(folder, start=toy.start_toy, cohorts=None, stopping=lambda: False, at=lambda n: None):
    """All events of a toy sweep; `at(n)` is called before each look at the n-th cohort that is done."""
    events = []
    for event in on_ray()(cohorts or toy.toy_cohorts(), Job("", folder, start=start), (0, 1), stopping):
        events.append(event)
        if event.rows:
            at(sum(bool(e.rows) for e in events))
    return events


def test_no_cluster_at_an_address_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        list(on_ray("127.0.0.1:1")(toy.toy_cohorts(1), Job("", tmp_path, start=toy.start_toy), (0,), lambda: False))


def test_a_sweep_on_ray_is_the_local_one(cluster, tmp_path, uninterrupted):
    events = run(tmp_path)
    assert contents(tmp_path) == uninterrupted
    assert sum(event.model_steps for event in events) <= 40 * 4 * toy.N_STEPS
    counts = Counter(row["run_id"] for event in events for row in event.rows)
    assert counts == Counter(dict.fromkeys(uninterrupted, 1))


def test_tasks_write_to_a_bucket_themselves(cluster, address, uninterrupted):
    place = address()
    run(place)
    assert contents(place) == uninterrupted


def test_tasks_are_told_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("anna\n")
    for name in ("ssa2018", "small"):
        (tmp_path / name).write_text("not this\n")  # The name of a list or text goes before a file's.
    (tmp_path / "brown-folder").mkdir()
    for data, expected in {
        "words.txt": str(tmp_path / "words.txt"),
        "text:words:words.txt": f"text:words:{tmp_path / 'words.txt'}",
        "text:closed:brown-folder": f"text:closed:{tmp_path / 'brown-folder'}",
        "ssa2018": "ssa2018",
        "text:training:small": "text:training:small",
        "missing.txt": str(tmp_path / "missing.txt"),
    }.items():
        assert from_anywhere(Job(data, Path("out"))) == Job(expected, tmp_path / "out")
    assert from_anywhere(Job("ssa2018", "s3://bucket/x")).root == "s3://bucket/x"


def test_accelerators_that_the_cluster_has_not_are_refused(cluster, tmp_path):
    with pytest.raises(ValueError, match="this Ray cluster has no GPU"):
        list(on_ray()(toy.toy_cohorts(1), Job("", tmp_path, start=toy.start_toy, device="gpu"), (0,), lambda: False))


def test_where_memory_runs_out_fewer_tasks_go_on(cluster, tmp_path):
    cohorts = toy.toy_cohorts(12)
    events = run(tmp_path, toy.start_memory_for_one, cohorts)
    assert not any(event.failure for event in events)
    assert Store(tmp_path).run_ids() == {run.run_id for cohort in cohorts for run in cohort.runs}
    # Of two processors: those in flight at the first one, and no more.
    assert 1 <= len(list(tmp_path.glob("collision.*"))) <= 2 * TASKS_PER_SLOT


def test_exceptions_and_memory_are_met_as_locally(cluster, tmp_path):
    cohorts = toy.toy_cohorts(3)
    for name in ("memory", "error"):
        (tmp_path / name).mkdir()
    events = run(tmp_path / "memory", toy.start_no_memory, cohorts)
    assert [e.failure for e in events if e.failure] == ["MemoryError: out of memory; tried 5 times"]
    events = run(tmp_path / "error", toy.start_raising_with_seed_5, cohorts)
    assert [e.failure for e in events if e.failure] == ["ArithmeticError: seed 5 is unlucky; tried 3 times"]
    assert len(Store(tmp_path / "error").run_ids()) == 11


def test_stopping_saves_checkpoints_and_ends(cluster, tmp_path, uninterrupted):
    stop = []
    run(tmp_path, stopping=lambda: bool(stop), at=lambda n: stop.append(n))
    assert 4 <= len(Store(tmp_path).run_ids()) < 160
    run(tmp_path, cohorts=[c for c in toy.toy_cohorts() if c.runs[0].run_id not in Store(tmp_path).run_ids()])
    assert contents(tmp_path) == uninterrupted


def kill_a_worker(folder, uninterrupted) -> None:
    def kill(n: int) -> None:
        if n == 3:
            (folder / "kill").touch()

    events = run(folder, toy.start_killed_on_request, at=kill)
    assert (folder / "death.0").exists()
    assert not [event.failure for event in events if event.failure]
    assert contents(folder) == uninterrupted


def kill_a_node(cluster, folder, uninterrupted) -> None:
    node = cluster.add_node(num_cpus=2)

    def kill(n: int) -> None:
        if n == 3:
            cluster.remove_node(node, allow_graceful=False)

    events = run(folder, at=kill)
    assert not [event.failure for event in events if event.failure]
    assert contents(folder) == uninterrupted


def kill_the_driver(folder, uninterrupted) -> None:
    with processes.started("-m", "tests.toy", str(folder), "2", "ray") as process:
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline().startswith("done"), process.stderr.read()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=processes.PATIENCE_SECONDS)
    time.sleep(1.0)  # Its tasks may still write; two writers of one cohort write the same.
    run(folder, cohorts=[c for c in toy.toy_cohorts() if c.runs[0].run_id not in Store(folder).run_ids()])
    assert contents(folder) == uninterrupted


def test_a_killed_worker(cluster, tmp_path, uninterrupted):
    kill_a_worker(tmp_path, uninterrupted)


@pytest.mark.long
def test_a_killed_node(cluster, tmp_path, uninterrupted):
    kill_a_node(cluster, tmp_path, uninterrupted)


@pytest.mark.long
def test_a_killed_driver(cluster, tmp_path, uninterrupted):
    kill_the_driver(tmp_path, uninterrupted)


@pytest.mark.long
@pytest.mark.parametrize("time_", range(4))
def test_more_kills(cluster, tmp_path, uninterrupted, time_):
    for name in ("worker", "node", "driver"):
        (tmp_path / name).mkdir()
    kill_a_worker(tmp_path / "worker", uninterrupted)
    kill_a_node(cluster, tmp_path / "node", uninterrupted)
    kill_the_driver(tmp_path / "driver", uninterrupted)
