"""Sources of task data: a folder of official TSV files, the hub, or the built-in demo generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import demo
from harness.config import ProtocolConfig, SourceConfig
from harness.errors import DataError
from harness.progress import say
from harness.tables import read_rows
from harness.tasks import FolderLayout, HubLayout, Task

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """Examples of one split: `texts` (examples) tuples of 1 or 2 sentences, `labels` (examples,).

    `ids` (examples,) number the rows that were read from the file or data set, from 0.
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
    two for MNLI; the first is tested) reports.
    """

    task: Task
    train: Split
    selection: Split
    evaluation: dict[str, Split]

    @property
    def mean_score(self) -> float | None:
        """Mean training score of a regression task; None for classes."""
        return float(self.train.labels.mean()) if self.task.regression else None

    @property
    def splits(self) -> dict[str, Split]:
        """All splits by name, training first."""
        return {"train": self.train, "selection": self.selection, **self.evaluation}


def load_task_data(task: Task, source: SourceConfig, protocol: ProtocolConfig) -> TaskData:
    """Read a task and carve out the selection part. Raises `DataError` on malformed data."""
    splits = _READERS[source.kind](task, source)
    evaluation = {name: splits[name] for name in task.evaluation}
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"{task.name}: split '{name}' has no examples")
    if protocol.name == "paper":
        return TaskData(task, splits["train"], next(iter(evaluation.values())), evaluation)
    train, selection = _carve(splits["train"], protocol, task)
    return TaskData(task, train, selection, evaluation)


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
    return {name: read_file(folder / file, task, layout) for name, file in files.items()}


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
        for cell in cells:
            if not (isinstance(cell, str) and _is_unicode(cell)):
                raise DataError(f"{place}: {cell!r} is no text")
        texts.append(tuple(cells))
        labels.append(_label(label, task, layout.words, place))
    return Split(tuple(texts), _labels(labels, task), np.arange(len(texts)))


def _is_unicode(text: str) -> bool:
    """Whether it can be written: JSON's escapes can spell half a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _label(value: object, task: Task, words: Mapping[str, str], place: str) -> float:
    plain = value is None or isinstance(value, bool | int | float)
    word = json.dumps(value) if plain else str(value)
    if task.scores is not None:
        low, high = task.scores
        try:
            score = float(word.replace("_", "?"))  # Python reads 1_0 as 10
        except ValueError:
            score = float("nan")
        if not low <= score <= high:
            raise DataError(f"{place}: score '{word}' is not a number from {low:g} to {high:g}")
        return score
    name = words.get(word, word)
    if name not in task.labels:
        accepted = ", ".join(words or task.labels)
        raise DataError(f"{place}: unknown label '{word}' (expected {accepted})")
    return task.labels.index(name)


def _labels(values: list[float], task: Task) -> Labels:
    return np.array(values, np.float32) if task.regression else np.array(values, np.int64)


def _read_hub(task: Task, source: SourceConfig) -> dict[str, Split]:
    import datasets

    from harness.hub import hub_reason

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
    absent = [name for name in ("train", *task.evaluation) if name not in loaded]
    if absent:
        raise DataError(f"{task.name}: {dataset} has no split '{absent[0]}'")
    return {
        name: _from_dataset(loaded[name], task, layout, f"{task.name}: hub split '{name}'")
        for name in ("train", *task.evaluation)
    }


def _from_dataset(rows: Any, task: Task, layout: HubLayout, place: str) -> Split:
    missing = [c for c in (*layout.columns, layout.label) if c not in rows.column_names]
    if missing:
        raise DataError(f"{place} has no column '{missing[0]}'")
    columns = [list(rows[column]) for column in layout.columns]
    if any(not isinstance(text, str) for column in columns for text in column):
        raise DataError(f"{place} has texts that are none")
    values = list(rows[layout.label])
    names = getattr(rows.features[layout.label], "names", None)
    if names is not None and not layout.words and sorted(names) != sorted(task.labels):
        raise DataError(f"{place} has labels {names}, expected {list(task.labels)}")
    if names is not None:
        values = [_named(value, names) for value in values]
    elif not layout.words and not any(label.lstrip("+-").isdecimal() for label in task.labels):
        values = [_named(value, task.labels) for value in values]
    labels = [
        _label(value, task, layout.words, f"{place}, row {row}") for row, value in enumerate(values)
    ]
    return Split(tuple(zip(*columns, strict=True)), _labels(labels, task), np.arange(len(labels)))


def _named(value: object, names: Sequence[str]) -> object:
    """The name that an integer is the index of; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return value


_READERS = {"demo": _read_demo, "folder": _read_folder, "hub": _read_hub}
