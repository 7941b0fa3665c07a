"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import psutil

from harness.errors import StorageError
from harness.storage.database import host


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename the file; makes its folder.

    Text becomes UTF-8, with a question mark for half a pair of surrogates. Temporary files that killed
    processes of this machine left are removed. Raises `StorageError` when the file cannot be written.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}-{hashlib.sha256(host().encode()).hexdigest()[:8]}-"
        for remnant in path.parent.iterdir():
            if remnant.name.startswith(prefix) and not psutil.pid_exists(
                int(remnant.name.removeprefix(prefix))
            ):
                remnant.unlink(missing_ok=True)  # left by a killed process
        scratch = path.with_name(f"{prefix}{os.getpid()}")
        try:
            scratch.write_bytes(data)
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def is_file_name(text: str) -> bool:
    """Whether a text can name a file or folder, with no path to another folder."""
    return text not in ("", ".", "..") and Path(text).name == text
