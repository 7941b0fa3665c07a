"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import psutil

from harness.errors import StorageError
from harness.storage.database import host


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it; makes its folder.

    Text becomes UTF-8, half a pair of surrogates in it a question mark. What killed processes of this
    machine left of attempts at the file is removed. Raises `StorageError` when it cannot be written.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = f".{path.name}-{hashlib.sha256(host().encode()).hexdigest()[:8]}-"
        for left in path.parent.iterdir():
            if left.name.startswith(own) and not psutil.pid_exists(
                int(left.name.removeprefix(own))
            ):
                left.unlink(missing_ok=True)  # a killed process's
        temporary = path.with_name(f"{own}{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def is_file_name(text: str) -> bool:
    """Whether it can name a file or folder, and none elsewhere."""
    return text not in ("", ".", "..") and Path(text).name == text
