"""Paths as users write them."""

import os
import stat
from pathlib import Path


def user_path(text: str) -> Path:
    """The path of a text, in which a leading `~` or `~name` stands for a home folder, as in a shell.

    A `~name` without a home folder is a name like any other.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for unknown names


def name_fault(path: Path) -> str | None:
    """Why databases and other libraries cannot find a path; None if its absolute name is Unicode.

    A byte that Python cannot decode becomes half a pair of surrogates: where the name is not UTF-8, or
    in a locale without UTF-8.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"{name!a}: not Unicode in this locale: set PYTHONUTF8=1, or rename it"
    return None


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device: a read may wait for ever for what is written."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
