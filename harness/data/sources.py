"""Sources of task data: a folder of files, the hub, or the built-in demo generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.config import ProtocolConfig, SourceConfig, TransferConfig
from harness.data.labels import hub_labels
from harness.data.split_files import read_file, read_test_file, say_dropped, without_labels
from harness.data.splits import Split, TaskData
from harness.data.tasks import HubLayout, Task
from harness.data.texts import ArrowTexts
from harness.data.transfer import read_transfer
from harness.demo import examples as demo
from harness.errors import DataError
from harness.metric_table import metric_of
from harness.paths import user_path
from harness.runtime.progress import say

if TYPE_CHECKING:
    from datasets import Dataset


def load_task_data(
    task: Task,
    source: SourceConfig,
    protocol: ProtocolConfig,
    transfer: TransferConfig | None = None,
) -> TaskData:
    """Read a task with its unlabelled texts, and carve out the selection split if the source has none.

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
        train, selection = splits["train"], next(iter(evaluation.values()))
    elif "selection" in splits:
        train, selection = splits["train"], splits["selection"]
    else:
        train, selection = _carve(splits["train"], protocol, task)
    if protocol.name != "paper":
        _check_metrics(task, task.metrics[:1], "selection", selection)
    unlabelled = read_transfer(task, source, transfer or TransferConfig(), train)
    return TaskData(task, train, selection, evaluation, test, unlabelled)


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
            splits[name] = without_labels(texts)
        else:
            _check_columns(dataset_splits[name], [layout.label], place)
            labels, ids = hub_labels(dataset_splits[name], task, layout, place)
            dropped_rows = len(texts) - len(ids)
            say_dropped(place, dropped_rows)
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
