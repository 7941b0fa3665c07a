"""Labels of task data: from the words, indices or scores of a source to numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.data.tasks import HubLayout, Task, spelling_of
from harness.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


def label_of(value: object, task: Task, words: Mapping[str, str], place: str) -> float:
    """The index of a label, or a score. `words` maps the source's spellings to labels.

    Raises:
        DataError: naming the place, for an unknown label or a score that is not a number in range.
    """
    word = spelling_of(value)
    if task.scores is not None:
        low, high = task.scores
        try:
            score = float(word.replace("_", "?"))  # Python reads 1_0 as 10
        except ValueError:
            score = float("nan")
        if not low <= score <= high:
            fault = f"score '{word}' is not a number from {low:g} to {high:g}"
            raise DataError(f"{place}: {fault}{_way_out(value, task)}")
        return score
    name = words.get(word, word)
    if name not in task.labels:
        choices = ", ".join(words or task.labels)
        raise DataError(
            f"{place}: unknown label '{word}' (expected {choices}){_way_out(value, task)}"
        )
    return task.labels.index(name)


def _way_out(value: object, task: Task) -> str:
    """How a user's task leaves out the rows of a label."""
    if not task.custom:
        return ""
    spelling = json.dumps(value if isinstance(value, int | float) else spelling_of(value))
    return f"; to leave such rows out: drop_labels: [{spelling}]"


def as_array(values: list[float], task: Task) -> Labels:
    """Labels of examples (examples,): int64 classes, or float32 scores."""
    return np.array(values, np.float32) if task.regression else np.array(values, np.int64)


def class_name(value: object, names: Sequence[str]) -> object:
    """The class name at an index. A value that is not an index of `names` comes back as it is."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return value


def is_dropped(value: object, task: Task) -> bool:
    """Whether the row of a label has none, by the task's `drop_labels`."""
    return bool(task.drop_labels) and spelling_of(value) in task.dropped_spellings


def hub_labels(
    rows: Dataset, task: Task, layout: HubLayout, place: str
) -> tuple[Labels, npt.NDArray[np.int64]]:
    """The labels of a data set on the hub (examples,), from names, indices of names, or scores.

    The second array (examples,) has the numbers of the rows that have a label.

    Raises:
        DataError: naming the place, for labels of other names, or as `label_of` does.
    """
    names = _hub_label_names(rows, task, layout, place)
    values = {
        row: class_name(value, names)
        for row, value in enumerate(rows[layout.label])
        if not is_dropped(value, task)
    }
    labels = [
        label_of(value, task, layout.words, f"{place}, row {row}") for row, value in values.items()
    ]
    return as_array(labels, task), np.array(list(values), np.int64)


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
