"""Sealed folders: written to a temporary name, renamed, and checked by SHA-256 when opened.

A process may have a supplier, which gets missing folders from elsewhere.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import StorageError, UserError
from harness.runtime.progress import say
from harness.storage.fingerprint import file_sha256

MANIFEST = "manifest.json"
REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENOTDIR, errno.EEXIST, errno.EMFILE, errno.EFBIG),
}
"""The system's errors that a write may raise."""
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (safetensors, tokenizers) report an error of the system."""

Supplier = Callable[[Path], bool]
"""A function that gets a missing sealed folder from elsewhere; false where it is not there either."""

_supplier: ContextVar[Supplier | None] = ContextVar("supplier", default=None)
_opened: ContextVar[list[Path] | None] = ContextVar("opened", default=None)


@contextmanager
def replacement(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends without error.

    Raises:
        StorageError: the operating system refuses a write (disk full, no permission).
    """
    temporary_folder: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary_folder = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield temporary_folder
        if folder.exists():
            shutil.rmtree(folder)
        temporary_folder.replace(folder)
    except UserError:
        raise
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StorageError(f"{folder}: cannot be written ({error.strerror})") from error
    except Exception as error:
        match = SYSTEM_ERROR.search(str(error))
        if match is None or int(match[1]) not in REFUSALS:
            raise
        raise StorageError(f"{folder}: cannot be written ({os.strerror(int(match[1]))})") from error
    finally:
        if temporary_folder is not None:
            shutil.rmtree(temporary_folder, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed processes left. No process may write the folder now."""
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `manifest.json` with the facts and the SHA-256 of every other file of the folder."""
    files = {p.name: file_sha256(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({"facts": dict(facts), "files": files}, indent=1))


def unseal(folder: Path) -> dict[str, Any] | None:
    """The facts of a sealed folder, or None when it is missing, truncated or damaged.

    Raises:
        StorageError: the folder exists and cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        is_intact = all(
            file_sha256(folder / name) == sha for name, sha in manifest["files"].items()
        )
        return dict(manifest["facts"]) if is_intact else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})") from error


def build_once(folder: Path, build: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a sealed folder. A missing or damaged folder is supplied or built first.

    One of several processes builds, and the others wait. The system frees a killed process's lock.
    """
    if (opened := _opened.get()) is not None:
        opened.append(folder)
    facts = unseal(folder)
    if facts is None:
        with folder_lock(folder):
            facts = unseal(folder)
            if facts is None:
                clear_leftovers(folder)
                facts = _supplied_facts(folder)
            if facts is None:
                with replacement(folder) as new_folder:
                    seal(new_folder, build(new_folder))
                facts = unseal(folder)
    assert facts is not None
    return facts


def _supplied_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of a folder that the supplier gets; None where it gets none."""
    supplier = _supplier.get()
    return unseal(folder) if supplier is not None and supplier(folder) else None


@contextmanager
def supplied(supplier: Supplier) -> Iterator[None]:
    """In the block `supplier` is asked for each missing folder before the folder is built."""
    token = _supplier.set(supplier)
    try:
        yield
    finally:
        _supplier.reset(token)


@contextmanager
def opened_folders() -> Iterator[list[Path]]:
    """The sealed folders that the block has opened so far, made or found."""
    folders: list[Path] = []
    token = _opened.set(folders)
    try:
        yield folders
    finally:
        _opened.reset(token)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of whoever writes the folder. Raises `StorageError` if it cannot be made."""
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
