"""One training run, described once.

`RunConfig` lists every hyper-parameter with its type, default, help and role. Command-line flags, TOML keys, table
columns, run ids, which runs share a compiled program, and which numbers that program takes are derived from it. No JAX
is imported.
"""

import difflib
import functools
import hashlib
import json
import math
from collections import namedtuple
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from numbers import Integral, Real
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mlp_lm.activations import ACTIVATIONS, activation_named
from mlp_lm.optimizers import ELEMENTWISE, OPTIMIZERS
from mlp_lm.parametrizations import PARAMETRIZATIONS, STANDARD, ByKind, powers_of
from mlp_lm.schedules import PLATEAU, SCHEDULES
from mlp_lm.schemes import DRAWS, OUTPUT_BIASES, OWN, SCHEMES, with_draws

RESULTS_VERSION = 1  # Enters every run id: raise it when a change makes the same configuration give other numbers.

# Short runs share a program with wider ones, because compiling costs more than padding; by a rule on the run alone, or
# a run's bits would depend on its company.
PADDED_STEPS = 5_000
PADDED_WIDTHS = {"embedding_dim": (4, 16, 32), "hidden_size": (32, 64, 128, 256, 512)}

CPU_RUNS = 4  # Side by side on a core: their weights and activations fit its cache.
LARGEST_INT = 2**31 - 1  # Counted in 32 bits.
LARGE_VOCABULARY = 1_000  # Tokens from which on the softmax is computed in blocks: words, not characters.
FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = {FLOAT32: None, BFLOAT16: None}


class Role(StrEnum):
    """What a hyper-parameter is to the compiled program."""

    SHAPE = "shape"  # Enters the compiled program.
    WIDTH = "width"  # A shape that a short run may pad to a wider one.
    NUMBER = "number"  # An argument of the program, one value a run.
    SWITCH = "switch"  # A number whose zero removes its code.
    PACE = "pace"  # Outside the program, and the same for runs that train side by side.
    HOST = "host"  # Acts before the program.


OF_STEP_DECAY = ("schedule", "step_decay")  # The choice under which alone a field means something.


def _field(default: Any, role: Role, help: str = "", **rules: Any) -> Any:
    return field(default=default, metadata={"role": role, "help": help, **rules})


