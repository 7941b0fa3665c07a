"""Checks of a task's data: evaluation examples that train too, and labels among the texts."""

from __future__ import annotations

import math

import numpy as np

from harness.config import ChecksConfig
from harness.data.splits import Split, TaskData
from harness.errors import DataError
from harness.runtime.progress import say


def check_data(data: TaskData, checks: ChecksConfig) -> None:
    """Say how many evaluation examples are training examples, and refuse a task that has too many.

    Raises:
        DataError: the share of a split is above `checks.most_duplicates`, or a column of texts holds the
            labels.
    """
    _refuse_label_texts(data)
    if data.has_own_selection and data.duplicates["selection"]:
        say(f"{data.task.name}: {_duplicates_in_words(data, 'selection')}")
    for name in data.evaluation:
        count, size = data.duplicates[name], len(data.evaluation[name])
        sentence = _duplicates_in_words(data, name)
        if unlabelled := data.unlabelled_duplicates[name]:
            sentence += f" ({unlabelled} of them those of unlabelled texts)"
        if count > checks.most_duplicates * size:
            raise DataError(
                f"{data.task.name}: {sentence}, so scores on it say nothing about new examples; give "
                "another file, or allow it with checks.most_duplicates="
                f"{math.ceil(100 * count / size) / 100}"
            )
        if count:
            say(f"{data.task.name}: {sentence}")


def _duplicates_in_words(data: TaskData, name: str) -> str:
    count, size = data.duplicates[name], len(data.splits[name])
    return (
        f"{count} of the {size} examples of the split '{name}' ({100 * count / size:.1f} %) have "
        "the texts of training examples"
    )


def _refuse_label_texts(data: TaskData) -> None:
    """Refuse a column of texts that spells the labels. Raises `DataError`."""
    task, train = data.task, data.train
    for column in range(len(train.texts[0])):
        spells = _spells_scores if task.regression else _spells_labels
        if spells(train, column):
            raise DataError(
                f"{task.name}: column {column + 1} of the texts holds the label of every training "
                "example; name the columns of the texts alone"
            )


def _spells_scores(train: Split, column: int) -> bool:
    """Whether a column of texts has the score of each example."""
    return all(
        _number(texts[column]) == score
        for texts, score in zip(train.texts, train.labels.tolist(), strict=True)
    )


def _number(text: str) -> float:
    try:
        return float(np.float32(text))
    except ValueError:
        return float("nan")


def _spells_labels(train: Split, column: int) -> bool:
    """Whether a column of texts has one text for each of two or more labels, and no other text."""
    labels: dict[str, int] = {}
    for texts, label in zip(train.texts, train.labels.tolist(), strict=True):
        if labels.setdefault(texts[column], label) != label:
            return False
        if len(labels) > len(set(labels.values())):
            return False
    return len(labels) > 1
