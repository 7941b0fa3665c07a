"""Paths as users write them."""

import os
from pathlib import Path


def user_path(text: str) -> Path:
    """The path of a text, in which a leading `~` or `~name` stands for a home folder, as in a shell.

    A `~name` without a home folder is a name like any other.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for unknown names
