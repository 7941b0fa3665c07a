"""Labels of task data: from the words, indices or scores of a source to numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.data.tasks import HubLayout, Task
from harness.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


def label_of(value: object, task: Task, words: Mapping[str, str], place: str) -> float:
    """The index of a label, or a score. `words` maps the source's spellings to labels.

    Raises:
        DataError: naming the place, for an unknown label or a score that is not a number in range.
    """
    is_plain = value is None or isinstance(value, bool | int | float)
    word = json.dumps(value) if is_plain else str(value)
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
        choices = ", ".join(words or task.labels)
        raise DataError(f"{place}: unknown label '{word}' (expected {choices})")
    return task.labels.index(name)


def as_array(values: list[float], task: Task) -> Labels:
    """Labels of examples (examples,): int64 classes, or float32 scores."""
    return np.array(values, np.float32) if task.regression else np.array(values, np.int64)


def class_name(value: object, names: Sequence[str]) -> object:
    """The class name at an index. A value that is not an index of `names` comes back as it is."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return value


def hub_labels(rows: Dataset, task: Task, layout: HubLayout, place: str) -> Labels:
    """The labels of a data set on the hub (examples,), from names, indices of names, or scores.

    Raises:
        DataError: naming the place, for labels of other names, or as `label_of` does.
    """
    names = _hub_label_names(rows, task, layout, place)
    labels = [
        label_of(class_name(value, names), task, layout.words, f"{place}, row {row}")
        for row, value in enumerate(rows[layout.label])
    ]
    return as_array(labels, task)


def _hub_label_names(rows: Dataset, task: Task, layout: HubLayout, place: str) -> Sequence[str]:
    """The class names by the data set's integer labels; empty if an integer is itself the label.

    A data set may declare the names of its classes. Otherwise integers are indices of the task's labels,
    unless these labels are numbers, or the layout's `words` map the integers to labels.
    """
    class_names: list[str] | None = getattr(rows.features[layout.label], "names", None)
    if class_names is not None:
        if not layout.words and sorted(class_names) != sorted(task.labels):
            raise DataError(f"{place} has labels {class_names}, expected {list(task.labels)}")
        return class_names
    has_numbers = any(label.lstrip("+-").isdecimal() for label in task.labels)
    return () if layout.words or has_numbers else task.labels
