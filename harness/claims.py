"""Claims keep two workers from training the same run side by side."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from harness.ledger import Ledger

BEAT_SECONDS = 15.0
EXPIRY_SECONDS = 180.0


class Claims:
    """This process's claims in a ledger, kept alive by one background thread while it is entered."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        process = psutil.Process()
        self.owner = f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self.ledger.refresh_claims(self.owner)

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the key is ours for the block; a dead or silent owner's claim is taken over."""
        stale = [owner for owner in self.ledger.claim_owners() if _dead(owner)]
        mine = self.ledger.take_claim(key, self.owner, stale, time.time() - EXPIRY_SECONDS)
        try:
            yield mine
        finally:
            if mine:
                self.ledger.release_claim(key, self.owner)


def _dead(owner: str) -> bool:
    """Whether an owner was a process of this machine that is gone."""
    host, pid, created = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True
