"""The processor: threads of products, and memory that the allocator holds or gives back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import joblib
import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
HELD_BYTES = 2**30
"""The allocator holds free blocks up to this size, and free memory up to this size in all."""


def usable_cores() -> int:
    """The physical cores that this process may use; in a container those of its share."""
    return int(joblib.cpu_count(only_physical_cores=True))


def set_threads(threads: int) -> None:
    """Set the threads of products; 0 takes the usable cores."""
    torch.set_num_threads(threads or usable_cores())


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread of products in the block, for tensors so small that threads would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def hold_memory() -> None:
    """Let the allocator hold freed memory for the next step's tensors.

    By default glibc gives blocks of megabytes back to the system at once, and every step of a training
    faults all its pages in again. With another C library nothing happens.
    """
    if (library := _glibc()) is not None:
        library.mallopt(M_MMAP_THRESHOLD, HELD_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, HELD_BYTES)


def release_memory() -> None:
    """Give held memory that is free back to the system, before tensors of other sizes come.

    Such tensors do not fit the gaps that a training leaves, so that the held memory of two trainings
    would add up.
    """
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
