"""One storage URL for the ledger and Optuna: SQLite in WAL mode with BEGIN IMMEDIATE, or PostgreSQL.

With SQLite's default, deferred transactions, two workers can both read and then both fail to write.
IMMEDIATE takes the write lock first and waits.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from harness.errors import StorageError

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "afs", "9p"}
BUSY_SECONDS = 120
SQLITE = "sqlite:///"


def make_immediate(engine: Engine) -> None:
    """Make every later transaction of a SQLite engine a BEGIN IMMEDIATE one, in WAL mode."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        engine.dispose()


def _configure(connection: Any, record: Any) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def storage_url(runs_folder: Path, url: str | None) -> str:
    """The URL of a runs folder's ledger: `url` if there is one, else SQLite's file in the folder.

    Raises:
        StorageError: the URL is malformed, the folder cannot be written, or SQLite would lie on a
            network file system, where its WAL is unsafe.
    """
    if url is not None:
        try:
            make_url(url)
        except ArgumentError as error:
            # The message leaves out the text, which may hold a password.
            raise StorageError("storage: not a database URL like postgresql://...") from error
        return url
    try:
        runs_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"--out {runs_folder}: cannot be made ({error.strerror})") from error
    if not os.access(runs_folder, os.W_OK):
        raise StorageError(f"--out {runs_folder}: cannot be written")
    kind = _file_system(runs_folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"--out {runs_folder}: SQLite's WAL is unsafe on {kind}; use storage=postgresql+psycopg://..."
        )
    return f"sqlite:///{runs_folder.absolute() / 'ledger.db'}"


def existing_url(runs_folder: Path, storage: str | None) -> str:
    """The URL of an existing ledger. The check is needed, since SQLite makes a missing file.

    Raises:
        StorageError: the folder or the ledger does not exist, or `storage_url` fails.
    """
    if not runs_folder.is_dir():
        raise StorageError(f"{runs_folder}: no such folder")
    url = storage_url(runs_folder, storage)
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE).partition("?")[0]).is_file():
        raise StorageError(
            f"{runs_folder}: has no ledger.db"
            if storage is None
            else f"--storage {url}: no such file"
        )
    return url


def open_engine(url: str) -> Engine:
    """An engine for the ledger's own tables."""
    try:
        engine = create_engine(url)
    except ImportError as error:
        hint = "PostgreSQL needs the extra: pip install -e '.[postgres]'"
        raise StorageError(f"storage {masked_url(url)}: {error} ({hint})") from error
    except SQLAlchemyError as error:
        raise StorageError(f"storage {masked_url(url)}: {error}") from error
    make_immediate(engine)
    return engine


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert unless the primary key is taken; returns whether the row was inserted."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**row).on_conflict_do_nothing()
    # Without the option PostgreSQL's row count of an INSERT is always -1.
    options = {"preserve_rowcount": True}
    return connection.execute(statement, execution_options=options).rowcount == 1


def put(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert, or replace the row with the same primary key."""
    if not insert_new(connection, table, row):
        keys = [column == row[column.name] for column in table.primary_key]
        connection.execute(table.update().where(*keys).values(**row))


def masked_url(url: str) -> str:
    """A URL without its password, for messages and manifests."""
    return make_url(url).render_as_string(hide_password=True)


def _file_system(folder: Path) -> str:
    mounts = {p.mountpoint: p.fstype for p in psutil.disk_partitions(all=True)}
    for place in (folder.absolute(), *folder.absolute().parents):
        if str(place) in mounts:
            return mounts[str(place)]
    return ""


@cache
def host() -> str:
    """The identity of the space of process numbers: this machine since its boot, or a container.

    A machine's name is not enough, because containers and copied machines share names.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):  # only Linux has these files
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
