"""Sources of task data: a folder of official TSV files, the hub, or the built-in demo generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.config import ProtocolConfig, SourceConfig
from harness.data.labels import Labels, as_array, label_of, named
from harness.data.readers import read_rows
from harness.data.tasks import FolderLayout, HubLayout, Task
from harness.demo import examples as demo
from harness.errors import DataError
from harness.runtime.progress import say

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Split:
    """Examples of one split: `texts` (examples) tuples of 1 or 2 sentences, `labels` (examples,).

    `ids` (examples,) number the rows that were read from the file or data set, from 0. Labels of a test
    split are NaN.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: Labels
    ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def sha256(self) -> str:
        """Hash of texts, labels and ids: the identity of the split."""
        digest = hashlib.sha256()
        for texts in self.texts:
            digest.update("\x1f".join(texts).encode() + b"\x1e")
        digest.update(self.labels.astype("<f8").tobytes() + self.ids.astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, rows: npt.NDArray[np.int64]) -> Split:
        """The examples at those positions."""
        return Split(tuple(self.texts[row] for row in rows), self.labels[rows], self.ids[rows])


@dataclass(frozen=True)
class TaskData:
    """One task's examples under a protocol.

    `train` trains teacher and students, `selection` chooses the setting, `evaluation` (one split,
    two for MNLI; the first is tested) reports. `test` splits have no labels: they are predicted only,
    nothing is scored on them and no run's identity depends on them.
    """

    task: Task
    train: Split
    selection: Split
    evaluation: dict[str, Split]
    test: dict[str, Split] = field(default_factory=dict)

    @property
    def mean_score(self) -> float | None:
        """Mean training score of a regression task; None for classes."""
        return float(self.train.labels.mean()) if self.task.regression else None

    @property
    def splits(self) -> dict[str, Split]:
        """All splits with labels by name, training first."""
        return {"train": self.train, "selection": self.selection, **self.evaluation}


def load_task_data(task: Task, source: SourceConfig, protocol: ProtocolConfig) -> TaskData:
    """Read a task and carve out the selection part. Raises `DataError` on malformed data."""
    splits = _READERS[source.kind](task, source)
    evaluation = {name: splits[name] for name in task.evaluation}
    test = {name: splits[name] for name in task.test if name in splits}
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"{task.name}: split '{name}' has no examples")
    if protocol.name == "paper":
        return TaskData(task, splits["train"], next(iter(evaluation.values())), evaluation, test)
    train, selection = _carve(splits["train"], protocol, task)
    return TaskData(task, train, selection, evaluation, test)


def _carve(train: Split, protocol: ProtocolConfig, task: Task) -> tuple[Split, Split]:
    """Stratified selection part, the same for every method: 10 %, between `least` and `most`."""
    size = int(np.clip(round(protocol.fraction * len(train)), protocol.least, protocol.most))
    if size * 2 > len(train):
        raise DataError(
            f"{task.name}: {len(train)} training examples are too few to carve {size} for selection"
        )
    order = np.random.default_rng(int(train.sha256[:15], 16)).permutation(len(train))
    strata = np.round(train.labels[order].astype(float)).astype(int)
    by_stratum = order[np.argsort(strata, kind="stable")]
    chosen = by_stratum[np.floor((np.arange(size) + 0.5) * len(train) / size).astype(int)]
    mask = np.zeros(len(train), dtype=bool)
    mask[chosen] = True
    return train.take(np.flatnonzero(~mask)), train.take(np.flatnonzero(mask))


def _read_demo(task: Task, source: SourceConfig) -> dict[str, Split]:
    if task.custom:
        raise DataError(f"{task.name}: the demo makes data for GLUE's tasks only; name a preset")
    return {
        name: Split(split.texts, split.labels, np.arange(len(split.texts)))
        for name, split in demo.generate(task.name).items()
    }


def _read_folder(task: Task, source: SourceConfig) -> dict[str, Split]:
    assert source.folder is not None
    layout = task.folder
    if layout is None:
        raise DataError(f"{task.name}: its file describes no folder, only a data set on the hub")
    folder = Path(source.folder) / layout.path
    if not folder.is_dir():
        raise DataError(f"--data {source.folder}: no folder {layout.path} for task {task.name}")
    files = {"train": layout.train, **task.evaluation}
    splits = {name: read_file(folder / file, task, layout) for name, file in files.items()}
    test = {name: folder / file for name, file in task.test.items()}
    return splits | {
        name: read_unlabelled(path, layout)
        for name, path in test.items()
        if task.custom or _is_there(path)
    }


