"""Initial weights scaled to the training data: what `Scheme.adjust` of the schemes `lsuv` and `unit_variance` does.

Both go from the first layer to the last, because a layer's inputs depend on those before it. Means and variances are
over all training windows, exact by counted contexts, where the papers take one minibatch.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlp_lm.activations import activation_named
from mlp_lm.lazy import jnp

NORM_EPSILON = 1e-5  # torch.nn.BatchNorm1d's.

# From a layer and its affine outputs' mean and variance a unit, `[units]`, to the layer as it shall be.
Rescale = Callable[[Any, Any, Any], Any]


def lsuv(params: Any, counted: Any) -> Any:
    """Every layer's affine outputs, the logits too, have variance 1 over training windows and units together.

    Layer-sequential unit-variance initialisation (Mishkin and Matas 2016, algorithm 1); the variance is that around
    the mean of all units. Given orthonormal weights and zero biases, as in the paper.
    """

    def rescale(layer, mean, variance):
        # The variance over two factors is that within units and that of their means.
        return replace(layer, weight=layer.weight / np.float32(np.sqrt(variance.mean() + mean.var())))

    params, x, shares = _rescale_hidden(params, counted, rescale)
    logits = x @ params.output.weight
    direct = params.direct
    if direct is not None:
        logits = logits + _features(params, counted) @ direct
    mean, variance = _moments(logits, shares)
    if direct is not None:
        direct = direct / np.float32(np.sqrt(variance.mean() + mean.var()))
    return replace(params, output=rescale(params.output, mean, variance), direct=direct)


def unit_variance(params: Any, counted: Any) -> Any:
    """Every hidden unit's affine output has mean 0 and variance 1 over training windows.

    The data-dependent initialisation of Salimans and Kingma 2016 (section 3); the output layer stays as it is.
    Without biases, as with batch norm, means stay too.
    """

    def rescale(layer, mean, variance):
        std = np.where(variance > 0, np.sqrt(variance), 1.0)
        bias = None if layer.bias is None else ((np.asarray(layer.bias, np.float64) - mean) / std).astype(np.float32)
        return replace(layer, weight=layer.weight / std.astype(np.float32)[None, :], bias=bias)

    return _rescale_hidden(params, counted, rescale)[0]


def _rescale_hidden(params: Any, counted: Any, rescale: Rescale) -> tuple[Any, Any, Any]:
    """The model with its hidden layers rescaled, its last hidden activations, and each context's share of training."""
    occurrences = np.asarray(counted.counts[0], np.float64).sum(axis=1)
    shares = occurrences / occurrences.sum()
    activation = activation_named(params.activation)
    x, hidden = _features(params, counted), []
    for i, layer in enumerate(params.hidden):
        if layer.weight.size:  # No hidden units have no variance.
            layer = rescale(layer, *_moments(_affine(layer, x), shares))
        hidden.append(layer)
        z = _affine(layer, x)
        if params.norms:
            mean, variance = (moment.astype(np.float32)[None, :] for moment in _moments(z, shares))
            norm = params.norms[i]
            z = (z - mean) / np.sqrt(variance + NORM_EPSILON) * norm.gain[None, :] + norm.shift[None, :]
        x = activation(z)
    return replace(params, hidden=tuple(hidden)), x, shares


def _features(params: Any, counted: Any) -> Any:
    return jnp.asarray(params.embedding)[counted.contexts].reshape(len(counted.contexts), -1)


def _affine(layer: Any, x: Any) -> Any:
    y = x @ jnp.asarray(layer.weight)
    return y if layer.bias is None else y + layer.bias[None, :]


def _moments(z: Any, shares: Any) -> tuple[Any, Any]:
    """Each unit's mean and variance over training windows, in double precision."""
    z = np.asarray(z, np.float64)
    mean = shares @ z
    return mean, shares @ (z - mean[None, :]) ** 2
