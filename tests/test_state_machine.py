"""Laws of specifications and plans, and a sweep as a state machine: asked, changed, killed, damaged, resumed."""

import json
import shutil
import string
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from experiments.runner.plan import Cohort, make_plan
from experiments.runner.protocol import DONE, FAILED, MAX_ATTEMPTS, RESUMED, STEPS, Failure, Fault, Ledger
from experiments.runner.rows import config_of
from experiments.store import Store
from experiments.sweeps.grids import Grid, SweepSpec, sweep_from_dict
from mlp_lm.config import DEFAULTS, RunConfig, run_batch_size
from mlp_lm.data.dataset import load_dataset
from mlp_lm.schedules import SCHEDULES
from mlp_lm.schemes import SCHEMES

EXAMPLES = 60
LATER_FIELDS = ("gain", "direct", "diagnostics", "optimizer", "adam_epsilon", "shuffle", "dropout")  # Than the first.
DATASET = load_dataset()
MEMORY = Path("/dev/shm")  # Where nothing waits for a disk.

configs = st.builds(
    RunConfig,
    init=st.sampled_from(sorted(SCHEMES)),
    hidden_size=st.integers(1, 600),
    embedding_dim=st.integers(1, 40),
    block_size=st.integers(1, 9),
    batch_size=st.sampled_from((0, 1, 32, 128)),
    n_layers=st.integers(1, 3),
    batch_norm=st.booleans(),
    direct=st.booleans(),
    learning_rate=st.floats(1e-6, 10),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    momentum=st.sampled_from((0.0, 0.5, 0.9)),
    weight_decay=st.sampled_from((0.0, 1e-4)),
    gain=st.floats(0.1, 10),
    n_steps=st.sampled_from((10, 5_000, 5_001, 200_000)),
    n_evaluations=st.integers(1, 10),
    seed=st.integers(0, 2**32 - 1),
    data_hash=st.text(string.hexdigits, max_size=3),
)
# Few values, so that programs are shared and runs stand twice.
small_axes = st.fixed_dictionaries(
    {},
    optional={
        "hidden_size": st.lists(st.sampled_from((8, 16, 100)), min_size=1, max_size=3),
        "learning_rate": st.lists(st.sampled_from((0.01, 0.1, 1.0)), min_size=1, max_size=3),
        "n_steps": st.lists(st.sampled_from((10, 20_000)), min_size=1, max_size=2),
        "batch_size": st.lists(st.sampled_from((32, 128)), min_size=1, max_size=2),
    },
)
grids = st.builds(
    lambda study, axes, n: Grid(study, n_seeds=n, **axes),
    st.sampled_from(("a", "b")),
    small_axes,
    st.integers(1, 6),
)
sweeps = st.builds(lambda g: SweepSpec("s", "s", tuple(g)), st.lists(grids, min_size=1, max_size=3))


def asked(sweep: SweepSpec) -> dict[str, RunConfig]:
    return {run_id: run for runs in sweep.expand("data").values() for run_id, run in runs.items()}


def cohorts_of(runs, widest, started=()) -> tuple[Cohort, ...]:
    return make_plan(runs, DATASET, widest, started).cohorts


@settings(max_examples=EXAMPLES, deadline=None)
@given(configs, configs)
def test_run_ids_are_equal_where_specifications_are(one, other):
    assert (one.run_id == other.run_id) == (one == other)
    assert replace(one).run_id == one.run_id


@settings(max_examples=EXAMPLES, deadline=None)
@given(configs)
def test_a_run_is_known_again_from_its_row(run):
    run = replace(run, momentum=0.0, optimizer="adam", adam_epsilon=1e-5, shuffle=run.batch_size > 0)
    row = json.loads(json.dumps({f: getattr(run, f) for f in run.__dataclass_fields__}))
    assert config_of(row) == run
    # A row of a program that did not have these fields yet.
    older = {name: value for name, value in row.items() if name not in LATER_FIELDS}
    assert config_of(older) == replace(run, **{name: DEFAULTS[name] for name in LATER_FIELDS})


@settings(max_examples=EXAMPLES, deadline=None)
@given(sweeps)
def test_a_sweep_asks_for_every_cell_and_seed_once(sweep):
    studies = sweep.expand("data")
    assert asked(sweep) == asked(sweep)
    for name, runs in studies.items():
        wanted = {replace(run, data_hash="data") for grid in sweep.grids if grid.study == name for run in grid}
        assert set(runs.values()) == wanted
        assert all(run.run_id == run_id for run_id, run in runs.items())


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.one_of(configs, sweeps.map(asked).map(dict.values).map(list)), max_size=4),
    st.randoms(),
    st.sampled_from((1, 4, 8)),
)
def test_laws_of_the_plan(parts, chance, width):
    runs = list(dict.fromkeys(run for part in parts for run in (part if isinstance(part, list) else [part])))
    cohorts = cohorts_of(runs, width)
    assert sorted(run.run_id for cohort in cohorts for run in cohort.runs) == sorted(run.run_id for run in runs)
    groups: dict[tuple, list[Cohort]] = {}
    for cohort in cohorts:
        (company,) = {run.company for run in cohort.runs}
        groups.setdefault(company, []).append(cohort)
    for members in groups.values():  # Whole batches, but in one cohort.
        size = run_batch_size(members[0].runs[0], len(DATASET.vocabulary), width)
        assert {cohort.batch_size for cohort in members} == {size}
        assert sum(len(cohort.runs) % size > 0 for cohort in members) <= 1
    assert all(one.seconds >= other.seconds for one, other in pairwise(cohorts))
    chance.shuffle(runs)
    assert cohorts_of(runs, width) == cohorts


