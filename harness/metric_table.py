"""The metrics of tasks. A new metric is one row of `METRICS`, with the two functions that it names.

The configuration takes the default margins from this table, and reports read the table without
scikit-learn. So each function that computes a score imports scikit-learn or scipy itself.

The resampled form of a metric scores many resamples of the examples at once. Counts describe a resample:
how often the resample holds each example. The function takes labels (examples,), predictions (runs,
examples) and counts (resamples, examples). It returns the metric of each resample and run (resamples,
runs), with 0 where the metric is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
LabelKind = Literal["classes", "two classes", "scores"]
Score = Callable[[Values, Values], float]
"""score(labels (examples,), predictions (examples,)), in [-1, 1]; a higher score is better."""
ResampledScore = Callable[[Values, Values, Floats], Floats]
"""The resampled form of a metric: from labels, predictions and counts to scores (resamples, runs)."""

LARGEST_SINGLE = 2**24
"""Single precision holds every whole number up to this one. Double precision counts more examples."""
CONSTANT = 1e-12
"""A variance below this share of the mean square is rounding: the values are constant."""


@dataclass(frozen=True)
class Metric:
    """One metric: everything that the harness and its reports know about the metric.

    Labels and predictions are class indices, or real scores where `labels` is `scores`.
    """

    name: str
    labels: LabelKind
    """The kind of tasks: classification, classification with two classes, or regression."""
    margin: float
    """Default margin of equivalence, in score units: 0.01 is one point."""
    hub_name: str
    """The metric's name on Hugging Face's hub."""
    statistic: Score
    is_undefined: Callable[[Values, Values], bool]
    """Whether the statistic is undefined for labels and predictions. Then the score is 0."""
    resample: ResampledScore

    @property
    def of_scores(self) -> bool:
        """Whether labels and predictions are real scores, which are neither right nor wrong."""
        return self.labels == "scores"

    def score(self, labels: Values, predictions: Values) -> float:
        """The metric of labels (examples,) and predictions (examples,); 0 where it is undefined."""
        return (
            0.0 if self.is_undefined(labels, predictions) else self.statistic(labels, predictions)
        )


def one_by_one(score: Score) -> ResampledScore:
    """The resampled form of any score, which scores one resample after the other.

    This form is right for every metric, but slow. A form with sums over the counts is faster.
    """

    def resample(labels: Values, predictions: Values, counts: Floats) -> Floats:
        examples = np.arange(len(labels))
        resamples = [np.repeat(examples, times) for times in counts.astype(np.int64)]
        return np.array([[score(labels[r], p[r]) for p in predictions] for r in resamples])

    return resample


def _always_defined(labels: Values, predictions: Values) -> bool:
    return False


def _no_class_1(labels: Values, predictions: Values) -> bool:
    return not (np.any(labels == 1) or np.any(predictions == 1))


def _constant(labels: Values, predictions: Values) -> bool:
    """Whether all labels, or all predictions, are equal."""
    return any(np.ptp(values.astype(float)) == 0 for values in (labels, predictions))


def _accuracy(labels: Values, predictions: Values) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(labels: Values, predictions: Values) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0.0))


def _matthews(labels: Values, predictions: Values) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _pearson(labels: Values, predictions: Values) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(labels, predictions)[0])


def _spearman(labels: Values, predictions: Values) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predictions)[0])


def _accuracies(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """The share of a resample's examples whose predictions equal their labels."""
    return _count(counts, predictions == labels) / _sizes(counts)


