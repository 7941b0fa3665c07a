"""Runs and what identifies them."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from harness.errors import MethodError
from harness.method import Method, Value
from harness.storage.artefacts import fingerprint
from harness.storage.ledger import Role

SEARCH_SEED = 1_000_000
"""Search seeds start here, report seeds at 1: they never meet."""
REPEAT_SEEDS = 1_000
"""From the seeds of one repeat of the whole to those of the next."""
PIECES = (
    "harness.method.losses",
    "harness.method.contract",
    "harness.method.matching",
    "harness.method.layer_maps",
)
"""What methods are made of; the core uses the first two for every method."""
OUTSIDE = sys.stdlib_module_names | {"torch"}
"""Packages of base classes whose source is not the method's."""


@dataclass(frozen=True)
class Run:
    """Method × setting × seed for one role. `inputs` are everything the result depends on."""

    method: type[Method]
    study: str
    trial: int
    seed: int
    role: Role
    setting: Mapping[str, Value]
    inputs: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the inputs; never of trial or seed counts."""
        return fingerprint(dict(self.inputs))


def report_seeds(count: int, repeat: int = 0) -> list[int]:
    """The seeds of report runs, the same for every method; of a repeat of the whole, its own."""
    first = 1 + repeat * REPEAT_SEEDS
    return list(range(first, first + count))


def search_seeds(count: int, repeat: int = 0) -> list[int]:
    """The seeds of search runs, the same for every method and trial; of a repeat, its own."""
    first = SEARCH_SEED + repeat * REPEAT_SEEDS
    return list(range(first, first + count))


@cache
def method_source(kind: type[Method]) -> str:
    """Hash of a method's module and the shared pieces it uses, without comments and docstrings.

    Those are the modules of its base classes, the core's losses and contract, and whatever of `PIECES`
    and of the method's own package any of them imports.

    Raises:
        MethodError: one of them has no source file.
    """
    packages = {base.__module__.split(".")[0] for base in kind.__mro__} - OUTSIDE
    found = {base.__module__ for base in kind.__mro__ if base.__module__.split(".")[0] in packages}
    left = [*found, *PIECES[:2]]
    found.update(left)
    while left:
        for name in _imported(left.pop()):
            ours = name in PIECES or name.split(".")[0] in packages - {"harness"}
            if ours and name not in found and _is_module(name):
                found.add(name)
                left.append(name)
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(_code(_source(name)).encode())
    return digest.hexdigest()


def _imported(module: str) -> set[str]:
    """What a module's source imports: names of modules, and of what may be a module in one."""
    names: set[str] = set()
    package = import_module(module).__package__
    for node in ast.walk(ast.parse(_source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return names


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # it is something in a module
        return False


def _source(module: str) -> Path:
    try:
        file = inspect.getsourcefile(import_module(module))
    except TypeError:
        file = None
    if file is None:
        raise MethodError(f"{module} has no source file, which is a part of a run's identity")
    return Path(file)


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
