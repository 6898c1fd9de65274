"""The flags of commands that train sweeps, and what they ask for. No JAX: mistakes are reported before it starts."""

import argparse
import re
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from experiments.cli.command import Parser, folder_path, positive
from experiments.runner.devices import ACCELERATORS, DEVICES
from experiments.runner.run import RESULTS, RunOptions
from experiments.store import Location, parse_location
from experiments.sweeps.catalog import SWEEPS
from experiments.sweeps.grids import SweepSpec, parse_axes, sweep_from_dict
from experiments.sweeps.ranges import DEFAULT_POINTS
from experiments.sweeps.request import FEWEST_SEEDS
from mlp_lm.config import AXES, RunConfig, near_match
from mlp_lm.data.dataset import CHARACTERS, WORDS, dataset_source
from mlp_lm.data.texts import TRAINING_VOCABULARY, VOCABULARIES
from mlp_lm.data.word_lists import SPLIT_SEED
from mlp_lm.ideas import load_ideas

MAX_SEEDS = 32  # Of a sweep that looks at its losses in between.
AXIS_GROUPS = {
    "model": (
        "init", "hidden_size", "embedding_dim", "block_size", "n_layers", "batch_norm", "activation", "gain", "direct",
    ),
    "training": (
        "n_steps", "learning_rate", "batch_size", "schedule", "optimizer", "momentum", "weight_decay", "dropout",
        "input_dropout", "token_noise", "early_stopping", "diagnostics", "n_evaluations",
    ),
}  # fmt: skip
DATA_HELP = "ssa2018 (embedded), makemore, brown (downloaded once), small (made here), a file, or three: train dev test"


def add_data_flags(parser: Parser, words: bool = True) -> None:
    """What is trained on; `words` adds the flags of running text."""
    data = parser.add_argument_group("data")
    data.add_argument("--data", nargs="+", metavar="DATA", help=DATA_HELP)
    data.add_argument(
        "--split-seed", type=int, metavar="INT", help=f"of the shuffle before a list is cut ({SPLIT_SEED})"
    )
    if words:
        add_choice(data, "--tokens", (CHARACTERS, WORDS), "of a list of words, or of a running text")
        add_vocabulary_flag(data)


def add_choice(parser: argparse._ActionsContainer, flag: str, choices: Sequence[str], help: str, **more: Any) -> None:
    """A flag that takes one of a few names, which its help lists."""
    parser.add_argument(flag, choices=choices, metavar="NAME", help=f"{help}: {', '.join(choices)}", **more)


def add_vocabulary_flag(parser: argparse._ActionsContainer, default: str | None = None) -> None:
    """Where the words of a running text are counted."""
    text = f"where words are counted ({TRAINING_VOCABULARY})"
    add_choice(parser, "--vocabulary", VOCABULARIES, text, default=default)


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
    """A flag for every field of a run that is an axis, in the order in which people need them."""
    by_name = {hyper.name: hyper for hyper in fields(RunConfig)}
    rest = [name for name in AXES if not any(name in names for names in AXIS_GROUPS.values())]
    for title, names in {**AXIS_GROUPS, "details of training": rest}.items():
        text = "one or more values each, or a range such as 0.01:1:log; all combinations are trained"
        group = parser.add_argument_group(f"{title} ({text})")
        for hyper in (by_name[name] for name in names if name not in without):
            rules = hyper.metadata
            known = f": {', '.join(rules['table'])}" if "table" in rules else ""
            kind = {int: "INT", float: "FLOAT", bool: "BOOL", str: "NAME"}[type(hyper.default)]
            text = f"{rules['help']}{known} ({hyper.default})".replace("%", "%%")
            flag = f"--{hyper.name.replace('_', '-')}"
            group.add_argument(flag, dest=hyper.name, nargs="+", metavar=kind, help=text)


def add_point_flags(parser: Parser) -> None:
    """How axes with a range are filled, and which axes go in step."""
    parser.add_argument(
        "--points",
        type=int,
        metavar="INT",
        help=f"points drawn where an axis is LOW:HIGH or LOW:HIGH:log ({DEFAULT_POINTS})",
    )
    text = "axes that take their first values together, then their second ones (may be given again)"
    parser.add_argument("--zip", nargs="+", action="append", metavar="AXIS", type=_axis, help=text)


def given_axes(options: argparse.Namespace) -> dict[str, Any]:
    """The values that `add_axes` were given.

    Raises:
        ValueError: a value is not of its field's type.
    """
    return parse_axes({name: texts for name in AXES if (texts := getattr(options, name, None)) is not None})


def add_seed_flags(parser: Parser, help: str, default: int | None = None) -> None:
    """How many seeds, and from which one on."""
    parser.add_argument("--seeds", type=int, metavar="INT", default=default, help=help)
    parser.add_argument("--first-seed", type=int, metavar="INT", help="the first of the seeds (0)")