def _f1s(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """F1 of class 1."""
    hits = _count(counts, (predictions == 1) & (labels == 1))
    positives = _count(counts, predictions == 1) + _count(counts, labels[None] == 1)
    return _ratio(2 * hits, positives)


def _matthews_correlations(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Matthews correlation over any number of classes (Gorodkin, 2004)."""
    sizes = _sizes(counts)
    covariance = _count(counts, predictions == labels)
    covariance *= sizes
    label_spread, prediction_spread = sizes**2, np.full_like(covariance, sizes**2)
    for label_count, prediction_count in _class_counts(labels, predictions, counts):
        covariance -= label_count * prediction_count
        label_spread -= label_count**2
        prediction_spread -= np.square(prediction_count, out=prediction_count)
    prediction_spread *= label_spread
    return _ratio(covariance, np.sqrt(prediction_spread, out=prediction_spread))


def _class_counts(
    labels: Values, predictions: Values, counts: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """For each class the labels (resamples, 1) and predictions (resamples, runs) in each resample."""
    label_rest = prediction_rest = _sizes(counts)
    # Sorting all predictions would take as long as counting them.
    predicted = np.flatnonzero(np.bincount(predictions.astype(np.intp).ravel()))
    *classes, _ = np.union1d(labels, predicted)
    for label in classes:
        label_count = _count(counts, labels[None] == label)
        prediction_count = _count(counts, predictions == label)
        label_rest = label_rest - label_count
        prediction_rest = prediction_rest - prediction_count
        yield label_count, prediction_count
    yield label_rest, prediction_rest  # the last class has all examples of no other class


def _pearson_correlations(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Pearson correlation, from weighted moments about the means of all examples."""
    x = (labels - labels.mean(dtype=np.float64))[None]
    y = predictions - predictions.mean(axis=1, keepdims=True, dtype=np.float64)
    sizes = _sizes(counts)
    mean_x, square_x = _means(counts, x, sizes), _means(counts, x * x, sizes)
    variance_x = square_x - mean_x**2
    covariance, mean_y = _means(counts, x * y, sizes), _means(counts, y, sizes)
    covariance -= mean_x * mean_y
    square_y = _means(counts, y * y, sizes)
    variance_y = np.subtract(square_y, np.square(mean_y, out=mean_y), out=mean_y)
    square_y *= CONSTANT
    varies = (variance_x > CONSTANT * square_x) & (variance_y > square_y)
    spread = np.multiply(variance_x, variance_y, out=variance_y)
    spread[~varies] = 0.0
    return _ratio(covariance, np.sqrt(spread, out=spread))


def _spearman_correlations(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """Spearman correlation, with average ranks for ties."""
    x = _centred_ranks(labels, counts)
    weighted_x = counts * x
    variance_x = np.einsum("re,re->r", weighted_x, x)
    scores = np.empty((len(counts), len(predictions)))
    for run, values in enumerate(predictions):
        y = _centred_ranks(values, counts)
        spread = variance_x * np.einsum("re,re->r", counts * y, y)
        covariance = np.einsum("re,re->r", weighted_x, y)
        scores[:, run] = _ratio(covariance, np.sqrt(spread))
    return scores


def _count(counts: Floats, selection: npt.NDArray[np.bool_]) -> Floats:
    """The number (resamples, runs) of each resample's examples in a selection (runs, examples)."""
    # Single precision takes half the time.
    kind = np.float32 if selection.shape[1] <= LARGEST_SINGLE else np.float64
    totals: Values = counts.astype(kind, copy=False) @ selection.T.astype(kind)
    return totals.astype(np.float64)


def _means(counts: Floats, values: Floats, sizes: Floats) -> Floats:
    """The mean (resamples, runs) over each resample's examples of values (runs, examples)."""
    means: Floats = counts @ values.T
    means /= sizes
    return means


def _sizes(counts: Floats) -> Floats:
    """The number of examples in each resample, (resamples, 1)."""
    sizes: Floats = counts.sum(axis=1, keepdims=True)
    return sizes


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The ratio (resamples, runs), with 0 where the denominator is 0."""
    ratio = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _centred_ranks(values: Values, counts: Floats) -> Floats:
    """The average rank of each example's copies minus the mean rank, (resamples, examples)."""
    _, group, copies = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    size = np.add.reduceat(counts[:, order], np.cumsum(copies) - copies, axis=1)
    mean_rank = (_sizes(counts) + 1) / 2
    ranks: Floats = np.cumsum(size, axis=1) - (size - 1) / 2 - mean_rank
    return ranks[:, group]


_ROWS = (
    Metric(
        name="accuracy",
        labels="classes",
        margin=0.01,
        hub_name="accuracy",
        statistic=_accuracy,
        is_undefined=_always_defined,
        resample=_accuracies,
    ),
    Metric(
        name="f1",
        labels="two classes",
        margin=0.01,
        hub_name="f1",
        statistic=_f1,
        is_undefined=_no_class_1,
        resample=_f1s,
    ),
    Metric(
        name="matthews",
        labels="classes",
        margin=0.02,  # its range is twice that of the others
        hub_name="matthews_correlation",
        statistic=_matthews,
        is_undefined=_constant,
        resample=_matthews_correlations,
    ),
    Metric(
        name="pearson",
        labels="scores",
        margin=0.01,
        hub_name="pearsonr",
        statistic=_pearson,
        is_undefined=_constant,
        resample=_pearson_correlations,
    ),
    Metric(
        name="spearman",
        labels="scores",
        margin=0.01,
        hub_name="spearmanr",
        statistic=_spearman,
        is_undefined=_constant,
        resample=_spearman_correlations,
    ),
)
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""The metrics by the name that a task gives them."""
assert len(METRICS) == len(_ROWS), "two metrics have one name"


def metric_of(name: str) -> Metric:
    """The metric of that name. Raises `ValueError` with all names for an unknown one."""
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known are {', '.join(METRICS)}")
    return METRICS[name]


def default_margins() -> dict[str, float]:
    """The default margin of equivalence of each metric, in score units."""
    return {name: metric.margin for name, metric in METRICS.items()}
