"""Parametrisations by name: how initial weights and learning rates go with the width of the hidden layers.

A model of m times the base width has, for each kind of matrix, the scheme's scale at the base width times a power of m,
and the learning rate times another. Weights are those that act: a multiplier in the forward pass, as the papers have
it, is part of the weight here, which is the same model if its initial scale and its rate are changed accordingly (Yang
et al. 2022, appendix J). So nothing but the start and the rates depends on the parametrisation.

Weight decay is coupled to a matrix's rate: it shrinks every weight by `learning_rate * weight_decay` a step, whatever
its factor, so that its strength does not depend on the width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlp_lm.lazy import jax

STANDARD = "standard"
REST = "rest"


class ByKind(NamedTuple):
    """A number for each kind of matrix whose fan_in or fan_out is the hidden width.

    `inputs` are the first hidden weights, all hidden biases, and batch norm's gains and shifts; `hidden` the hidden
    weights from the second layer on; `output` the output weights. The rest, embedding, output bias and direct weights,
    has neither fan in the width, and keeps the run's rate.
    """

    inputs: Any
    hidden: Any
    output: Any


@dataclass(frozen=True)
class Parametrization:
    """Powers of m = hidden_size / base_width.

    Attributes:
        summary: in one line, for tables.
        source: where it comes from.
        scale: of the standard deviations of initial weights.
        rates: of the learning rates, by optimiser.
    """

    summary: str
    source: str
    scale: ByKind
    rates: Mapping[str, ByKind]


PARAMETRIZATIONS: dict[str, Parametrization | None] = {
    STANDARD: None,  # The scheme's scales at the run's own width, and one rate.
    "mup": Parametrization(
        "maximal update: features change as much at any width",
        "Yang et al. 2022, Tensor Programs V, table 3, of which table 8 is the form with a multiplier of 1/m",
        scale=ByKind(0, -0.5, -1),
        rates={"sgd": ByKind(1, 0, -1), "adam": ByKind(0, -1, -1)},
    ),
    "ntk": Parametrization(
        "neural tangent kernel: features change less the wider the model",
        "Jacot et al. 2018; Yang and Hu 2021, Tensor Programs IV, table 1",
        scale=ByKind(0, -0.5, -0.5),
        rates={"sgd": ByKind(0, -1, -1), "adam": ByKind(0, -0.5, -0.5)},
    ),
}


def powers_of(m: float, powers: ByKind) -> ByKind:
    """m to each of the powers."""
    return ByKind(*(float(m) ** power for power in powers))


def kinds(params):
    """The kind of each parameter of a model, a field of ByKind or REST, in a tree like the model's."""

    def kind(path, _):
        match [getattr(key, "name", getattr(key, "idx", None)) for key in path]:
            case ["hidden", 0, "weight"] | ["hidden", _, "bias"] | ["norms", *_]:
                return "inputs"
            case ["hidden" | "output" as part, *_, "weight"]:
                return part
        return REST

    return jax.tree_util.tree_map_with_path(kind, params)
