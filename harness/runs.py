"""Runs and what identifies them."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.artefacts import fingerprint
from harness.ledger import Role
from harness.method import Method, Value

SEARCH_SEED = 1_000_000
"""Search seeds start here, report seeds at 1: they never meet."""
SHARED = ("harness.losses", "harness.method", "harness.matching", "harness.layer_maps")
"""What methods are made of; the core uses the first two for every method."""
OUTSIDE = frozenset({"torch", "abc", "builtins"})
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


def report_seeds(count: int) -> list[int]:
    """The seeds of report runs, the same for every method."""
    return list(range(1, count + 1))


def search_seeds(count: int) -> list[int]:
    """The seeds of search runs, the same for every method and trial."""
    return list(range(SEARCH_SEED, SEARCH_SEED + count))


@cache
def method_source(kind: type[Method]) -> str:
    """Hash of a method's module and the shared pieces it uses, without comments and docstrings.

    Those are the modules of its base classes, the core's losses and contract, and what of `SHARED` any
    of them takes a name from.
    """
    names = {
        base.__module__ for base in kind.__mro__ if base.__module__.split(".")[0] not in OUTSIDE
    }
    names |= set(SHARED[:2])
    taken = [value for name in names for value in vars(sys.modules[name]).values()]
    names |= {
        place for place in SHARED for value in taken if getattr(value, "__module__", "") == place
    }
    digest = hashlib.sha256()
    for name in sorted(names):
        file = inspect.getsourcefile(sys.modules[name])
        assert file is not None
        digest.update(_code(Path(file)).encode())
    return digest.hexdigest()


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
