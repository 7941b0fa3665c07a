"""How this process uses the processor and its memory."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import joblib
import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
HELD = 2**30


def set_threads(threads: int) -> None:
    """Threads of products; 0 takes the physical cores that this process may use.

    A container's or a cluster's share of a machine counts, and not the machine.
    """
    torch.set_num_threads(threads or joblib.cpu_count(only_physical_cores=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of products for the block: for tensors so small that two would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hold_memory() -> None:
    """Let the allocator keep what is freed, for the next step's tensors.

    By default glibc gives blocks of megabytes back to the system at once, and every step of a training
    faults all its pages in again. Nothing is done where the C library is another one.
    """
    if (library := _glibc()) is not None:
        library.mallopt(M_MMAP_THRESHOLD, HELD)
        library.mallopt(M_TRIM_THRESHOLD, HELD)


def release_memory() -> None:
    """Give what is held and free back to the system, before something else is to be held.

    Tensors of other sizes do not fit the gaps that a training leaves, so that what two of them hold
    would add up.
    """
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
