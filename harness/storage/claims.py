"""Claims keep two workers from training the same run side by side.

A claim whose owner is gone is taken over: of a process of this machine at once when it has ended, of
one elsewhere when its heartbeat has stood still for a while by our own clock. Clocks of machines are
never compared.
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
"""Seconds by which a process's time of creation, computed from the boot's, may seem to move."""


class ClaimTable:
    """The table of all owners' claims. Each method is one transaction and raises `StorageError`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def take(self, key: str, owner: str, gone: Mapping[str, float]) -> bool:
        """Claim a key, also from an owner in `gone` without a heartbeat after the one given there."""
        with self.ledger.transaction() as connection:
            row = {"key": key, "owner": owner, "heartbeat": time.time()}
            if insert_new(connection, CLAIMS, row):
                return True
            free = or_(CLAIMS.c.owner == owner, _silent(gone))
            update = CLAIMS.update().where(CLAIMS.c.key == key, free)
            return connection.execute(update.values(row)).rowcount == 1

    def release(self, key: str, owner: str) -> None:
        """Give a claim back."""
        with self.ledger.transaction() as connection:
            connection.execute(CLAIMS.delete().where(CLAIMS.c.key == key, CLAIMS.c.owner == owner))

    def drop(self, gone: Mapping[str, float]) -> None:
        """Remove claims of owners in `gone` without a heartbeat after the one given there."""
        with self.ledger.transaction() as connection:
            connection.execute(CLAIMS.delete().where(_silent(gone)))

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


def _silent(gone: Mapping[str, float]) -> ColumnElement[bool]:
    """Claims of owners in `gone` without a heartbeat after the one given there."""
    return or_(
        false(),
        *((CLAIMS.c.owner == o) & (CLAIMS.c.heartbeat <= beat) for o, beat in gone.items()),
    )


class Claims:
    """This process's claims in a ledger, kept alive by one background thread while it is entered."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.table = ClaimTable(ledger)
        process = psutil.Process()
        self.owner = f"{host()}:{process.pid}:{process.create_time():.2f}"
        self._heartbeats: dict[str, tuple[float, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claims:
        self.drop_gone()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self.drop_gone()

    def drop_gone(self) -> None:
        """Give back the claims of owners that are gone."""
        self.table.drop(self._gone_owners())

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self.table.refresh(self.owner)
            except StorageError as error:  # the next beat may pass; training goes on meanwhile
                say(f"warning: this process's claims could not be renewed: {error}")

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the key is ours for the block; the claim of an owner that is gone is taken over."""
        mine = self.table.take(key, self.owner, self._gone_owners())
        try:
            yield mine
        finally:
            if mine:
                self.table.release(key, self.owner)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Wait until the key is ours, for the block."""
        while True:
            with self.claim(key) as mine:
                if mine:
                    yield
                    return
            time.sleep(POLL_SECONDS)

    def _gone_owners(self) -> dict[str, float]:
        """Owners that are gone, with their last heartbeat."""
        owners, now = self.table.owners(), time.monotonic()
        for owner, beat in owners.items():
            if self._heartbeats.get(owner, (None, 0.0))[0] != beat:
                self._heartbeats[owner] = (beat, now)
        return {owner: beat for owner, beat in owners.items() if self._is_gone(owner, now)}

    def _is_gone(self, owner: str, now: float) -> bool:
        home, pid, created = owner.rsplit(":", 2)
        if home == host():
            return _has_ended(int(pid), float(created))
        return now - self._heartbeats[owner][1] > EXPIRY_SECONDS


def _has_ended(pid: int, created: float) -> bool:
    """Whether a process of this machine has ended; its number may belong to another one now.

    One whose parent has not asked for its exit status stays listed, as a zombie.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return abs(process.create_time() - created) > CREATION_SLACK
    except psutil.NoSuchProcess:
        return True
