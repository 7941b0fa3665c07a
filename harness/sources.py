"""Sources of task data: a folder of official TSV files, the hub, or the built-in demo generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import demo
from harness.config import ProtocolConfig, SourceConfig
from harness.errors import DataError
from harness.tasks import Task

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """Examples of one split: `texts` (examples) tuples of 1 or 2 sentences, `labels` (examples,).

    `ids` (examples,) are row numbers in the file or data set that the split came from.
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
    return {
        name: Split(split.texts, split.labels, np.arange(len(split.texts)))
        for name, split in demo.generate(task.name).items()
    }


def _read_folder(task: Task, source: SourceConfig) -> dict[str, Split]:
    assert source.folder is not None
    folder = Path(source.folder) / task.folder.path
    if not folder.is_dir():
        raise DataError(
            f"--data {source.folder}: no folder {task.folder.path} for task {task.name}"
        )
    files = {"train": "train.tsv", **task.evaluation}
    return {name: read_tsv(folder / file, task) for name, file in files.items()}


def read_tsv(path: Path, task: Task) -> Split:
    """One official GLUE file: UTF-8, tab-separated, no quoting, one record per LF-ended line.

    Raises:
        DataError: naming file and line, for a missing file, bytes that are not UTF-8, a wrong
            number of columns, an unknown label word or a score that is not a number in range.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{number}: byte {error.start} is not UTF-8") from error
    lines = text.removesuffix("\n").split("\n")
    first = 1 if task.folder.header else 0
    header = [name.rstrip("\r") for name in lines[0].split("\t")]
    columns = [_position(column, header, path) for column in task.folder.columns]
    label = _position(task.folder.label, header, path)
    texts, labels = [], []
    for number, line in enumerate(lines[first:], start=first + 1):
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != len(header):
            raise DataError(f"{path}:{number}: {len(cells)} columns, expected {len(header)}")
        texts.append(tuple(cells[column] for column in columns))
        labels.append(_label(cells[label], task, f"{path}:{number}"))
    return Split(tuple(texts), _labels(labels, task), np.arange(len(texts)))


def _position(column: str | int, header: list[str], path: Path) -> int:
    if isinstance(column, int):
        if column >= len(header):
            raise DataError(f"{path}:1: {len(header)} columns, expected at least {column + 1}")
        return column
    if column not in header:
        raise DataError(f"{path}:1: no column '{column}' in the header ({', '.join(header)})")
    return header.index(column)


def _label(word: str, task: Task, place: str) -> float:
    if task.scores is not None:
        low, high = task.scores
        try:
            score = float(word)
        except ValueError:
            score = float("nan")
        if not low <= score <= high:
            raise DataError(f"{place}: score '{word}' is not a number from {low:g} to {high:g}")
        return score
    name = task.folder.words.get(word, word)
    if name not in task.labels:
        accepted = ", ".join(task.folder.words or task.labels)
        raise DataError(f"{place}: unknown label '{word}' (expected {accepted})")
    return task.labels.index(name)


def _labels(values: list[float], task: Task) -> Labels:
    return np.array(values, np.float32) if task.regression else np.array(values, np.int64)


def _read_hub(task: Task, source: SourceConfig) -> dict[str, Split]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.dataset, task.hub.config)
    except Exception as error:  # the hub clients raise many unrelated types
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{task.name}: cannot load {source.dataset} from the hub ({reason}); give --data DIR "
            "or --preset demo"
        ) from error
    absent = [name for name in ("train", *task.evaluation) if name not in loaded]
    if absent:
        raise DataError(f"{task.name}: {source.dataset} has no split '{absent[0]}'")
    return {name: _from_dataset(loaded[name], task, name) for name in ("train", *task.evaluation)}


def _from_dataset(rows: Any, task: Task, name: str) -> Split:
    missing = [c for c in (*task.hub.columns, "label") if c not in rows.column_names]
    if missing:
        raise DataError(f"{task.name}: hub split '{name}' has no column '{missing[0]}'")
    feature = rows.features["label"]
    words = getattr(feature, "names", None)
    if words is not None and tuple(words) != task.labels:
        raise DataError(f"{task.name}: hub labels {words}, expected {list(task.labels)}")
    columns = [list(rows[column]) for column in task.hub.columns]
    labels = _labels(list(rows["label"]), task)
    low, high = task.scores or (0, len(task.labels) - 1)
    if not ((labels >= low) & (labels <= high)).all():
        raise DataError(f"{task.name}: hub split '{name}' has labels outside {low:g}..{high:g}")
    return Split(tuple(zip(*columns, strict=True)), labels, np.arange(len(labels)))


_READERS = {"demo": _read_demo, "folder": _read_folder, "hub": _read_hub}
