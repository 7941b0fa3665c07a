"""Rows of data files: TSV as GLUE writes it, CSV, JSONL and parquet, each with its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import DataError

Column = str | int
Row = tuple[str, list[Any]]
"""Where it stands ("file:line"), and its cells."""


def read_rows(path: Path, columns: Sequence[Column], header: bool) -> Iterator[Row]:
    """Some columns of every row of a file, whose suffix tells the format.

    `header` says whether a TSV or CSV begins with one; indices count from 0 and are for these two.

    Raises:
        DataError: naming file and line, when it cannot be read or a column is missing.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: the suffix is none of {', '.join(_READERS)}")
    yield from reader(path, columns, header)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{number}: byte {error.start} is not UTF-8") from error


def _tsv(path: Path, columns: Sequence[Column], header: bool) -> Iterator[Row]:
    """No quoting, one record per LF-ended line."""
    lines = _text(path).removesuffix("\n").split("\n")
    records = enumerate((line.removesuffix("\r").split("\t") for line in lines), start=1)
    return _select(path, records, columns, header)


def _csv(path: Path, columns: Sequence[Column], header: bool) -> Iterator[Row]:
    """Cells may be quoted, and then hold commas and line ends."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)

    def records() -> Iterator[tuple[int, list[str]]]:
        try:
            for cells in reader:
                if cells:  # not a blank line
                    yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from error

    return _select(path, records(), columns, header)


def _select(
    path: Path,
    records: Iterator[tuple[int, list[str]]],
    columns: Sequence[Column],
    header: bool,
) -> Iterator[Row]:
    first: list[str] | None = None
    positions: list[int] = []
    for number, cells in records:
        if first is None:
            first = cells
            positions = [_position(column, first, path) for column in columns]
            if header:
                continue
        if len(cells) != len(first):
            raise DataError(f"{path}:{number}: {len(cells)} columns, expected {len(first)}")
        yield f"{path}:{number}", [cells[position] for position in positions]
    if first is None:
        raise DataError(f"{path}: empty")


def _position(column: Column, header: list[str], path: Path) -> int:
    if isinstance(column, int):
        if not 0 <= column < len(header):
            raise DataError(f"{path}:1: {len(header)} columns, expected at least {column + 1}")
        return column
    if column not in header:
        raise DataError(f"{path}:1: no column '{column}' in the header ({', '.join(header)})")
    return header.index(column)


def _jsonl(path: Path, columns: Sequence[Column], header: bool) -> Iterator[Row]:
    """One object a line."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
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
        yield f"{path}:{number}", [record[column] for column in columns]


def _parquet(path: Path, columns: Sequence[Column], header: bool) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if column not in names:
                    raise DataError(f"{path}: no column '{column}' ({', '.join(names)})")
            table = file.read(columns=list(columns))
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason})") from error
    except pa.ArrowException as error:
        raise DataError(f"{path}: not parquet ({str(error).splitlines()[0]})") from error
    cells = [table.column(column).to_pylist() for column in columns]
    for number, row in enumerate(zip(*cells, strict=True)):
        yield f"{path}, row {number}", list(row)


_READERS: dict[str, Callable[[Path, Sequence[Column], bool], Iterator[Row]]] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
