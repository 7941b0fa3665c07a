"""The difference of two tuned scores over new searches and new examples.

A difference of tuned scores varies with the trials that were drawn and with the examples of the
reported split. Two intervals see one of them each. The exchange interval says how far the difference
moves over new searches on the same examples. A bootstrap of the examples, with the weights of the
trials fixed, says how far the difference moves over new examples with the same trained models. Trials
and examples are drawn independently, so their variances add up, and half the widths of the intervals
are added in quadrature, on each side.

Both intervals contain the interaction of trials and examples, such as a trial's luck on one example.
So the sum counts this part twice, and its interval is too wide, by about sqrt(2), where the
interaction dominates. docs/statistics.md has the simulated coverage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metric_table import Score
from harness.stats.arrays import Floats
from harness.stats.bootstrap import (
    ExamplesBootstrap,
    percentile_interval,
    prediction_stacks,
    resampled_score,
    tail_rank,
    with_least_width,
)
from harness.stats.draws import resampled_counts
from harness.stats.paired import Interval


@dataclass(frozen=True)
class TunedRuns:
    """The predictions of a method's trials, and the trials' weights in the tuned score.

    With a pool for each of several teachers, the runs are those of all pools, and the weights of each
    pool are divided by the number of pools.
    """

    predictions: npt.ArrayLike
    """(runs, examples): classes or scores of the trials that have predictions, or logits (runs,
    examples, classes)."""
    weights: npt.ArrayLike
    """(runs,): the weights of these trials in the tuned score, at least 0."""
    failure_score: float = 0.0
    """The part of the tuned score that trials without predictions have: the sum of their weights times
    the score of a constant prediction. No resample changes it, so the interval is a little too narrow
    where such trials have weight."""


@dataclass(frozen=True)
class TunedInterval:
    """Interval of the difference of two tuned scores over new searches and new examples.

    The interval is no percentile bootstrap: half the widths of two intervals, one over searches and
    one over examples, are added in quadrature on each side of the mean. It says how far the difference
    may move if both methods are tuned anew and scored on other examples of the same kind, with this
    teacher, this training data and this selection split. The interval is for one comparison; for a
    family of k comparisons both parts have the confidence 1 - alpha / k (Bonferroni).
    """

    mean: float
    """The difference of the tuned scores, method minus baseline."""
    low: float
    high: float
    confidence: float
    searches: Interval
    """The exchange interval: new searches, the same examples."""
    examples: ExamplesBootstrap
    """New examples, the same trials, with the least width that the number of examples allows."""

    @property
    def search_share(self) -> float:
        """The share of the squared width that comes from searches, from 0 to 1; NaN if it is unbounded.

        The rest comes from examples. The interaction of trials and examples is in both parts.
        """
        searches = (self.searches.high - self.searches.low) ** 2
        examples = (self.examples.high - self.examples.low) ** 2
        total = searches + examples
        return searches / total if 0 < total < math.inf else math.nan


def tuned_examples_bootstraps(
    metric: str | Score,
    methods: Sequence[TunedRuns],
    pairs: Sequence[tuple[int, int]],
    labels: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[ExamplesBootstrap, ...]:
    """Resample the examples at fixed weights of the trials, with the same draws for all methods.

    The function draws `generator.integers(examples, size=(resamples, examples))` once, and scores each
    method once. `pairs` are positions of method and baseline in `methods`. The other arguments and the
    errors are those of `crossed_bootstraps`; also raises ValueError if a method's weights do not have
    the shape (runs,).
    """
    rank = tail_rank(resamples, confidence)
    truth, stacks = prediction_stacks([method.predictions for method in methods], labels)
    weights = [_weights(method, stack) for method, stack in zip(methods, stacks, strict=True)]
    # A trial without weight must not make a resample undefined.
    stacks = [
        stack if (shares > 0).all() else stack[shares > 0]
        for stack, shares in zip(stacks, weights, strict=True)
    ]
    weights = [shares[shares > 0] for shares in weights]
    failures = np.array([[method.failure_score] for method in methods])
    score = resampled_score(metric)

    def tuned_scores(counts: Floats) -> Floats:
        """The tuned scores (methods, resamples)."""
        scores = [
            score(truth, stack, counts) @ shares
            for stack, shares in zip(stacks, weights, strict=True)
        ]
        return np.asarray(np.stack(scores) + failures)

    observed = tuned_scores(np.ones((1, len(truth))))[:, 0]
    if np.isnan(observed).any():
        position = int(np.flatnonzero(np.isnan(observed))[0])
        raise ValueError(f"the metric is undefined on the predictions of methods[{position}]")
    scores = np.empty((len(methods), resamples))
    for rows, counts in resampled_counts(len(truth), resamples, generator):
        scores[:, rows] = tuned_scores(counts)
    return tuple(
        percentile_interval(
            ExamplesBootstrap,
            float(observed[method] - observed[baseline]),
            scores[method] - scores[baseline],
            rank,
            confidence,
        )
        for method, baseline in pairs
    )


def tuned_interval(
    mean: float, searches: Interval, bootstrap: ExamplesBootstrap, examples: int
) -> TunedInterval:
    """The interval over new searches and new examples, from the interval over each.

    `mean` is the difference of the tuned scores, and `searches` its exchange interval at the confidence
    of `bootstrap`. The bootstrap gets the least width that the number of examples allows.

    Raises ValueError if `examples` is below 1.
    """
    over_examples = with_least_width(bootstrap, examples)
    centre = over_examples.mean
    below = math.hypot(mean - searches.low, centre - over_examples.low)
    above = math.hypot(searches.high - mean, over_examples.high - centre)
    return TunedInterval(
        mean=mean,
        low=mean - below,
        high=mean + above,
        confidence=bootstrap.confidence,
        searches=searches,
        examples=over_examples,
    )


def _weights(method: TunedRuns, predictions: npt.NDArray[np.generic]) -> Floats:
    weights = np.asarray(method.weights, dtype=np.float64)
    if weights.shape != predictions.shape[:1]:
        raise ValueError(f"weights {weights.shape} do not match {len(predictions)} predictions")
    return weights
