"""Bootstrap intervals of a difference in a metric, over new examples, or over new seeds and examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from harness.metric_table import (
    ResampledScore,
    Score,
    Values,
    metric_of,
    one_by_one,
)
from harness.stats.arrays import Floats
from harness.stats.draws import resampled_counts


@dataclass(frozen=True)
class DifferenceBootstrap:
    """Percentile interval of a difference in a metric, averaged over the seeds or trials."""

    mean: float
    """The difference of the metric on all examples, method minus baseline: mean over the seeds, or
    difference of the tuned scores."""
    low: float
    high: float
    confidence: float
    resamples: int
    undefined_resamples: int
    """Number of resamples in which the metric was undefined. They count as minus infinity for `low`
    and as plus infinity for `high`: they may widen the interval, but cannot narrow it."""


@dataclass(frozen=True)
class CrossedBootstrap(DifferenceBootstrap):
    """Percentile interval of the mean difference over new seeds and new examples.

    The interval says how far the difference may move with other seeds and other evaluation examples
    of the same kind, for this teacher and this training data. The interval says nothing about
    another teacher, another training set or another kind of example. The interval is for one
    comparison; for a family of k comparisons pass the confidence 1 - alpha / k (Bonferroni).

    No bootstrap is exact for crossed factors (McCullagh, 2000). This bootstrap counts the variance
    of the interaction of seeds and examples, such as a run's luck on one example, up to three times
    (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007; Owen and Eckles, 2012),
    and the variance between n seeds (n - 1) / n times. So the interval is too wide, by up to
    sqrt(3), if a run's luck dominates; close to its level if the examples dominate; and too narrow
    if few seeds dominate (88% for 95% with six seeds, 92% with ten). In the last case the sign-flip
    test over seeds protects the verdict.
    """


@dataclass(frozen=True)
class ExamplesBootstrap(DifferenceBootstrap):
    """Percentile interval of the difference over new examples, for the same trained models.

    The interval says how far the difference of these trained models may move on other examples of
    the same kind. The interval says nothing about another seed or setting, which trains other models
    (`crossed_bootstraps` redraws seeds, `harness.stats.tuned_examples` adds new searches), another
    teacher or another training set.
    """


Bootstrap = TypeVar("Bootstrap", CrossedBootstrap, ExamplesBootstrap)


def crossed_bootstraps(
    metric: str | Score,
    predictions: Sequence[npt.ArrayLike],
    pairs: Sequence[tuple[int, int]],
    labels: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[CrossedBootstrap, ...]:
    """Resample seeds and examples independently, with the same draws for all methods and pairs.

    Args:
        metric: a name in `METRICS`, which is computed on all resamples at once; or a function of
            labels and predictions, called methods * seeds times for each resample, which returns
            NaN where the metric is undefined.
        predictions: for each method, predictions (seeds, examples) paired by seed, or logits
            (seeds, examples, classes): the largest logit decides, a single one is a regression's
            value.
        pairs: positions of method and baseline in `predictions`.
        labels: (examples,).
        generator: draws `integers(seeds, size=(resamples, seeds))`, then `integers(examples,
            size=(resamples, examples))`, once for all methods.
        resamples: number of resamples; each resample of a method is scored once.
        confidence: confidence of each interval.

    Raises:
        ValueError: no metric has the name, shapes do not match, a prediction or label is NaN or
            infinite, the metric is undefined on all examples of a seed, or `resamples` is too small
            for the confidence.
    """
    rank = tail_rank(resamples, confidence)
    truth, runs = _aligned_arrays(predictions, labels)
    score = resampled_score(metric)
    observed_scores = _observed_scores(score, truth, runs, len(predictions))
    seeds = observed_scores.shape[1]
    drawn_seeds = generator.integers(seeds, size=(resamples, seeds))
    means = np.empty((len(predictions), resamples))
    for rows, counts in resampled_counts(len(truth), resamples, generator):
        scores = score(truth, runs, counts)
        indices = drawn_seeds[rows] + seeds * np.arange(len(scores))[:, None]
        # All methods at once: each operation on arrays waits for Python's lock beside another thread.
        method_scores = _by_method(scores, len(predictions)).reshape(len(predictions), -1)
        means[:, rows] = method_scores.take(indices, axis=1).mean(axis=2)
    return tuple(
        percentile_interval(
            CrossedBootstrap,
            float((observed_scores[method] - observed_scores[baseline]).mean()),
            means[method] - means[baseline],
            rank,
            confidence,
        )
        for method, baseline in pairs
    )


def with_least_width(bootstrap: Bootstrap, examples: int) -> Bootstrap:
    """The interval, with each end at least z / (examples + 2) away from the mean.

    A bootstrap cannot draw an answer that no run gave: if all runs agree on few examples, its
    interval is a point, and new examples may still differ. The least half-width is that of Agresti
    and Min's interval for two paired shares that agree on all examples ("Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005); z is the normal
    quantile of the confidence. Scores of other metrics than accuracy have the same least width.

    Raises ValueError if `examples` is below 1.
    """
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    half = float(norm.ppf((1 + bootstrap.confidence) / 2)) / (examples + 2)
    return replace(
        bootstrap,
        low=min(bootstrap.low, bootstrap.mean - half),
        high=max(bootstrap.high, bootstrap.mean + half),
    )


def examples_bootstraps_per_seed(
    metric: str | Score,
    predictions: Sequence[npt.ArrayLike],
    pairs: Sequence[tuple[int, int]],
    labels: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[tuple[ExamplesBootstrap, ...], ...]:
    """Resample the examples, with the same draws for all methods, pairs and seeds.

    The arguments and errors are those of `crossed_bootstraps`. The function draws
    `generator.integers(examples, size=(resamples, examples))` once. The result has one interval for
    each pair and each seed (pairs, seeds), the same as from that pair and seed alone. The intervals
    depend on each other, because they share the examples.
    """
    rank = tail_rank(resamples, confidence)
    truth, runs = _aligned_arrays(predictions, labels)
    score, methods = resampled_score(metric), len(predictions)
    observed_scores = _observed_scores(score, truth, runs, methods)
    scores = np.empty((methods, resamples, len(runs) // methods))
    for rows, counts in resampled_counts(len(truth), resamples, generator):
        scores[:, rows] = _by_method(score(truth, runs, counts), methods)
    return tuple(
        tuple(
            percentile_interval(ExamplesBootstrap, mean, values, rank, confidence)
            for mean, values in zip(
                (observed_scores[method] - observed_scores[baseline]).tolist(),
                (scores[method] - scores[baseline]).T,
                strict=True,
            )
        )
        for method, baseline in pairs
    )


def tail_rank(resamples: int, confidence: float) -> int:
    """The rank, counted from either end, of the resample that bounds the percentile interval.

    Raises ValueError if `confidence` is not between 0 and 1 or needs more resamples.
    """
    rank = int((resamples + 1) * round(1 - confidence, 12) / 2)
    if not 0 < confidence < 1 or rank < 1:
        raise ValueError(f"{resamples} resamples give no interval of confidence {confidence}")
    return rank


def prediction_stacks(
    predictions: Sequence[npt.ArrayLike], labels: npt.ArrayLike, equal_runs: bool = False
) -> tuple[Values, list[Values]]:
    """The labels (examples,) and the predictions of each method (runs, examples).

    Predictions may be logits (runs, examples, classes): the largest logit decides, a single one is a
    regression's value. With `equal_runs` all methods have the same number of runs.

    Raises ValueError if there are no predictions, shapes do not match, or a value is NaN or infinite.
    """
    truth = _finite_values(labels, "labels")
    stacks = [
        _predicted_values(_finite_values(p, f"predictions[{i}]")) for i, p in enumerate(predictions)
    ]
    shapes = {stack.shape for stack in stacks}
    is_aligned = all(shape[1:] == truth.shape and shape[0] for shape in shapes)
    is_aligned &= len(shapes) == 1 if equal_runs else bool(shapes)
    if truth.ndim != 1 or not truth.size or not is_aligned:
        raise ValueError(
            f"predictions {sorted(shapes)} and labels {truth.shape} do not match (seeds, examples) of "
            "each method and (examples,)"
        )
    return truth, stacks


def _aligned_arrays(
    predictions: Sequence[npt.ArrayLike], labels: npt.ArrayLike
) -> tuple[Values, Values]:
    """The labels (examples,) and the predictions of all runs (methods * seeds, examples)."""
    truth, stacks = prediction_stacks(predictions, labels, equal_runs=True)
    return truth, np.concatenate(stacks)


def _by_method(scores: Floats, methods: int) -> Floats:
    """Scores (resamples, methods * seeds) as (methods, resamples, seeds)."""
    return scores.reshape(len(scores), methods, -1).swapaxes(0, 1)


def _observed_scores(
    score: ResampledScore, labels: Values, predictions: Values, methods: int
) -> Floats:
    """Scores (methods, seeds) on all examples, from predictions (methods * seeds, examples)."""
    scores = score(labels, predictions, np.ones((1, len(labels))))
    observed_scores = _by_method(scores, methods)[:, 0]
    positions = np.argwhere(np.isnan(observed_scores))
    if positions.size:
        raise ValueError(f"the metric is undefined on the predictions of seed {positions[0][1]}")
    return observed_scores


def percentile_interval(
    result_type: type[Bootstrap], mean: float, values: Floats, rank: int, confidence: float
) -> Bootstrap:
    """The percentile interval of resampled differences (resamples,)."""
    is_undefined = np.isnan(values)
    return result_type(
        mean=mean,
        low=float(np.partition(np.where(is_undefined, -np.inf, values), rank - 1)[rank - 1]),
        high=float(np.partition(np.where(is_undefined, np.inf, values), -rank)[-rank]),
        confidence=confidence,
        resamples=len(values),
        undefined_resamples=int(is_undefined.sum()),
    )


def resampled_score(metric: str | Score) -> ResampledScore:
    """The form of a metric that scores many resamples at once, by the metric's name or function."""
    return metric_of(metric).resample if isinstance(metric, str) else one_by_one(metric)


def _predicted_values(predictions: Values) -> Values:
    if predictions.ndim != 3:
        return predictions
    if predictions.shape[2] == 1:
        return predictions[:, :, 0]
    return np.asarray(predictions.argmax(axis=2))


def _finite_values(values: npt.ArrayLike, name: str) -> Values:
    array = np.atleast_1d(values)
    positions = np.argwhere(~np.isfinite(array))
    if len(positions):
        position = tuple(positions[0].tolist())
        raise ValueError(f"{name}{list(position)} is {array[position]}; every value must be finite")
    return array
