"""No change of the code changes a run: losses and weights are those that were recorded, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import CONFIGS, golden_config, machine

RECORDED = json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))
ROUNDING = 2e-6  # Nats per token, between two kinds of processor.


@pytest.fixture(scope="module")
def measured():
    """In a process of its own, single-threaded as a sweep's workers are."""
    command = [sys.executable, "-m", "tests.golden"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)["runs"]


def test_every_configuration_is_recorded():
    assert RECORDED["runs"].keys() == CONFIGS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_run_ids_stay(name):
    assert golden_config(name).run_id == RECORDED["runs"][name]["run_id"]


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_stay_to_rounding_on_any_processor(measured, name):
    ours, theirs = (runs[name]["losses"] for runs in (measured, RECORDED["runs"]))
    assert {part: float.fromhex(loss) for part, loss in ours.items()} == pytest.approx(
        {part: float.fromhex(loss) for part, loss in theirs.items()}, rel=0, abs=ROUNDING
    )


@pytest.mark.skipif(machine() != RECORDED["machine"], reason=f"bits were recorded on {RECORDED['machine']}")
@pytest.mark.parametrize("name", CONFIGS)
def test_bits_stay_on_this_kind_of_processor(measured, name):
    assert measured[name] == RECORDED["runs"][name]
