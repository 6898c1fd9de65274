"""A model's weights as named arrays: ours, in which they are stored, and PyTorch's, in which they are exported."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlp_lm.model import Dense, Moments, Norm, Params


def to_tensors(params: Params) -> dict[str, np.ndarray]:
    """Arrays named by their place: `embedding`, `hidden.0.weight`, `norms.0.gain`, `output.bias`, `direct`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def from_tensors(tensors: Mapping[str, Any], activation: str = "tanh") -> Params:
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
        activation=activation,
    )


def state_dict(params: Params, moments: Sequence[Moments]) -> dict[str, np.ndarray]:
    """The state dict of a PyTorch module of the same architecture.

        embedding  torch.nn.Embedding(vocab, embed)
        hidden     torch.nn.ModuleList of torch.nn.Linear(fan_in, hidden), without bias under batch norm
        norms      torch.nn.ModuleList of torch.nn.BatchNorm1d(hidden), in eval mode
        output     torch.nn.Linear(hidden, vocab)
        direct     torch.nn.Linear(block * embed, vocab, bias=False), where there are direct connections

    Weights are `[fan_out, fan_in]`. Batch norm's running statistics are the exact moments of the whole training split.
    """
    tensors = {"embedding.weight": np.asarray(params.embedding)} | _linear("output", params.output)
    for i, layer in enumerate(params.hidden):
        tensors |= _linear(f"hidden.{i}", layer)
    for i, (norm, moment) in enumerate(zip(params.norms, moments, strict=True)):
        tensors |= _batch_norm(f"norms.{i}", norm, moment)
    if params.direct is not None:
        tensors["direct.weight"] = np.asarray(params.direct).T
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _linear(name: str, layer: Dense) -> dict[str, np.ndarray]:
    weight = {f"{name}.weight": np.asarray(layer.weight).T}
    return weight if layer.bias is None else weight | {f"{name}.bias": np.asarray(layer.bias)}


def _batch_norm(name: str, norm: Norm, moments: Moments) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": np.asarray(norm.gain),
        f"{name}.bias": np.asarray(norm.shift),
        f"{name}.running_mean": np.asarray(moments.mean),
        f"{name}.running_var": np.asarray(moments.variance),
        f"{name}.num_batches_tracked": np.array(1, np.int64),
    }
