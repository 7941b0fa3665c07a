"""The harness's packages beside `harness`: `methods`, `studies` and `reports`.

Their names are general, and a package of the same name may come first on Python's path, as in the
folder where a command runs. A process of the harness's own gives the names to the harness. A program
that imports the harness keeps its packages: there the harness refuses.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from harness.errors import UserError

NAMES = ("methods", "studies", "reports")
ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds `harness` and its packages, in a checkout and in an installation."""


def take_names() -> list[str]:
    """Import the harness's own packages; returns a line for each package that would shadow one.

    Raises:
        UserError: a package of that name is imported already, or the harness's own is not installed.
    """
    lines = []
    for name in NAMES:
        if (shadow := shadow_of(name)) is None:
            continue
        if name in sys.modules:
            raise UserError(_refusal(name, shadow))
        _import_own(name)
        lines.append(f"warning: {shadow} has the name of the harness's package '{name}': not used")
    return lines


def refuse_shadows() -> None:
    """Raise `UserError` where another package has, or would get, the name of one of the harness's."""
    for name in NAMES:
        if (shadow := shadow_of(name)) is not None:
            raise UserError(_refusal(name, shadow))


def shadow_of(name: str) -> str | None:
    """What Python imports under a name in place of the harness's package, or None."""
    if name in sys.modules:
        spec = sys.modules[name].__spec__
        place = _place(spec) or getattr(sys.modules[name], "__file__", None) or "a loaded module"
    else:
        place = _place(find_spec(name)) or "nothing that is installed"
    return None if _is_own(name, place) else place


def _place(spec: ModuleSpec | None) -> str | None:
    """The folder of a package, or the file of a module."""
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return str(Path(next(iter(spec.submodule_search_locations))))
    return spec.origin


def _is_own(name: str, place: str) -> bool:
    return Path(place).resolve() == ROOT / name


def _import_own(name: str) -> None:
    file = ROOT / name / "__init__.py"
    if not file.is_file():
        raise UserError(f"{ROOT}: lacks the package '{name}': install the harness again")
    spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


def _refusal(name: str, shadow: str) -> str:
    return (
        f"{shadow}: has the name of the harness's package '{name}' ({ROOT / name}) and comes first on "
        "Python's path: rename it, or start from another folder"
    )
