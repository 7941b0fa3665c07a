"""Arrays in `.npy` files: written piece by piece, and mapped into memory with few resident pages."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

AROUND = 16 * mmap.PAGESIZE
"""Bytes around an address that Linux maps at one page fault, where they are in its cache."""
MOST_RESIDENT = 128 * 2**20
"""Bytes of one mapped array that a process holds before it gives the pages back."""


class ArrayWriter:
    """Writes a one-dimensional `.npy` file piece by piece. The file is complete after the block.

    Plain writes raise an error on a full disk, which numpy's own writes do not.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._write_header()

    def append(self, values: npt.ArrayLike) -> None:
        """Write more elements (n,)."""
        array = np.ascontiguousarray(values, self.dtype)
        self._file.write(array.data)
        self.length += len(array)

    def _write_header(self) -> None:
        """Numpy leaves room in a header for a longer first axis, so that the size stays the same."""
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class ResidentPages:
    """Counts the pages of a mapped array that are resident, and gives them back above a bound.

    Rows that are read at random make the whole file resident in the end, while the system has free
    memory. The pages stay in the system's cache: giving them back costs a page fault at the next read.
    """

    def __init__(self, array: npt.NDArray[Any], most: int = MOST_RESIDENT) -> None:
        base: Any = array.base
        assert isinstance(base, mmap.mmap)
        self._map = base
        self._most = most
        self._row_bytes = array[:1].nbytes + AROUND
        self._bytes = 0

    def touch(self, rows: int) -> None:
        """Count that many rows as read or written. Call this after the read."""
        self._bytes += rows * self._row_bytes
        if self._bytes > self._most:
            self.release()

    def release(self) -> None:
        """Give all pages back. Writes to a shared map are in the file, and no other write is lost."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)
        self._bytes = 0


def map_array(path: Path) -> npt.NDArray[Any]:
    """An `.npy` file mapped into memory.

    The map is copy-on-write: torch accepts the array as writable, and the file stays as it is.
    """
    array: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
