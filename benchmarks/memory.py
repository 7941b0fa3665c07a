"""The most memory that another process holds while it runs."""

from __future__ import annotations

import time
from threading import Thread

import psutil

SAMPLED = 0.02
"""Seconds between two looks at a process."""


class PeakMemory:
    """Looks at a process's resident memory, in a thread of its own, until the process ends."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._most = 0
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def mebibytes(self) -> float:
        """The most that was seen; waits for the process's end."""
        self._thread.join()
        return self._most / 2**20

    def _watch(self) -> None:
        while held := self._held():
            self._most = max(self._most, held)
            time.sleep(SAMPLED)

    def _held(self) -> int:
        """Resident bytes, 0 once the process has ended."""
        try:
            return int(self._process.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
