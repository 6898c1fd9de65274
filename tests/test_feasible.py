"""What cannot be trained is refused before anything starts, by what stands side by side."""

import pytest

from mlp_lm.data.material import load_data, load_material, text_source
from experiments.runner.feasible import TRAINED_COPIES, check_feasible, weight_bytes
from experiments.runner.plan import block_width
from experiments.sweeps.grids import RunSpec

NAMES = load_material("ssa2018")
TEXT = load_data(text_source("small", "training"))
N_WORDS = 99
BIG_BATCH = RunSpec(batch_size=64, hidden_size=20_000)
SMALL_BATCH = RunSpec(batch_size=32, hidden_size=19_500)  # Lighter, but twice as many train side by side.


def widths(run):
    return block_width(run, 256, 27)


def test_what_decides_is_the_memory_of_all_that_train_side_by_side(monkeypatch):
    needs = [TRAINED_COPIES * widths(run) * weight_bytes(run, 27) for run in (BIG_BATCH, SMALL_BATCH)]
    assert needs[0] < needs[1]
    monkeypatch.setattr("experiments.runner.feasible.machine_memory", lambda: sum(needs) // 2)
    check_feasible([BIG_BATCH], NAMES, 1, widths)
    for runs in ([SMALL_BATCH], [BIG_BATCH, SMALL_BATCH], [SMALL_BATCH, BIG_BATCH]):
        with pytest.raises(ValueError, match=r"hidden_size 19500, .* 256 runs side by side need .* GiB"):
            check_feasible(runs, NAMES, 1, widths)
    with pytest.raises(ValueError, match="hidden_size 20000"):
        check_feasible([BIG_BATCH], NAMES, 2, widths)  # Two workers have half of it each.


def test_running_text_is_judged_by_its_own_size(monkeypatch):
    assert len(TEXT.vocabulary) == N_WORDS
    check_feasible([RunSpec(batch_size=TEXT.size.n_windows)], TEXT, 1, lambda run: 1)
    with pytest.raises(ValueError, match=f"exceeds the {TEXT.size.n_windows} training windows of small"):
        check_feasible([RunSpec(batch_size=TEXT.size.n_windows + 1)], TEXT, 1, lambda run: 1)
    monkeypatch.setattr("experiments.runner.feasible.machine_memory", lambda: 8 * TEXT.n_tokens * 10)
    check_feasible([RunSpec(block_size=10, hidden_size=1)], TEXT, 1, lambda run: 1)
    with pytest.raises(ValueError, match=f"block_size 11 makes {TEXT.n_tokens:,} windows"):
        check_feasible([RunSpec(block_size=11, hidden_size=1)], TEXT, 1, lambda run: 1)
