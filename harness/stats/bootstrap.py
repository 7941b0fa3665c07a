"""The crossed bootstrap: seeds and examples resampled, each on its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.metric_table import (
    ResampledScore,
    Score,
    Values,
    metric_of,
    one_by_one,
)
from harness.stats.arrays import Floats

BLOCK = 2**20
"""Counts held at once, which a processor's cache can hold: it changes no draw."""


@dataclass(frozen=True)
class DifferenceBootstrap:
    """Percentile interval of a difference in a metric, averaged over the seeds."""

    mean: float
    """Mean over the seeds of the metric's difference, method minus baseline, on all examples."""
    low: float
    high: float
    confidence: float
    resamples: int
    undefined: int
    """Resamples in which the metric was undefined. They count as minus infinity for `low` and as
    plus infinity for `high`, so they can widen the interval but never narrow it."""


@dataclass(frozen=True)
class CrossedBootstrap(DifferenceBootstrap):
    """Percentile interval of the mean difference over new seeds and new examples.

    What it claims: how far the difference may move if both the seeds and the evaluation examples
    had been other draws of the same kind, with this teacher and this training data. What it cannot
    claim: anything about another teacher, another training set or a shifted kind of example; and,
    being one interval for one comparison, anything about a family of k (for that, ask for the
    confidence 1 - alpha / k, after Bonferroni).

    No bootstrap is exact for crossed factors (McCullagh, 2000). This one counts the variance of
    what seeds and examples do together, such as a run's luck on one example, up to three times
    (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007; Owen and Eckles,
    2012), and the variance between n seeds (n - 1) / n times. So it is too wide, up to sqrt(3),
    where a run's luck dominates, close to its level where the examples do, and too narrow where few
    seeds do (88% for 95% with six, 92% with ten); there the sign-flip test of the seeds protects.
    """


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

    `metric` is a name in `METRICS`, computed on all resamples at once, or a function of labels and
    predictions, called methods * seeds times per resample, which gives NaN where it is undefined.
    `predictions` are each method's (seeds, examples), paired by seed, or logits (seeds, examples,
    classes), of which the largest decides (a single one is a regression's value); labels are
    (examples,). `pairs` are positions in `predictions`, method and baseline. The draws are
    `generator.integers(seeds, size=(resamples, seeds))`, then `generator.integers(examples,
    size=(resamples, examples))`: made once, and each method's resamples are scored once.

    Raises ValueError if the metric has no such name, shapes do not match, a prediction or label is
    NaN or infinite, the metric is undefined on the full data of a seed, or there are too few
    resamples for the confidence.
    """
    outside = places_outside(resamples, confidence)
    true, runs = _aligned(predictions, labels)
    resampled = _resampled(metric)
    observed = _observed(resampled, true, runs, len(predictions))
    seeds = observed.shape[1]
    drawn_seeds = generator.integers(seeds, size=(resamples, seeds))
    means = np.empty((len(pairs), resamples))
    for rows, scores in _resampled_scores(resampled, true, runs, resamples, generator):
        of_methods = _by_method(scores, len(predictions))
        places = drawn_seeds[rows] + seeds * np.arange(len(scores))[:, None]
        for place, (method, baseline) in enumerate(pairs):
            differences = of_methods[method] - of_methods[baseline]
            means[place, rows] = np.take(differences, places).mean(axis=1)
    return tuple(
        _bounded(
            CrossedBootstrap,
            float((observed[method] - observed[baseline]).mean()),
            values,
            outside,
            confidence,
        )
        for (method, baseline), values in zip(pairs, means, strict=True)
    )


Bootstrap = TypeVar("Bootstrap", bound=DifferenceBootstrap)


def bootstrapped_per_seed(
    kind: type[Bootstrap],
    metric: str | Score,
    predictions: Sequence[npt.ArrayLike],
    pairs: Sequence[tuple[int, int]],
    labels: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
) -> tuple[tuple[Bootstrap, ...], ...]:
    """As `crossed_bootstraps`, for each pair and each seed on its own: only the examples are drawn.

    All see the same drawn examples, and each method's resamples are scored once.
    """
    outside = places_outside(resamples, confidence)
    observed, scores = _scored(metric, predictions, labels, generator, resamples)
    return tuple(
        tuple(
            _bounded(kind, mean, values, outside, confidence)
            for mean, values in zip(
                (observed[method] - observed[baseline]).tolist(),
                (scores[method] - scores[baseline]).T,
                strict=True,
            )
        )
        for method, baseline in pairs
    )


def _scored(
    metric: str | Score,
    predictions: Sequence[npt.ArrayLike],
    labels: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int,
) -> tuple[Floats, Floats]:
    """Scores on all examples (methods, seeds), and on drawn ones (methods, resamples, seeds)."""
    true, runs = _aligned(predictions, labels)
    resampled, methods = _resampled(metric), len(predictions)
    observed = _observed(resampled, true, runs, methods)
    scores = np.empty((methods, resamples, len(runs) // methods))
    for rows, found in _resampled_scores(resampled, true, runs, resamples, generator):
        scores[:, rows] = _by_method(found, methods)
    return observed, scores


def places_outside(resamples: int, confidence: float) -> int:
    """The place, counted from either end, of the resample that bounds the percentile interval.

    Raises ValueError if `confidence` is not between 0 and 1 or takes more resamples.
    """
    outside = int((resamples + 1) * round(1 - confidence, 12) / 2)
    if not 0 < confidence < 1 or outside < 1:
        raise ValueError(f"{resamples} resamples give no interval of confidence {confidence}")
    return outside


def _aligned(predictions: Sequence[npt.ArrayLike], labels: npt.ArrayLike) -> tuple[Values, Values]:
    """Labels (examples,) and predictions (methods * seeds, examples)."""
    true = _finite(labels, "labels")
    stacks = [_decided(_finite(p, f"predictions[{i}]")) for i, p in enumerate(predictions)]
    shapes = {stack.shape for stack in stacks}
    if len(shapes) != 1 or true.ndim != 1 or not true.size or stacks[0].shape[1:] != true.shape:
        raise ValueError(
            f"predictions {sorted(shapes)} and labels {true.shape} do not match (seeds, examples) of "
            "each method and (examples,)"
        )
    return true, np.concatenate(stacks)


def _by_method(scores: Floats, methods: int) -> Floats:
    """Scores (resamples, methods * seeds) as (methods, resamples, seeds)."""
    return scores.reshape(len(scores), methods, -1).swapaxes(0, 1)


def _observed(
    resampled: ResampledScore, labels: Values, predictions: Values, methods: int
) -> Floats:
    """Scores (methods, seeds) on all examples, each once."""
    scores = resampled(labels, predictions, np.ones((1, len(labels))))
    observed = _by_method(scores, methods)[:, 0]
    bad = np.argwhere(np.isnan(observed))
    if bad.size:
        raise ValueError(f"the metric is undefined on the predictions of seed {bad[0][1]}")
    return observed


def _resampled_scores(
    resampled: ResampledScore,
    labels: Values,
    predictions: Values,
    resamples: int,
    generator: np.random.Generator,
) -> Iterator[tuple[slice, Floats]]:
    """Scores of runs (runs, examples) on drawn examples: (resamples, runs), some resamples at a time."""
    examples = len(labels)
    rows = max(1, BLOCK // examples)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        # The same numbers as in 64 bits, sooner.
        drawn = generator.integers(examples, size=(size, examples), dtype=np.int32)
        counts = drawn_counts(drawn, examples)
        yield slice(start, start + size), resampled(labels, predictions, counts)


def _bounded(
    kind: type[Bootstrap], mean: float, values: Floats, outside: int, confidence: float
) -> Bootstrap:
    """The percentile interval of resampled differences (resamples,)."""
    undefined = np.isnan(values)
    return kind(
        mean=mean,
        low=float(np.partition(np.where(undefined, -np.inf, values), outside - 1)[outside - 1]),
        high=float(np.partition(np.where(undefined, np.inf, values), -outside)[-outside]),
        confidence=confidence,
        resamples=len(values),
        undefined=int(undefined.sum()),
    )


def drawn_counts(drawn: npt.NDArray[np.integer[Any]], items: int) -> Floats:
    """How often each of `items` is in each row of drawn positions (rows, draws): (rows, items)."""
    cells = drawn + items * np.arange(len(drawn))[:, None]
    counts = np.bincount(cells.ravel(), minlength=len(drawn) * items)
    return counts.reshape(len(drawn), items).astype(np.float64)


def _resampled(metric: str | Score) -> ResampledScore:
    return metric_of(metric).resampled if isinstance(metric, str) else one_by_one(metric)


def _decided(predictions: Values) -> Values:
    if predictions.ndim != 3:
        return predictions
    if predictions.shape[2] == 1:
        return predictions[:, :, 0]
    return np.asarray(predictions.argmax(axis=2))


def _finite(values: npt.ArrayLike, name: str) -> Values:
    array = np.atleast_1d(values)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(f"{name}{list(where)} is {array[where]}; every value must be finite")
    return array
