"""One storage URL for the ledger and Optuna: SQLite in WAL mode with BEGIN IMMEDIATE, or PostgreSQL.

With SQLite's default, deferred transactions, two workers can both read and then both fail to write.
IMMEDIATE takes the write lock first and waits.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import HIDDEN, StorageError, without_passwords
from harness.paths import name_fault, user_path
from harness.storage.json_values import from_json, parse_json, to_json
from harness.storage.outages import raise_outages
from harness.storage.places import (
    check_runs_folder,
    is_writable,
    make_runs_folder,
    refuse_network,
)
from harness.storage.url_checks import check_url

BUSY_SECONDS = 10
"""Seconds for which SQLite itself waits for its lock. After them the command says that it waits."""
LIBPQ_DRIVERS = {"psycopg", "psycopg2"}
LIBPQ_LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Limits in seconds; the last in milliseconds. Without them a command waits for hours for a machine that
has vanished. The URL may give others."""


UNREADABLE_URL = (SQLAlchemyError, ValueError)
"""What a text raises that is no URL; a port that is no number raises `ValueError`."""


def make_immediate(engine: Engine, pool_engine: Engine | None = None) -> None:
    """Make every later transaction of a SQLite engine a BEGIN IMMEDIATE one, in WAL mode.

    A transaction or connection raises `StorageError` once the file is no longer at its place.
    `pool_engine` is the engine that the pool was made for, if it is another one. SQLAlchemy tells only
    that engine before it connects.
    """
    if engine.dialect.name == "sqlite" and not is_read_only(engine.url):
        file = _DatabaseFile(sqlite_file(engine.url))
        event.listen(pool_engine or engine, "do_connect", file.check)
        event.listen(engine, "connect", _configure)
        event.listen(engine, "connect", file.remember)
        event.listen(engine, "begin", file.check)
        event.listen(engine, "begin", _begin)
        engine.dispose()


def _configure(connection: Any, record: Any) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class _DatabaseFile:
    """The file of a SQLite database. SQLite itself goes on with a file that was deleted or moved."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.identity: tuple[int, int] | None = None

    def remember(self, *unused: Any) -> None:
        """Note the file that was opened first."""
        if self.identity is None and self.path is not None:
            self.identity = _identity(self.path)

    def check(self, *unused: Any) -> None:
        """Raise `StorageError` if another file, or none, is at the path now."""
        if self.identity is None or self.path is None:
            return
        if _identity(self.path) != self.identity:
            raise StorageError(
                f"ledger {self.path}: was deleted, moved or replaced while the command ran"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sqlite_file(url: str | URL) -> Path | None:
    """The absolute path of a SQLite URL's file; None for a database in memory or another kind."""
    parts = make_url(url)
    name = parts.database or ":memory:"
    if parts.get_backend_name() != "sqlite" or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name).absolute()


def storage_url(runs_folder: Path, url: str | None) -> str:
    """The URL of a runs folder's ledger: `url` if there is one, else SQLite's file in the folder.

    Raises:
        StorageError: the URL is malformed or cannot hold a ledger, the folder cannot be written, or
            SQLite would lie on a network file system, where its WAL is unsafe.
    """
    if url is not None:
        try:
            url = _with_home(url)
            parts = make_url(url)
        except UNREADABLE_URL as error:
            # The message leaves out the text, which may hold a password.
            raise StorageError("storage: not a database URL like postgresql://...") from error
        check_url(parts, masked_url(url))
        file = sqlite_file(parts)
        if file is not None:
            refuse_network(file, f"storage {masked_url(url)}")
        return url
    _check_name(runs_folder)
    make_runs_folder(runs_folder)
    return _url_in(runs_folder)


def check_storage(runs_folder: Path, url: str | None) -> None:
    """Raise what a command raises for its folder and storage, and make neither.

    Raises:
        StorageError: as `storage_url`; with a `url` also if the folder could not be made or written.
    """
    _check_name(runs_folder)
    check_runs_folder(runs_folder)
    if url is not None:
        storage_url(runs_folder, url)
    else:
        _url_in(runs_folder)


def _url_in(runs_folder: Path) -> str:
    """The URL of the file in a runs folder. Raises `StorageError` on a file system of the network."""
    file = runs_folder.absolute() / "ledger.db"
    refuse_network(file, f"--out {runs_folder}")
    # The URL is made from its parts: as text a path with ?, # or % would mean another path.
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def _read_only_url(file: Path) -> str:
    """The URL that opens a SQLite file without a write, in a folder where nothing can be written.

    Raises:
        StorageError: a part of the ledger lies beside it without its index, which SQLite would write.
    """
    log, index = (file.with_name(f"{file.name}-{suffix}") for suffix in ("wal", "shm"))
    query = {"mode": "ro", "uri": "true"}
    if not log.is_file() or not log.stat().st_size:
        query["immutable"] = "1"  # without locks, whose file SQLite would make
    elif not index.is_file():
        raise StorageError(
            f"{file.parent}: cannot be written, and {log.name} is still to be written into {file.name}: "
            "copy the folder to where it can be written"
        )
    # As a URI, which SQLite itself reads.
    url = URL.create("sqlite", database=file.as_uri(), query=query)
    return url.render_as_string(hide_password=False)


