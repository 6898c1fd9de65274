"""Zero-padded widths, and runs stacked along a leading axis.

Where f(0) = 0, as for tanh, a hidden unit whose weights are all zero gets no gradient and passes none on: zero-padded
units and embedding dimensions stay exactly zero under SGD, with momentum, weight decay and batch norm too. A padded
model trains as the smaller one does; models of several widths can so share one compiled program.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mlp_lm.config import Architecture
from mlp_lm.model import Dense, Norm, Params

Tree = TypeVar("Tree")


def pad_params(params: Params, architecture: Architecture, embedding_dim: int, hidden_size: int) -> Params:
    """`params` of `architecture`, widened by zeros to `embedding_dim` and `hidden_size`."""
    wide = replace(architecture, embedding_dim=embedding_dim, hidden_size=hidden_size)
    return _resize(params, architecture, wide)


def unpad_params(params: Params, architecture: Architecture) -> Params:
    """The corner of wider `params` that holds the model of `architecture`."""
    embedding_dim = params.embedding.shape[1]
    wide = replace(architecture, embedding_dim=embedding_dim, hidden_size=params.output.weight.shape[0])
    return _resize(params, wide, architecture)


def _resize(params: Params, old: Architecture, new: Architecture) -> Params:
    if old == new:
        return params
    d, h = new.embedding_dim, new.hidden_size

    def positions(weight: Any, units: int) -> Any:
        by_position = np.reshape(weight, (old.block_size, old.embedding_dim, weight.shape[1]))
        return _fit(by_position, (old.block_size, d, units)).reshape(new.n_features, units)

    def dense(i: int, layer: Dense) -> Dense:
        weight = positions(layer.weight, h) if i == 0 else _fit(layer.weight, (h, h))
        return Dense(weight, None if layer.bias is None else _fit(layer.bias, (h,)))

    return replace(
        params,
        embedding=_fit(params.embedding, (old.vocab_size, d)),
        hidden=tuple(dense(i, layer) for i, layer in enumerate(params.hidden)),
        norms=tuple(Norm(_fit(norm.gain, (h,)), _fit(norm.shift, (h,))) for norm in params.norms),
        output=Dense(_fit(params.output.weight, (h, old.vocab_size)), params.output.bias),
        direct=None if params.direct is None else positions(params.direct, old.vocab_size),
    )


def _fit(array: Any, shape: tuple[int, ...]) -> Any:
    """`array` cut to `shape` where it is larger, and filled with zeros where it is smaller."""
    kept = np.asarray(array)[tuple(slice(n) for n in shape)]
    return np.pad(kept, [(0, n - k) for n, k in zip(shape, kept.shape, strict=True)])


def stack_runs(runs: Sequence[Tree]) -> Tree:
    """Trees of one structure to one tree whose arrays have a leading run axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *runs)


def take_run(stacked: Tree, index: int) -> Tree:
    """One run of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def share_out(tree: Tree) -> Tree:
    """Cut the leading run axis of every array evenly over the local devices.

    As it is on one device, and where the runs cannot be shared out evenly.
    """
    devices: Any = jax.local_devices()
    if len(jax.tree.leaves(tree)[0]) % len(devices) or len(devices) == 1:
        return tree
    mesh = jax.make_mesh((len(devices),), ("run",), (AxisType.Auto,), devices=devices)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("run")))
