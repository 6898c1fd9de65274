"""The test loss of the one configuration that won on dev: computed once, kept beside the shards."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.findings.analysis import Cell
from experiments.material import Material
from experiments.store import Store
from experiments.store.atomic import replace_file

FILE_NAME = "test.json"


@dataclass(frozen=True)
class HeldOut:
    """Exact test losses of a configuration's runs, in nats per token."""

    run_ids: list[str]
    losses: list[float]


def evaluate_winner(store: Store, cell: Cell, material: Material) -> HeldOut:
    """The winner's test losses, from the file of an earlier call where the winner is the same."""
    path = store.root / FILE_NAME
    run_ids = [row["run_id"] for row in cell.finished]
    known = read_winner(path)
    if known is not None and known.run_ids == run_ids:
        return known
    result = HeldOut(run_ids, _losses(store, cell, material))
    replace_file(path, json.dumps(asdict(result), indent=1).encode())
    return result


def read_winner(path: Path) -> HeldOut | None:
    """The stored test losses, or None."""
    try:
        return HeldOut(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _losses(store: Store, cell: Cell, material: Material) -> list[float]:
    # JAX only where it is needed: analysis starts without it.
    import jax

    from experiments.findings.trained import load_model
    from mlp_lm.dataset import count_contexts
    from mlp_lm.evaluation import EvaluationSet, exact_losses

    test = material.windows("test", cell.settings["block_size"])
    examples = EvaluationSet.of(count_contexts([test], len(material.vocabulary)))
    exact = jax.jit(exact_losses)  # Compiled once for all seeds.
    models = (load_model(store, row, material) for row in cell.finished)
    return [float(exact(params, examples, moments)[0]) for params, moments in models]
