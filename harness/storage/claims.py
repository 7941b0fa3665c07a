"""Claims keep two workers from training the same run at the same time.

A worker takes over the claims of dead owners. A process of this machine is dead when it has ended. A
process of another machine is dead when its heartbeat has stood still for `EXPIRY_SECONDS` by the
worker's own clock. The module never compares the clocks of two machines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
from sqlalchemy import ColumnElement, false, func, or_, select

from harness.errors import StorageError
from harness.runtime.progress import say
from harness.storage.database import host, insert_new
from harness.storage.ledger import Ledger
from harness.storage.schema import CLAIMS

POLL_SECONDS = 0.5
BEAT_SECONDS = 15.0
EXPIRY_SECONDS = 180.0
CREATION_SLACK = 10.0
"""Seconds by which a process's creation time may seem to move, as it is computed from the boot time."""


class ClaimTable:
    """The table of all owners' claims. Each method is one transaction and raises `StorageError`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def take(self, key: str, owner: str, dead_owners: Mapping[str, float]) -> bool:
        """Claim a key that is free or belongs to a dead owner. Returns whether the owner has the key.

        `dead_owners` has the last heartbeat by owner. A claim with a later heartbeat stays.
        """
        with self.ledger.transaction() as connection:
            row = {"key": key, "owner": owner, "heartbeat": time.time()}
            if insert_new(connection, CLAIMS, row):
                return True
            condition = or_(CLAIMS.c.owner == owner, _dead_claims(dead_owners))
            update = CLAIMS.update().where(CLAIMS.c.key == key, condition)
            return connection.execute(update.values(row)).rowcount == 1

    def release(self, key: str, owner: str) -> None:
        """Give a claim back."""
        with self.ledger.transaction() as connection:
            connection.execute(CLAIMS.delete().where(CLAIMS.c.key == key, CLAIMS.c.owner == owner))

    def drop(self, dead_owners: Mapping[str, float]) -> None:
        """Remove the claims of dead owners. A claim with a later heartbeat than in the mapping stays."""
        with self.ledger.transaction() as connection:
            connection.execute(CLAIMS.delete().where(_dead_claims(dead_owners)))

    def refresh(self, owner: str) -> None:
        """Write a heartbeat of an owner."""
        with self.ledger.transaction() as connection:
            statement = CLAIMS.update().where(CLAIMS.c.owner == owner)
            connection.execute(statement.values(heartbeat=time.time()))

    def claimed_keys(self) -> set[str]:
        """Every key that is claimed."""
        with self.ledger.transaction() as connection:
            return set(connection.scalars(select(CLAIMS.c.key)))

    def owners(self) -> dict[str, float]:
        """The last heartbeat of every owner of a claim, by the owner's own clock."""
        with self.ledger.transaction() as connection:
            query = select(CLAIMS.c.owner, func.max(CLAIMS.c.heartbeat))
            return dict(connection.execute(query.group_by(CLAIMS.c.owner)).all())


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
        process = psutil.Process()
        self.owner = f"{host()}:{process.pid}:{process.create_time():.2f}"
        self._heartbeats: dict[str, tuple[float, float]] = {}
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
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self.table.refresh(self.owner)
            except StorageError as error:  # the next beat may succeed; training goes on
                say(f"warning: this process's claims could not be renewed: {error}")

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process has the key for the block. A dead owner's claim is taken over."""
        is_owner = self.table.take(key, self.owner, self._dead_owners())
        try:
            yield is_owner
        finally:
            if is_owner:
                self.table.release(key, self.owner)

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
        for owner, beat in owners.items():
            if self._heartbeats.get(owner, (None, 0.0))[0] != beat:
                self._heartbeats[owner] = (beat, moment)
        return {owner: beat for owner, beat in owners.items() if self._is_dead(owner, moment)}

    def _is_dead(self, owner: str, moment: float) -> bool:
        home, pid, creation_time = owner.rsplit(":", 2)
        if home == host():
            return _has_ended(int(pid), float(creation_time))
        return moment - self._heartbeats[owner][1] > EXPIRY_SECONDS


def _has_ended(pid: int, creation_time: float) -> bool:
    """Whether a process of this machine has ended. Another process may have its number now.

    An ended process stays in the list as a zombie until its parent asks for the exit status.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return abs(process.create_time() - creation_time) > CREATION_SLACK
    except psutil.NoSuchProcess:
        return True
