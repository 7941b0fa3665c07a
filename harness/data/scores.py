"""A task's metrics of labels and logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

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


def label_loss(task: Task, labels: Array, logits: npt.NDArray[np.float32]) -> float:
    """The mean loss of logits (examples, outputs) on the labels (examples,).

    The loss is the cross-entropy in nats, or the squared error of a regression.
    """
    outputs = logits.astype(np.float64)
    if task.regression:
        return float(np.mean((outputs[:, 0] - labels.astype(np.float64)) ** 2))
    log_shares = log_softmax(outputs, axis=1)
    return float(-log_shares[np.arange(len(labels)), labels.astype(np.int64)].mean())


def constant_score(task: Task, train_labels: Array, labels: Array) -> float:
    """The primary metric of a constant prediction: the majority class or the mean training score."""
    if task.regression:
        constant = np.full(len(labels), train_labels.astype(float).mean())
    else:
        constant = np.full(len(labels), np.bincount(train_labels.astype(np.int64)).argmax())
    return METRICS[task.metrics[0]].score(labels, constant)