def add_stage_flags(parser: Parser) -> None:
    """Runs that are chosen by the losses of earlier ones."""
    stages = parser.add_argument_group("runs chosen by what is known so far")
    text = "seeds until differences of those left are known within ± this; those behind get no more"
    stages.add_argument("--until", type=float, metavar="LOSS", help=text)
    text = "then the best third again at three times the steps (or of another number), until one is left"
    stages.add_argument("--then", type=_factor, metavar="3x", help=text)
    stages.add_argument("--then-steps", type=positive, metavar="INT", help="of --then: no more steps than this")
    stages.add_argument("--max-seeds", type=int, metavar="INT", default=MAX_SEEDS, help=f"of --until ({MAX_SEEDS})")


def check_stage_flags(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse flags of stages that contradict others.

    Raises:
        ValueError: they do.
    """
    if options.then is None and options.then_steps is not None:
        parser.error("--then-steps is for --then; give both or neither")
    if options.then is not None and (options.shard or options.until is not None):
        other = "--shard trains a slice" if options.shard else "--until asks for other runs"
        parser.error(f"--then needs the losses of all runs, and {other}; leave one of them out")
    if options.until is None:
        if options.max_seeds != MAX_SEEDS:
            parser.error(f"--max-seeds {options.max_seeds} is for --until; give both or neither")
        return
    if not 0 < options.until < float("inf"):
        parser.error(f"--until must be a positive number, in nats per token, got {options.until}")
    if options.max_seeds < FEWEST_SEEDS:
        parser.error(f"--max-seeds must be at least {FEWEST_SEEDS}, the first look, got {options.max_seeds}")
    if options.seeds is not None:
        parser.error("--until chooses the number of seeds; give --max-seeds instead of --seeds")
    if options.shard:
        parser.error("--until needs the losses of all runs, and --shard trains a slice; leave one of them out")


def add_output_flags(parser: Parser, folder: str = "NAME") -> None:
    """Where results go, and whether anything is done; `folder` is for the help."""
    parser.add_argument(
        "--out",
        type=_location,
        metavar="DIR",
        help=f"the sweep's folder (default: {RESULTS}/{folder}); or s3://, gs://, az://",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan: runs, cohorts, compilations, time")
    parser.add_argument("--time", type=_duration, metavar="TIME", help="train what fits, such as 2h, 45m or 90s")


def add_machine_flags(parser: Parser, folder: str = "NAME") -> None:
    """What trains, here and on many machines; `folder` is for the help."""
    machine = parser.add_argument_group("this machine")
    machine.add_argument("--workers", type=int, metavar="INT", help="processes, one a core (default: all cores)")
    add_choice(machine, "--device", ("auto", *DEVICES), "what trains (auto, the fastest)", default="auto")
    machines = parser.add_argument_group("many machines")
    machines.add_argument(
        "--fetch-to", type=folder_path, metavar="DIR", help=f"of --out s3://...: the copy here ({RESULTS}/{folder})"
    )
    machines.add_argument("--shard", type=_slice, metavar="I/N", help="train slice I of N only; tables come later")
    add_choice(machines, "--executor", ("local", "ray"), "where cohorts are trained (local)", default="local")
    machines.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster (default: start one here)")


def runner_options(parser: Parser, options: argparse.Namespace) -> RunOptions:
    """What `add_output_flags` and `add_machine_flags` were given.

    Raises:
        ValueError: flags that contradict each other.
    """
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
    if options.shard and options.time is not None:
        parser.error("--shard trains a slice of the whole sweep, --time what fits; give one of them")
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
            sweep = sweep_from_dict(content, _name_of(options.config))
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
    axes = given_axes(options)
    folder = "" if source == sweep.data else folder_name(sweep.name, source)
    changed = sweep.override(axes, options.seeds, options.first_seed, options.points, options.zip)
    if sweep.name == "single" and options.title is None and axes:
        (grid,) = changed.grids
        varied = [name.replace("_", " ") for name in axes if name in grid.axes | grid.ranges]
        title = f"Which {', which '.join(varied)}?" if varied else "One configuration"
    return replace(changed, title=title, data=source, folder=folder)


def folder_name(name: str, source: str) -> str:
    """NAME and a dataset's source: results on several datasets have folders of their own."""
    parts = [Path(part).stem for part in re.split(r'[:",\s\[\]]+', source) if part]
    label = "-".join(part for part in parts if part not in ("text", "training", "files"))[:60]
    return f"{name}-{label}"


def _name_of(config: Path) -> str:
    """A sweep file's name without its ending, which names the folder of its results.

    Raises:
        ValueError: it would name another folder.
    """
    if set(config.stem) <= {"."}:
        raise ValueError("a sweep file names the folder of its results; give it a name such as my_sweep.toml")
    return config.stem


def check_list_alone(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse `--list` beside any other flag.

    Raises:
        ValueError: there is one.
    """
    for name, value in vars(options).items():
        if name != "list" and value != parser.get_default(name):
            shown = "a sweep's name" if name == "name" else f"--{name.replace('_', '-')}"
            parser.error(f"--list shows the named sweeps and runs nothing; leave out {shown}")


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|min|h|d)", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no time; give one such as 2h, 45m or 90s")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2]]


def _factor(text: str) -> int:
    match = re.fullmatch(r"(\d{1,3})x", text)
    if not match or int(match[1]) < 2:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no factor; give one such as 3x")
    return int(match[1])


def _axis(text: str) -> str:
    return text.strip("-").replace("-", "_")


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
