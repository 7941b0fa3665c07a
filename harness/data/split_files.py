"""Splits from files: TSV (GLUE's form), CSV, JSONL, parquet, and texts line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.data.labels import as_array, is_dropped, label_of
from harness.data.readers import Column, read_rows
from harness.data.splits import Split
from harness.data.tasks import FolderLayout, Task
from harness.data.texts import Texts, store_texts
from harness.errors import DataError
from harness.runtime.progress import say


def read_file(path: Path, task: Task, layout: FolderLayout) -> Split:
    """One split from a TSV (GLUE's form), CSV, JSONL or parquet file. The suffix tells the format.

    Raises:
        DataError: naming file and line, for an unreadable file, a missing column, a cell that is not a
            text, an unknown label or a score that is not a number in range.
    """
    labels: list[float] = []
    dropped_rows: list[int] = []
    broken_rows: list[int] = []
    columns = [*layout.columns, layout.label]
    rows = read_rows(path, columns, header=layout.header, skip_broken=layout.skip_broken_rows)

    def examples() -> Iterator[tuple[str, ...]]:
        for place, number, values in rows:
            if values is None:
                broken_rows.append(number)
                continue
            *cells, label = values
            texts = _texts(cells, place)
            if is_dropped(label, task):
                dropped_rows.append(number)
                continue
            labels.append(label_of(label, task, layout.words, place))
            yield texts

    texts = store_texts(examples(), len(layout.columns))
    say_dropped(str(path), len(dropped_rows))
    left_out = dropped_rows + broken_rows
    ids = np.delete(np.arange(len(texts) + len(left_out)), left_out)
    return Split(texts, as_array(labels, task), ids, len(left_out))


def say_dropped(place: str, rows: int) -> None:
    """Say how many rows of a place are left out, since they have no label."""
    if rows:
        say(f"{place}: {rows} rows without a label are left out (drop_labels)")


def read_test_file(path: Path, layout: FolderLayout) -> Split:
    """A test split from a file. The function does not read labels, which may be missing.

    Raises:
        DataError: as for `read_file`, and for a broken row, because leaving out a row shifts the ids.
    """
    columns = layout.test_columns or layout.columns
    return read_texts(path, columns, header=layout.header or layout.test_columns is not None)


def read_texts(path: Path, columns: Sequence[Column], *, header: bool) -> Split:
    """A split of texts without labels from a file. `header` as in `read_rows`.

    Raises:
        DataError: as for `read_file`, and for a broken row.
    """
    rows = read_rows(path, columns, header=header)
    texts = (_texts(cells or (), place) for place, _, cells in rows)
    return without_labels(store_texts(texts, len(columns)))


def without_labels(texts: Texts) -> Split:
    """A split of texts alone, whose labels are NaN."""
    return Split(texts, np.full(len(texts), np.nan, np.float32), np.arange(len(texts)))


def _texts(cells: Sequence[object], place: str) -> tuple[str, ...]:
    for cell in cells:
        if not (isinstance(cell, str) and _is_unicode(cell)):
            raise DataError(f"{place}: {cell!r} is no text")
    return tuple(str(cell) for cell in cells)


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON's escapes can spell half a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
