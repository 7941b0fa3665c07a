"""Rows of data files: TSV (GLUE's form), CSV, TXT, JSONL and parquet. A row has its place in the file.

No function holds a whole file: the files of a large task take several times the memory of its texts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import DataError, first_line
from harness.paths import is_special
from harness.runtime.progress import say

Column = str | int
PARQUET_ROWS = 4096
"""Rows of a parquet file that are read at the same time."""


class Row(NamedTuple):
    """One row of a file."""

    place: str
    """The row's place, "file:line"."""
    number: int
    """The row's number in the file, from 0, without the header. Broken rows count too."""
    cells: list[Any] | None
    """The cells of the chosen columns; None for a broken row that is left out."""


def read_rows(
    path: Path, columns: Sequence[Column], *, header: bool = True, skip_broken: bool = False
) -> Iterator[Row]:
    """Some columns of every row of a file. The suffix tells the format.

    Three things hold for TSV and CSV only. `header` says whether the file begins with a header. Columns
    may be indices from 0. A row with another number of cells than the first row is an error; with
    `skip_broken` such rows have no cells, and a warning counts them.

    Raises:
        DataError: naming file and line, for an unreadable file, or a column that is missing, doubled or
            chosen twice.
    """
    if "\0" in str(path):
        raise DataError(f"{str(path)!r}: no file can have this name")
    if is_special(path):
        raise DataError(f"{path}: cannot be read (it is no regular file)")
    if path.suffix in _RECORDS:
        yield from _select(path, _RECORDS[path.suffix](path), columns, header, skip_broken)
    elif path.suffix in _READERS:
        yield from _READERS[path.suffix](path, columns)
    else:
        raise DataError(f"{path}: the suffix is none of {', '.join([*_RECORDS, *_READERS])}")


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """The system's errors as `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DataError(f"{path}: cannot be read ({reason})") from error


def _check_utf8(path: Path) -> None:
    """Read a file once, to name the first byte that is not UTF-8 before any row."""
    start = 0
    with _read_errors(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"{path}:{number}: byte {start + error.start}"
                raise DataError(f"{place} is not UTF-8") from error
            start += len(line)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file without their LF. An empty file has one empty line.

    Raises:
        DataError: naming the byte that is not UTF-8, or saying that lines end in CR alone.
    """
    _check_utf8(path)
    with _read_errors(path), path.open(encoding="utf-8-sig", newline="\n") as file:
        first = file.readline()
        if not first.endswith("\n") and "\r" in first.removesuffix("\r"):
            raise DataError(
                f"{path}:1: its lines end in CR alone, as on old Macs; write them with LF "
                f"(tr '\\r' '\\n' < {path.name} > new{path.suffix})"
            )
        yield first.removesuffix("\n")
        for line in file:
            yield line.removesuffix("\n")


def _tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The numbered records of a TSV file: one record per line that ends in LF, without quoting."""
    for number, line in enumerate(_lines(path), start=1):
        yield number, line.removesuffix("\r").split("\t")


def _txt(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The numbered lines of a text file as records of one cell, without blank lines."""
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield number, [line.removesuffix("\r")]


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The numbered records of a CSV file. Quoted cells may hold commas and line ends.

    A blank line is no record, but in a file of one column it is an empty cell.
    """
    _check_utf8(path)
    with _read_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(max(path.stat().st_size, csv.field_size_limit()))
        reader = csv.reader(file, strict=True)
        width = 0
        try:
            for cells in reader:
                width = width or len(cells)
                if cells or width == 1:
                    yield reader.line_num, cells or [""]
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _select(
    path: Path,
    records: Iterator[tuple[int, list[str]]],
    columns: Sequence[Column],
    header: bool,
    skip_broken: bool,
) -> Iterator[Row]:
    first: list[str] | None = None
    positions: list[int] = []
    rows = skipped_rows = 0
    for line, cells in records:
        if first is None:
            first = cells
            positions = _positions(columns, first, path)
            if header:
                continue
        is_broken = len(cells) != len(first)
        if is_broken and not skip_broken:
            raise DataError(f"{path}:{line}: {len(cells)} columns, expected {len(first)}")
        skipped_rows += is_broken
        values = None if is_broken else [cells[position] for position in positions]
        yield Row(f"{path}:{line}", rows, values)
        rows += 1
    if first is None:
        raise DataError(f"{path}: empty")
    if skipped_rows:
        say(
            f"warning: {path}: {skipped_rows} rows have too few or too many cells, and are left out"
        )


def _positions(columns: Sequence[Column], header: list[str], path: Path) -> list[int]:
    """The positions of columns. A name and an index may stand for the same column, which is an error."""
    positions = [_position(column, header, path) for column in columns]
    for number, position in enumerate(positions):
        if position in positions[:number]:
            first = columns[positions.index(position)]
            raise DataError(f"{path}: the columns {first} and {columns[number]} are the same one")
    return positions


def _position(column: Column, header: list[str], path: Path) -> int:
    if isinstance(column, int):
        if not 0 <= column < len(header):
            raise DataError(f"{path}:1: {len(header)} columns, expected at least {column + 1}")
        return column
    if column not in header:
        raise DataError(f"{path}:1: no column '{column}' in the header ({', '.join(header)})")
    if header.count(column) > 1:
        raise DataError(f"{path}:1: '{column}' stands {header.count(column)} times in the header")
    return header.index(column)


def _jsonl(path: Path, columns: Sequence[Column]) -> Iterator[Row]:
    """The rows of a file with one JSON object a line."""
    rows = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: not an object")
        for column in columns:
            if column not in record:
                raise DataError(f"{path}:{number}: no key '{column}'")
        yield Row(f"{path}:{number}", rows, [record[column] for column in columns])
        rows += 1


def _parquet(path: Path, columns: Sequence[Column]) -> Iterator[Row]:
    number = 0
    for batch in _parquet_batches(path, columns):
        try:
            cells = [batch.column(column).to_pylist() for column in columns]
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: a text is not UTF-8") from error
        for row in zip(*cells, strict=True):
            yield Row(f"{path}, row {number}", number, list(row))
            number += 1


def _parquet_batches(path: Path, columns: Sequence[Column]) -> Iterator[Any]:
    """The record batches of a parquet file, with these columns."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with _read_errors(path), parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if names.count(column) != 1:
                    count = "no" if column not in names else "more than one"
                    raise DataError(f"{path}: {count} column '{column}' ({', '.join(names)})")
            yield from file.iter_batches(PARQUET_ROWS, columns=list(columns))
    except pa.ArrowException as error:
        raise DataError(f"{path}: not parquet ({first_line(error)})") from error


_RECORDS = {".tsv": _tsv, ".csv": _csv, ".txt": _txt}
_READERS: dict[str, Callable[[Path, Sequence[Column]], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
