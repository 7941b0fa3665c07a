"""Paths as users write them."""

import os
import stat
from pathlib import Path


def user_path(text: str) -> Path:
    """The path of a text, in which a leading `~` or `~name` stands for a home folder, as in a shell.

    A `~name` without a home folder is a name like any other.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for unknown names


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device: a read may wait for ever for what is written."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
