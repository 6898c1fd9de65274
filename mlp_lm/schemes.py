"""Initialisation schemes by name: the scale of each part of a model.

The draws that a scheme scales are in `mlp_lm.initializers`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mlp_lm.lazy import jax

TANH_GAIN = 5 / 3  # torch.nn.init.calculate_gain("tanh")
RELU_GAIN = math.sqrt(2)  # He et al. 2015, equation 10

Sample = Callable[[Any], Any]  # From a key to one standard draw.
Scale = Callable[[int, int], float]  # From a layer's fan_in and fan_out.


def standard_normal(key):
    """One draw from N(0, 1)."""
    return jax.random.normal(key)


def standard_uniform(key):
    """One draw from U(-1, 1)."""
    return jax.random.uniform(key, minval=-1.0, maxval=1.0)


def constant(scale: float) -> Scale:
    """The same scale whatever the layer's size."""
    return lambda fan_in, fan_out: scale


def per_fan_in(gain: float) -> Scale:
    """`gain / sqrt(fan_in)`: inputs of unit variance give preactivations of standard deviation `gain`."""
    return lambda fan_in, fan_out: gain / math.sqrt(max(fan_in, 1))


def per_fan_average(gain: float) -> Scale:
    """`gain * sqrt(2 / (fan_in + fan_out))` (Glorot and Bengio 2010, equation 16, as a standard deviation)."""
    return lambda fan_in, fan_out: gain * math.sqrt(2 / max(fan_in + fan_out, 1))


ZERO, ONE = constant(0.0), constant(1.0)


@dataclass(frozen=True)
class Scheme:
    """How a model begins: the scale of each of its parts, over standard draws.

    Attributes:
        summary: the scheme in one line, for tables.
        source: where it comes from.
        sample: a function from a key to one standard draw.
        embedding, hidden, hidden_bias, output, output_bias, direct: functions from a layer's fan_in and fan_out to the
            factor on its draws.
        orthogonal: whether the draws of hidden and output weights are made orthonormal first.
        adjust: a function `(params, counted_contexts) -> params` for a scheme that looks at the training data, or None.
    """

    summary: str
    source: str
    sample: Sample = standard_normal
    embedding: Scale = ONE
    hidden: Scale = ONE
    hidden_bias: Scale = ONE
    output: Scale = ONE
    output_bias: Scale = ONE
    direct: Scale = ONE
    orthogonal: bool = False
    adjust: Callable[[Any, Any], Any] | None = None

    @property
    def is_nested(self) -> bool:
        """Whether the weights of a narrow model are a corner of a wide one's."""
        return not self.orthogonal and self.adjust is None


NORMAL = Scheme("every weight and bias N(0, 1)", "makemore lecture 2 (Karpathy 2022)")
SCALED_OUTPUT = replace(
    NORMAL,
    summary="normal, but output and direct weights x 0.01 and output bias 0",
    source="makemore lecture 3: fixing the initial loss",
    output=constant(0.01),
    output_bias=ZERO,
    direct=constant(0.01),
)
SCALED_HIDDEN = replace(
    SCALED_OUTPUT,
    summary="scaled_output, and hidden weights x 0.2, hidden bias x 0.01",
    source="makemore lecture 3: fixing the saturated tanh",
    hidden=constant(0.2),
    hidden_bias=constant(0.01),
)
FAN_IN = Scheme(
    "weights of standard deviation 1/sqrt(fan_in), biases 0",
    "LeCun et al. 1998, Efficient BackProp, equation 16",
    hidden=per_fan_in(1.0),
    hidden_bias=ZERO,
    output=per_fan_in(1.0),
    output_bias=ZERO,
    direct=per_fan_in(1.0),
)
SCHEMES: dict[str, Scheme] = {
    "normal": NORMAL,
    "uniform": Scheme("every weight and bias U(-1, 1)", "the lecture's JavaScript port", standard_uniform),
    "fan_in": FAN_IN,
    "scaled_output": SCALED_OUTPUT,
    "scaled_hidden": SCALED_HIDDEN,
    "kaiming_tanh": replace(
        SCALED_HIDDEN,
        summary="scaled_hidden, but hidden weights of standard deviation (5/3)/sqrt(fan_in)",
        source="makemore lecture 3; He et al. 2015 with PyTorch's gain for tanh",
        hidden=per_fan_in(TANH_GAIN),
    ),
    "kaiming_relu": replace(
        SCALED_HIDDEN,
        summary="kaiming_tanh with the gain of ReLU, sqrt(2)",
        source="He et al. 2015, equation 10",
        hidden=per_fan_in(RELU_GAIN),
    ),
    "xavier": replace(
        FAN_IN,
        summary="weights of standard deviation sqrt(2/(fan_in + fan_out)), biases 0",
        source="Glorot and Bengio 2010, equation 16",
        hidden=per_fan_average(1.0),
        output=per_fan_average(1.0),
        direct=per_fan_average(1.0),
    ),
    "orthogonal": replace(
        FAN_IN,
        summary="orthogonal hidden and output weights, biases 0",
        source="Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning",
        hidden=ONE,
        output=ONE,
        orthogonal=True,
    ),
    "bengio2003": replace(
        FAN_IN,
        summary="weights U(-1, 1)/sqrt(fan_in), embedding U(-0.1, 0.1), direct 0, biases 0",
        source="Bengio et al. 2003 say only that weights are drawn at random; the scales are chosen here",
        sample=standard_uniform,
        embedding=constant(0.1),
        direct=ZERO,
    ),
    "zeros": Scheme(
        "all zero but the embedding, N(0, 1): symmetry is never broken",
        "Goodfellow et al. 2016, Deep Learning, section 8.4",
        hidden=ZERO,
        hidden_bias=ZERO,
        output=ZERO,
        output_bias=ZERO,
        direct=ZERO,
    ),
}


def with_gain(scheme: Scheme, gain: float) -> Scheme:
    """The scheme with a factor on its hidden weights."""
    return replace(scheme, hidden=lambda fan_in, fan_out: gain * scheme.hidden(fan_in, fan_out))
