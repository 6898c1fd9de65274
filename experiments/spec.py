"""What is to be run: a run's specification, a sweep's expansion. No JAX: mistakes are found before it starts."""

import difflib
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

# The keys of mlp_lm.initializers.SCHEMES and mlp_lm.schedules.SCHEDULES, which import JAX; a test holds them equal.
INIT_NAMES = (
    "normal", "uniform", "fan_in", "scaled_output", "scaled_hidden", "kaiming_tanh", "kaiming_relu", "xavier",
    "orthogonal", "bengio2003", "zeros",
)  # fmt: skip
SCHEDULE_NAMES = ("step_decay", "constant", "cosine", "inverse_time", "plateau")
OPTIMIZERS = ("sgd", "adam")
PRECISIONS = ("float32", "bfloat16")
ADAM_EPSILON = 1e-8  # That of mlp_lm.training, too.
LEAST_EPSILON = 1.2e-38  # A smaller one is 0 in float32, and 0 / 0 no number.

MAX_RUNS = 1_000_000
RESULTS_VERSION = 1  # Enters every run_id: raise it when a change makes the same specification give other numbers.


def near_match(value: str, known: Collection[str]) -> str:
    """`did you mean ...?`, or what there is."""
    near = difflib.get_close_matches(value, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _check_name(kind: str, value: Any, known: Collection[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {kind} {value!r}; {near_match(str(value), known)}")


def _check_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value}")


def _option(default: Any, help: str, choices: Sequence[str] = ()) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class RunSpec:
    """One training run. Two runs with equal specifications give equal numbers.

    Raises:
        ValueError: a value no run can have; the message names the field and the remedy.
    """

    init: str = _option("kaiming_tanh", "initialisation scheme", INIT_NAMES)
    hidden_size: int = _option(200, "hidden units a layer")
    embedding_dim: int = _option(10, "dimensions of a token's embedding")
    block_size: int = _option(3, "context tokens")
    batch_size: int = _option(32, "windows a step; 0 = all of them (full-batch gradient descent)")
    n_layers: int = _option(1, "hidden layers")
    batch_norm: bool = _option(False, "batch norm before each tanh")
    direct: bool = _option(False, "direct connections from the embeddings to the output")
    shuffle: bool = _option(False, "pass through all windows in every epoch, instead of drawing with replacement")
    learning_rate: float = _option(0.1, "learning rate at step 0")
    schedule: str = _option("step_decay", "learning-rate schedule", SCHEDULE_NAMES)
    momentum: float = _option(0.0, "momentum of SGD")
    optimizer: str = _option("sgd", "optimiser; adam decouples weight decay (AdamW)", OPTIMIZERS)
    adam_epsilon: float = _option(ADAM_EPSILON, "epsilon of Adam; a larger one slows weights with small gradients")
    weight_decay: float = _option(0.0, "weight decay, on weights and embedding, never on biases")
    dropout: float = _option(0.0, "share of hidden units dropped at each step")
    input_dropout: float = _option(0.0, "share of the context's features dropped at each step")
    early_stopping: bool = _option(False, "end with the weights of the evaluation with the lowest dev loss")
    precision: str = _option("float32", "factors of the output layer's products in training", PRECISIONS)
    gain: float = _option(1.0, "factor on the scheme's hidden weights")
    n_steps: int = _option(20_000, "training steps")
    n_evaluations: int = _option(10, "exact evaluations after step 0, evenly spaced")
    diagnostics: bool = _option(False, "record saturation, activation, gradient and update statistics")
    seed: int = 0
    data_hash: str = ""

    def __post_init__(self) -> None:
        _check_name("init", self.init, INIT_NAMES)
        _check_name("schedule", self.schedule, SCHEDULE_NAMES)
        for name in ("embedding_dim", "block_size", "n_layers", "n_steps", "n_evaluations"):
            _check_least(name, getattr(self, name), 1)
        _check_name("optimizer", self.optimizer, OPTIMIZERS)
        _check_name("precision", self.precision, PRECISIONS)
        for name in ("hidden_size", "batch_size", "seed", "momentum", "weight_decay", "dropout", "input_dropout"):
            _check_least(name, getattr(self, name), 0)
        for name in ("learning_rate", "gain"):
            _check_positive(name, getattr(self, name))
        for name in ("momentum", "dropout", "input_dropout"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)}")
        _check_least("adam_epsilon", self.adam_epsilon, LEAST_EPSILON)
        self._check_together()

    def _check_together(self) -> None:
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum {self.momentum} is of sgd; leave it out with optimizer adam")
        if self.optimizer == "sgd" and self.adam_epsilon != ADAM_EPSILON:
            raise ValueError(f"adam_epsilon {self.adam_epsilon} is of adam; leave it out with optimizer sgd")
        if self.batch_size == 0 and (self.drops or self.shuffle or self.precision != "float32"):
            raise ValueError("batch_size 0 (full-batch gradient descent) has no dropout, shuffle or other precision")
        if self.batch_norm and self.precision != "float32":
            raise ValueError(f"precision {self.precision} is for models without batch norm; leave one of them out")
        if self.hidden_size == 0 and not self.direct:
            raise ValueError(
                "hidden_size 0 leaves nothing between context and output; give direct True or hidden units"
            )
        if self.n_evaluations > self.n_steps:
            raise ValueError(f"n_evaluations {self.n_evaluations} exceeds n_steps {self.n_steps}; evaluate less often")
        if self.n_steps >= 2**31:  # Steps are counted in 32 bits.
            raise ValueError(f"n_steps must be below 2**31, got {self.n_steps}")
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, got {self.seed}")

    @property
    def drops(self) -> bool:
        """Whether anything is dropped."""
        return self.dropout > 0 or self.input_dropout > 0

    @functools.cached_property
    def run_id(self) -> str:
        """A content hash. Fields at their default do not enter, so a new field leaves old runs what they were."""
        told = {name: value for name, default in _DEFAULTS if (value := getattr(self, name)) != default}
        content = json.dumps([RESULTS_VERSION, told], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def evaluation_steps(self) -> tuple[int, ...]:
        """Step 0, then `n_evaluations` evenly spaced steps up to the last."""
        return tuple(self.n_steps * i // self.n_evaluations for i in range(self.n_evaluations + 1))


AXES = tuple(f.name for f in fields(RunSpec) if f.metadata)  # Everything but the seed and the data.
_DEFAULTS = tuple((f.name, f.default) for f in fields(RunSpec))
_TYPES: dict[str, Any] = {f.name: type(f.default) for f in fields(RunSpec)}


@dataclass(frozen=True)
class Grid:
    """The product of some axes over a base run, for seeds 0 to n_seeds - 1. Grids of one `study` are compared."""

    study: str
    base: RunSpec = RunSpec()
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    n_seeds: int = 1

    def __post_init__(self) -> None:
        _check_least("seeds", self.n_seeds, 1)
        for name, values in self.axes:
            if not values:
                raise ValueError(f"axis {name} is empty; give at least one value")

    def __len__(self) -> int:
        return self.n_seeds * math.prod(len(values) for _, values in self.axes)

    def __iter__(self) -> Iterator[RunSpec]:
        names = [name for name, _ in self.axes]
        for point in itertools.product(*(values for _, values in self.axes)):
            for seed in range(self.n_seeds):
                yield replace(self.base, seed=seed, **dict(zip(names, point, strict=True)))

    def with_axes(self, axes: dict[str, tuple[Any, ...]]) -> "Grid":
        """This grid with some axes set anew; an axis of one value joins the base."""
        single = {name: values[0] for name, values in axes.items() if len(values) == 1}
        kept = tuple((name, values) for name, values in self.axes if name not in axes)
        several = tuple((name, tuple(dict.fromkeys(values))) for name, values in axes.items() if name not in single)
        return replace(self, base=_replace_together(self.base, single), axes=kept + several)


@dataclass(frozen=True)
class SweepSpec:
    """A named sweep: grids over one word list or text."""

    name: str
    title: str
    grids: tuple[Grid, ...]
    data: str = "ssa2018"

    def override(self, axes: dict[str, tuple[Any, ...]], n_seeds: int | None = None) -> "SweepSpec":
        """Every grid with some axes, and perhaps the number of seeds, set anew."""
        grids = (grid.with_axes(axes) for grid in self.grids)
        return replace(self, grids=tuple(replace(g, n_seeds=g.n_seeds if n_seeds is None else n_seeds) for g in grids))

    def expand(self, data_hash: str) -> dict[str, dict[str, RunSpec]]:
        """Study to run_id to run, on the data of this hash; a run that stands twice in a study is run once.

        Raises:
            ValueError: more than a million runs.
        """
        size = sum(len(grid) for grid in self.grids)
        if size > MAX_RUNS:
            raise ValueError(f"{size:,} runs in the grid; a sweep has at most {MAX_RUNS:,}: give fewer values or seeds")
        studies: dict[str, dict[str, RunSpec]] = {}
        for grid in self.grids:
            on_data = replace(grid, base=replace(grid.base, data_hash=data_hash))
            studies.setdefault(grid.study, {}).update({run.run_id: run for run in on_data})
        return studies


def sweep_from_dict(content: dict[str, Any], name: str) -> SweepSpec:
    """A sweep from parsed TOML: `title`, `data`, and `[[study]]` tables whose lists are axes and scalars are fixed.

    Raises:
        ValueError: an unknown key, a wrong type or a value no run can have.
    """
    for key in content:
        _check_name("key", key, ("title", "data", "study"))
    tables = content.get("study", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ValueError("no [[study]] table; a sweep file needs at least one")
    for key in ("title", "data"):
        if not isinstance(content.get(key, ""), str):
            raise ValueError(f"{key} must be text, got {content[key]!r}")
    grids = tuple(_grid_from_dict(table) for table in tables)
    return SweepSpec(name, content.get("title", name), grids, content.get("data", SweepSpec.data))


def _grid_from_dict(table: dict[str, Any]) -> Grid:
    for key in table:
        _check_name("key", key, ("name", "seeds", *AXES))
    study, n_seeds = table.get("name", "grid"), table.get("seeds", 1)
    if not isinstance(study, str):
        raise ValueError(f"name must be text, got {study!r}")
    if type(n_seeds) is not int:
        raise ValueError(f"seeds must be a whole number, got {n_seeds!r}")
    axes = {key: table[key] if isinstance(table[key], list) else [table[key]] for key in table if key in AXES}
    checked = {name: tuple(_check_type(name, value) for value in values) for name, values in axes.items()}
    empty = next((name for name, values in checked.items() if not values), None)
    if empty:
        raise ValueError(f"axis {empty} is empty; give at least one value")
    return Grid(study, n_seeds=n_seeds).with_axes(checked)


def parse_value(name: str, text: str) -> Any:
    """A field's value from the command line.

    Raises:
        ValueError: not of the field's type.
    """
    kind = _TYPES[name]
    if kind is bool:
        values = {"true": True, "false": False}
        if text.lower() not in values:
            raise ValueError(f"{name} must be True or False, got {text!r}")
        return values[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {text!r}") from None


_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def _check_type(name: str, value: Any) -> Any:
    kind = _TYPES[name]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    return value


def _replace_together(spec: RunSpec, values: dict[str, Any]) -> RunSpec:
    return RunSpec(**(asdict(spec) | values))
