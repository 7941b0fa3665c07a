"""Discovery of methods: the package `methods` and the entry points `harness.methods`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from harness.compose import names
from harness.config import StudyConfig
from harness.errors import MethodError, one_line
from harness.method import Method
from harness.registry.class_rules import check_class
from harness.runtime import interrupt

GROUP = "harness.methods"


@dataclass(frozen=True)
class Registry:
    """All methods by name, and the reasons why plug-ins cannot be imported, by plug-in."""

    methods: dict[str, type[Method]]
    import_errors: dict[str, str]

    def resolve(self, name: str) -> type[Method]:
        """The method of a name or alias. Raises `MethodError` with the nearest names."""
        for method in self.methods.values():
            if name in names_of(method):
                return method
        known_names = [n for method in self.methods.values() for n in names_of(method)]
        known_names += ["all", *names("ablation")]
        suggestions = difflib.get_close_matches(name, known_names, n=3)
        hint = f"choose from {', '.join(known_names)}"
        if suggestions:
            hint = f"did you mean {' or '.join(suggestions)}?"
        broken = "".join(
            f"; {origin} cannot be used: {reason}" for origin, reason in self.import_errors.items()
        )
        raise MethodError(f"--method {name}: no such method; {hint}{broken}")


@cache
def registry() -> Registry:
    """Scan for methods once. A plug-in that cannot be imported does not stop the scan."""
    methods: dict[str, type[Method]] = {}
    import_errors: dict[str, str] = {}
    for origin, load in _candidates():
        try:
            candidates = _methods_of(load())
        except (Exception, SystemExit) as error:  # a plug-in may fail in any way
            interrupt.check(error)
            reason = one_line(error)
            is_told = isinstance(error, MethodError)
            place = _place(error)
            import_errors[origin] = (
                reason if is_told else f"{type(error).__name__}: {reason}{place}"
            )
            continue
        for method in candidates:
            register(methods, method)
    return Registry(dict(sorted(methods.items())), import_errors)


def chosen_methods(config: StudyConfig) -> list[type[Method]]:
    """The method classes of a configuration. Raises `MethodError` for an unknown name."""
    return [registry().resolve(name) for name in config.methods]


def register(methods: dict[str, type[Method]], method: type[Method]) -> None:
    """Add a method. Raises `MethodError` when another one has its name or an alias."""
    for registered_method in methods.values():
        shared_names = {*names_of(registered_method)} & {*names_of(method)}
        if shared_names and registered_method is not method:
            raise MethodError(
                f"two methods are named '{min(shared_names)}': "
                f"{_full_name(registered_method)} and {_full_name(method)}"
            )
    reserved_names = {"all", *names("ablation")} & {*names_of(method)}
    if reserved_names:
        raise MethodError(
            f"{_full_name(method)}: '{min(reserved_names)}' is the name of a set of methods"
        )
    methods[method.name] = method


def names_of(method: type[Method]) -> tuple[str, ...]:
    """A method's name and its aliases, which are not inherited."""
    return method.name, *vars(method).get("aliases", ())


def _candidates() -> Iterator[tuple[str, Callable[[], ModuleType | type]]]:
    package = importlib.import_module("methods")
    for info in pkgutil.iter_modules(package.__path__, "methods."):
        yield info.name, _importer(info.name)
    for point in entry_points(group=GROUP):
        yield point.value, point.load


def _importer(name: str) -> Callable[[], ModuleType | type]:
    return lambda: importlib.import_module(name)


def _methods_of(candidate: ModuleType | type) -> list[type[Method]]:
    """The concrete methods that a module defines, or the class that an entry point names."""
    members = [candidate] if isinstance(candidate, type) else list(vars(candidate).values())
    methods = [
        member
        for member in members
        if isinstance(member, type)
        and issubclass(member, Method)
        and (not inspect.isabstract(member) or "name" in vars(member))
        and (member is candidate or member.__module__ == candidate.__name__)
    ]
    if isinstance(candidate, type) and not methods:
        raise MethodError(f"{candidate.__name__} is not a concrete Method")
    for member in members:
        if _is_like_a_method(member) and member.__module__ == candidate.__name__:
            raise MethodError(
                f"{member.__name__} has a name and terms, and is no Method; write class "
                f"{member.__name__}(Method)"
            )
    for method in methods:
        check_class(method)
    return methods


def _place(error: BaseException) -> str:
    """The line of the first imported file that led to an error, in brackets; empty without a file."""
    frames = traceback.extract_tb(error.__traceback__)
    file = next((frame.filename for frame in frames if frame.name == "<module>"), None)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file is not None else ""


def _is_like_a_method(member: object) -> bool:
    """Whether a class has what a method has, and forgot to be one."""
    is_other = isinstance(member, type) and not issubclass(member, Method)
    return is_other and {"name", "terms"} <= vars(member).keys()


def _full_name(method: type[Method]) -> str:
    return f"{method.__module__}.{method.__qualname__}"
