"""Sources of task data: a folder of files, the hub, or the built-in demo generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.config import ProtocolConfig, SourceConfig
from harness.data.labels import Labels, as_array, hub_labels, is_dropped, label_of
from harness.data.overlap import count_common, text_keys
from harness.data.readers import read_rows
from harness.data.tasks import FolderLayout, HubLayout, Task
from harness.data.texts import ArrowTexts, Texts, store_texts
from harness.demo import examples as demo
from harness.errors import DataError
from harness.metric_table import metric_of
from harness.paths import user_path
from harness.runtime.progress import say

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Split:
    """Examples of one split: `texts` (examples,) tuples of 1 or 2 sentences, and `labels` (examples,).

    Texts of files and of the hub stay on disk, and a read makes Python strings. `ids` (examples,) are
    the rows' numbers in the file or data set, from 0. Labels of a test split are NaN. `left_out` counts
    the rows of the file or data set that are no examples: broken rows, and rows without a label.
    """

    texts: Texts
    labels: Labels
    ids: npt.NDArray[np.int64]
    left_out: int = 0

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
        """The examples at these positions. `left_out` is 0: no row of theirs is left out."""
        texts = self.texts
        part = texts.take(rows) if isinstance(texts, ArrowTexts) else [texts[row] for row in rows]
        return Split(part, self.labels[rows], self.ids[rows])


@dataclass(frozen=True)
class TaskData:
    """One task's examples under a protocol.

    `train` trains teacher and students, and `selection` chooses the setting. The demo has a selection
    split; other sources give a part of their training split. `evaluation` has the splits of the report,
    two for MNLI and one for other tasks; the tests use the first. `test` splits have no labels: report
    runs predict them, and no run's identity depends on them.
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

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """The number of examples whose texts are training examples too, by split, without `train`.

        Of an evaluation split the examples of a carved selection split count as training examples: both
        come from the training file, and the selection decides which students are reported.
        """
        training = text_keys(self.train.texts)
        evaluation = {name: text_keys(split.texts) for name, split in self.evaluation.items()}
        counts = {}
        if self.has_own_selection:
            selection = text_keys(self.selection.texts)
            counts["selection"] = count_common(selection, training)
            training = np.union1d(training, selection)
        counts |= {name: count_common(keys, training) for name, keys in evaluation.items()}
        return {"selection": counts[next(iter(evaluation))], **counts}

    @property
    def has_own_selection(self) -> bool:
        """Whether no evaluation split selects. With the protocol `paper` the first one does."""
        return all(split is not self.selection for split in self.evaluation.values())

    @property
    def splits(self) -> dict[str, Split]:
        """All splits with labels by name, training first."""
        return {"train": self.train, "selection": self.selection, **self.evaluation}


def load_task_data(task: Task, source: SourceConfig, protocol: ProtocolConfig) -> TaskData:
    """Read a task, and carve out the selection split if the source has none.

    Raises:
        DataError: the data are malformed; or a metric of the task is undefined on the labels of an
            evaluation split, or the first metric on those of the selection split.
    """
    splits = _READERS[source.kind](task, source)
    evaluation = {name: splits[name] for name in task.evaluation}
    test = {name: splits[name] for name in task.test if name in splits}
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"{task.name}: split '{name}' has no examples")
    for name, split in evaluation.items():
        _check_metrics(task, task.metrics, name, split)
    if protocol.name == "paper":
        return TaskData(task, splits["train"], next(iter(evaluation.values())), evaluation, test)
    if "selection" in splits:
        train, selection = splits["train"], splits["selection"]
    else:
        train, selection = _carve(splits["train"], protocol, task)
    _check_metrics(task, task.metrics[:1], "selection", selection)
    return TaskData(task, train, selection, evaluation, test)


def _check_metrics(task: Task, metrics: Sequence[str], name: str, split: Split) -> None:
    """Refuse labels for which a metric is undefined, whatever is predicted. Raises `DataError`."""
    for metric in metrics:
        if metric_of(metric).is_undefined(split.labels, split.labels):
            label = split.labels[0] if task.regression else task.labels[int(split.labels[0])]
            raise DataError(
                f"{task.name}: {metric} is undefined on the split '{name}', where every one of the "
                f"{len(split)} labels is {label}"
            )


