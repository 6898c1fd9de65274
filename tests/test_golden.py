"""No change of the code changes a run: losses and weights are those that were recorded, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import CONFIGS, golden_config, machine

RECORDED = json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))
ROUNDING = 2e-6  # Nats per token, between two kinds of processor.


@pytest.mark.parametrize("name", CONFIGS)
def test_run_ids_stay(name):
    assert golden_config(name).run_id == RECORDED["runs"][name]["run_id"]


def test_losses_stay_to_rounding_and_bits_on_the_same_kind_of_processor():
    """One test for all runs, trained by one process, which is single-threaded as a sweep's workers are."""
    assert RECORDED["runs"].keys() == CONFIGS.keys()
    command = [sys.executable, "-m", "tests.golden"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    measured = json.loads(done.stdout)["runs"]
    assert {name: losses(measured[name]) for name in CONFIGS} == {
        name: pytest.approx(losses(RECORDED["runs"][name]), rel=0, abs=ROUNDING) for name in CONFIGS
    }
    if machine() == RECORDED["machine"]:
        assert measured == RECORDED["runs"]


def losses(run: dict) -> dict[str, float]:
    return {part: float.fromhex(loss) for part, loss in run["losses"].items()}
