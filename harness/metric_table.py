"""The metrics of tasks. A new metric is one row of `METRICS`, with the two functions that it names.

The table stands below the configuration, which takes the default margins from it, and below reports,
which have no scikit-learn. So scikit-learn and scipy are imported where a score is computed.

The resampled form of a metric scores many resamples of the examples at once. A resample is given by
its counts: how often it holds each example. The function takes labels (examples,), predictions (runs,
examples) and counts (resamples, examples). It returns the metric of each resample and run (resamples,
runs): the score of the drawn examples, and 0 where the metric is undefined.
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
"""As the module's docstring says: labels, predictions and counts to scores (resamples, runs)."""

EXACT = 2**24
"""Up to it single precision holds every whole number; no count of a resample's is above its examples."""
CONSTANT = 1e-12
"""A variance below this share of the mean square is rounding: the values are constant."""


@dataclass(frozen=True)
class Metric:
    """One metric: all that the harness and its reports know of it.

    Labels and predictions are class indices, or real scores where `labels` is `scores`.
    """

    name: str
    labels: LabelKind
    """The tasks it is for: classification, classification with two classes, or regression."""
    margin: float
    """Default margin of equivalence, in score units: 0.01 is one point."""
    hub_name: str
    """Its name on Hugging Face's hub."""
    statistic: Score
    undefined: Callable[[Values, Values], bool]
    """Whether labels and predictions leave the statistic undefined. It is not called on them then."""
    resampled: ResampledScore

    @property
    def of_scores(self) -> bool:
        """Whether labels and predictions are real scores, which are neither right nor wrong."""
        return self.labels == "scores"

    def score(self, labels: Values, predictions: Values) -> float:
        """The metric of labels (examples,) and predictions (examples,); 0 where it is undefined."""
        return 0.0 if self.undefined(labels, predictions) else self.statistic(labels, predictions)


def one_by_one(score: Score) -> ResampledScore:
    """The resampled form of any score: every resample is drawn out and scored on its own.

    It is right for every metric, and slow: a form of its own is faster where the score has sums in it.
    """

    def resampled(labels: Values, predictions: Values, counts: Floats) -> Floats:
        examples = np.arange(len(labels))
        drawn = [np.repeat(examples, times) for times in counts.astype(np.int64)]
        return np.array([[score(labels[d], p[d]) for p in predictions] for d in drawn])

    return resampled


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
    """Share of the drawn examples that are right."""
    return _count(counts, predictions == labels) / _drawn(counts)


def _f1s(labels: Values, predictions: Values, counts: Floats) -> Floats:
    """F1 of class 1."""
    hits = _count(counts, (predictions == 1) & (labels == 1))
    marked = _count(counts, predictions == 1) + _count(counts, labels[None] == 1)
    return _ratio(2 * hits, marked)


def _matthews_correlations(labels: Values, predictions: Values, counts: Floats) -> Floats:
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


def _pearson_correlations(labels: Values, predictions: Values, counts: Floats) -> Floats:
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


def _count(counts: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """How many drawn examples are `chosen` (runs, examples): (resamples, runs)."""
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


_ROWS = (
    Metric(
        name="accuracy",
        labels="classes",
        margin=0.01,
        hub_name="accuracy",
        statistic=_accuracy,
        undefined=_always_defined,
        resampled=_accuracies,
    ),
    Metric(
        name="f1",
        labels="two classes",
        margin=0.01,
        hub_name="f1",
        statistic=_f1,
        undefined=_no_class_1,
        resampled=_f1s,
    ),
    Metric(
        name="matthews",
        labels="classes",
        margin=0.02,  # its range is twice that of the others
        hub_name="matthews_correlation",
        statistic=_matthews,
        undefined=_constant,
        resampled=_matthews_correlations,
    ),
    Metric(
        name="pearson",
        labels="scores",
        margin=0.01,
        hub_name="pearsonr",
        statistic=_pearson,
        undefined=_constant,
        resampled=_pearson_correlations,
    ),
    Metric(
        name="spearman",
        labels="scores",
        margin=0.01,
        hub_name="spearmanr",
        statistic=_spearman,
        undefined=_constant,
        resampled=_spearman_correlations,
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
