"""Paths as users write them."""

from pathlib import Path


def user_path(text: str) -> Path:
    """The path of a text, in which a leading `~` or `~name` stands for a home folder.

    Raises:
        ValueError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"'{text}': no home folder is known for it") from error
