"""Claims keep two workers from training the same run at the same time.

A worker takes over the claims of dead owners. A process of this machine is dead when it has ended. A
process of another machine is dead when its heartbeat has stood still for `EXPIRY_SECONDS` by the
worker's own clock. The module never compares the clocks of two machines. After an outage of the database
the worker counts anew, since nobody could write a heartbeat.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import ColumnElement, Connection, false, func, or_, select

from harness.errors import StorageError
from harness.runtime.progress import say
from harness.storage.database import host, insert_new
from harness.storage.ledger import Ledger
from harness.storage.outages import Outage
from harness.storage.schema import CLAIMS

POLL_SECONDS = 0.5
BEAT_SECONDS = 15.0
EXPIRY_SECONDS = 180.0


class ClaimTable:
    """The table of all owners' claims. Each method is one transaction and raises `StorageError`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def take(self, key: str, owner: str, dead_owners: Mapping[str, float]) -> bool:
        """Claim a key that is free or belongs to a dead owner. Returns whether the owner has the key.

        `dead_owners` has the last heartbeat by owner. A claim with a later heartbeat stays.
        """

        def operation(connection: Connection) -> bool:
            row = {"key": key, "owner": owner, "heartbeat": time.time()}
            if insert_new(connection, CLAIMS, row):
                return True
            condition = or_(CLAIMS.c.owner == owner, _dead_claims(dead_owners))
            update = CLAIMS.update().where(CLAIMS.c.key == key, condition)
            return connection.execute(update.values(row)).rowcount == 1

        return self.ledger.transact(operation)

    def release(self, key: str, owner: str, is_patient: bool = True) -> None:
        """Give a claim back. During an outage a patient owner waits."""
        statement = CLAIMS.delete().where(CLAIMS.c.key == key, CLAIMS.c.owner == owner)
        self.ledger.transact(lambda connection: connection.execute(statement), is_patient)

    def drop(self, dead_owners: Mapping[str, float]) -> None:
        """Remove the claims of dead owners. A claim with a later heartbeat than in the mapping stays."""
        statement = CLAIMS.delete().where(_dead_claims(dead_owners))
        self.ledger.transact(lambda connection: connection.execute(statement))

    def refresh(self, owner: str) -> None:
        """Write a heartbeat of an owner. Raises `Outage` at once, since the next beat comes soon."""
        statement = CLAIMS.update().where(CLAIMS.c.owner == owner).values(heartbeat=time.time())
        self.ledger.transact(lambda connection: connection.execute(statement), is_patient=False)

    def claimed_keys(self) -> set[str]:
        """Every key that is claimed."""
        query = select(CLAIMS.c.key)
        return self.ledger.transact(lambda connection: set(connection.scalars(query)))

    def owners(self) -> dict[str, float]:
        """The last heartbeat of every owner of a claim, by the owner's own clock."""
        query = select(CLAIMS.c.owner, func.max(CLAIMS.c.heartbeat)).group_by(CLAIMS.c.owner)
        return self.ledger.transact(lambda connection: dict(connection.execute(query).all()))


def _dead_claims(dead_owners: Mapping[str, float]) -> ColumnElement[bool]:
    """Claims of dead owners without a heartbeat after the heartbeat in the mapping."""
    return or_(
        false(),
        *((CLAIMS.c.owner == o) & (CLAIMS.c.heartbeat <= beat) for o, beat in dead_owners.items()),
    )


class Claims:
    """This process's claims in a ledger. In the context one background thread renews the claims."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.table = ClaimTable(ledger)
        pid = os.getpid()
        self.owner = f"{host()}:{pid}:{_start_time(pid)}"
        self._heartbeats: dict[str, tuple[float, float]] = {}
        self._outages = 0
        self._is_lost = False
        """Whether a release has failed since the last claim while the process ended."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claims:
        self.drop_dead_owners()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self.drop_dead_owners()

    def drop_dead_owners(self) -> None:
        """Remove the claims of dead owners."""
        self.table.drop(self._dead_owners())

    def _beat(self) -> None:
        warning = ""
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self.table.refresh(self.owner)
            except Outage:  # no worker can see the beat that is missed
                continue
            except StorageError as error:  # the next beat may succeed; training goes on
                if str(error) != warning:
                    say(f"warning: this process's claims could not be renewed: {error}")
                warning = str(error)

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process has the key for the block. A dead owner's claim is taken over."""
        is_owner = self.table.take(key, self.owner, self._dead_owners())
        self._is_lost = False
        is_ending = False
        try:
            yield is_owner
        except BaseException:
            is_ending = True
            raise
        finally:
            if is_owner:
                self._release(key, is_ending)

    def _release(self, key: str, is_ending: bool) -> None:
        """Give a claim back. A process that is about to end neither waits nor hides why it ends.

        SQLite waits `BUSY_SECONDS` for each statement. So after one failure the process leaves its other
        claims, which are free as soon as it has ended.
        """
        if is_ending and self._is_lost:
            return
        try:
            self.table.release(key, self.owner, is_patient=not is_ending)
        except StorageError:
            if not is_ending:
                raise
            self._is_lost = True

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Wait until this process has the key for the block."""
        while True:
            with self.claim(key) as is_owner:
                if is_owner:
                    yield
                    return
            time.sleep(POLL_SECONDS)

    def _dead_owners(self) -> dict[str, float]:
        """The dead owners, with their last heartbeats."""
        owners, moment = self.table.owners(), time.monotonic()
        outages = self.ledger.outages.count
        if outages != self._outages:
            self._heartbeats.clear()
            self._outages = outages
        for owner, beat in owners.items():
            if self._heartbeats.get(owner, (None, 0.0))[0] != beat:
                self._heartbeats[owner] = (beat, moment)
        return {owner: beat for owner, beat in owners.items() if self._is_dead(owner, moment)}

    def _is_dead(self, owner: str, moment: float) -> bool:
        home, pid, start_time = owner.rsplit(":", 2)
        if home == host():
            return _has_ended(int(pid), start_time)
        return moment - self._heartbeats[owner][1] > EXPIRY_SECONDS


def _has_ended(pid: int, start_time: str) -> bool:
    """Whether a process of this machine has ended. Another process may have its number now.

    An ended process stays in the list as a zombie until its parent asks for the exit status.
    """
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or _start_time(pid) != start_time
    except psutil.NoSuchProcess:
        return True


def _start_time(pid: int) -> str:
    """The start of a process, in a form that no step of the wall clock moves.

    Linux counts clock ticks since the boot. psutil computes a date from the ticks and the wall clock, so
    the date moves with the clock. Other systems store the date. Raises `psutil.NoSuchProcess`.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
        # The second field is the program's name, in parentheses, and may hold spaces and parentheses.
        return status.rpartition(b")")[2].split()[19].decode()
    except OSError:
        return f"{psutil.Process(pid).create_time():.2f}"
