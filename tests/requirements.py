"""The project's own lists of packages, and the packages that these need."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OWN = "distillation-harness"


def listed(name: str) -> list[Requirement]:
    """The lines of a requirements file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def declared() -> list[Requirement]:
    """Every direct dependency, those of the extras too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for own in (project["dependencies"], *extras) for line in own]


def brought_by(asked: list[Requirement]) -> set[str]:
    """The names of these packages and of all that installing them installs."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in asked]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # not needed here, as on another system
            continue
        for line in lines:
            one = Requirement(line)
            if one.marker is None or any(
                one.marker.evaluate({"extra": extra}) for extra in extras or {""}
            ):
                waiting.append((canonicalize_name(one.name), frozenset(one.extras)))
    return {name for name, _ in found}


def missing_with(name: str) -> list[str]:
    """Names to import that are here, and would not be where only this requirements file is installed."""
    there = brought_by(listed(name)) | {OWN}
    return sorted(
        module
        for module, distributions in packages_distributions().items()
        if re.fullmatch(r"\w+", module)
        and there.isdisjoint(canonicalize_name(own) for own in distributions)
    )
