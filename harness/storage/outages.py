"""Outages of the database: an operation is tried again until the database is back.

A commit whose answer was lost may have been applied. So an operation must leave the same rows when it
runs twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential_jitter,
)

from harness.errors import StorageError, one_line
from harness.runtime.progress import say

WAIT_SECONDS = 300.0
"""Seconds for which an operation waits. A restart takes seconds, and a failover or a minor upgrade of a
managed PostgreSQL one to three minutes. A database that is away for longer needs a person."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between two attempts: the pauses double."""
READ_ONLY = "25006"
TEMPORARY_STATES = {READ_ONLY, "40001", "40P01", "53300", "57P01", "57P02", "57P03", "57P05"}
"""PostgreSQL's SQLSTATEs that pass: a server that was demoted, a conflict of two transactions, too many
connections, and a server that stops or starts."""
LOST_CONNECTION = "08"
"""The class of PostgreSQL's SQLSTATEs about connections."""
SQLITE_LOCKS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

T = TypeVar("T")


class Outage(StorageError):
    """The database does not answer for now."""


class Lock(Outage):
    """Another connection holds SQLite's lock for a long time."""


def outage_of(error: DBAPIError, database: str) -> Outage | None:
    """The error as an outage of the database of that name, or None for an error of another kind."""
    message = f"{database}: {one_line(error.orig or error)}"
    if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in SQLITE_LOCKS:
        return Lock(message)
    return Outage(message) if error.connection_invalidated or _is_temporary(error) else None


def _is_temporary(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = _state(error)
    if state is None:  # the driver's own error, for example a refused connection
        return isinstance(error, OperationalError | InterfaceError)
    return state in TEMPORARY_STATES or state.startswith(LOST_CONNECTION)


def _state(error: DBAPIError) -> str | None:
    """PostgreSQL's SQLSTATE, under the names of the drivers psycopg and psycopg2."""
    state: str | None = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return state


def raise_outages(engine: Engine, database: str) -> None:
    """Make the engine raise `Outage` in place of SQLAlchemy's errors.

    Optuna repeats a transaction after an error of SQLAlchemy's without a look at what was committed.
    `Outage` passes through Optuna.
    """

    def convert(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if context.is_pre_ping or not isinstance(error, DBAPIError):
            return
        outage = outage_of(error, database)
        if outage is None:
            return
        if _state(error) == READ_ONLY:  # the next connection may reach the new primary
            context.is_disconnect = True
        raise outage from context.original_exception

    event.listen(engine, "handle_error", convert)


class Outages:
    """The outages that this process meets of one database. Threads may share the object."""

    def __init__(self) -> None:
        self.has_answered = False
        """Whether the database has ever answered. Until then an outage is taken for a wrong URL."""
        self.count = 0
        """The number of attempts that met an outage."""
        self._waiting_since: float | None = None
        self._lock = threading.Lock()

    def survive(self, operation: Callable[[], T], is_patient: bool = True) -> T:
        """The result of an operation, which is tried again for `WAIT_SECONDS` while it raises `Outage`.

        One line on stderr says that the command waits, and one that the database is back. An operation
        that is not patient is tried once.

        Raises:
            StorageError: the outage lasts, or the database has never answered and is not locked.
        """
        if not is_patient:
            return self._attempt(operation)
        retrying = Retrying(
            retry=retry_if_exception(self._may_pass),
            wait=wait_exponential_jitter(
                multiplier=FIRST_PAUSE, max=LONGEST_PAUSE, jitter=FIRST_PAUSE
            ),
            stop=stop_after_delay(WAIT_SECONDS),
            before_sleep=self._announce,
            reraise=True,
        )
        try:
            return retrying(lambda: self._attempt(operation))
        except Outage as outage:
            if not self._may_pass(outage):
                raise
            raise StorageError(f"{outage} (the command waited {WAIT_SECONDS:.0f} s)") from outage

    def _may_pass(self, error: BaseException) -> bool:
        return isinstance(error, Lock) or (isinstance(error, Outage) and self.has_answered)

    def _attempt(self, operation: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            result = operation()
        except Outage:
            with self._lock:
                self.count += 1
            raise
        self._end(start)
        return result

    def _announce(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        with self._lock:
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
                say(f"waiting for the database: {state.outcome.exception()}")

    def _end(self, start: float) -> None:
        """End the outage, if there is one and the attempt that succeeded began after it."""
        with self._lock:
            if self._waiting_since is not None and start >= self._waiting_since:
                say(f"the database is back after {time.monotonic() - self._waiting_since:.0f} s")
                self._waiting_since = None
