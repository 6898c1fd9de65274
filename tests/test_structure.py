"""The house's rules: imports go one way, and what needs no JAX does not import it."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("mlp_lm", "experiments")
    for path in (ROOT / package).rglob("*.py")
}
# From the ground up: a room imports only from rooms before it, and from itself.
ROOMS = (
    "mlp_lm.before_config",
    "mlp_lm.config",
    "mlp_lm.data",
    "mlp_lm",
    "experiments.store",
    "experiments.sweeps",
    "experiments.runner",
    "experiments.analysis",
    "experiments.report",
    "experiments.cli",
    "commands",
)
# Tables of names to choose from, and what they need.
BEFORE_CONFIG = ("activations", "data_scaling", "lazy", "optimizers", "parametrizations", "schedules", "schemes")
COMMAND_LINE = "experiments.cli"
WITHOUT_JAX = (
    "mlp_lm",
    "mlp_lm.config",
    "mlp_lm.data",
    "mlp_lm.data.dataset",
    "mlp_lm.ngram.baselines",
    "experiments.sweep",
    "experiments.report.__main__",
    "experiments.analysis.summary",
)


def imports_of(path: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it."""
    actual = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            actual |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            actual |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return actual & MODULES.keys()


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "mlp_lm":
        if len(parts) > 1 and parts[1] in BEFORE_CONFIG:
            return "mlp_lm.before_config"
        return f"mlp_lm.{parts[1]}" if len(parts) > 1 and parts[1] in ("config", "data") else "mlp_lm"
    return f"experiments.{parts[1]}" if len(parts) > 1 and f"experiments.{parts[1]}" in ROOMS else "commands"


def test_no_module_imports_itself_by_any_way_round():
    graph = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module):
    above = {
        other for other in imports_of(MODULES[module]) if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    }
    if module.endswith(".__main__"):  # A command that lies in its room.
        above = {other for other in above if room_of(other) != COMMAND_LINE}
    assert not above, f"{module} is in {room_of(module)}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_command_line_is_for_commands_only(module):
    asks = {other for other in imports_of(MODULES[module]) if room_of(other) == COMMAND_LINE}
    # A room below has no flags, no argparse and no terminal: it can be used from a notebook.
    assert not asks or is_command(module) or room_of(module) == COMMAND_LINE


def is_command(module: str) -> bool:
    """What `python -m` runs, or a study of its own."""
    return room_of(module) == "commands" or module.endswith(".__main__")


def test_what_needs_no_jax_does_not_import_it():
    lines = [f"import {module}; assert 'jax' not in sys.modules, {module!r}" for module in WITHOUT_JAX]
    done = subprocess.run([sys.executable, "-c", "\n".join(["import sys", *lines])], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_that_lies_in_a_package_is_installed_with_it():
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    files = [
        p
        for package in ("mlp_lm", "experiments")
        for p in (ROOT / package).rglob("*.*")
        if "__pycache__" not in p.parts
    ]
    modules = {path for path in files if path.suffix == ".py"}
    assert all((path.parent / "__init__.py") in modules for path in modules)
    data = {
        path
        for name, patterns in installed.items()
        for pattern in patterns
        for path in (ROOT / name.replace(".", "/")).glob(pattern)
    }
    assert data == set(files) - modules and len(data) > 10
