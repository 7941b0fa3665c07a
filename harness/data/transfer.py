"""Unlabelled texts of a task: students are distilled from them too, beside the training part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config import SourceConfig, TransferConfig
from harness.data.readers import Column
from harness.data.split_files import read_texts
from harness.data.splits import Split
from harness.data.tasks import Task, TransferLayout
from harness.errors import DataError
from harness.paths import user_path

SPLIT = "transfer"
"""The name of the split of unlabelled texts."""
PLAIN_TEXT = ".txt"


def read_transfer(
    task: Task, source: SourceConfig, transfer: TransferConfig, train: Split
) -> Split | None:
    """The unlabelled texts of a task, drawn from their file; None for a task without such a file.

    The configuration's file and ratio go before those of the task's own description. The draw depends
    on the file and the number of texts alone, so it is the same for all methods and seeds.

    Raises:
        DataError: the file cannot be read, or has too few texts for the ratio.
    """
    layout, path = task.transfer, transfer_file(task, source, transfer)
    if path is None:
        if transfer.ratio is None:
            return None
        raise DataError(
            f"{task.name}: transfer.ratio={transfer.ratio:g} mixes unlabelled texts: name their file "
            "(--transfer FILE)"
        )
    if {SPLIT} & {*task.evaluation, *task.test}:
        raise DataError(
            f"{task.name}: '{SPLIT}' is the split of unlabelled texts; rename the task's"
        )
    columns = _columns(task, layout, path)
    split = read_texts(path, columns, header=path.suffix != PLAIN_TEXT)
    if not len(split):
        raise DataError(f"{path}: has no texts")
    ratio = transfer.ratio or (layout.ratio if layout is not None else None)
    return split if ratio is None else _draw(split, ratio, len(train), path)


def transfer_file(task: Task, source: SourceConfig, transfer: TransferConfig) -> Path | None:
    """The file of a task's unlabelled texts; None for a task without such a file.

    Raises:
        DataError: the task's description names a relative path, and there is no data folder.
    """
    if transfer.file is not None:
        return Path(transfer.file.replace("{task}", task.name))
    if task.transfer is None:
        return None
    path = user_path(task.transfer.file)
    if source.folder is not None:
        return Path(source.folder) / path
    if not path.is_absolute():
        raise DataError(f"{task.name}: transfer.file {path}: without --data its path is absolute")
    return path


def _columns(task: Task, layout: TransferLayout | None, path: Path) -> Sequence[Column]:
    """The columns of texts: those of `transfer` in the task's file, or those of its other files."""
    texts = task.texts
    if path.suffix == PLAIN_TEXT:
        if texts != 1:
            raise DataError(f"{path}: a text file has one text a line, and {task.name} has {texts}")
        return (0,)
    if layout is not None and layout.columns is not None:
        return layout.columns
    if task.folder is not None:
        columns = task.folder.test_columns or task.folder.columns
        if all(isinstance(column, str) for column in columns):
            return columns
    if task.hub is not None:
        return task.hub.columns
    raise DataError(
        f"{path}: the columns of {task.name} have no names; name those of this file with "
        "transfer: {columns: [...]} in the task's file"
    )


def _draw(split: Split, ratio: float, examples: int, path: Path) -> Split:
    """As many texts as the ratio to the training examples says, in the order of the file."""
    count = max(round(ratio * examples), 1)
    if count > len(split):
        raise DataError(
            f"{path}: {len(split)} texts, and {ratio:g} for each of {examples} training examples are "
            f"{count}; give transfer.ratio={int(100 * len(split) / examples) / 100:g} at most"
        )
    source = np.random.default_rng(int(split.sha256[:15], 16))
    return split.take(np.sort(source.permutation(len(split))[:count]))
