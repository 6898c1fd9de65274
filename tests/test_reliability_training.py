"""What an interruption or a diverging neighbour may change in a real training: nothing."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runner import trainer
from experiments.runner.plan import Cohort
from experiments.runner.protocol import Hooks, Stopped
from experiments.runner.rows import DIVERGED, DONE
from experiments.store import Store
from experiments.sweep import main
from mlp_lm.config import CPU_RUNS, RunConfig
from mlp_lm.padding import take_run
from mlp_lm.training import RunBatch, advance_batch, evaluate_batch, next_stretch

SMALL = RunConfig(hidden_size=8, embedding_dim=2, n_steps=120, n_evaluations=3)
VARIANTS = {
    "plain": SMALL,
    "momentum, plateau, batch norm": replace(SMALL, momentum=0.9, schedule="plateau", batch_norm=True),
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def cohort(request):
    """Six runs, a batch of four and one of two, looked at after 25 steps at most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "next_stretch", lambda steps, seconds: 25)
        yield Cohort(tuple(replace(request.param, seed=seed) for seed in range(6)), 1.0, CPU_RUNS)


def contents(store: Store) -> dict:
    """All that a store has of each run, but the wall time."""
    rows = store.rows().table.to_pylist()
    weights = {row["run_id"]: [a.tobytes() for _, a in sorted(store.weights(row).items())] for row in rows}
    return {row["run_id"]: (row | {"wall_seconds": 0}, weights[row["run_id"]]) for row in rows}


@pytest.fixture(scope="module")
def uninterrupted(cohort, few_dataset, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("uninterrupted"))
    trainer.train_cohort(cohort, few_dataset, store)
    return contents(store)


def test_stopped_at_every_look_a_cohort_gets_the_same_bits(cohort, uninterrupted, few_dataset, tmp_path):
    store, n_stops, trained, resumed = Store(tmp_path / "stopped"), 0, [], []
    while not store.run_ids():
        hooks = Hooks(trained.append, resumed.append, lambda: True)
        try:
            trainer.train_cohort(cohort, few_dataset, store, hooks)
        except Stopped:
            n_stops += 1
            assert resumed[-1] == sum(trained[: len(resumed) - 1])  # Each look trains one stretch.
    # At steps 40 (the first stretch is 250), 65, 80, 105 and 120; the second batch knows its pace: at 25, too.
    assert n_stops == 5 + 6
    assert sum(trained) == 6 * 120
    assert contents(store) == uninterrupted


@pytest.mark.parametrize("killed_at", [2, 5, 6, 9])
def test_killed_between_checkpoints_a_cohort_gets_the_same_bits(
    cohort, uninterrupted, few_dataset, tmp_path, monkeypatch, killed_at
):
    class Killed(BaseException):
        pass

    looks = []

    def die(steps: int) -> None:
        looks.append(steps)
        if len(looks) == killed_at:
            raise Killed

    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1.0)
    store = Store(tmp_path / "killed")
    with pytest.raises(Killed):
        trainer.train_cohort(cohort, few_dataset, store, Hooks(on_steps=die))
    resumed = []
    trainer.train_cohort(cohort, few_dataset, store, Hooks(on_resume=resumed.append))
    assert resumed == [sum(looks[:-1])]
    assert contents(store) == uninterrupted


@pytest.mark.parametrize("cohort", [SMALL], indirect=True)
@pytest.mark.parametrize("change", [{"rows": 3}, {"histories": [{"no such": 1}]}, {"step": None}, {}])
def test_checkpoint_of_another_program_is_left_alone(cohort, uninterrupted, few_dataset, tmp_path, change):
    store = Store(tmp_path / "older")
    with pytest.raises(Stopped):
        trainer.train_cohort(cohort, few_dataset, store, Hooks(should_stop=lambda: True))
    tensors, metadata = store.load_checkpoint(cohort.cohort_id)
    tensors = tensors if change else {name: array[:2] for name, array in tensors.items()}  # Of another width.
    store.save_checkpoint(cohort.cohort_id, tensors, metadata | change)
    trainer.train_cohort(cohort, few_dataset, store)
    assert contents(store) == uninterrupted


N_STEPS = 60
FOUR = [replace(SMALL, n_steps=N_STEPS, schedule="constant", seed=seed) for seed in range(4)]


def start(dataset, rates: dict[int, float]) -> RunBatch:
    """Four runs, some with a learning rate of their own."""
    return RunBatch.start([replace(run, learning_rate=rates.get(run.seed, 0.1)) for run in FOUR], dataset)


def advance(batch: RunBatch, states, start: int, stop: int):
    return advance_batch(states, batch.numbers, batch.data, start, stop, N_STEPS, batch.program)


def poison(states, place: int):
    return states.replace(params=jax.tree.map(lambda leaf: leaf.at[place].set(jnp.nan), states.params))


@pytest.mark.parametrize("step", [0, 31, N_STEPS - 1])
@pytest.mark.parametrize("place", [0, 2])
def test_nan_at_any_step_changes_no_neighbour(few_dataset, step, place):
    batch = start(few_dataset, {})
    before = advance(batch, batch.states, 0, step)
    sound = advance(batch, before, step, N_STEPS)
    hurt = advance(batch, poison(before, place), step, N_STEPS)
    assert int(hurt.diverged_step[place]) == step
    check_neighbours(batch, hurt, sound, place)


def test_learning_rate_of_a_million_changes_no_neighbour(few_dataset):
    batch, wild = start(few_dataset, {}), start(few_dataset, {1: 1e6})
    sound = advance(batch, batch.states, 0, N_STEPS)
    hurt = advance(wild, wild.states, 0, N_STEPS)
    assert int(hurt.diverged_step[1]) >= 0
    check_neighbours(batch, hurt, sound, 1)


def check_neighbours(batch: RunBatch, hurt, sound, place: int) -> None:
    """Everything but what stands at `place` is equal, and so are the losses."""
    both = [(state, evaluate_batch(state, batch.data, batch.program)[1]) for state in (hurt, sound)]
    for i in set(range(4)) - {place}:
        own, theirs = ([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(take_run(s, i))] for s in both)
        assert own == theirs
        assert int(hurt.diverged_step[i]) == -1


@pytest.mark.parametrize(
    ("steps", "seconds", "stretch"),
    [(100, 1.0, 200), (100, 4.0, 50), (100, 0.0, 1000), (100, 1e9, 1), (7, 2.0, 7)],
)
def test_a_stretch_lasts_two_seconds_at_the_last_pace_within_limits(steps, seconds, stretch):
    assert next_stretch(steps, seconds) == stretch


def test_diverging_run_in_a_sweep_is_told_and_hurts_no_one(few_dataset, tmp_path):
    flags = ["smoke", "--data", few_dataset.source, "--hidden-size", "8", "--n-steps", "120", "--seeds", "2"]
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
