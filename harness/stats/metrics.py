"""The task metrics on many resamples of the examples at once.

A resample is given by its counts: how often it holds each example. Every function takes labels
(examples,), predictions (seeds, examples) and counts (resamples, examples), and returns the metric
of each resample and seed (resamples, seeds), as scikit-learn or scipy would give on the drawn
examples. Where the statistic is undefined (constant values) the result is 0, as in GLUE's tables and
in `harness.data.scores`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
ResampledMetric = Callable[[Values, Values, Floats], Floats]

EXACT = 2**24
"""Up to it single precision holds every whole number; no count of a resample's is above its examples."""
CONSTANT = 1e-12
"""A variance below this share of the mean square is rounding: the values are constant."""


def accuracy(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Share of the drawn examples that are right."""
    return _count(counts, predictions == labels) / _drawn(counts)


def f1(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """F1 of class 1."""
    hits = _count(counts, (predictions == 1) & (labels == 1))
    marked = _count(counts, predictions == 1) + _count(counts, labels[None] == 1)
    return _ratio(2 * hits, marked)


def matthews(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Matthews correlation over any number of classes (Gorodkin, 2004)."""
    drawn = _drawn(counts)
    covariance = drawn * _count(counts, predictions == labels)
    true_spread, predicted_spread = drawn**2, drawn**2
    for true, predicted in _class_counts(labels, predictions, counts):
        covariance = covariance - true * predicted
        true_spread = true_spread - true**2
        predicted_spread = predicted_spread - predicted**2
    return _ratio(covariance, np.sqrt(true_spread * predicted_spread))


def _class_counts(
    labels: Values, predictions: Values, counts: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """How many drawn examples are of each class, and how many are predicted to be."""
    true_left = predicted_left = _drawn(counts)
    *classes, _ = np.union1d(labels, predictions)
    for label in classes:
        true = _count(counts, labels[None] == label)
        predicted = _count(counts, predictions == label)
        true_left, predicted_left = true_left - true, predicted_left - predicted
        yield true, predicted
    yield true_left, predicted_left  # of the last class are those that are of no other


def pearson(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Pearson correlation, from weighted moments about the means of all examples."""
    x = (labels - labels.mean(dtype=np.float64))[None]
    y = predictions - predictions.mean(axis=1, keepdims=True, dtype=np.float64)
    drawn = _drawn(counts)
    mean_x, mean_y = counts @ x.T / drawn, counts @ y.T / drawn
    square_x, square_y = counts @ (x * x).T / drawn, counts @ (y * y).T / drawn
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    varied = (variance_x > CONSTANT * square_x) & (variance_y > CONSTANT * square_y)
    covariance = counts @ (x * y).T / drawn - mean_x * mean_y
    spread = np.where(varied, variance_x * variance_y, 0.0)
    return _ratio(covariance, np.sqrt(spread))


def spearman(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Spearman correlation, with average ranks for ties."""
    x = _centred_ranks(labels, counts)
    weighted_x = counts * x
    variance_x = np.einsum("re,re->r", weighted_x, x)
    scores = np.empty((len(counts), len(predictions)))
    for seed, values in enumerate(predictions):
        y = _centred_ranks(values, counts)
        spread = variance_x * np.einsum("re,re->r", counts * y, y)
        covariance = np.einsum("re,re->r", weighted_x, y)
        scores[:, seed] = _ratio(covariance, np.sqrt(spread))
    return scores


RESAMPLED: dict[str, ResampledMetric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
"""The metrics by the name a task gives them."""


def _count(counts: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """How many drawn examples are `chosen` (seeds, examples): (resamples, seeds)."""
    # Single precision takes half the time.
    kind = np.float32 if chosen.shape[1] <= EXACT else np.float64
    counted: Values = counts.astype(kind, copy=False) @ chosen.T.astype(kind)
    return counted.astype(np.float64)


def _drawn(counts: Floats) -> Floats:
    """How many examples each resample holds: (resamples, 1)."""
    drawn: Floats = counts.sum(axis=1, keepdims=True)
    return drawn


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The ratio, and 0 where the denominator is zero."""
    ratio = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _centred_ranks(values: Values, counts: Floats) -> Floats:
    """Average rank of each example's copies in each resample, less the mean rank."""
    _, group, copies = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    size = np.add.reduceat(counts[:, order], np.cumsum(copies) - copies, axis=1)
    drawn = _drawn(counts)
    ranks: Floats = np.cumsum(size, axis=1) - (size - 1) / 2 - (drawn + 1) / 2
    return ranks[:, group]
