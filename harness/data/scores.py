"""A task's metrics of labels and logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.data.tasks import Task
from harness.metric_table import METRICS

Array = npt.NDArray[np.generic]


def predictions(task: Task, logits: npt.NDArray[np.float32]) -> Array:
    """Class indices or scores (examples,) from logits (examples, outputs)."""
    return logits[:, 0] if task.regression else logits.argmax(axis=1)


def evaluate(task: Task, labels: Array, logits: npt.NDArray[np.float32]) -> dict[str, float]:
    """All metrics of a task for logits (examples, outputs)."""
    answers = predictions(task, logits)
    return {name: METRICS[name].score(labels, answers) for name in task.metrics}


def constant_score(task: Task, train_labels: Array, labels: Array) -> float:
    """The primary metric of a constant prediction: the majority class or the mean training score."""
    if task.regression:
        constant = np.full(len(labels), train_labels.astype(float).mean())
    else:
        constant = np.full(len(labels), np.bincount(train_labels.astype(np.int64)).argmax())
    return METRICS[task.metrics[0]].score(labels, constant)