def _carve(train: Split, protocol: ProtocolConfig, task: Task) -> tuple[Split, Split]:
    """The training split in two: the rest, and a stratified selection split of the protocol's size."""
    size = int(np.clip(round(protocol.fraction * len(train)), protocol.least, protocol.most))
    if size * 2 > len(train):
        raise DataError(
            f"{task.name}: {len(train)} training examples are too few to carve {size} for selection"
        )
    order = np.random.default_rng(int(train.sha256[:15], 16)).permutation(len(train))
    strata = np.round(train.labels[order].astype(float)).astype(int)
    by_stratum = order[np.argsort(strata, kind="stable")]
    selection_rows = by_stratum[np.floor((np.arange(size) + 0.5) * len(train) / size).astype(int)]
    mask = np.zeros(len(train), dtype=bool)
    mask[selection_rows] = True
    rest = replace(train.take(np.flatnonzero(~mask)), left_out=train.left_out)
    return rest, train.take(np.flatnonzero(mask))


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
    folder = Path(source.folder) / user_path(layout.path)
    if not folder.is_dir():
        raise DataError(f"--data {source.folder}: no folder {layout.path} for task {task.name}")
    files = {"train": layout.train, **task.evaluation}
    splits = {
        name: read_file(folder / user_path(file), task, layout) for name, file in files.items()
    }
    test = {name: folder / user_path(file) for name, file in task.test.items()}
    return splits | {
        name: read_test_file(path, layout)
        for name, path in test.items()
        if task.custom or _exists(path)
    }


def _exists(path: Path) -> bool:
    """Whether the path exists. An inaccessible path counts, so that reading names the error."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


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
    _say_dropped(str(path), len(dropped_rows))
    left_out = dropped_rows + broken_rows
    ids = np.delete(np.arange(len(texts) + len(left_out)), left_out)
    return Split(texts, as_array(labels, task), ids, len(left_out))


def _say_dropped(place: str, rows: int) -> None:
    if rows:
        say(f"{place}: {rows} rows without a label are left out (drop_labels)")


def read_test_file(path: Path, layout: FolderLayout) -> Split:
    """A test split from a file. The function does not read labels, which may be missing.

    Raises:
        DataError: as for `read_file`, and for a broken row, because leaving out a row shifts the ids.
    """
    columns = layout.test_columns or layout.columns
    rows = read_rows(path, columns, header=layout.header or layout.test_columns is not None)
    texts = (_texts(cells or (), place) for place, _, cells in rows)
    return _test_split(store_texts(texts, len(columns)))


def _test_split(texts: Texts) -> Split:
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
        dataset_splits = datasets.load_dataset(dataset, layout.config)
    except Exception as error:  # the hub clients raise many unrelated types
        raise DataError(
            f"{task.name}: cannot load {dataset} from the hub: {hub_reason(error)} "
            "(or give --data DIR, or --preset demo)"
        ) from error
    required_splits = ("train", *task.evaluation, *(task.test if task.custom else ()))
    missing_splits = [name for name in required_splits if name not in dataset_splits]
    if missing_splits:
        raise DataError(f"{task.name}: {dataset} has no split '{missing_splits[0]}'")
    splits = {}
    for name in ("train", *task.evaluation, *task.test):
        if name not in dataset_splits:
            continue
        place = f"{task.name}: hub split '{name}'"
        texts = _hub_texts(dataset_splits[name], layout, place)
        if name in task.test:
            splits[name] = _test_split(texts)
        else:
            _check_columns(dataset_splits[name], [layout.label], place)
            labels, ids = hub_labels(dataset_splits[name], task, layout, place)
            dropped_rows = len(texts) - len(ids)
            _say_dropped(place, dropped_rows)
            splits[name] = Split(texts.take(ids), labels, ids, dropped_rows)
    return splits


def _hub_texts(rows: Dataset, layout: HubLayout, place: str) -> ArrowTexts:
    """The sentences of each row (examples,), in the data set's mapped files."""
    import pyarrow as pa

    _check_columns(rows, layout.columns, place)
    table = rows.with_format("arrow")[:].select(list(layout.columns))
    for name, column in zip(table.column_names, table.columns, strict=True):
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if len(column) and not (is_text or pa.types.is_null(column.type)):
            raise DataError(f"{place}: the column {name} has the type {column.type}, and no texts")
        if column.null_count:
            row = column.is_null().index(True).as_py()
            count = f"{column.null_count} of {len(column)} cells have none"
            raise DataError(f"{place}, row {row}: no text in the column {name} ({count})")
    return ArrowTexts(table)


def _check_columns(rows: Dataset, columns: Sequence[str], place: str) -> None:
    for name in columns:
        if name not in rows.column_names:
            raise DataError(f"{place} has no column '{name}'")


_READERS = {"demo": _read_demo, "folder": _read_folder, "hub": _read_hub}
