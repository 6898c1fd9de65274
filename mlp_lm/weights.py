"""A model's weights as named arrays, the form in which they are stored and exported."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mlp_lm.model import Dense, Norm, Params


def to_tensors(params: Params) -> dict[str, np.ndarray]:
    """Arrays named by their place: `embedding`, `hidden.0.weight`, `norms.0.gain`, `output.bias`, `direct`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def from_tensors(tensors: Mapping[str, Any]) -> Params:
    """The model whose arrays are named so."""

    def dense(name: str) -> Dense:
        return Dense(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def numbered(part: str, leaf: str) -> list[str]:
        count = sum(name.startswith(part) and name.endswith(leaf) for name in tensors)
        return [f"{part}.{i}" for i in range(count)]

    return Params(
        embedding=tensors["embedding"],
        hidden=tuple(dense(name) for name in numbered("hidden", "weight")),
        norms=tuple(Norm(tensors[f"{name}.gain"], tensors[f"{name}.shift"]) for name in numbered("norms", "gain")),
        output=dense("output"),
        direct=tensors.get("direct"),
    )
