"""Freed memory that the process still holds goes back to the system."""

import subprocess
import sys

import psutil
import pytest

from harness.runtime import cpu as processor

FREED = """
import psutil
from harness.runtime.cpu import hold_memory, release_memory

resident = lambda: psutil.Process().memory_info().rss / 2**20
hold_memory()
blocks = [bytearray(b"x" * 2**20) for _ in range(200)]
full = resident()
del blocks[:-1]  # the last one lies above the others
held = resident()
release_memory()
print(full - held, held - resident())
"""

THREADS = """
import psutil, torch
from harness.runtime.cpu import set_threads

process = psutil.Process()
process.cpu_affinity(process.cpu_affinity()[:1])
for asked in (0, 3):
    set_threads(asked)
    print(torch.get_num_threads())
"""


@pytest.mark.skipif(processor._glibc() is None, reason="the C library is not glibc")
def test_freed_memory_is_held_until_it_is_released() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=120
    )
    freed, released = map(float, done.stdout.split())
    assert freed < 20
    assert released > 150


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="no affinity here")
def test_the_automatic_number_of_threads_is_of_the_processors_share() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["1", "3"]
