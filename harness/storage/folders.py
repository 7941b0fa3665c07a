"""Sealed folders: written to a temporary name, renamed, and checked by SHA-256 when opened."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import StorageError, UserError
from harness.runtime.progress import say
from harness.storage.fingerprint import file_sha256

MANIFEST = "manifest.json"
REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENOTDIR, errno.EEXIST, errno.EMFILE),
}
"""The system's errors that a write may meet."""
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (safetensors, tokenizers) report an error of the system."""


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends without error.

    Raises:
        StorageError: the operating system refuses a write (disk full, no permission).
    """
    made: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield made
        if folder.exists():
            shutil.rmtree(folder)
        made.replace(folder)
    except UserError:
        raise
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StorageError(f"{folder}: cannot be written ({error.strerror})") from error
    except Exception as error:
        said = SYSTEM_ERROR.search(str(error))
        if said is None or int(said[1]) not in REFUSALS:
            raise
        raise StorageError(f"{folder}: cannot be written ({os.strerror(int(said[1]))})") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left of attempts at a folder that nobody writes now."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `manifest.json` with the facts and the SHA-256 of every other file of the folder."""
    files = {p.name: file_sha256(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({"facts": dict(facts), "files": files}, indent=1))


def unseal(folder: Path) -> dict[str, Any] | None:
    """The facts of a sealed folder, or None when it is missing, truncated or damaged.

    Raises:
        StorageError: it is there and cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        intact = all(file_sha256(folder / name) == sha for name, sha in manifest["files"].items())
        return dict(manifest["facts"]) if intact else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})") from error


def cached(folder: Path, build: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a sealed folder; built (again) when it is missing or damaged.

    Of several processes one builds and the others wait for it; the system frees a killed one's lock.
    """
    facts = unseal(folder)
    if facts is None:
        with _locked(folder):
            facts = unseal(folder)
            if facts is None:
                clear_leftovers(folder)
                with replacing(folder) as fresh:
                    seal(fresh, build(fresh))
                facts = unseal(folder)
    assert facts is not None
    return facts


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        say(f"waiting for another process that makes {folder}")
        lock.acquire()
    except OSError as error:
        raise StorageError(f"{folder.parent}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()
