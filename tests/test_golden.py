"""No change of the code changes a run: losses and weights are those that were recorded, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import CONFIGS, golden_config, machine, recorded

RECORDED = recorded()
ROUNDING = 1e-5  # Nats per token, between two kinds of processor, of which training at a high rate may amplify it.


@pytest.mark.parametrize("name", CONFIGS)
def test_run_ids_stay(name):
    assert {golden_config(name).run_id} == {record["runs"][name]["run_id"] for record in RECORDED}


def test_losses_stay_to_rounding_and_bits_on_the_same_kind_of_processor():
    """One test for all runs, trained by one process, which is single-threaded as a sweep's workers are."""
    command = [sys.executable, "-m", "tests.golden"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    (here,) = json.loads(done.stdout)
    for record in RECORDED:
        assert record["runs"].keys() == CONFIGS.keys()
        assert {name: losses(here["runs"][name]) for name in CONFIGS} == {
            name: pytest.approx(losses(record["runs"][name]), rel=0, abs=ROUNDING) for name in CONFIGS
        }
        if machine() == record["machine"]:
            assert here["runs"] == record["runs"]


def losses(run: dict) -> dict[str, float]:
    return {part: float.fromhex(loss) for part, loss in run["losses"].items()}