@settings(max_examples=EXAMPLES, deadline=None)
@given(sweeps, sweeps, st.sets(st.integers(0, 9)))
def test_cohorts_that_are_begun_stay_whole_whatever_is_asked_beside_them(sweep, more, chosen):
    before = cohorts_of(asked(sweep).values(), 4)
    in_progress = [before[i] for i in chosen if i < len(before)]
    everything = asked(sweep) | asked(more)
    cohorts = cohorts_of(everything.values(), 4, [[run.run_id for run in cohort.runs] for cohort in in_progress])
    assert {cohort.cohort_id for cohort in in_progress} <= {cohort.cohort_id for cohort in cohorts}
    assert sorted(run.run_id for cohort in cohorts for run in cohort.runs) == sorted(everything)


@settings(max_examples=EXAMPLES, deadline=None)
@given(sweeps, st.integers(1, 9))
def test_slices_are_a_partition(sweep, total):
    plan = make_plan(asked(sweep).values(), DATASET, 4)
    slices = [plan.slice(i + 1, total).cohorts for i in range(total)]
    ids = [run.run_id for piece in slices for cohort in piece for run in cohort.runs]
    assert sorted(ids) == sorted(asked(sweep))


@settings(max_examples=EXAMPLES, deadline=None)
@given(small_axes, st.integers(1, 3))
def test_a_sweep_file_asks_for_what_it_says(axes, n_seeds):
    sweep = sweep_from_dict({"study": [{"seeds": n_seeds, **axes}]}, "file")
    cells = np.prod([len(set(values)) for values in axes.values()], dtype=int)
    assert len(asked(sweep)) == cells * n_seeds


class ToySweep(RuleBasedStateMachine):
    """A store, what is asked of it, and an executor in this process that may be killed at any step."""

    sweeps = Bundle("sweeps")
    SMALL = st.builds(
        lambda seeds, sizes: SweepSpec("s", "s", (Grid("a", RunConfig(n_steps=10), seeds, hidden_size=sizes),)),
        st.integers(1, 5),
        st.sampled_from(((8,), (8, 16), (16, 300))),
    )

    @initialize(sweep=SMALL)
    def begin(self, sweep):
        self.store = Store(Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None)))
        self.sweep, self.done = sweep, {}

    @rule(sweep=SMALL)
    def ask_for_something_else(self, sweep):
        self.sweep = sweep

    @rule(n_messages=st.integers(0, 6), faults=st.lists(st.sampled_from((*Fault, None)), max_size=4))
    def run_and_be_killed(self, n_messages, faults):
        self.execute(faults, n_messages)

    @rule()
    def run_to_the_end(self):
        failed = self.execute([], None)
        assert failed == set()
        assert asked(self.sweep).keys() <= self.done.keys()

    @rule(data=st.data())
    def damage_a_shard(self, data):
        shards = sorted((self.store.root / "shards").glob("*.parquet"))
        if shards:
            shard = data.draw(st.sampled_from(shards))
            shard.write_bytes(shard.read_bytes()[:-1])
            lost = [run_id for run_id, (_, cohort_id) in self.done.items() if cohort_id == shard.stem]
            self.done = {run_id: kept for run_id, kept in self.done.items() if run_id not in lost}
            assert len(self.store.rows().damaged) == 1

    @invariant()
    def the_store_has_what_was_done(self):
        rows = self.store.rows()
        assert rows.damaged == ()
        losses = {row["run_id"]: row["dev_loss"] for row in rows.table.to_pylist()}
        assert losses == {run_id: loss for run_id, (loss, _) in self.done.items()}
        assert len(rows.table) == len(losses)

    def execute(self, faults, n_messages) -> set[str]:
        """What `experiments.sweep` does, up to so many messages; the runs that were given up."""
        missing = [run for run_id, run in asked(self.sweep).items() if run_id not in self.store.run_ids()]
        in_progress = [metadata["run_ids"] for metadata in self.store.started().values()]
        ledger = Ledger(cohorts_of(missing, 2, in_progress), lambda c: self.store.cohort_rows(c.cohort_id))
        faults, failed = list(faults), set()
        while ledger.pending and not ledger.hopeless:
            task = ledger.pending.popleft()
            assert task.attempt <= MAX_ATTEMPTS
            for message in self.train(task.cohort, faults.pop(0) if faults else None):
                if n_messages == 0:
                    return failed
                n_messages = n_messages and n_messages - 1
                for event in ledger.note(task, message):
                    failed |= {run.run_id for run in event.cohort.runs if event.failure}
        return failed - self.done.keys()

    def train(self, cohort, fault):
        """Messages of a worker that has a fault before its write, or (DEATH) after it."""
        ids = [run.run_id for run in cohort.runs]
        checkpoint = self.store.load_checkpoint(cohort.cohort_id)
        yield RESUMED, checkpoint.metadata["steps"] if checkpoint else 0
        self.store.save_checkpoint(cohort.cohort_id, {"x": np.zeros(1)}, {"run_ids": ids, "steps": 5 * len(ids)})
        yield STEPS, 5 * len(ids)
        if fault not in (None, Fault.DEATH):
            yield FAILED, Failure(fault, str(fault))
            return
        rows = [{"run_id": run.run_id, "dev_loss": run.seed + run.hidden_size / 1000} for run in cohort.runs]
        self.store.write(cohort.cohort_id, rows, {})
        self.done |= {row["run_id"]: (row["dev_loss"], cohort.cohort_id) for row in rows}
        yield (FAILED, Failure(fault, "died")) if fault else (DONE, rows)

    def teardown(self):
        shutil.rmtree(self.store.root)


TestToySweep = ToySweep.TestCase
TestToySweep.settings = settings(max_examples=EXAMPLES, stateful_step_count=5, deadline=None)
