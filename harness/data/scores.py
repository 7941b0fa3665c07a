"""GLUE's metrics over labels and logits, by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from harness.data.tasks import Task

Array = npt.NDArray[np.generic]


def _correlation(statistic: Callable[..., tuple[float, float]]) -> Callable[[Array, Array], float]:
    def metric(labels: Array, predictions: Array) -> float:
        if np.ptp(predictions.astype(float)) == 0 or np.ptp(labels.astype(float)) == 0:
            return 0.0
        return float(statistic(labels, predictions)[0])

    return metric


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": lambda labels, predictions: float(accuracy_score(labels, predictions)),
    "f1": lambda labels, predictions: float(f1_score(labels, predictions, zero_division=0.0)),
    "matthews": lambda labels, predictions: float(matthews_corrcoef(labels, predictions)),
    "pearson": _correlation(pearsonr),
    "spearman": _correlation(spearmanr),
}
"""metric(labels (examples,), predictions (examples,)) in [-1, 1]; a constant prediction scores 0."""


def predictions(task: Task, logits: npt.NDArray[np.float32]) -> Array:
    """Class indices or scores (examples,) from logits (examples, outputs)."""
    return logits[:, 0] if task.regression else logits.argmax(axis=1)


def evaluate(task: Task, labels: Array, logits: npt.NDArray[np.float32]) -> dict[str, float]:
    """All metrics of a task for logits (examples, outputs)."""
    predicted = predictions(task, logits)
    return {name: METRICS[name](labels, predicted) for name in task.metrics}


def constant_score(task: Task, train_labels: Array, labels: Array) -> float:
    """The primary metric of always predicting the majority class (or the mean score)."""
    if task.regression:
        constant = np.full(len(labels), train_labels.astype(float).mean())
    else:
        constant = np.full(len(labels), np.bincount(train_labels.astype(np.int64)).argmax())
    return METRICS[task.metrics[0]](labels, constant)
