"""Outages without a server: SQLite's lock, and commits whose answers are lost."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from harness.errors import DeviceError, StorageError
from harness.storage.claims import Claims, ClaimTable
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.outages import Lock, Outage, Outages, outage_of
from tests.killing import contents
from tests.storage_worker import TRIALS, work


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.storage.outages.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("harness.storage.database.BUSY_SECONDS", 0.05)


@contextmanager
def locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Another program's transaction that writes."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


class Driver(Exception):
    """A driver's error."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("the driver's words")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("kind", "state", "invalid", "expected"),
    [
        (OperationalError, None, False, True),  # a refused connection
        (OperationalError, "57P01", True, True),  # pg_terminate_backend
        (OperationalError, "57P03", False, True),  # the server starts
        (OperationalError, "08006", False, True),
        (OperationalError, "53300", False, True),  # too many connections
        (DBAPIError, "25006", False, True),  # a primary that was demoted
        (OperationalError, "40P01", False, True),  # a deadlock
        (OperationalError, "53100", False, False),  # a full disk
        (ProgrammingError, "42P01", False, False),  # no such table
        (ProgrammingError, None, False, False),
    ],
)
def test_what_is_an_outage(
    kind: type[DBAPIError], state: str | None, invalid: bool, expected: bool
) -> None:
    error = kind("SELECT", {}, Driver(state), connection_invalidated=invalid)
    outage = outage_of(error, "ledger x")
    assert (outage is not None) is expected
    assert outage is None or str(outage) == "ledger x: the driver's words"


def test_it_is_told_in_one_line_and_again_when_the_database_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    attempts: list[int] = []

    def operation() -> int:
        attempts.append(1)
        if len(attempts) < 5:
            raise Outage("no answer")
        return len(attempts)

    outages = Outages()
    outages.has_answered = True
    assert outages.survive(operation) == 5
    assert outages.count == 4
    assert told(capsys) == [
        "waiting for the database: no answer",
        "the database is back after 0 s",
    ]
    assert outages.survive(operation) == 6
    assert told(capsys) == []


def test_a_database_that_never_answered_is_not_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    attempts: list[int] = []

    def operation() -> None:
        attempts.append(1)
        raise Outage("no answer")

    with pytest.raises(Outage, match=r"^no answer$"):
        Outages().survive(operation)
    outages = Outages()
    outages.has_answered = True
    with pytest.raises(Outage, match=r"^no answer$"):
        outages.survive(operation, is_patient=False)
    assert len(attempts) == 2
    assert told(capsys) == []


def test_a_locked_ledger_is_waited_for(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "ledger.db") as other:
        threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
        assert ledger.ablations() == []
    first, last = told(capsys)
    assert first.startswith("waiting for the database: ledger sqlite:///")
    assert first.endswith("database is locked")
    assert last.startswith("the database is back")


def test_a_ledger_that_is_locked_at_the_start_is_waited_for(tmp_path: Path) -> None:
    url = storage_url(tmp_path, None)
    Ledger(url).close()
    with locked(tmp_path / "ledger.db") as other:
        threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
        Ledger(url).close()


def test_a_ledger_that_stays_locked_ends_in_one_line(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.storage.outages.WAIT_SECONDS", 0.3)
    with (
        locked(tmp_path / "ledger.db"),
        pytest.raises(StorageError, match=r"database is locked \(the command waited 0 s\)$"),
    ):
        ledger.ablations()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, DeviceError, RuntimeError, StorageError])
def test_claims_are_given_back_without_waiting_when_the_command_ends(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """And the error that ends the command is told, not that of the claims."""
    claims, releases = Claims(ledger), count_releases(monkeypatch)

    def end(number: int, cause: Callable[[], object]) -> None:
        with ExitStack() as stack:
            for key in map(str, range(number)):
                assert stack.enter_context(claims.claim(key))
            cause()
            raise kind("the end")

    start = time.monotonic()
    with locked(tmp_path / "ledger.db") as other:
        other.execute("ROLLBACK")
        with pytest.raises(kind, match=r"^the end$"):
            end(40, lambda: other.execute("BEGIN IMMEDIATE"))
        assert releases == ["39"]  # SQLite would wait for each of the others
    assert time.monotonic() - start < 20
    assert len(claims.table.claimed_keys()) == 40
    # Once the database answers, claims are given back again.
    with pytest.raises(kind, match=r"^the end$"):
        end(2, lambda: None)
    assert claims.table.claimed_keys() == {str(number) for number in range(2, 40)}


def count_releases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all releases from now on."""
    keys: list[str] = []
    release = ClaimTable.release

    def note(self: ClaimTable, key: str, owner: str, is_patient: bool = True) -> None:
        keys.append(key)
        release(self, key, owner, is_patient)

    monkeypatch.setattr(ClaimTable, "release", note)
    return keys


def lose_answers(monkeypatch: pytest.MonkeyPatch, every: int) -> list[int]:
    """Make SQLite's commits fail after they were applied: each of that number. Returns them."""
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite as Dialect

    commits, lost = [0], [0]
    commit = Dialect.do_commit

    def do_commit(self: Any, connection: Any) -> None:
        commit(self, connection)
        commits[0] += 1
        if commits[0] % every == 0:
            lost[0] += 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

    monkeypatch.setattr(Dialect, "do_commit", do_commit)
    return lost


def test_a_commit_whose_answer_is_lost_is_applied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, every in (("still", 0), ("lossy", 7)):
        with (
            closing(Ledger(storage_url(tmp_path / name, None))) as ledger,
            Claims(ledger) as claims,
        ):
            lost = lose_answers(monkeypatch, every) if every else [0]
            assert work(ledger, claims, seconds=0) == list(range(TRIALS))
            monkeypatch.undo()
            monkeypatch.setattr("harness.storage.outages.FIRST_PAUSE", 0.01)
    assert lost[0] > TRIALS / 2
    assert contents(tmp_path / "lossy") == contents(tmp_path / "still")


def test_a_lock_is_an_outage() -> None:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY | 2 << 8  # one of its extended codes
    assert isinstance(outage_of(OperationalError("BEGIN", {}, error), "x"), Lock)
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert outage_of(OperationalError("BEGIN", {}, error), "x") is None
