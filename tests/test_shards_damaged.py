"""Damage on the disk: each truncation, each flipped bit is detected, told, set aside, and made good by a rewrite."""

# ruff: noqa: F401, F811  (a fixture of another test module)

import hashlib
import shutil

import numpy as np
import pytest

from experiments.store.manifest import canonical_json
from experiments.store.shards import Store
from tests.test_shards import COHORT, OTHER, example_cohort, losses, store, write_example

FILES = {"shards": ".parquet", "weights": ".safetensors", "manifests": ".json"}


def file_of(store: Store, kind: str):
    return store.root / kind / f"{COHORT}{FILES.get(kind, '.safetensors')}"


def flipped(data: bytes, bit: int) -> bytes:
    array = np.frombuffer(data, "u1").copy()
    array[bit // 8] ^= 1 << bit % 8
    return array.tobytes()


def assert_detected_and_repairable(store: Store, kind: str, damage: bytes) -> None:
    """Damage one file of a cohort beside a sound one."""
    write_example(store, OTHER, 2)
    write_example(store, COHORT, 1)
    row = store.rows().table.to_pylist()[0]
    assert row["cohort_id"] == COHORT
    path = file_of(store, kind)
    sound = path.read_bytes()
    path.write_bytes(damage)
    assert len(store.run_ids()) == 3
    table, (message,) = store.rows()
    assert set(table["cohort_id"].to_pylist()) == {OTHER}
    assert str(path) in message
    assert "\n" not in message
    set_aside = [actual.read_bytes() for actual in (store.root / "damaged").glob(f"{COHORT}.*/{COHORT}.*")]
    assert len(set_aside) == 3
    assert damage in set_aside
    assert store.rows().damaged == ()
    write_example(store, COHORT, 1)
    assert path.read_bytes() == sound
    assert len(losses(store)) == 6


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("length", [0, 4, 100, "half", "all but one"])
def test_truncation(store, kind, length):
    write_example(store, COHORT, 1)
    sound = file_of(store, kind).read_bytes()
    keep = {"half": len(sound) // 2, "all but one": len(sound) - 1}.get(length, length)
    assert_detected_and_repairable(store, kind, sound[:keep])


@pytest.mark.parametrize("kind", FILES)
def test_flipped_bits(store, kind):
    write_example(store, COHORT, 1)
    sound = file_of(store, kind).read_bytes()
    for bit in np.random.default_rng(7).integers(8 * len(sound), size=40):
        shutil.rmtree(store.root)
        assert_detected_and_repairable(store, kind, flipped(sound, int(bit)))


def test_every_bit_of_a_manifest(store):
    write_example(store, COHORT, 1)
    path = file_of(store, "manifests")
    sound = path.read_bytes()
    for bit in range(8 * len(sound)):
        path.write_bytes(flipped(sound, bit))
        assert store.run_ids() == set()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"weights": ["x"]},
        {"../x": None},
        {"shards": {"bytes": 1, "sha256": "../../x"}},
        {"shards": {"bytes": 1}},
        7,
    ],
)
@pytest.mark.parametrize("version", [1, "1"])
def test_a_manifest_that_promises_nonsense_is_damage_though_its_checksum_is_right(store, files, version):
    write_example(store, COHORT, 1)
    body = {"cohort_id": COHORT, "files": files, "schema_version": version}
    digest = hashlib.sha256(canonical_json(body)).hexdigest()
    file_of(store, "manifests").write_bytes(canonical_json({**body, "sha256": digest}))
    assert store.run_ids() == set()
    assert "is no manifest" in store.rows().damaged[0]


def test_another_file_under_the_name_is_damage(store):
    write_example(store, COHORT, 1)
    write_example(store, OTHER, 2)
    for kind, suffix in FILES.items():
        shutil.copy(store.root / kind / f"{OTHER}{suffix}", file_of(store, kind))
    assert len(store.run_ids()) == 3
    assert len(store.rows().damaged) == 1


def test_a_lost_shard_is_damage(store):
    write_example(store, COHORT, 1)
    file_of(store, "shards").unlink()
    assert "missing" in store.rows().damaged[0]
    assert not file_of(store, "weights").exists()


def test_damage_can_happen_again_and_again(store):
    for _ in range(3):
        write_example(store, COHORT, 1)
        file_of(store, "shards").write_bytes(b"")
        assert len(store.rows().damaged) == 1
    assert len(list((store.root / "damaged").iterdir())) == 3


def test_writing_over_a_damaged_cohort_makes_it_good(store):
    write_example(store, COHORT, 1)
    file_of(store, "weights").write_bytes(b"")
    write_example(store, COHORT, 1)
    assert store.rows().damaged == ()
    assert len(store.run_ids()) == 3


def test_every_bit_of_weights_that_are_read_without_their_store(store):
    """A row held in memory still protects its weights: any flip gives the right numbers or an error, never others."""
    store.write(COHORT, [{"run_id": "a"}, {"run_id": "b"}], {"w": np.arange(4, dtype="f4").reshape(2, 2)})
    row = store.rows().table.to_pylist()[1]
    path = file_of(store, "weights")
    everything = {kind: file_of(store, kind).read_bytes() for kind in FILES}
    refused = 0
    for bit in range(8 * len(everything["weights"])):
        path.write_bytes(flipped(everything["weights"], bit))
        try:
            assert store.weights(row)["w"].tolist() == [2, 3]
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
            for kind, data in everything.items():
                file_of(store, kind).write_bytes(data)
    assert refused >= 64  # at the least the 8 bytes of this run
    assert len(list((store.root / "damaged").iterdir())) == refused


def test_every_bit_and_every_length_of_a_checkpoint(store):
    store.save_checkpoint(COHORT, {"w": np.arange(4, dtype="f4"), "step": np.int32(5)}, {"chunk": 1})
    path = file_of(store, "checkpoints")
    sound = path.read_bytes()
    for damage in [flipped(sound, bit) for bit in range(8 * len(sound))] + [sound[:n] for n in range(len(sound))]:
        path.write_bytes(damage)
        checkpoint = store.load_checkpoint(COHORT)
        if checkpoint is not None:  # spaces that pad the header may change and mean the same
            assert checkpoint.metadata == {"chunk": 1}
            assert {name: array.tolist() for name, array in checkpoint.tensors.items()} == {
                "w": [0, 1, 2, 3],
                "step": 5,
            }
    path.write_bytes(sound)
    assert store.load_checkpoint(COHORT) is not None


def test_random_damage_of_larger_files(store):
    """Ten cohorts, each with one bit flipped somewhere: ten messages, no row, and all back after a rewrite."""
    draw = np.random.default_rng(3)
    cohort_ids = [f"{number:08x}" for number in range(10)]
    for number, cohort_id in enumerate(cohort_ids):
        write_example(store, cohort_id, number, run_count=8, size=2000)
        kind = ("shards", "weights")[number % 2]
        path = store.root / kind / f"{cohort_id}{FILES[kind]}"
        path.write_bytes(flipped(path.read_bytes(), int(draw.integers(8 * path.stat().st_size))))
    table, messages = store.rows()
    assert (table.num_rows, len(messages)) == (0, 10)
    for number, cohort_id in enumerate(cohort_ids):
        write_example(store, cohort_id, number, run_count=8, size=2000)
    assert losses(store) == {row["run_id"]: row["dev_loss"] for n in range(10) for row in example_cohort(n, 8)[0]}
