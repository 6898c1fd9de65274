"""The flags of commands that train sweeps, and what they ask for. No JAX: mistakes are reported before it starts."""

import argparse
import re
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from experiments.cli.command import Parser, folder_path
from experiments.runner.devices import ACCELERATORS, DEVICES
from experiments.runner.run import RESULTS, RunOptions
from experiments.store import Location, parse_location
from experiments.sweeps.catalog import SWEEPS
from experiments.sweeps.grids import SweepSpec, parse_axes, sweep_from_dict
from mlp_lm.config import AXES, RunConfig, near_match
from mlp_lm.data.dataset import CHARACTERS, WORDS, dataset_source
from mlp_lm.data.texts import TRAINING_VOCABULARY, VOCABULARIES
from mlp_lm.data.word_lists import SPLIT_SEED
from mlp_lm.ideas import load_ideas

DATA_HELP = "ssa2018 (embedded), makemore, brown (downloaded once), small (made here), a file, or three: train dev test"


def add_data_flags(parser: Parser, words: bool = True) -> None:
    """What is trained on; `words` adds the flags of running text."""
    data = parser.add_argument_group("data")
    data.add_argument("--data", nargs="+", metavar="DATA", help=DATA_HELP)
    data.add_argument(
        "--split-seed", type=int, metavar="INT", help=f"of the shuffle before a list is cut ({SPLIT_SEED})"
    )
    if words:
        data.add_argument("--tokens", choices=(CHARACTERS, WORDS), help="of a list of words, or of a running text")
        data.add_argument(
            "--vocabulary", choices=VOCABULARIES, help=f"where the words of a text are counted ({TRAINING_VOCABULARY})"
        )


def requested_source(options: argparse.Namespace, default: str) -> str:
    """The source of the dataset that `add_data_flags` were given, or the default.

    Raises:
        ValueError: flags that contradict each other.
    """
    rest = {name: getattr(options, name, None) for name in ("tokens", "vocabulary", "split_seed")}
    given = {name: value for name, value in rest.items() if value is not None}
    if options.data is None and not given:
        return default
    data = options.data or [default]
    return dataset_source(data[0] if len(data) == 1 else data, **given)


def add_axes(parser: Parser, without: Sequence[str] = ()) -> None:
    """A flag for every field of a run that is an axis."""
    axes = parser.add_argument_group("axes, one or more values each")
    for hyper in fields(RunConfig):
        if hyper.name in AXES and hyper.name not in without:
            flag, rules = f"--{hyper.name.replace('_', '-')}", hyper.metadata
            known = f": {', '.join(rules['table'])}" if "table" in rules else ""
            kind = {int: "INT", float: "FLOAT", bool: "BOOL", str: "NAME"}[type(hyper.default)]
            text = f"{rules['help']}{known} ({hyper.default})".replace("%", "%%")
            axes.add_argument(flag, dest=hyper.name, nargs="+", metavar=kind, help=text)


def given_axes(options: argparse.Namespace) -> dict[str, tuple[Any, ...]]:
    """The values that `add_axes` were given.

    Raises:
        ValueError: a value is not of its field's type.
    """
    return parse_axes({name: texts for name in AXES if (texts := getattr(options, name, None)) is not None})


def add_seed_flags(parser: Parser, help: str, default: int | None = None) -> None:
    """How many seeds, and from which one on."""
    parser.add_argument("--seeds", type=int, metavar="INT", default=default, help=help)
    parser.add_argument("--first-seed", type=int, metavar="INT", help="the first of the seeds (0)")


def add_runner_flags(parser: Parser, folder: str = "NAME") -> None:
    """The flags of `RunOptions`; `folder` is for the help."""
    parser.add_argument(
        "--out",
        type=_location,
        metavar="DIR",
        help=f"the sweep's folder (default: {RESULTS}/{folder}); or s3://, gs://, az://",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan: runs, cohorts, compilations, time")
    parser.add_argument("--workers", type=int, metavar="INT", help="processes, one a core (default: all cores)")
    parser.add_argument("--device", choices=("auto", *DEVICES), default="auto", help="what trains (auto: the fastest)")
    machines = parser.add_argument_group("many machines")
    machines.add_argument(
        "--fetch-to", type=folder_path, metavar="DIR", help=f"of --out s3://...: the copy here ({RESULTS}/{folder})"
    )
    machines.add_argument("--shard", type=_slice, metavar="I/N", help="train slice I of N only; tables come later")
    machines.add_argument("--executor", choices=("local", "ray"), default="local", help="where cohorts are trained")
    machines.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster (default: start one here)")


def runner_options(parser: Parser, options: argparse.Namespace) -> RunOptions:
    """What `add_runner_flags` were given.

    Raises:
        ValueError: flags that contradict each other.
    """
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.fetch_to and not isinstance(options.out, str):
        parser.error("--fetch-to is for --out s3://..., gs://... or az://...; give both or neither")
    if options.device == "tpu" and options.executor == "ray":
        parser.error("--executor ray trains on cores and GPUs; with --device tpu give --shard on each machine")
    if options.workers and options.device in ACCELERATORS:
        parser.error(f"--workers counts processor cores; leave it out with --device {options.device}")
    if options.address is not None and options.executor != "ray":
        parser.error("--address is for --executor ray; give both or neither")
    if options.shard and options.executor == "ray":
        parser.error("--shard and --executor ray both share out the work; give one of them")
    return RunOptions(**{field.name: getattr(options, field.name) for field in fields(RunOptions)})


def requested_sweep(options: argparse.Namespace) -> SweepSpec:
    """The sweep that the command line names, with its axes set as the command line has them.

    Raises:
        ValueError: no such sweep or file, or a value no run can have.
    """
    if options.config:
        try:
            content = _read_toml(options.config)
            if isinstance(ideas := content.get("ideas"), str) and not options.ideas:
                load_ideas(ideas)
            sweep = sweep_from_dict(content, options.config.stem or "sweep")
        except ValueError as error:
            path = str(options.config)
            raise ValueError(str(error) if path in str(error) else f"{path}: {error}") from None
    else:
        name = "default" if options.name is None else options.name
        if name not in SWEEPS:
            raise ValueError(f"unknown sweep {name!r}; {near_match(name, SWEEPS)} (--list shows them)")
        sweep = SWEEPS[name]
    title = sweep.title if options.title is None else options.title
    source = requested_source(options, sweep.data)
    return replace(sweep.override(given_axes(options), options.seeds, options.first_seed), title=title, data=source)


def check_list_alone(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse `--list` beside any other flag.

    Raises:
        ValueError: there is one.
    """
    for name, value in vars(options).items():
        if name != "list" and value != parser.get_default(name):
            shown = "a sweep's name" if name == "name" else f"--{name.replace('_', '-')}"
            parser.error(f"--list shows the named sweeps and runs nothing; leave out {shown}")


def _location(text: str) -> Location:
    try:
        return parse_location(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _slice(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no slice; give I/N with I from 1 to N, such as 3/64")
    return int(match[1]), int(match[2])


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: not a regular file; give a sweep file in TOML")
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give a sweep file in TOML") from None
    except (OSError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as TOML ({error})") from None
