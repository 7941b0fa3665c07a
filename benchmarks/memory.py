"""The time and the peak memory of another process."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from threading import Thread

import psutil

INTERVAL = 0.02
"""Seconds between two samples."""


def command_cost(command: Sequence[str]) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (MiB) of a command whose output is thrown away.

    Raises SystemExit, with the end of the command's errors, where its exit code is not 0.
    """
    usage_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        # The system's own peak of a child begins with the memory of its parent.
        peak = PeakMemory(process.pid)
        _, errors = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {errors[-2000:]}")
    usage_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "processor_seconds": usage_after.ru_utime
        + usage_after.ru_stime
        - usage_before.ru_utime
        - usage_before.ru_stime,
        "peak_mebibytes": peak.mebibytes(),
    }


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
