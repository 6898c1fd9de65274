"""Sweeps into an object store, through the command line: the same results, and one line for each fault."""

# ruff: noqa: F401, F811  (a fixture of another test module)

import contextlib
import http.server
import json
import os
import signal
import threading

import pytest

from experiments import fetch
from experiments.report.__main__ import main as report_main
from experiments.runner import trainer as training
from experiments.store import Store, mirror
from experiments.store.manifest import cohort_ids, data_names
from experiments.store.small_files import write_failures
from mlp_lm.config import CPU_RUNS
from mlp_lm.data.dataset import load_dataset
from tests import processes
from tests.cli import assert_one_line, sweep
from tests.objects import address
from tests.test_reliability import contents as toy_contents
from tests.test_reliability import finish
from tests.test_reliability_folders import FAST
from tests.test_reliability_training import SMALL, Cohort, Hooks, Stopped, contents, replace

TWO = (*FAST, "--batch-size", "32", "64")  # Two programs, and so two cohorts.
DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)


@pytest.fixture(scope="module")
def swept(address, tmp_path_factory):
    """The address of a finished sweep, and the folder of this machine that it was copied to."""
    place, here = address(), tmp_path_factory.mktemp("swept") / "here"
    said = sweep(*TWO, "--out", place, "--fetch-to", str(here))
    assert (said.code, said.complaints) == (0, "")
    assert f"{place} is copied to {here}" in said.output
    return place, here


def test_a_sweep_into_a_bucket_is_the_one_into_a_folder(swept, tmp_path):
    place, here = swept
    assert sweep(*TWO, "--out", str(tmp_path)).code == 0
    assert contents(Store(place)) == contents(Store(here)) == contents(Store(tmp_path))
    assert len(contents(Store(place))) == 2


def test_a_bucket_belongs_to_one_dataset(swept):
    said = sweep("smoke", "--out", swept[0], "--shard", "1/2")
    assert_one_line(said, "holds a sweep on other data", "give another --out")


def test_tables_and_pages_lie_in_the_bucket_too(swept):
    place, here = swept
    folder = Store(place).folder
    for name in ("tables/summary.md", "tables/summary.csv", "report.html", "request.json"):
        assert folder.read(name) == (here / name).read_bytes()
    assert folder.names("figures") == sorted(path.name for path in (here / "figures").iterdir())
    assert folder.names("") == sorted(path.name for path in here.iterdir() if path.is_file() and path.name != ".lock")


