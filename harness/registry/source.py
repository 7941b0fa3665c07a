"""Identities of methods and of the rows of tables: hashes of the source that computes their numbers."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec, resolve_name
from pathlib import Path

from harness.errors import MethodError
from harness.method import Method

CORE_PIECES = ("harness.method.losses", "harness.method.contract")
"""Modules that the harness uses for every method. They belong to every identity."""
PIECES = (*CORE_PIECES, "harness.method.matching", "harness.method.layer_maps")
"""The modules that methods are made of. A module belongs to the identities of its importers."""
FOREIGN_PACKAGES = sys.stdlib_module_names | {"torch"}
"""Packages whose base classes do not belong to a method's identity."""


@cache
def method_source(kind: type[Method]) -> str:
    """Hash a method's module and the shared pieces that it uses, without comments and docstrings.

    The hash covers the modules of the method's base classes, `CORE_PIECES`, and every module of
    `PIECES` and of the method's own package that any of these modules imports.

    Raises:
        MethodError: one of the modules has no source file.
    """
    origins = {base.__module__ for base in kind.__mro__}
    packages = {_package(module) for module in origins} - FOREIGN_PACKAGES
    modules = {module for module in origins if _package(module) in packages} | {*CORE_PIECES}
    queue = list(modules)
    while queue:
        for name in _imported_names(queue.pop()):
            is_relevant = name in PIECES or _package(name) in packages - {"harness"}
            if is_relevant and name not in modules and _is_module(name):
                modules.add(name)
                queue.append(name)
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(_code(_source_file(module)).encode())
    return digest.hexdigest()


@cache
def function_source(*functions: Callable[..., object]) -> str:
    """Hash the source of functions that a row of a table names, without comments and docstrings.

    The hash does not cover other functions that these functions call.

    Raises:
        OSError: a function has no source file.
    """
    digest = hashlib.sha256()
    for function in functions:
        source = textwrap.dedent(inspect.getsource(function))
        try:
            digest.update(_normal_form(source).encode())
        except SyntaxError:  # a lambda inside an expression: the lines are no statement
            digest.update(source.encode())
    return digest.hexdigest()


def _package(module: str) -> str:
    return module.partition(".")[0]


def _imported_names(module: str) -> set[str]:
    """The names that a module's source imports: modules, and names that may be modules."""
    names: set[str] = set()
    package = import_module(module).__package__
    for node in ast.walk(ast.parse(_source_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return names


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the name belongs to a function or class of a module
        return False


def _source_file(module: str) -> Path:
    try:
        file = inspect.getsourcefile(import_module(module))
    except TypeError:
        file = None
    if file is None:
        raise MethodError(f"{module} has no source file, which is a part of a run's identity")
    return Path(file)


def _code(path: Path) -> str:
    """A file's code in one normal form, without comments and docstrings."""
    return _normal_form(path.read_text(encoding="utf-8"))


def _normal_form(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
