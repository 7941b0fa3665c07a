"""Claims keep two workers from training the same run side by side.

A claim whose owner is gone is taken over: of a process of this machine at once when it has ended, of
one elsewhere when its heartbeat has stood still for a while by our own clock. Clocks of machines are
never compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from harness.errors import StorageError
from harness.runtime.progress import say
from harness.storage.database import host
from harness.storage.ledger import Ledger

POLL_SECONDS = 0.5
BEAT_SECONDS = 15.0
EXPIRY_SECONDS = 180.0
CREATION_SLACK = 10.0
"""Seconds by which a process's time of creation, computed from the boot's, may seem to move."""


class Claims:
    """This process's claims in a ledger, kept alive by one background thread while it is entered."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        process = psutil.Process()
        self.owner = f"{host()}:{process.pid}:{process.create_time():.2f}"
        self._seen: dict[str, tuple[float, float]] = {}
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
        self.ledger.drop_claims(self._gone())

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self.ledger.refresh_claims(self.owner)
            except StorageError as error:  # the next beat may pass; training goes on meanwhile
                say(f"warning: this process's claims could not be renewed: {error}")

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the key is ours for the block; the claim of an owner that is gone is taken over."""
        mine = self.ledger.take_claim(key, self.owner, self._gone())
        try:
            yield mine
        finally:
            if mine:
                self.ledger.release_claim(key, self.owner)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Wait until the key is ours, for the block."""
        while True:
            with self.claim(key) as mine:
                if mine:
                    yield
                    return
            time.sleep(POLL_SECONDS)

    def _gone(self) -> dict[str, float]:
        """Owners that are gone, with their last heartbeat."""
        owners, now = self.ledger.claim_owners(), time.monotonic()
        for owner, beat in owners.items():
            if self._seen.get(owner, (None, 0.0))[0] != beat:
                self._seen[owner] = (beat, now)
        return {owner: beat for owner, beat in owners.items() if self._is_gone(owner, now)}

    def _is_gone(self, owner: str, now: float) -> bool:
        home, pid, created = owner.rsplit(":", 2)
        if home == host():
            return _has_ended(int(pid), float(created))
        return now - self._seen[owner][1] > EXPIRY_SECONDS


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
