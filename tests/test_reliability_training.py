"""What an interruption or a diverging neighbour may change in a real training: nothing."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner.rows import DIVERGED, DONE
from experiments.running import cohort as training
from experiments.runner.hooks import Hooks, Stopped
from experiments.runner.plan import Cohort
from experiments.sweeps.grids import RunSpec
from experiments.store import Store
from experiments.sweep import main
from mlp_lm.initializers import SCHEMES
from mlp_lm.model import Architecture
from mlp_lm.padding import stack_runs, take_run
from mlp_lm.training import Program, advance_block, draw_weights, evaluate_block, init_block, make_run

SMALL = RunSpec(hidden_size=8, embedding_dim=2, n_steps=120, n_evaluations=3)
VARIANTS = {
    "plain": SMALL,
    "momentum, plateau, batch norm": replace(SMALL, momentum=0.9, schedule="plateau", batch_norm=True),
}


@pytest.fixture(scope="module")
def word_list(few_words, tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(few_words))
    return str(path)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def cohort(request, monkeypatch):
    """Six runs, a block of four and one of two, looked at after 25 steps at most."""
    monkeypatch.setattr(training, "_next_segment", lambda steps, seconds: 25)
    return Cohort(tuple(replace(request.param, seed=seed) for seed in range(6)), 1.0)


def contents(store: Store) -> dict:
    """All that a store has of each run, but the wall time."""
    rows = store.rows().table.to_pylist()
    weights = {row["run_id"]: [a.tobytes() for _, a in sorted(store.weights(row).items())] for row in rows}
    return {row["run_id"]: (row | {"wall_seconds": 0}, weights[row["run_id"]]) for row in rows}


@pytest.fixture
def uninterrupted(cohort, word_list, tmp_path):
    store = Store(tmp_path / "uninterrupted")
    training.train_cohort(cohort, word_list, store)
    return contents(store)


def test_stopped_at_every_look_a_cohort_gets_the_same_bits(cohort, uninterrupted, word_list, tmp_path):
    store, n_stops, trained, resumed = Store(tmp_path / "stopped"), 0, [], []
    while not store.run_ids():
        hooks = Hooks(trained.append, resumed.append, lambda: True)
        try:
            training.train_cohort(cohort, word_list, store, hooks)
        except Stopped:
            n_stops += 1
            assert resumed[-1] == sum(trained[: len(resumed) - 1])  # Each look trains one segment.
    assert n_stops == 2 * 5  # In both blocks: at steps 40 (the first segment is 100), 65, 80, 105 and 120.
    assert sum(trained) == 6 * 120
    assert contents(store) == uninterrupted


@pytest.mark.parametrize("killed_at", [2, 5, 6, 9])
def test_killed_between_checkpoints_a_cohort_gets_the_same_bits(
    cohort, uninterrupted, word_list, tmp_path, monkeypatch, killed_at
):
    class Killed(BaseException):
        pass

    looks = []

    def die(steps: int) -> None:
        looks.append(steps)
        if len(looks) == killed_at:
            raise Killed

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    store = Store(tmp_path / "killed")
    with pytest.raises(Killed):
        training.train_cohort(cohort, word_list, store, Hooks(on_steps=die))
    resumed = []
    training.train_cohort(cohort, word_list, store, Hooks(on_resume=resumed.append))
    assert resumed == [sum(looks[:-1])]
    assert contents(store) == uninterrupted


@pytest.mark.parametrize("cohort", [SMALL], indirect=True)
@pytest.mark.parametrize("change", [{"rows": 3}, {"histories": [{"no such": 1}]}, {"step": None}, {}])
def test_checkpoint_of_another_program_is_left_alone(cohort, uninterrupted, word_list, tmp_path, change):
    store = Store(tmp_path / "older")
    with pytest.raises(Stopped):
        training.train_cohort(cohort, word_list, store, Hooks(should_stop=lambda: True))
    tensors, metadata = store.load_checkpoint(cohort.cohort_id)
    tensors = tensors if change else {name: array[:2] for name, array in tensors.items()}  # Of another width.
    store.save_checkpoint(cohort.cohort_id, tensors, metadata | change)
    training.train_cohort(cohort, word_list, store)
    assert contents(store) == uninterrupted


PROGRAM = Program(Architecture(27, 3, 2, 8), 32, "constant", momentum=False, weight_decay=False)
N_STEPS = 60


def start(rates: list[float]):
    params = [draw_weights(seed, SCHEMES["kaiming_tanh"], PROGRAM.architecture) for seed in range(4)]
    runs = stack_runs([make_run(seed, rate, 0.0, 0.0) for seed, rate in enumerate(rates)])
    return init_block(stack_runs(params), runs, PROGRAM), runs


def poison(states, place: int):
    return states.replace(params=jax.tree.map(lambda leaf: leaf.at[place].set(jnp.nan), states.params))


@pytest.fixture(scope="module")
def data(few_data):
    counts = few_data.examples.counts
    padded = jnp.pad(counts, ((0, 0), (0, 0), (0, 0), (0, 27 - counts.shape[-1])))
    return few_data.replace(examples=few_data.examples.replace(counts=padded))


@pytest.mark.parametrize("step", [0, 31, N_STEPS - 1])
@pytest.mark.parametrize("place", [0, 2])
def test_nan_at_any_step_changes_no_neighbour(data, step, place):
    states, runs = start([0.1] * 4)
    before = advance_block(states, runs, data, 0, step, N_STEPS, PROGRAM)
    sound = advance_block(before, runs, data, step, N_STEPS, N_STEPS, PROGRAM)
    hurt = advance_block(poison(before, place), runs, data, step, N_STEPS, N_STEPS, PROGRAM)
    assert int(hurt.diverged_step[place]) == step
    check_neighbours(hurt, sound, data, place)


def test_learning_rate_of_a_million_changes_no_neighbour(data):
    states, runs = start([0.1] * 4)
    _, wild = start([0.1, 1e6, 0.1, 0.1])
    sound = advance_block(states, runs, data, 0, N_STEPS, N_STEPS, PROGRAM)
    hurt = advance_block(states, wild, data, 0, N_STEPS, N_STEPS, PROGRAM)
    assert int(hurt.diverged_step[1]) >= 0
    check_neighbours(hurt, sound, data, 1)


def check_neighbours(hurt, sound, data, place: int) -> None:
    """Everything but what stands at `place` is equal, and so are the losses."""
    both = [(state, evaluate_block(state, data, PROGRAM)[1]) for state in (hurt, sound)]
    for i in set(range(4)) - {place}:
        ours, theirs = ([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(take_run(s, i))] for s in both)
        assert ours == theirs
        assert int(hurt.diverged_step[i]) == -1


def test_diverging_run_in_a_sweep_is_told_and_hurts_no_one(word_list, tmp_path):
    flags = ["smoke", "--data", word_list, "--hidden-size", "8", "--n-steps", "120", "--seeds", "2"]
    assert main([*flags, "--learning-rate", "0.1", "--out", str(tmp_path / "calm")]) == 0
    assert main([*flags, "--learning-rate", "0.1", "1e6", "--out", str(tmp_path / "wild")]) == 0
    calm, wild = (contents(Store(tmp_path / name)) for name in ("calm", "wild"))
    placed = ("cohort_id", "weights_index")
    for run_id, (row, weights) in calm.items():
        assert {k: v for k, v in wild[run_id][0].items() if k not in placed} == {
            k: v for k, v in row.items() if k not in placed
        }
        assert wild[run_id][1] == weights
    diverged = [row for row, _ in wild.values() if row["learning_rate"] == 1e6]
    assert [row["status"] for row in diverged] == [DIVERGED] * 2
    assert all(0 <= row["diverged_step"] < 120 for row in diverged)
    assert {row["status"] for row, _ in calm.values()} == {DONE}
