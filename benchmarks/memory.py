"""The peak memory of another process."""

from __future__ import annotations

import time
from threading import Thread

import psutil

INTERVAL = 0.02
"""Seconds between two samples."""


class PeakMemory:
    """Samples a process's resident memory in a thread, until the process ends."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def mebibytes(self) -> float:
        """The peak; the call waits for the end of the process."""
        self._thread.join()
        return self._peak / 2**20

    def _watch(self) -> None:
        while resident := self._resident_bytes():
            self._peak = max(self._peak, resident)
            time.sleep(INTERVAL)

    def _resident_bytes(self) -> int:
        """Resident bytes; 0 after the end of the process."""
        try:
            return int(self._process.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
