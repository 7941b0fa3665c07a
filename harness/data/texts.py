"""Texts of a split on disk: an Arrow file that is mapped into memory. A read makes Python strings."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from harness.errors import StorageError, first_line
from harness.storage.arrays import give_back

Texts = Sequence[tuple[str, ...]]
"""The sentences of examples (examples,): 1 or 2 for each."""
CHUNK = 4096
"""Examples that are Python objects at the same time."""


class ArrowTexts(Sequence[tuple[str, ...]]):
    """Rows of an Arrow table of texts, in any order. Each column is one sentence of the examples.

    `rows` (examples,) are the table's rows that belong to the sequence. `take` makes another sequence of
    the same table, without a copy of texts. The table lies in the mapped `file`, whose pages every read
    gives back to the system.
    """

    def __init__(
        self,
        table: pa.Table,
        rows: npt.NDArray[np.int64] | None = None,
        file: mmap.mmap | None = None,
    ) -> None:
        self._table = table
        self._file = file
        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])
        self._rows = np.arange(table.num_rows) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> ArrowTexts: ...

    def __getitem__(self, index: int | slice) -> tuple[str, ...] | ArrowTexts:
        if isinstance(index, slice):
            return ArrowTexts(self._table, self._rows[index], self._file)
        return self._read(self._rows[[index]])[0]

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        for start in range(0, len(self), CHUNK):
            yield from self._read(self._rows[start : start + CHUNK])

    def take(self, positions: npt.NDArray[np.int64]) -> ArrowTexts:
        """The examples at these positions."""
        return ArrowTexts(self._table, self._rows[positions], self._file)

    def _read(self, rows: npt.NDArray[np.int64]) -> list[tuple[str, ...]]:
        """The examples in these rows of the table, as Python strings."""
        texts: list[tuple[str, ...]] = [()] * len(rows)
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers):
            batch = self._batches[number]
            places = np.flatnonzero(numbers == number)
            columns = batch.take(pa.array(rows[places] - (self._ends[number] - batch.num_rows)))
            cells = zip(*(column.to_pylist() for column in columns.columns), strict=True)
            for place, example in zip(places.tolist(), cells, strict=True):
                texts[place] = example
        if self._file is not None:
            give_back(self._file)
        return texts


def store_texts(texts: Iterable[tuple[str, ...]], columns: int) -> ArrowTexts:
    """Write examples of that many sentences to a temporary file, and map the file.

    The file has no name: the system frees it with the sequence, or when the process is killed. At most
    `CHUNK` examples are held. An error of `texts` is raised as it is.

    Raises:
        StorageError: the system refuses the write (the temporary folder is full).
    """
    schema = pa.schema([(str(column), pa.large_string()) for column in range(columns)])
    iterator = iter(texts)
    with _write_errors():
        file = tempfile.TemporaryFile()  # noqa: SIM115 - its errors are told, those of rows are not
    try:
        with _write_errors():
            writer = pa.ipc.new_file(file, schema)
        while examples := list(islice(iterator, CHUNK)):
            with _write_errors():
                writer.write_batch(_batch(examples, schema))
        with _write_errors():
            writer.close()
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    finally:
        with _write_errors():
            file.close()
    table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
    return ArrowTexts(table, file=mapped)


@contextmanager
def _write_errors() -> Iterator[None]:
    """Errors of the temporary file as `StorageError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise StorageError(f"{tempfile.gettempdir()}: cannot be written ({reason})") from error


def _batch(examples: Sequence[tuple[str, ...]], schema: pa.Schema) -> Any:
    columns = zip(*examples, strict=True)
    return pa.record_batch([pa.array(column, pa.large_string()) for column in columns], schema)