@dataclass(frozen=True)
class RunConfig:
    """One training run. Runs with equal configurations have equal numbers.

    Raises:
        ValueError: a value that no run can have; the message names the field and the remedy.
    """

    init: str = _field("kaiming_tanh", Role.HOST, "initialisation scheme", table=SCHEMES)
    hidden_size: int = _field(200, Role.WIDTH, "hidden units a layer", least=0)
    embedding_dim: int = _field(10, Role.WIDTH, "dimensions of a token's embedding", least=1)
    block_size: int = _field(3, Role.SHAPE, "context tokens", least=1)
    batch_size: int = _field(32, Role.SHAPE, "windows a step; 0 = all of them (full-batch gradient descent)", least=0)
    n_layers: int = _field(1, Role.SHAPE, "hidden layers", least=1, most=1_000)
    batch_norm: bool = _field(False, Role.SHAPE, "batch norm before each activation")
    activation: str = _field("tanh", Role.SHAPE, "activation of the hidden layers", table=ACTIVATIONS)
    direct: bool = _field(False, Role.SHAPE, "direct connections from the embeddings to the output")
    shuffle: bool = _field(
        False, Role.SHAPE, "pass through all windows in every epoch, instead of drawing with replacement"
    )
    learning_rate: float = _field(0.1, Role.NUMBER, "learning rate at step 0", above=0)
    schedule: str = _field("step_decay", Role.SHAPE, "learning-rate schedule", table=SCHEDULES)
    warmup: float = _field(0.0, Role.SWITCH, "share of the steps in which the learning rate rises linearly", most=1)
    decay_factor: float = _field(
        0.1, Role.NUMBER, "factor on the learning rate after the step of step_decay", least=0, only=OF_STEP_DECAY
    )
    decay_at: float = _field(
        0.5, Role.NUMBER, "share of the steps at which step_decay steps down", least=0, most=1, only=OF_STEP_DECAY
    )
    patience: int = _field(
        3, Role.SHAPE, "evaluations without gain after which plateau steps down", least=1, only=("schedule", PLATEAU)
    )
    inverse_time_rate: float = _field(
        1e-8, Role.NUMBER, "rate of inverse_time's decay, a step", least=0, only=("schedule", "inverse_time")
    )
    momentum: float = _field(0.0, Role.SWITCH, "momentum of SGD", below=1, only=("optimizer", "sgd"))
    optimizer: str = _field("sgd", Role.SHAPE, "optimiser; adam decouples weight decay (AdamW)", table=OPTIMIZERS)
    adam_epsilon: float = _field(
        1e-8,  # Kingma and Ba 2015, algorithm 1.
        Role.NUMBER,
        "epsilon of Adam; a larger one slows weights with small gradients",
        above=0,
        only=("optimizer", "adam"),
    )
    weight_decay: float = _field(0.0, Role.SWITCH, "weight decay, on weights and embedding, never on biases")
    clip_norm: float = _field(0.0, Role.SWITCH, "largest norm of the gradient of a step; 0 = any")
    dropout: float = _field(0.0, Role.SWITCH, "share of hidden units dropped at each step", below=1)
    input_dropout: float = _field(0.0, Role.SWITCH, "share of the context's features dropped at each step", below=1)
    token_noise: float = _field(
        0.0, Role.SWITCH, "share of the context's tokens replaced at each step by others of the training part", below=1
    )
    weight_average: float = _field(
        0.0,
        Role.SWITCH,
        "share of the running average of weights kept at each step; the run ends with that average; 0 = none",
        below=1,
    )
    early_stopping: bool = _field(False, Role.SHAPE, "end with the weights of the evaluation with the lowest dev loss")
    precision: str = _field(FLOAT32, Role.SHAPE, "factors of the output layer's products in training", table=PRECISIONS)
    gain: float = _field(1.0, Role.HOST, "factor on the scheme's hidden weights")
    embedding_gain: float = _field(1.0, Role.HOST, "factor on the scheme's embedding", above=0)
    bias_gain: float = _field(1.0, Role.HOST, "factor on the scheme's biases; 0 = none at first")
    output_gain: float = _field(1.0, Role.HOST, "factor on the scheme's output and direct weights; 0 = none at first")
    draw: str = _field(OWN, Role.HOST, "what weights are drawn from, at the scheme's standard deviations", table=DRAWS)
    output_bias: str = _field(
        OWN, Role.HOST, "output bias at the start; prior = log frequencies of the training tokens", table=OUTPUT_BIASES
    )
    parametrization: str = _field(
        STANDARD, Role.SHAPE, "how scales and rates go with hidden_size", table=PARAMETRIZATIONS
    )
    base_width: int = _field(
        200, Role.HOST, "hidden_size at which a parametrization other than standard equals it", least=1
    )
    n_steps: int = _field(20_000, Role.PACE, "training steps", least=1)
    n_evaluations: int = _field(10, Role.PACE, "exact evaluations after step 0, evenly spaced", least=1)
    diagnostics: bool = _field(False, Role.PACE, "record saturation, activation, gradient and update statistics")
    seed: int = _field(0, Role.NUMBER, least=0, most=2**32 - 1)
    data_hash: str = _field("", Role.HOST)
    ideas_hash: str = _field("", Role.HOST)  # Of the ideas file that an entry comes from; empty for built-in ones.

    def __post_init__(self) -> None:
        for name, default in DEFAULTS.items():
            value = getattr(self, name)
            if type(value) is not type(default):  # Equal configurations have equal run ids: 1 is 1.0 to a rate.
                object.__setattr__(self, name, value := _as_type_of(default, name, value))
            _check(name, value)
        for name, (chooser, owner) in _ONLY.items():
            value, chosen = getattr(self, name), getattr(self, chooser)
            if value != DEFAULTS[name] and chosen != owner and chosen in BUILT_IN[chooser]:
                raise ValueError(f"{name} {value} is of {owner}; leave it out with {chooser} {chosen}")
        drawn = self.drops or self.token_noise or self.shuffle
        if self.batch_size == 0 and (drawn or self.precision != FLOAT32):
            raise ValueError(
                "batch_size 0 (full-batch gradient descent) has no dropout, token_noise, shuffle or other precision"
            )
        if self.batch_norm and self.precision != FLOAT32:
            raise ValueError(f"precision {self.precision} is for models without batch norm; leave one of them out")
        if self.hidden_size == 0 and not self.direct:
            raise ValueError(
                "hidden_size 0 leaves nothing between context and output; give direct True or hidden units"
            )
        if parametrization := PARAMETRIZATIONS[self.parametrization]:
            if self.optimizer not in parametrization.rates:
                known = " and ".join(parametrization.rates)
                raise ValueError(
                    f"parametrization {self.parametrization} is for {known}, got optimizer {self.optimizer}"
                )
            if self.hidden_size == 0:
                raise ValueError(f"parametrization {self.parametrization} is for hidden units; hidden_size 0 has none")
            if SCHEMES[self.init].adjust:
                raise ValueError(
                    f"init {self.init} takes its scales from the data, not from the parametrization "
                    f"{self.parametrization}; leave one of them out"
                )
        elif self.base_width != DEFAULTS["base_width"]:
            raise ValueError(
                f"base_width {self.base_width} is of mup and ntk; leave it out with parametrization standard"
            )
        if self.n_evaluations > self.n_steps:
            raise ValueError(
                f"n_evaluations {self.n_evaluations} exceeds n_steps {self.n_steps}; "
                f"give n_evaluations {self.n_steps} or fewer"
            )

    @property
    def drops(self) -> bool:
        """Whether anything is dropped."""
        return self.dropout > 0 or self.input_dropout > 0

    @functools.cached_property
    def run_id(self) -> str:
        """A content hash. Fields at their default do not enter, so a new field leaves old runs what they were."""
        given = {name: value for name, default in DEFAULTS.items() if (value := getattr(self, name)) != default}
        content = json.dumps([RESULTS_VERSION, given], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def evaluation_steps(self) -> tuple[int, ...]:
        """Step 0, then `n_evaluations` evenly spaced steps up to the last."""
        return tuple(self.n_steps * i // self.n_evaluations for i in range(self.n_evaluations + 1))

    @property
    def trained_widths(self) -> tuple[Any, ...]:
        """The widths of the program that trains this run: its own, or wider ones of which the rest stays at zero.

        Only where that is exact (see `mlp_lm.padding`), and where a run is short.
        """
        pads = (
            self.n_steps <= PADDED_STEPS
            and not self.drops  # Dropout's draws depend on the width.
            and with_draws(SCHEMES[self.init], self.draw).is_nested
            and self.optimizer in ELEMENTWISE
            and activation_named(self.activation).keeps_zero
        )
        own = {name: getattr(self, name) for name in NAMES[Role.WIDTH]}
        if not pads:
            return tuple(own.values())
        return tuple(next((w for w in PADDED_WIDTHS[name] if w >= own[name] > 0), own[name]) for name in own)

    @property
    def company(self) -> tuple[Any, ...]:
        """Equal for runs that may train side by side: those of one program and one pace."""
        return self._program_key, _values[Role.PACE](self)

    @property
    def _program_key(self) -> tuple[Any, ...]:
        switches = tuple(value > 0 for value in _values[Role.SWITCH](self))
        return _values[Role.SHAPE](self), self.trained_widths, switches

    def program(self) -> "RunConfig":
        """What is compiled: this configuration with all that a compiled program may vary set to one value.

        It is the static argument of `jax.jit`; two runs share a compiled program exactly if theirs are equal.
        """
        return _program(*self._program_key)

    @property
    def width_ratio(self) -> float:
        """What the parametrisation takes powers of: hidden_size / base_width."""
        return self.hidden_size / self.base_width

    def numbers(self) -> "Numbers":
        """The pytree that a compiled program takes: numbers and switches, in the types of the device.

        A switch that is off is None, so that `numbers.momentum is None` is known when a program is compiled; and so are
        `rate_factors` (a `ByKind`) with the standard parametrization.
        """
        values = {name: _as_number(getattr(self, name)) for name in NAMES[Role.NUMBER]}
        switches = {name: _as_number(value) if (value := getattr(self, name)) else None for name in NAMES[Role.SWITCH]}
        factors = None
        if parametrization := PARAMETRIZATIONS[self.parametrization]:
            factors = ByKind(*map(np.float32, powers_of(self.width_ratio, parametrization.rates[self.optimizer])))
        return Numbers(**values, **switches, rate_factors=factors)

    def architecture(self, vocab_size: int) -> "Architecture":
        """The sizes of this run's model."""
        return Architecture(vocab_size, **{f.name: getattr(self, f.name) for f in fields(Architecture)[1:]})


@dataclass(frozen=True)
class Architecture:
    """The sizes that shape a model. `hidden_size = 0` leaves only the direct connections (a log-linear model)."""

    vocab_size: int
    block_size: int
    embedding_dim: int
    hidden_size: int
    n_layers: int = 1
    batch_norm: bool = False
    direct: bool = False
    activation: str = "tanh"

    @property
    def n_features(self) -> int:
        """Width of the concatenated embeddings of a context."""
        return self.block_size * self.embedding_dim

    @property
    def n_weights(self) -> int:
        """Weights of the matrix products; embedding, biases and norms not counted."""
        hidden = self.n_features * self.hidden_size + (self.n_layers - 1) * self.hidden_size**2
        return hidden + (self.hidden_size + (self.n_features if self.direct else 0)) * self.vocab_size

    @property
    def n_params(self) -> int:
        """Number of trainable parameters. Batch norm replaces each hidden bias by a gain and a shift."""
        per_unit = 2 if self.batch_norm else 1
        biases = per_unit * self.n_layers * self.hidden_size + self.vocab_size
        return self.n_weights + self.vocab_size * self.embedding_dim + biases


NAMES: dict[Role, tuple[str, ...]] = {
    role: tuple(f.name for f in fields(RunConfig) if f.metadata["role"] is role) for role in Role
}
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(RunConfig)}
AXES = tuple(f.name for f in fields(RunConfig) if f.metadata["help"])  # Everything but seed, data and ideas.
TABLES: dict[str, Mapping[str, Any]] = {f.name: f.metadata["table"] for f in fields(RunConfig) if "table" in f.metadata}
BUILT_IN = {name: frozenset(table) for name, table in TABLES.items()}  # Before any ideas file has added to them.

_RULES = {f.name: f.metadata for f in fields(RunConfig)}
_ONLY = {name: rules["only"] for name, rules in _RULES.items() if "only" in rules}

if TYPE_CHECKING:
    Numbers: TypeAlias = Any  # With an attribute for each number and switch.
else:
    Numbers = namedtuple("Numbers", (*NAMES[Role.NUMBER], *NAMES[Role.SWITCH], "rate_factors"))
Numbers.__doc__ = "A run's numbers; those of switches that are off are None. Of several runs: arrays `[run]`."

_values = {role: attrgetter(*names) for role, names in NAMES.items()}


def run_batch_size(config: RunConfig, vocab_size: int, widest: int) -> int:
    """Runs that one program trains side by side: fewer where batches are large or full, or vocabularies large.

    `widest` is the device's own limit (`CPU_RUNS` on a processor). On a processor the number enters a run's bits, so it
    follows from the run alone.
    """
    if vocab_size > LARGE_VOCABULARY:  # A run's weights alone fill a processor's cache.
        return max(1, widest // 64)
    return widest if 0 < config.batch_size <= 32 else max(1, widest // 2)


def near_match(value: str, known: Collection[str]) -> str:
    """`did you mean ...?`, or what there is."""
    near = difflib.get_close_matches(value, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def check_name(kind: str, value: Any, known: Collection[str]) -> None:
    """Refuse an unknown name.

    Raises:
        ValueError: `value` is not among `known`; the message has the nearest one.
    """
    if value not in known:
        raise ValueError(f"unknown {kind} {value!r}; {near_match(str(value), known)}")


def check_least(name: str, value: int | float, least: int | float) -> None:
    """Refuse a value that is not finite or below `least`.

    Raises:
        ValueError: it is.
    """
    if not (value >= least and value != math.inf):  # Which a whole number past all floats can be compared with.
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _as_type_of(default: Any, name: str, value: Any) -> Any:
    """A whole number for a field of numbers, or NumPy's own for Python's.

    Raises:
        ValueError: something else.
    """
    for kind, accepted in ((bool, np.bool_), (int, Integral), (float, Real)):
        if type(default) is kind and isinstance(value, accepted) and not isinstance(value, bool):
            try:
                return kind(value)
            except OverflowError:  # A whole number past all floats.
                return math.inf
    raise ValueError(f"{name} must be of type {type(default).__name__}, got {value!r}")


def _check(name: str, value: Any) -> None:
    if name in TABLES:  # To which an ideas file may have added since.
        check_name(name, value, TABLES[name])
    else:
        _check_number(name, value)


@functools.lru_cache(maxsize=100_000, typed=True)  # A million runs are checked in seconds.
def _check_number(name: str, value: Any) -> None:
    rules = _RULES[name]
    if isinstance(value, str | bool):
        return
    if "above" in rules and not (math.isfinite(value) and value > rules["above"]):
        raise ValueError(f"{name} must be a positive number, got {value}")
    check_least(name, value, rules.get("least", 0))
    most = rules.get("most", LARGEST_INT if isinstance(value, int) else math.inf)
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {str(value)[:20]}{'...' * (len(str(value)) > 20)}")
    on_device = _as_number(value)
    if "below" in rules and on_device >= rules["below"]:
        raise ValueError(f"{name} must be below {rules['below']}, got {value}")
    if isinstance(value, float) and ((on_device == 0) != (value == 0) or not np.isfinite(on_device)):
        raise ValueError(f"{name} must be at least 1.2e-38 and at most 3.4e38, the range of float32, got {value}")


def _as_number(value: int | float) -> np.uint32 | np.float32:
    if isinstance(value, int) and 0 <= value < 2**32:
        return np.uint32(value)
    with np.errstate(over="ignore", under="ignore"):
        number = np.float32(value)
    return np.float32(0) if 0 < number < np.finfo(np.float32).tiny else number  # As devices treat subnormal numbers.


@functools.lru_cache(maxsize=10_000)
def _program(shapes: tuple[Any, ...], widths: tuple[Any, ...], switches: tuple[bool, ...]) -> RunConfig:
    settings: dict[str, Any] = dict(zip(NAMES[Role.SHAPE] + NAMES[Role.WIDTH], shapes + widths, strict=True))
    settings |= {name: 0.5 if on else 0.0 for name, on in zip(NAMES[Role.SWITCH], switches, strict=True)}
    return RunConfig(**settings)
