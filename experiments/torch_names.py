"""A stored run as the state dict of a PyTorch module of the same architecture.

    embedding  torch.nn.Embedding(vocab, embed)
    hidden     torch.nn.ModuleList of torch.nn.Linear(fan_in, hidden), without bias under batch norm
    norms      torch.nn.ModuleList of torch.nn.BatchNorm1d(hidden), in eval mode
    output     torch.nn.Linear(hidden, vocab)
    direct     torch.nn.Linear(block * embed, vocab, bias=False), where there are direct connections

Batch norm's running statistics are the exact moments of the whole training split.
"""

from collections.abc import Sequence

import numpy as np

from mlp_lm.model import Dense, Moments, Norm, Params


def state_dict(params: Params, moments: Sequence[Moments]) -> dict[str, np.ndarray]:
    """PyTorch's names and its layout: weights are `[fan_out, fan_in]`."""
    tensors = {"embedding.weight": _array(params.embedding)} | _linear("output", params.output)
    for i, layer in enumerate(params.hidden):
        tensors |= _linear(f"hidden.{i}", layer)
    for i, (norm, moment) in enumerate(zip(params.norms, moments, strict=True)):
        tensors |= _batch_norm(f"norms.{i}", norm, moment)
    if params.direct is not None:
        tensors["direct.weight"] = _array(params.direct).T
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _linear(name: str, layer: Dense) -> dict[str, np.ndarray]:
    weight = {f"{name}.weight": _array(layer.weight).T}
    return weight if layer.bias is None else weight | {f"{name}.bias": _array(layer.bias)}


def _batch_norm(name: str, norm: Norm, moments: Moments) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": _array(norm.gain),
        f"{name}.bias": _array(norm.shift),
        f"{name}.running_mean": _array(moments.mean),
        f"{name}.running_var": _array(moments.variance),
        f"{name}.num_batches_tracked": np.array(1, np.int64),
    }


def _array(leaf) -> np.ndarray:
    return np.asarray(leaf)
