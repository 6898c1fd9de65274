"""Grids of configurations, and sweeps of grids over one dataset."""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.sweeps.ranges import DEFAULT_POINTS, Range, draw_points, make_range, parse_range
from mlp_lm.config import AXES, DEFAULTS, RunConfig, check_least, check_name
from mlp_lm.data.dataset import dataset_source
from mlp_lm.ideas import loaded_ideas

MAX_RUNS = 1_000_000
DATA_KEYS = ("tokens", "vocabulary", "split_seed")  # Arguments of `dataset_source`, beside `data`.


class Grid:
    """The product of some axes over a base configuration, for several seeds.

        Grid(hidden_size=[100, 200], init=["normal", "kaiming_tanh"])
        Grid(learning_rate=Range(0.01, 1, log=True), weight_decay=Range(1e-5, 1e-2, log=True), n_points=32)
        Grid(hidden_size=[100, 300], learning_rate=[0.2, 0.1], zipped=[["hidden_size", "learning_rate"]])

    Args:
        study: configurations of grids of one study are compared with each other.
        base: every field that the axes leave alone.
        n_seeds: seeds `first_seed` to `first_seed + n_seeds - 1`.
        first_seed: the first one.
        n_points: how many points are drawn where an axis is a range.
        zipped: groups of axes that take their first values together, then their second ones, and so on.
        axes: field names of `RunConfig`; a list or tuple of values is an axis, a `Range` is one whose values are drawn,
            any other value is fixed. Every drawn point is combined with every listed value.

    Raises:
        ValueError: an unknown field, an empty axis, no seed, zipped axes of different lengths, or a value no run can
            have.
    """

    def __init__(
        self,
        study: str = "grid",
        base: RunConfig | None = None,
        n_seeds: int = 1,
        first_seed: int = 0,
        n_points: int = DEFAULT_POINTS,
        zipped: Iterable[Sequence[str]] = (),
        **axes: Any,
    ) -> None:
        check_least("seeds", n_seeds, 1)
        if n_seeds > MAX_RUNS:
            raise ValueError(f"seeds must be at most {MAX_RUNS:,}, got {str(n_seeds)[:20]}")
        for name in axes:
            check_name("key", name, AXES)
        self.ranges = {name: make_range(name, v.low, v.high, v.log) for name, v in axes.items() if isinstance(v, Range)}
        values = {
            name: tuple(dict.fromkeys(v)) if isinstance(v, list | tuple) else (v,)
            for name, v in axes.items()
            if name not in self.ranges
        }
        for name, several in values.items():
            if not several:
                raise ValueError(f"axis {name} is empty; give at least one value")
        groups = [tuple(group) for group in zipped]
        values |= _check_zipped(groups, axes)
        self.zipped = tuple(group for group in groups if len(values[group[0]]) > 1)
        fixed = {name: several[0] for name, several in values.items() if len(several) == 1}
        self.study, self.n_seeds, self.first_seed, self.n_points = study, n_seeds, first_seed, n_points
        # Several at once: one alone might contradict the others.
        self.base = RunConfig(**(asdict(base or RunConfig()) | fixed))
        self.axes = {name: several for name, several in values.items() if name not in fixed}

    def __repr__(self) -> str:
        axes = [f"{name}: {len(values)}" for name, values in self.axes.items()]
        axes += [f"{name}: {range_}" for name, range_ in self.ranges.items()]
        points = f", {self.n_points} points" if self.ranges else ""
        seeds = f"{self.n_seeds} seed{'s' * (self.n_seeds > 1)}"
        return f"<Grid {self.study}: {', '.join(axes) or 'one configuration'}{points}, {seeds}>"

    def __len__(self) -> int:
        return self.n_seeds * math.prod(map(len, self._factors))

    def __iter__(self) -> Iterator[RunConfig]:
        for parts in itertools.product(*self._factors):
            settings = {name: value for part in parts for name, value in part.items()}
            for seed in range(self.first_seed, self.first_seed + self.n_seeds):
                yield replace(self.base, seed=seed, **settings)

    @functools.cached_property
    def _factors(self) -> list[list[dict[str, Any]]]:
        """What is multiplied: the drawn points, and the settings of each axis or group of zipped axes."""
        factors = [draw_points(self.ranges, self.n_points)] if self.ranges else []
        group_of = {name: group for group in self.zipped for name in group}
        for group in dict.fromkeys(group_of.get(name, (name,)) for name in self.axes):
            names = [name for name in group if name in self.axes]
            factors.append([dict(zip(names, v, strict=True)) for v in zip(*map(self.axes.get, names), strict=True)])
        return factors

    def override(
        self,
        axes: Mapping[str, Any],
        n_seeds: int | None = None,
        first_seed: int | None = None,
        n_points: int | None = None,
        zipped: Iterable[Sequence[str]] | None = None,
    ) -> "Grid":
        """This grid with some axes, and perhaps the seeds, points and zipped axes, set anew."""
        kept = {name: values for name, values in (self.axes | self.ranges).items() if name not in axes}
        given = {name: v if isinstance(v, Range) else tuple(v) for name, v in axes.items()}
        return Grid(
            self.study,
            self.base,
            self.n_seeds if n_seeds is None else n_seeds,
            self.first_seed if first_seed is None else first_seed,
            self.n_points if n_points is None else n_points,
            self.zipped if zipped is None else zipped,
            **kept,
            **given,
        )


