"""Optional extras: whether the packages that a flag's value needs are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from harness.errors import UserError


def check_choice(flag: str, choice: str | None, packages: Mapping[str, Sequence[str]]) -> None:
    """Refuse an unknown choice of a flag, and one whose packages are missing; None is no choice.

    `packages` are those of each choice. Each choice is the name of the extra that installs them.

    Raises:
        UserError: the choice is unknown, or a package is missing.
    """
    if choice is None:
        return
    if choice not in packages:
        raise UserError(f"{flag} {choice}: choose from {', '.join(packages)}")
    if not all(map(_is_installed, packages[choice])):
        raise UserError(f"{flag} {choice} needs the extra: pip install -e '.[{choice}]'")


def _is_installed(package: str) -> bool:
    """Whether a package is there. A folder of its name, such as wandb's own, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
