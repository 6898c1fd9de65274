"""Optimisers by name: from a learning rate and a run's numbers to an optax transformation.

Numbers are those of `RunConfig.numbers`. One that switches code on (`momentum`, `weight_decay`) is None where it is
off.
"""

from collections.abc import Callable
from typing import Any

from mlp_lm.lazy import jax, optax

Optimizer = Callable[[Any, Any], Any]


def decays(params):
    """Which parameters weight decay acts on: weights and embedding, never biases, gains or shifts."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].name in ("weight", "embedding", "direct"), params)


def sgd(rate, numbers):
    """Stochastic gradient descent, with momentum and weight decay (as part of the gradient) if any."""
    descent = optax.sgd(rate, momentum=numbers.momentum)
    if numbers.weight_decay is None:
        return descent
    return optax.chain(optax.add_decayed_weights(numbers.weight_decay, mask=decays), descent)


def adam(rate, numbers):
    """Adam (Kingma and Ba 2015); its weight decay is decoupled from the gradient (Loshchilov and Hutter 2019)."""
    if numbers.weight_decay is None:
        return optax.adam(rate, eps=numbers.adam_epsilon)
    return optax.adamw(rate, eps=numbers.adam_epsilon, weight_decay=numbers.weight_decay, mask=decays)


def lion(rate, numbers):
    """Lion (Chen et al. 2023), with decoupled weight decay."""
    return optax.lion(rate, weight_decay=_or_zero(numbers.weight_decay), mask=decays)


def muon(rate, numbers):
    """Muon (Jordan et al. 2024) for matrices, the embedding among them, and Adam for the rest; decay is decoupled."""
    decay = _or_zero(numbers.weight_decay)
    return optax.contrib.muon(rate, weight_decay=decay, weight_decay_mask=decays)


def sign_sgd(rate, numbers):
    """The sign of the gradient (Bernstein et al. 2018), with decoupled weight decay."""
    if numbers.weight_decay is None:
        return optax.sign_sgd(rate)
    decay = optax.add_decayed_weights(numbers.weight_decay, mask=decays)
    return optax.chain(optax.scale_by_sign(), decay, optax.scale_by_learning_rate(rate))


OPTIMIZERS: dict[str, Optimizer] = {"sgd": sgd, "adam": adam, "lion": lion, "muon": muon, "sign_sgd": sign_sgd}
# Whose update of a weight depends on the gradients of that weight alone, and is zero where they are: with these, and
# no others, zero-padded units stay at zero.
ELEMENTWISE = frozenset({"sgd", "adam", "lion", "sign_sgd"})


def _or_zero(decay):
    return 0.0 if decay is None else decay