def _check_zipped(groups: Iterable[Sequence[str]], axes: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The values of zipped axes; here a value may come twice.

    Raises:
        ValueError: an unknown or repeated name, one that is no list, or lists of different lengths.
    """
    values: dict[str, tuple[Any, ...]] = {}
    for group in groups:
        if len(group) < 2:
            raise ValueError(f"zip {' '.join(group)}: zip two axes or more")
        for name in group:
            check_name("zipped axis", name, AXES)
            if name in values or not isinstance(axes.get(name), list | tuple):
                why = "is zipped twice" if name in values else "is no list of values"
                raise ValueError(f"zip {' '.join(group)}: {name} {why}; zip axes that have a list each")
            values[name] = tuple(axes[name])
        lengths = {name: len(values[name]) for name in group}
        if len(set(lengths.values())) > 1:
            several = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"zip {' '.join(group)}: {several}; zipped axes need as many values each")
    return values


@dataclass(frozen=True)
class SweepSpec:
    """A named sweep: grids over one dataset, which is known by its `source` (see `mlp_lm.load_dataset`).

    `folder` is the name of its own folder among a user's results, where it is not that of the sweep.
    """

    name: str
    title: str
    grids: tuple[Grid, ...]
    data: str = "ssa2018"
    folder: str = ""

    def override(
        self,
        axes: Mapping[str, Any],
        n_seeds: int | None = None,
        first_seed: int | None = None,
        n_points: int | None = None,
        zipped: Iterable[Sequence[str]] | None = None,
    ) -> "SweepSpec":
        """Every grid with some axes, and perhaps the seeds, points and zipped axes, set anew.

        Raises:
            ValueError: points, and no range to draw them from.
        """
        grids = tuple(grid.override(axes, n_seeds, first_seed, n_points, zipped) for grid in self.grids)
        if n_points is not None and not any(grid.ranges for grid in grids):
            raise ValueError(f"points {n_points}: no axis has a range; give one, such as --learning-rate 0.01:1:log")
        return replace(self, grids=grids)

    @property
    def ranges(self) -> dict[str, dict[str, Range]]:
        """By study that has any, the fields whose values are drawn from a range."""
        by_study: dict[str, dict[str, Range]] = {}
        for grid in self.grids:
            if grid.ranges:
                by_study.setdefault(grid.study, {}).update(grid.ranges)
        return by_study

    def expand(self, data_hash: str) -> dict[str, dict[str, RunConfig]]:
        """Study to run id to configuration, on the data of this hash; what occurs twice in a study is run once.

        Raises:
            ValueError: more than a million runs.
        """
        size = sum(map(len, self.grids))
        if size > MAX_RUNS:
            raise ValueError(f"{size:,} runs in the grid; a sweep has at most {MAX_RUNS:,}: give fewer values or seeds")
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
    if type(content.get("split_seed", 0)) is not int:
        raise ValueError(f"split_seed must be a whole number, got {content['split_seed']!r}")
    source = dataset_source(data, **{key: content[key] for key in DATA_KEYS if key in content})
    return SweepSpec(name, content.get("title", name), tuple(map(_grid_from_dict, tables)), source)


def _grid_from_dict(table: Mapping[str, Any]) -> Grid:
    for key in table:
        check_name("key", key, ("name", "seeds", "first_seed", "points", "zip", *AXES))
    study = table.get("name", "grid")
    if not isinstance(study, str):
        raise ValueError(f"name must be text, got {study!r}")
    for key in ("seeds", "first_seed", "points"):
        if type(table.get(key, 1)) is not int:
            raise ValueError(f"{key} must be a whole number, got {table[key]!r}")
    zipped = table.get("zip", [])
    groups = [zipped] if _is_list_of(zipped, str) and zipped else zipped
    if not isinstance(groups, list) or not all(_is_list_of(group, str) for group in groups):
        raise ValueError(f"zip must be a list of axes, or a list of such lists, got {zipped!r}")
    axes: dict[str, Any] = {}
    for name in (key for key in table if key in AXES):
        value = table[name]
        if isinstance(value, dict):
            if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
                raise ValueError(f"{name}: a range is {{ low = 0.01, high = 1.0, log = true }}, got {value!r}")
            axes[name] = make_range(name, **value)
        else:
            axes[name] = [_check_type(name, v) for v in (value if isinstance(value, list) else [value])]
    if "points" in table and not any(isinstance(value, Range) for value in axes.values()):
        raise ValueError(f"points {table['points']}: no axis has a range, such as {{ low = 0.01, high = 1.0 }}")
    n_points = table.get("points", DEFAULT_POINTS)
    return Grid(study, None, table.get("seeds", 1), table.get("first_seed", 0), n_points, groups, **axes)


def parse_axes(given: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The values of axes from the command line: a tuple, or a range.

    Raises:
        ValueError: a value is not of the field's type, or a range is not alone.
    """
    axes: dict[str, Any] = {}
    for name, texts in given.items():
        parsed = [parse_range(name, text) or parse_value(name, text) for text in texts]
        has_range = any(isinstance(value, Range) for value in parsed)
        if has_range and len(parsed) > 1:
            raise ValueError(f"{name}: a range stands alone; give one range, or a list of values")
        axes[name] = parsed[0] if has_range else tuple(parsed)
    return axes


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
        return float(str(value))  # Infinite where it is past all floats.
    if type(value) is not kind:
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    return value


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