def is_read_only(url: str | URL) -> bool:
    """Whether a URL is one for reading only."""
    return make_url(url).query.get("mode") == "ro"


def _with_home(url: str) -> str:
    """The URL, where a SQLite file's leading `~` stands for a home folder."""
    parts = make_url(url)
    if parts.get_backend_name() != "sqlite" or not (parts.database or "").startswith("~"):
        return url
    file = str(user_path(str(parts.database)))
    return parts.set(database=file).render_as_string(hide_password=False)


def existing_url(runs_folder: Path, storage: str | None) -> str:
    """The URL of an existing ledger. The check is needed, since SQLite makes a missing file.

    Where the ledger's folder cannot be written, the URL is one for reading only.

    Raises:
        StorageError: the folder or the ledger does not exist, or `storage_url` fails.
    """
    _check_name(runs_folder)
    if not runs_folder.is_dir():
        raise StorageError(f"{runs_folder}: no such folder")
    default = runs_folder.absolute() / "ledger.db"
    if storage is None and default.is_file() and not is_writable(runs_folder):
        return _read_only_url(default)
    url = storage_url(runs_folder, storage)
    file = sqlite_file(url)
    if file is not None and file.is_file() and not is_writable(file.parent):
        return _read_only_url(file)
    if file is not None and not file.is_file():
        raise StorageError(
            f"{runs_folder}: has no ledger.db"
            if storage is None
            else f"--storage {masked_url(url)}: no such file"
        )
    return url


def plain_engine(url: str) -> Engine:
    """An engine that notices a lost connection to a PostgreSQL server. Raises `StorageError`."""
    parts = make_url(url)
    is_postgres = parts.get_backend_name() == "postgresql"
    limits: dict[str, int] = {}
    try:
        if is_postgres and parts.get_driver_name() in LIBPQ_DRIVERS:
            limits = {name: n for name, n in LIBPQ_LIMITS.items() if name not in parts.query}
        # SQLite takes Python's JSON as it is.
        options: dict[str, Any] = {"json_deserializer": parse_json}
        if is_postgres:
            options = {"json_serializer": to_json, "json_deserializer": from_json}
        return create_engine(url, pool_pre_ping=is_postgres, connect_args=limits, **options)
    except ImportError as error:
        hint = "PostgreSQL needs the extra: pip install -e '.[postgres]'"
        raise StorageError(f"storage {masked_url(url)}: {error} ({hint})") from error
    except SQLAlchemyError as error:
        raise StorageError(f"storage {masked_url(url)}: {error}") from error


def open_engine(url: str) -> Engine:
    """An engine for the ledger's own tables, whose transactions raise `Outage`."""
    engine = plain_engine(url)
    make_immediate(engine)
    raise_outages(engine, f"ledger {masked_url(url)}")
    return engine


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    is_postgres = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgres else sqlite.insert(table)


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert unless the primary key is taken; returns whether the row was inserted."""
    statement = _insert(connection, table).values(**row).on_conflict_do_nothing()
    # Without the option PostgreSQL's row count of an INSERT is always -1.
    options = {"preserve_rowcount": True}
    return connection.execute(statement, execution_options=options).rowcount == 1


def put(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert, or replace the row with the same primary key."""
    if not insert_new(connection, table, row):
        keys = [column == row[column.name] for column in table.primary_key]
        connection.execute(table.update().where(*keys).values(**row))


def put_all(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, at least one, or replace those with the same primary keys, as one batch.

    A row that is there already is not updated; PostgreSQL locks it. The table has no columns of JSON,
    which PostgreSQL cannot compare. `rows` come in one order everywhere, so that no two commands wait
    for each other.
    """
    statement = _insert(connection, table)
    values = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    differs = or_(*(table.c[name].is_distinct_from(value) for name, value in values.items()))
    keys = list(table.primary_key)
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=values, where=differs), rows
    )


def masked_url(url: str) -> str:
    """A URL without its passwords, for messages and manifests. An option may be a password, too."""
    try:
        parts = make_url(url)
    except UNREADABLE_URL:  # the position of a password in the text is unknown
        return HIDDEN
    if "@" in (parts.host or ""):  # a part of the password
        return HIDDEN
    return without_passwords(parts.render_as_string(hide_password=True))


def _check_name(runs_folder: Path) -> None:
    """Raise `StorageError` for a folder whose name no database takes."""
    if (fault := name_fault(runs_folder)) is not None:
        raise StorageError(f"runs folder {fault}")


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
