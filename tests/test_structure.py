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
# From the ground up: a room imports only from rooms before it, and from itself. Modules of `experiments` that are in no
# room are its foundation or its commands.
FOUNDATION = ("spec", "catalog", "record", "material", "request", "command", "torch_names")
ROOMS = ("mlp_lm", "experiments.store", "foundation", "experiments.running", "experiments.findings", "commands")
WITHOUT_JAX = (
    "experiments.sweep",
    "experiments.report.__main__",
    "experiments.analysis.summary",
    "mlp_lm.ngram.baselines",
)


def imports_of(path: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & MODULES.keys()


def room_of(module: str) -> str:
    if module.startswith("mlp_lm"):
        return "mlp_lm"
    parts = module.split(".")
    if len(parts) > 1 and f"experiments.{parts[1]}" in ROOMS:
        return f"experiments.{parts[1]}"
    return "foundation" if module == "experiments" or parts[1] in FOUNDATION else "commands"


def test_no_module_imports_itself_by_any_way_round():
    graph = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module):
    above = {
        other for other in imports_of(MODULES[module]) if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    }
    assert not above, f"{module} is in {room_of(module)}"


@pytest.mark.parametrize("module", WITHOUT_JAX)
def test_what_needs_no_jax_does_not_import_it(module):
    subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'jax' not in sys.modules"], check=True)


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