def test_fetch_brings_a_sweep_to_another_machine_and_later_only_what_is_new(swept, tmp_path, capsys):
    place, here = swept
    assert fetch.main([place, str(tmp_path)]) == 0
    assert contents(Store(tmp_path)) == contents(Store(here))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("weights/*")}
    assert len(before) == 2
    (tmp_path / "report.html").unlink()
    assert fetch.main([place, str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("weights/*")} == before
    assert report_main([str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_damage_is_set_aside_and_the_same_command_trains_just_that(address, swept, tmp_path, capsys):
    store = Store(address())
    mirror.fetch(Store(swept[0]), store)
    whole, name = contents(store), data_names(store.folder, "weights", cohort_ids(store.folder, "manifests")[0])[0]
    store.folder.put(name, store.folder.read(name)[:-1])
    assert fetch.main([store.location, str(tmp_path / "other")]) == 0
    message = f"{store.location}/{name} does not match its checksum: set aside in {store.location}/damaged/"
    assert message in capsys.readouterr().err
    left = contents(store)
    assert len(left) == 1
    assert ": 2 runs, 1 to train" in sweep(*TWO, "--out", store.location, "--dry-run").output
    assert sweep(*TWO, "--out", store.location, "--fetch-to", str(tmp_path / "here")).code == 0
    assert contents(store) == contents(Store(tmp_path / "here")) == whole


def test_failures_are_forgotten_once_their_runs_are_done(swept):
    place, here = swept
    failed = dict.fromkeys(Store(place).run_ids(), "it was a bad day")
    for store in (Store(place), Store(here)):
        write_failures(store, failed)
    said = sweep(*TWO, "--out", place, "--fetch-to", str(here))
    assert (said.code, said.complaints) == (0, "")
    assert not {"failures.json"} & {*Store(place).folder.names(""), *Store(here).folder.names("")}


def test_a_table_that_an_analysis_drops_goes_from_the_bucket_too(swept):
    place, here = swept
    for name in ("tables/differences.csv", "tables/my_own.csv"):
        Store(place).folder.put(name, b"study\n")
    assert sweep(*TWO, "--out", place, "--fetch-to", str(here)).code == 0
    names = Store(place).folder.names("tables")
    assert "my_own.csv" in names and "differences.csv" not in names  # The grid is balanced.


def test_fetch_of_nothing(address, tmp_path, capsys):
    assert fetch.main([address(), str(tmp_path / "x")]) == 2
    assert "has no finished run" in capsys.readouterr().err


def test_slices_meet_in_a_bucket_and_need_no_folder_here(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = address()
    for number in (1, 2):
        said = sweep(*TWO, "--out", place, "--shard", f"{number}/2")
        assert (said.code, said.complaints) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert ": 2 runs, 0 to train" in sweep(*TWO, "--out", place, "--dry-run").output


def test_a_real_cohort_resumes_from_its_checkpoint_in_a_bucket(address, few_dataset, tmp_path, monkeypatch):
    dataset = few_dataset
    monkeypatch.setattr(training, "next_stretch", lambda steps, seconds: 25)
    cohort = Cohort(tuple(replace(SMALL, seed=seed) for seed in range(6)), 1.0, CPU_RUNS)
    local, remote, n_stops = Store(tmp_path / "local"), Store(address()), 0
    training.train_cohort(cohort, dataset, local)
    while not remote.run_ids():
        try:
            training.train_cohort(cohort, dataset, remote, Hooks(should_stop=lambda: True))
        except Stopped:
            n_stops += 1
    assert n_stops == 11  # As into a folder.
    assert contents(remote) == contents(local)
    assert remote.started() == {}


@processes.needs_proc
def test_a_sweep_killed_and_resumed_in_a_bucket_is_whole(address, tmp_path):
    finish(tmp_path)
    place = address()
    with processes.started("-m", "tests.toy", place) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(5):
            assert process.stdout.readline().startswith("done")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=processes.PATIENCE_SECONDS)
    assert 20 <= len(toy_contents(place)) < 160
    finish(place)
    assert toy_contents(place) == toy_contents(tmp_path)


ADDRESSES = {
    "hdfs://x/y": "neither a folder nor s3://BUCKET/PREFIX",
    "https://x/y": "neither a folder nor",
    "s3:/bucket/x": "names no bucket",
    "s3://": "names no bucket",
    "s3:///x": "names no bucket",
    "s3://UPPER/x": "names no bucket",
    "s3://key:secret@bucket/x": "credentials do not belong in an address",
    "s3://bucket/../x": "plain letters",
    "s3://bucket/a//b": "plain letters",
    "s3://bucket/a b": "plain letters",
    "s3://bucket/\x1b[31m": "plain letters",
    "s3://bucket/x#y": "plain letters",
    "s3://bucket/x?nonsense=1": "unknown option 'nonsense'; known: endpoint_override, region, scheme",
    "gs://bucket/x?region=1": "unknown option 'region'",
    "az://container/x?key=1": "unknown option 'key'; known: account",
}


@pytest.mark.parametrize("place", ADDRESSES)
def test_addresses_that_cannot_be(place):
    assert_one_line(sweep(*FAST, "--out", place), "--out", ADDRESSES[place])


def test_flags_that_contradict_each_other(tmp_path):
    assert_one_line(sweep(*FAST, "--fetch-to", str(tmp_path)), "--fetch-to is for --out s3://")
    assert_one_line(sweep(*FAST, "--out", str(tmp_path), "--fetch-to", str(tmp_path)), "--fetch-to is for")
    assert_one_line(sweep(*FAST, "--device", "tpu", "--executor", "ray"), "--executor ray trains on cores and GPUs")


def test_a_bucket_that_is_not_there_is_told_before_anything_is_trained(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = address().replace("bucket", "no-such-bucket")
    assert_one_line(sweep(*FAST, "--out", place), f"{place}: there is no such bucket; create it or name another one")
    assert list(tmp_path.iterdir()) == []


class Refusing(http.server.BaseHTTPRequestHandler):
    """What Amazon answers to those who may not."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(DENIED)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(DENIED)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def refusing():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_credentials_that_do_not_suffice_are_told(address, tmp_path):
    with refusing() as endpoint:
        place = f"s3://bucket/x?endpoint_override={endpoint}&scheme=http"
        message = "s3://bucket/x: access is denied; set credentials as the cloud's own tools take them"
        assert_one_line(sweep(*FAST, "--out", place, "--fetch-to", str(tmp_path / "x")), message)
        assert_one_line(sweep(*FAST, "--out", place, "--dry-run"), message)


def test_a_server_that_is_not_there_is_told(address, tmp_path):
    place = "s3://bucket/x?endpoint_override=127.0.0.1:1&scheme=http"
    assert_one_line(sweep(*FAST, "--out", place), "s3://bucket/x: out of reach (", "check address and network")


def test_googles_store_out_of_reach_is_told(monkeypatch):
    key = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}  # As for an emulator.
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key))
    place = "gs://bucket/x?endpoint_override=127.0.0.1:1&scheme=http"
    parts = ("gs://bucket/x: out of reach (", "check address and network")
    assert_one_line(sweep(*FAST, "--out", place), *parts)
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT_KEY")
    assert_one_line(sweep(*FAST, "--out", f"{place}&anonymous=true", "--dry-run"), *parts)


def test_azures_store_out_of_reach_and_without_an_account_is_told(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    remedy = "az://container/x: the storage account is missing; set AZURE_STORAGE_ACCOUNT_NAME or add ?account=NAME"
    assert_one_line(sweep(*FAST, "--out", "az://container/x"), remedy)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    place = "az://container/x?account=somebody"
    assert_one_line(sweep(*FAST, "--out", place), "az://container/x: out of reach (", "check address and network")