def _is_there(path: Path) -> bool:
    """Whether there is something of that name; what cannot be told is left to the attempt to read it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_file(path: Path, task: Task, layout: FolderLayout) -> Split:
    """One split from a TSV (as GLUE's), CSV, JSONL or parquet file, by its suffix.

    Raises:
        DataError: naming file and line, for what cannot be read, a missing column, a text that is
            none, an unknown label word or a score that is not a number in range.
    """
    texts, labels = [], []
    columns = [*layout.columns, layout.label]
    rows = read_rows(path, columns, header=layout.header, skip_broken=layout.skip_broken_rows)
    for place, (*cells, label) in rows:
        texts.append(_texts(cells, place))
        labels.append(label_of(label, task, layout.words, place))
    return Split(tuple(texts), as_array(labels, task), np.arange(len(texts)))


def read_unlabelled(path: Path, layout: FolderLayout) -> Split:
    """A test split from a file as `read_file`'s; a column of labels may be missing, and is not read.

    Raises:
        DataError: as `read_file`, and for a broken row: without it the others' ids would be wrong.
    """
    columns = layout.test_columns or layout.columns
    rows = read_rows(path, columns, header=layout.header or layout.test_columns is not None)
    return _unlabelled(_texts(cells, place) for place, cells in rows)


def _unlabelled(texts: Iterable[tuple[str, ...]]) -> Split:
    found = tuple(texts)
    return Split(found, np.full(len(found), np.nan, np.float32), np.arange(len(found)))


def _texts(cells: Sequence[object], place: str) -> tuple[str, ...]:
    for cell in cells:
        if not (isinstance(cell, str) and _is_unicode(cell)):
            raise DataError(f"{place}: {cell!r} is no text")
    return tuple(str(cell) for cell in cells)


def _is_unicode(text: str) -> bool:
    """Whether it can be written: JSON's escapes can spell half a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_hub(task: Task, source: SourceConfig) -> dict[str, Split]:
    import datasets

    from harness.data.hub_errors import hub_reason

    layout = task.hub
    if layout is None:
        raise DataError(f"{task.name}: its file describes no data set on the hub; give --data DIR")
    dataset = layout.dataset or source.dataset
    datasets.disable_progress_bars()
    say(f"{task.name}: reading {dataset} from the hub")
    try:
        loaded = datasets.load_dataset(dataset, layout.config)
    except Exception as error:  # the hub clients raise many unrelated types
        raise DataError(
            f"{task.name}: cannot load {dataset} from the hub: {hub_reason(error)} "
            "(or give --data DIR, or --preset demo)"
        ) from error
    needed = ("train", *task.evaluation, *(task.test if task.custom else ()))
    absent = [name for name in needed if name not in loaded]
    if absent:
        raise DataError(f"{task.name}: {dataset} has no split '{absent[0]}'")
    splits = {}
    for name in ("train", *task.evaluation, *task.test):
        if name not in loaded:
            continue
        place = f"{task.name}: hub split '{name}'"
        texts = _hub_texts(loaded[name], layout, place)
        if name in task.test:
            splits[name] = _unlabelled(texts)
        else:
            labels = _hub_labels(loaded[name], task, layout, place)
            splits[name] = Split(texts, labels, np.arange(len(texts)))
    return splits


def _hub_texts(rows: Dataset, layout: HubLayout, place: str) -> tuple[tuple[str, ...], ...]:
    """The sentences of each row (examples,)."""
    columns = [_hub_column(rows, name, place) for name in layout.columns]
    if any(not isinstance(text, str) for column in columns for text in column):
        raise DataError(f"{place}: a cell of {' or '.join(layout.columns)} is not text")
    return tuple(zip(*columns, strict=True))


def _hub_labels(rows: Dataset, task: Task, layout: HubLayout, place: str) -> Labels:
    """The label of each row (examples,), from a name, an index of a name, or a score."""
    values = _hub_column(rows, layout.label, place)
    names = _hub_label_names(rows, task, layout, place)
    labels = [
        label_of(named(value, names), task, layout.words, f"{place}, row {row}")
        for row, value in enumerate(values)
    ]
    return as_array(labels, task)


def _hub_label_names(rows: Dataset, task: Task, layout: HubLayout, place: str) -> Sequence[str]:
    """The names that the data set's integers are indices of; none where an integer is the label itself.

    A data set may declare the names of its classes. Without them, integers count the task's labels,
    unless those are numbers themselves, or the layout's `words` say what the integers stand for.
    """
    declared: list[str] | None = getattr(rows.features[layout.label], "names", None)
    if declared is not None:
        if not layout.words and sorted(declared) != sorted(task.labels):
            raise DataError(f"{place} has labels {declared}, expected {list(task.labels)}")
        return declared
    numeric = any(label.lstrip("+-").isdecimal() for label in task.labels)
    return () if layout.words or numeric else task.labels


def _hub_column(rows: Dataset, name: str, place: str) -> list[object]:
    if name not in rows.column_names:
        raise DataError(f"{place} has no column '{name}'")
    return list(rows[name])


_READERS = {"demo": _read_demo, "folder": _read_folder, "hub": _read_hub}
