"""Places of runs: folders that can be made and written, on file systems that hold a ledger."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from harness.errors import StorageError

NETWORK_FILE_SYSTEMS = {
    *("fuse", "nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "afs", "9p", "virtiofs", "webdav"),
    *("lustre", "gpfs", "beegfs", "ceph", "glusterfs", "orangefs", "panfs", "gfs2", "ocfs2"),
}
FUSE = "fuse."
"""How the types of file systems in user space begin. Nearly all of them reach another machine."""
LOCAL_FUSE = {"fuse.fuse-overlayfs"}
"""The root of containers that run without the rights of root."""


def is_writable(folder: Path) -> bool:
    """Whether the process may write a folder."""
    return os.access(folder, os.W_OK)


def make_runs_folder(folder: Path) -> None:
    """Make the folder of `--out`. Raises `StorageError` if it cannot be made or written."""
    with _making(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not is_writable(folder):
        raise StorageError(f"--out {folder}: cannot be written")


def check_runs_folder(folder: Path) -> None:
    """Raise what `make_runs_folder` raises, without the folder: nothing of the check stays."""
    with _making(folder):
        if folder.is_dir():
            make_runs_folder(folder)
            return
        if folder.exists():
            folder.mkdir()  # raises: a file lies there
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        Path(tempfile.mkdtemp(prefix=".runs-", dir=parent)).rmdir()


@contextmanager
def _making(folder: Path) -> Iterator[None]:
    """The system's errors as `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"--out {folder}: cannot be made ({error.strerror})") from error


def refuse_network(file: Path, subject: str) -> None:
    """Raise `StorageError` if a SQLite file would lie on a file system of the network."""
    kind = _file_system(file)
    is_fuse = kind.startswith(FUSE) and kind not in LOCAL_FUSE
    if is_fuse or kind in NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{subject}: SQLite's WAL is unsafe on {kind}; use storage=postgresql+psycopg://..."
        )


def _file_system(file: Path) -> str:
    """The type of the file system on which a file lies, or would lie, behind all links."""
    mounts = {p.mountpoint: p.fstype for p in psutil.disk_partitions(all=True)}
    real_file = Path(os.path.realpath(file))  # unlike Path.resolve, it takes a link to itself
    for place in (real_file, *real_file.parents):
        if str(place) in mounts:
            return mounts[str(place)]
    return ""
