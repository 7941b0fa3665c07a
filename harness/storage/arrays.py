"""Arrays in `.npy` files: written piece by piece, and mapped into memory with few resident pages."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import psutil

MOST_RESIDENT = 64 * 2**20
"""Bytes of mapped files that may become resident before `MappedRows` gives its pages back."""
PIECE = 32
"""Rows that are read or written at once. Linux may make 2 MiB resident for one row."""


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


class MappedRows:
    """Rows of a mapped array (rows, ...), of which few pages are resident.

    Rows that are read at random make the whole file resident in the end, while the system has free
    memory. Pages that are given back stay in the system's cache, and cost a page fault at the next read.
    The system reads ahead of the rows only where the whole file fits into free memory.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        base: Any = array.base
        assert isinstance(base, mmap.mmap)
        self.array = array
        self._map = base
        self._start = _mapped_bytes()
        is_large = array.nbytes > psutil.virtual_memory().available
        if is_large and hasattr(mmap, "MADV_RANDOM"):  # not on Windows
            base.madvise(mmap.MADV_RANDOM)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """A copy of some rows (k,)."""
        values = np.empty((len(rows), *self.array.shape[1:]), self.array.dtype)
        for start in range(0, len(rows), PIECE):
            piece = slice(start, start + PIECE)
            values[piece] = self.array[rows[piece]]
            self._bound()
        return values

    def write(self, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        """Write some rows (k,) of a shared map. The file has them, whatever happens to the pages."""
        for start in range(0, len(rows), PIECE):
            piece = slice(start, start + PIECE)
            self.array[rows[piece]] = values[piece]
            self._bound()

    def flush(self) -> None:
        """Write a shared map's changes to the disk. Raises OSError where the system cannot."""
        self._map.flush()

    def _bound(self) -> None:
        if _mapped_bytes() - self._start > MOST_RESIDENT:
            give_back(self._map)
            self._start = _mapped_bytes()


def give_back(file: mmap.mmap) -> None:
    """Give the resident pages of a mapped file back to the system. The file keeps its content."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        file.madvise(mmap.MADV_DONTNEED)


def _mapped_bytes() -> int:
    """Resident bytes of files that this process maps; 0 where the system is not Linux."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except FileNotFoundError:
        return 0
    return int(pages[2]) * mmap.PAGESIZE


def map_array(path: Path) -> npt.NDArray[Any]:
    """An `.npy` file mapped into memory.

    The map is copy-on-write: torch accepts the array as writable, and the file stays as it is.
    """
    array: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
