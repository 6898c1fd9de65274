"""Grids of configurations, and sweeps of grids over one dataset."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlp_lm.config import AXES, DEFAULTS, RunConfig, check_least, check_name
from mlp_lm.data.dataset import dataset_source
from mlp_lm.ideas import loaded_ideas

MAX_RUNS = 1_000_000
DATA_KEYS = ("tokens", "vocabulary", "split_seed")  # Arguments of `dataset_source`, beside `data`.


class Grid:
    """The product of some axes over a base configuration, for several seeds.

        Grid(hidden_size=[100, 200], init=["normal", "kaiming_tanh"])

    Args:
        study: configurations of grids of one study are compared with each other.
        base: every field that the axes leave alone.
        n_seeds: seeds `first_seed` to `first_seed + n_seeds - 1`.
        first_seed: the first one.
        axes: field names of `RunConfig`; a list or tuple of values is an axis, any other value is fixed.

    Raises:
        ValueError: an unknown field, an empty axis, no seed, a value no run can have, or more than a million runs.
    """

    def __init__(
        self,
        study: str = "grid",
        base: RunConfig | None = None,
        n_seeds: int = 1,
        first_seed: int = 0,
        **axes: Any,
    ) -> None:
        check_least("seeds", n_seeds, 1)
        values = {name: tuple(dict.fromkeys(v)) if isinstance(v, list | tuple) else (v,) for name, v in axes.items()}
        for name, several in values.items():
            check_name("key", name, AXES)
            if not several:
                raise ValueError(f"axis {name} is empty; give at least one value")
        fixed = {name: several[0] for name, several in values.items() if len(several) == 1}
        self.study, self.n_seeds, self.first_seed = study, n_seeds, first_seed
        # Several at once: one alone might contradict the others.
        self.base = RunConfig(**(asdict(base or RunConfig()) | fixed))
        self.axes = {name: several for name, several in values.items() if name not in fixed}
        _check_size(n_seeds * math.prod(map(len, self.axes.values())))

    def __repr__(self) -> str:
        axes = ", ".join(f"{name}: {len(values)}" for name, values in self.axes.items())
        return f"<Grid {self.study}: {axes or 'one configuration'}, {self.n_seeds} seed{'s' * (self.n_seeds > 1)}>"

    def __len__(self) -> int:
        return self.n_seeds * math.prod(map(len, self.axes.values()))

    def __iter__(self) -> Iterator[RunConfig]:
        for point in itertools.product(*self.axes.values()):
            settings = dict(zip(self.axes, point, strict=True))
            for seed in range(self.first_seed, self.first_seed + self.n_seeds):
                yield replace(self.base, seed=seed, **settings)

    def override(
        self, axes: Mapping[str, Sequence[Any]], n_seeds: int | None = None, first_seed: int | None = None
    ) -> "Grid":
        """This grid with some axes, and perhaps the seeds, set anew."""
        kept = {name: values for name, values in self.axes.items() if name not in axes}
        given = {name: tuple(values) for name, values in axes.items()}
        return Grid(
            self.study,
            self.base,
            self.n_seeds if n_seeds is None else n_seeds,
            self.first_seed if first_seed is None else first_seed,
            **kept,
            **given,
        )


@dataclass(frozen=True)
class SweepSpec:
    """A named sweep: grids over one dataset, which is known by its `source` (see `mlp_lm.load_dataset`)."""

    name: str
    title: str
    grids: tuple[Grid, ...]
    data: str = "ssa2018"

    def override(
        self, axes: Mapping[str, Sequence[Any]], n_seeds: int | None = None, first_seed: int | None = None
    ) -> "SweepSpec":
        """Every grid with some axes, and perhaps the seeds, set anew."""
        return replace(self, grids=tuple(grid.override(axes, n_seeds, first_seed) for grid in self.grids))

    def expand(self, data_hash: str) -> dict[str, dict[str, RunConfig]]:
        """Study to run id to configuration, on the data of this hash; what occurs twice in a study is run once.

        Raises:
            ValueError: more than a million runs.
        """
        _check_size(sum(map(len, self.grids)))
        ideas = loaded_ideas()
        studies: dict[str, dict[str, RunConfig]] = {}
        for grid in self.grids:
            configs = (replace(config, data_hash=data_hash) for config in grid)
            marked = (ideas.mark(config) if ideas else config for config in configs)
            studies.setdefault(grid.study, {}).update({config.run_id: config for config in marked})
        return studies


def sweep_from_dict(content: Mapping[str, Any], name: str) -> SweepSpec:
    """A sweep from parsed TOML: `title`, `data`, and `[[study]]` tables whose lists are axes and scalars are fixed.

    `ideas` is a file that the caller has loaded already, because names in the studies may come from it.

    Raises:
        ValueError: an unknown key, a wrong type or a value no run can have.
    """
    for key in content:
        check_name("key", key, ("title", "data", *DATA_KEYS, "ideas", "study"))
    tables = content.get("study", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ValueError("no [[study]] table; a sweep file needs at least one")
    data = content.get("data", SweepSpec.data)
    for key, value in {"title": content.get("title", ""), "data": data}.items():
        if not isinstance(value, str) and not (key == "data" and _is_list_of(value, str)):
            raise ValueError(f"{key} must be text, got {value!r}")
    source = dataset_source(data, **{key: content[key] for key in DATA_KEYS if key in content})
    return SweepSpec(name, content.get("title", name), tuple(map(_grid_from_dict, tables)), source)


def _check_size(n_runs: int) -> None:
    if n_runs > MAX_RUNS:
        raise ValueError(f"{n_runs:,} runs in the grid; a sweep has at most {MAX_RUNS:,}: give fewer values or seeds")


def _grid_from_dict(table: Mapping[str, Any]) -> Grid:
    for key in table:
        check_name("key", key, ("name", "seeds", "first_seed", *AXES))
    study = table.get("name", "grid")
    if not isinstance(study, str):
        raise ValueError(f"name must be text, got {study!r}")
    for key in ("seeds", "first_seed"):
        if type(table.get(key, 1)) is not int:
            raise ValueError(f"{key} must be a whole number, got {table[key]!r}")
    axes = {key: table[key] if isinstance(table[key], list) else [table[key]] for key in table if key in AXES}
    checked: dict[str, Any] = {name: [_check_type(name, v) for v in values] for name, values in axes.items()}
    return Grid(study, n_seeds=table.get("seeds", 1), first_seed=table.get("first_seed", 0), **checked)


def parse_axes(given: Mapping[str, Iterable[str]]) -> dict[str, tuple[Any, ...]]:
    """The values of axes from the command line.

    Raises:
        ValueError: a value is not of the field's type.
    """
    return {name: tuple(parse_value(name, text) for text in texts) for name, texts in given.items()}


def parse_value(name: str, text: str) -> Any:
    """A field's value from the command line.

    Raises:
        ValueError: not of the field's type.
    """
    kind = type(DEFAULTS[name])
    if kind is bool:
        values = {"true": True, "false": False}
        if text.lower() not in values:
            raise ValueError(f"{name} must be True or False, got {text!r}")
        return values[text.lower()]
    try:
        return kind(text)
    except ValueError:
        several = "; separate values by spaces" if "," in text else ""
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {text[:60]!r}{several}") from None


_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def _check_type(name: str, value: Any) -> Any:
    kind = type(DEFAULTS[name])
    if kind is float and type(value) is int:
        return float(str(value))  # So that 400 digits are infinite, and refused as such.
    if type(value) is not kind:
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {value!r:.60}")
    return value


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
