"""A user's own schemes, schedules, optimisers and activations: a Python file that adds entries to the tables.

    # my_ideas.py
    from dataclasses import replace
    import jax
    from mlp_lm import ACTIVATIONS, SCHEMES

    SCHEMES["snug"] = replace(SCHEMES["fan_in"], summary="a smaller output", source="mine", output=lambda i, o: 0.01)
    ACTIVATIONS["cube"] = lambda z: z**3

A run that uses an entry of such a file has the file's sha256 in its configuration, so that an edited file makes other
runs.
"""

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlp_lm.activations import Activation
from mlp_lm.config import BUILT_IN, TABLES, RunConfig
from mlp_lm.schemes import Scheme

MODULE = "mlp_lm_ideas"  # The name under which a file is imported.
_CHOOSABLE = ("init", "schedule", "optimizer", "activation")  # The tables that a file may add to.


@dataclass(frozen=True)
class Ideas:
    """An ideas file that has been loaded: its path, the sha256 of its content, and the names that it added by field."""

    path: Path
    sha256: str
    names: Mapping[str, frozenset[str]]

    def mark(self, config: RunConfig) -> RunConfig:
        """The configuration, with the file's hash where it uses an entry of the file."""
        uses = any(getattr(config, name) in added for name, added in self.names.items())
        return replace(config, ideas_hash=self.sha256) if uses else config


def load_ideas(path: str | Path) -> Ideas:
    """Run an ideas file, which adds entries to `SCHEMES`, `SCHEDULES`, `OPTIMIZERS` and `ACTIVATIONS`.

    Loading the same content again changes nothing; another file takes the place of the one before.

    Raises:
        ValueError: it cannot be read or run, adds a name that exists, or adds something that is no definition.
    """
    path = Path(path).absolute()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a Python file that adds ideas") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if _loaded and (_loaded[-1].path, _loaded[-1].sha256) == (path, sha256):
        return _loaded[-1]
    _remove_added()
    before = {name: dict(TABLES[name]) for name in _CHOOSABLE}
    try:
        with _without_bytecode():
            module_spec = importlib.util.spec_from_file_location(MODULE, path)
            if module_spec is None or module_spec.loader is None:
                raise ValueError(f"{path}: no Python file; give one that ends in .py")
            sys.modules[MODULE] = module = importlib.util.module_from_spec(module_spec)  # As dataclasses need it.
            module_spec.loader.exec_module(module)
        names = {name: frozenset(_check_added(path, name, before[name])) for name in _CHOOSABLE}
    except (Exception, SystemExit) as error:
        sys.modules.pop(MODULE, None)
        _remove_added()
        for name, table in before.items():
            TABLES[name].clear()  # type: ignore[attr-defined]
            TABLES[name].update(table)  # type: ignore[attr-defined]
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{path}: cannot be imported ({type(error).__name__}: {reason})") from None
    _loaded.append(Ideas(path, sha256, names))
    return _loaded[-1]


_loaded: list[Ideas] = []


def loaded_ideas() -> Ideas | None:
    """The ideas file whose entries the tables have now, if any."""
    return _loaded[-1] if _loaded else None


def _remove_added() -> None:
    added = [(table, name) for table in _CHOOSABLE for name in TABLES[table].keys() - BUILT_IN[table]]
    for table, name in added:
        del TABLES[table][name]  # type: ignore[attr-defined]
    _loaded.clear()
    if added and "jax" in sys.modules:  # Compiled programs know an entry by its name alone, which another may have now.
        sys.modules["jax"].clear_caches()


def _check_added(path: Path, table: str, before: Mapping[str, Any]) -> Iterator[str]:
    kind = {"init": "scheme", "schedule": "schedule", "optimizer": "optimiser", "activation": "activation"}[table]
    for name, entry in TABLES[table].items():
        if name in before and entry is not before[name]:
            raise ValueError(f"{path}: the {kind} {name!r} exists already; give it another name")
        if name in before:
            continue
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{path}: the {kind} {name!r} needs a name of letters, digits and underscores")
        if table == "init" and not isinstance(entry, Scheme):
            raise ValueError(
                f"{path}: the scheme {name!r} is no Scheme; make it from one, as replace(SCHEMES[...], ...)"
            )
        if table != "init" and not (callable(entry) or isinstance(entry, Activation)):
            raise ValueError(f"{path}: the {kind} {name!r} is no function; give one")
        yield name
    if missing := before.keys() - TABLES[table].keys():
        raise ValueError(f"{path}: the {kind} {min(missing)!r} was removed; ideas only add")


@contextlib.contextmanager
def _without_bytecode() -> Iterator[None]:
    """No `__pycache__` beside a user's file."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
