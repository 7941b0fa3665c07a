"""The processor: threads of products, and memory that the allocator holds or gives back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from harness.runtime.threads import count_threads, limit_pools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
HELD_BYTES = 2**30
"""The allocator holds free blocks up to this size, and free memory up to this size in all."""


def set_threads(threads: int) -> None:
    """Set the threads of products of torch, and of the pools of all other libraries.

    0 takes the number that `harness.runtime.threads` describes: OMP_NUM_THREADS, or the physical cores
    that this process may use. Raises `UserError` for an OMP_NUM_THREADS that is no number.
    """
    number = count_threads(threads)
    _run_operators_in_turn()
    limit_pools(number)
    torch.set_num_threads(number)


def _run_operators_in_turn() -> None:
    """Give torch's pool for operators side by side one thread: nothing here uses that pool.

    torch lets a process set this number once, and only before the pool's first use. A process that has
    done either before, as a notebook may, keeps its number, which changes no result.
    """
    if torch.get_num_interop_threads() != 1:
        with suppress(RuntimeError):
            torch.set_num_interop_threads(1)


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
