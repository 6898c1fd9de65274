"""Initialisation schemes by name, and the axes along which a run may move away from its scheme.

A scheme is the scale of each part of a model, over draws of one distribution. The axes are factors on these scales, the
distribution of the draws at the same variances, and the output bias. The draws themselves are in `mlp_lm.initializers`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlp_lm.data_scaling import lsuv, unit_variance
from mlp_lm.lazy import jax

TANH_GAIN = 5 / 3  # torch.nn.init.calculate_gain("tanh")
RELU_GAIN = math.sqrt(2)  # He et al. 2015, equation 10

TRUNCATED_STD = 0.87962566103423978  # Standard deviation of N(0, 1) cut at -2 and 2.
UNIFORM_STD = 1 / math.sqrt(3)  # Of U(-1, 1).

Sample = Callable[[Any], Any]  # From a key to one draw.
Scale = Callable[[int, int], float]  # From a layer's fan_in and fan_out.


def standard_normal(key):
    """One draw from N(0, 1)."""
    return jax.random.normal(key)


def standard_uniform(key):
    """One draw from U(-1, 1)."""
    return jax.random.uniform(key, minval=-1.0, maxval=1.0)


def truncated_normal(key):
    """One draw from N(0, 1) cut at two standard deviations: its standard deviation is TRUNCATED_STD."""
    return jax.random.truncated_normal(key, -2.0, 2.0)


OWN = "scheme"  # The value of an axis that leaves a scheme as it is.
ORTHOGONAL = "orthogonal"
SAMPLES: dict[str, Sample] = {
    "normal": standard_normal,
    "uniform": standard_uniform,
    "truncated_normal": truncated_normal,
    ORTHOGONAL: standard_normal,  # Before they are made orthonormal.
}
SAMPLE_STDS: dict[Sample, float] = {standard_uniform: UNIFORM_STD, truncated_normal: TRUNCATED_STD}  # Of others, 1.
DRAWS = {OWN: "the scheme's own", **dict.fromkeys(SAMPLES, "at the scheme's standard deviations")}

ZERO_BIAS, PRIOR_BIAS = "zero", "prior"
OUTPUT_BIASES = {OWN: "as the scheme draws it", ZERO_BIAS: "zero", PRIOR_BIAS: "log frequencies of the training tokens"}


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
        sample: a function from a key to one draw, of standard deviation 1 or as SAMPLE_STDS has it.
        embedding, hidden, hidden_bias, output, output_bias, direct: functions from a layer's fan_in and fan_out to the
            factor on its draws.
        orthogonal: whether the draws of hidden and output weights are made orthonormal first, which leaves entries of
            standard deviation 1 / sqrt(max(fan_in, fan_out)).
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

    def draw_std(self, fan_in: int, fan_out: int) -> float:
        """Standard deviation of an entry of a hidden or output matrix before the scheme's factor."""
        return 1 / math.sqrt(max(fan_in, fan_out, 1)) if self.orthogonal else SAMPLE_STDS.get(self.sample, 1.0)

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
    "lsuv": Scheme(
        "orthogonal weights, each layer scaled to outputs of variance 1 over the training windows, biases 0",
        "Mishkin and Matas 2016, All you need is a good init, algorithm 1",
        hidden_bias=ZERO,
        output_bias=ZERO,
        orthogonal=True,
        adjust=lsuv,
    ),
    "unit_variance": replace(
        FAN_IN,
        summary="fan_in, each hidden unit shifted and scaled to mean 0 and variance 1 over the training windows",
        source="Salimans and Kingma 2016, Weight normalization, section 3",
        adjust=unit_variance,
    ),
}


def with_factors(
    scheme: Scheme, embedding: float = 1.0, hidden: float = 1.0, bias: float = 1.0, output: float = 1.0
) -> Scheme:
    """The scheme with factors on its embedding, its hidden weights, its biases, and its output and direct weights.

    Those of a scheme that adjusts its weights to the data act after that: its weights are the adjusted ones.
    """
    if adjust := scheme.adjust:

        def dense(layer, factor):
            return replace(layer, weight=factor * layer.weight, bias=_times(bias, layer.bias))

        def adjusted(params, counted):
            params = adjust(params, counted)
            return replace(
                params,
                embedding=embedding * params.embedding,
                hidden=tuple(dense(layer, hidden) for layer in params.hidden),
                output=dense(params.output, output),
                direct=_times(output, params.direct),
            )

        return replace(scheme, adjust=adjusted)
    factors = {"embedding": embedding, "hidden": hidden, "output": output, "direct": output}
    factors |= {"hidden_bias": bias, "output_bias": bias}
    scales: dict[str, Any] = {part: _scaled(getattr(scheme, part), factor) for part, factor in factors.items()}
    return replace(scheme, **scales)


def with_draws(scheme: Scheme, draw: str) -> Scheme:
    """The scheme with weights and biases of the same standard deviations, drawn as SAMPLES has it."""
    if draw == OWN:
        return scheme
    drawn = replace(scheme, sample=SAMPLES[draw], orthogonal=draw == ORTHOGONAL)
    ratio = SAMPLE_STDS.get(scheme.sample, 1.0) / SAMPLE_STDS.get(drawn.sample, 1.0)

    def matrix(scale: Scale) -> Scale:
        return lambda fan_in, fan_out: (
            scale(fan_in, fan_out) * (scheme.draw_std(fan_in, fan_out) / drawn.draw_std(fan_in, fan_out))
        )

    others = ("embedding", "hidden_bias", "output_bias", "direct")
    scales: dict[str, Any] = {part: _scaled(getattr(scheme, part), ratio) for part in others}
    return replace(drawn, hidden=matrix(scheme.hidden), output=matrix(scheme.output), **scales)


def scheme_of(config: Any) -> Scheme:
    """The scheme of a run (`RunConfig`) at the run's place on the axes; a `prior` output bias is zero as yet."""
    scheme = with_draws(SCHEMES[config.init], config.draw)
    scheme = with_factors(scheme, config.embedding_gain, config.gain, config.bias_gain, config.output_gain)
    return scheme if config.output_bias == OWN else replace(scheme, output_bias=ZERO)


def log_frequencies(counts: Any) -> Any:
    """Logarithms of the relative frequencies of counts `[vocab]`; what never occurs counts as if it had once."""
    counted = np.maximum(np.asarray(counts, np.float64), 1)
    return np.log(counted / counted.sum()).astype(np.float32)


def _scaled(scale: Scale, factor: float) -> Scale:
    return lambda fan_in, fan_out: factor * scale(fan_in, fan_out)


def _times(factor: float, weights: Any) -> Any:
    return None if weights is None else factor * weights
