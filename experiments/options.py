"""The sweep's command line, and the sweep that it names. No JAX: mistakes are found before it starts."""

import argparse
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from experiments.catalog import SWEEPS
from experiments.command import command_parser
from experiments.running.devices import ACCELERATORS, DEVICES
from experiments.spec import AXES, RunSpec, SweepSpec, near_match, parse_value, sweep_from_dict
from experiments.store import Location, parse_location

EPILOG = """examples:
  python -m experiments.sweep                                  the default sweep, in a few minutes
  python -m experiments.sweep initialisation --seeds 3         a named sweep with fewer seeds
  python -m experiments.sweep single --hidden-size 50 100 200 --out results/width
  python -m experiments.sweep --config my_sweep.toml --dry-run
  python -m experiments.sweep --config my_sweep.toml --shard 3/64     one process of a job array of 64
  python -m experiments.sweep --out s3://my-bucket/default     shards in a bucket, and a copy in results/default

The same command again trains only what is missing. An axis given here replaces that axis in every study."""

NOT_WITH_LIST = ("dry_run", "config", "data", "out", "fetch_to", "seeds", "workers", "shard", "address", *AXES)


def requested_sweep(options: argparse.Namespace) -> SweepSpec:
    """The sweep that the command line names, with its axes set as the command line has them.

    Raises:
        ValueError: no such sweep or file, or a value no run can have.
    """
    if options.config:
        sweep = _named_after(options.config, lambda: sweep_from_dict(_read_toml(options.config), options.config.stem))
    elif options.name in SWEEPS:
        sweep = SWEEPS[options.name]
    else:
        raise ValueError(f"unknown sweep {options.name!r}; {near_match(options.name, SWEEPS)} (--list shows them)")
    given = {name: getattr(options, name) for name in AXES if getattr(options, name) is not None}
    axes = {name: tuple(parse_value(name, text) for text in texts) for name, texts in given.items()}
    return replace(sweep.override(axes, options.seeds), data=options.data or sweep.data)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, one flag for every field of a run.

    Raises:
        ValueError: an unknown flag, a wrong value, or flags that contradict each other.
    """
    parser = command_parser("sweep", "Train a sweep of multilayer-perceptron language models and report on it.", EPILOG)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a named sweep (see --list; default: default)")
    parser.add_argument("--list", action="store_true", help="show the named sweeps and their size")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a sweep of your own, in TOML")
    parser.add_argument("--data", metavar="DATA", help="ssa2018 (embedded), makemore (downloaded once) or a file")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 for every cell")
    add_runner_flags(parser)
    _add_axes(parser)
    options = parser.parse_args(arguments)
    _check_flags(parser, options)
    options.name = options.name or "default"
    return options


def add_runner_flags(parser: argparse.ArgumentParser, folder: str = "NAME") -> None:
    """The flags of `experiments.runner.run_sweep`: where and on what a sweep is trained; `folder` is for the help."""
    parser.add_argument(
        "--out", type=_location, metavar="DIR", help=f"the sweep's folder (default: results/{folder}); or s3://, gs://"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan: runs, cohorts, compilations, time")
    parser.add_argument("--workers", type=int, metavar="N", help="processes, one a core (default: all cores)")
    parser.add_argument("--device", choices=("auto", *DEVICES), default="auto", help="what trains (auto: the fastest)")
    machines = parser.add_argument_group("many machines")
    machines.add_argument(
        "--fetch-to", type=Path, metavar="DIR", help=f"of --out s3://...: the copy here (results/{folder})"
    )
    machines.add_argument("--shard", type=_slice, metavar="I/N", help="train slice I of N only; tables come later")
    machines.add_argument("--executor", choices=("local", "ray"), default="local", help="where cohorts are trained")
    machines.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster (default: start one here)")


def _add_axes(parser: argparse.ArgumentParser) -> None:
    axes = parser.add_argument_group("axes, one or more values each")
    for field in fields(RunSpec):
        if field.name in AXES:
            flag, text, choices = f"--{field.name.replace('_', '-')}", field.metadata["help"], field.metadata["choices"]
            known = f": {', '.join(choices)}" if choices else ""
            axes.add_argument(flag, dest=field.name, nargs="+", metavar="X", help=f"{text}{known} ({field.default})")


def check_runner_flags(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse flags of `add_runner_flags` that contradict each other.

    Raises:
        ValueError: they do.
    """
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.fetch_to and not isinstance(options.out, str):
        parser.error("--fetch-to is for --out s3://... or gs://...; give both or neither")
    if options.device == "tpu" and options.executor == "ray":
        parser.error("--executor ray trains on cores and GPUs; with --device tpu give --shard on each machine")
    if options.workers and options.device in ACCELERATORS:
        parser.error(f"--workers counts processor cores; leave it out with --device {options.device}")
    if options.address and options.executor != "ray":
        parser.error("--address is for --executor ray; give both or neither")
    if options.shard and options.executor == "ray":
        parser.error("--shard and --executor ray both share out the work; give one of them")


def _check_flags(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    check_runner_flags(parser, options)
    if options.config and options.name:
        parser.error(f"give either a sweep's name or --config, got {options.name!r} and {str(options.config)!r}")
    also = [name for name in ("name", *NOT_WITH_LIST) if getattr(options, name)]
    if options.list and also:
        shown = "a sweep's name" if also[0] == "name" else f"--{also[0].replace('_', '-')}"
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


def _named_after(path: Path, read: Callable[[], SweepSpec]) -> SweepSpec:
    try:
        return read()
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _read_toml(path: Path) -> dict:
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: not a regular file; give a sweep file in TOML")
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give a sweep file in TOML") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as TOML ({error})") from None
