"""Aggregates of runs on several tasks.

The interquartile mean, performance profile and probability of improvement are those of
Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (NeurIPS
2021), with percentile intervals from a stratified bootstrap: the seeds of each task are redrawn on
their own, the tasks stay. So they claim something about other seeds on these very tasks.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from harness.stats.arrays import Floats, finite
from harness.stats.bootstrap import drawn_counts, places_outside
from harness.stats.paired import ROUNDING, Interval

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Aggregate:
    """A statistic of all runs, with its stratified bootstrap interval."""

    value: float
    interval: Interval
    """Unbounded (or 0 to 1, for a share) with one seed, which says nothing of others. A share of 0
    or 1 has the interval of that point: the bootstrap cannot see what no run showed."""
    confidence: float
    resamples: int


@dataclass(frozen=True)
class PerformanceProfile:
    """The share of runs above each threshold, averaged over the tasks."""

    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    """(thresholds,), in the order given."""
    intervals: tuple[Interval, ...]
    """One for each threshold on its own: not a band that holds for all of them at once."""
    confidence: float
    resamples: int


def interquartile_mean(
    scores: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Aggregate:
    """The mean of the middle half of all runs of one method, from scores (seeds, tasks).

    As `scipy.stats.trim_mean(scores, 0.25, axis=None)`, so of n runs int(n / 4) are cut off at
    either end; below four runs it is the mean. All tasks must share one scale: on scales that
    differ, the cut removes the easiest and the hardest tasks. Two such intervals are no test of two
    methods, overlapping or not. The draws are `generator.integers(seeds, size=(resamples, seeds,
    tasks))`. With n seeds the bootstrap counts the variance between them (n - 1) / n times: for 95%
    the interval covers 94% with ten seeds, 93% with six and 85% with three (simulated, 4 tasks).

    Raises ValueError if a score is NaN or infinite, the shape is not (seeds, tasks) or is empty, or
    there are too few resamples for the confidence.
    """
    values = finite(scores, "scores", "seeds", "tasks")
    outside = places_outside(resamples, confidence)
    drawn = np.take_along_axis(values[None], _draw(generator, values, resamples), axis=1)
    means = scipy.stats.trim_mean(drawn.reshape(resamples, -1), 0.25, axis=1)
    return Aggregate(
        value=float(scipy.stats.trim_mean(values, 0.25, axis=None)),
        interval=_percentiles(means, outside, len(values) == 1, Interval(-math.inf, math.inf)),
        confidence=confidence,
        resamples=resamples,
    )


def performance_profile(
    scores: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> PerformanceProfile:
    """The share of runs of one method that score above each threshold, from scores (seeds, tasks).

    Above, not at; `thresholds` are (thresholds,), on the scale that all tasks share. The draws are
    those of `interquartile_mean`, and serve all thresholds.

    Raises ValueError as `interquartile_mean`, or if a threshold is NaN, or they are not
    (thresholds,) or empty.
    """
    values = finite(scores, "scores", "seeds", "tasks")
    levels = np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0:
        raise ValueError(f"thresholds must have the shape (thresholds,), got {levels.shape}")
    bad = np.flatnonzero(np.isnan(levels))
    if bad.size:
        raise ValueError(f"thresholds[{bad[0]}] is nan")
    outside = places_outside(resamples, confidence)
    drawn = np.take_along_axis(values[None], _draw(generator, values, resamples), axis=1)
    intervals = [
        _percentiles((drawn > level).mean(axis=(1, 2)), outside, len(values) == 1, Interval(0, 1))
        for level in levels
    ]
    return PerformanceProfile(
        thresholds=tuple(levels.tolist()),
        shares=tuple(float((values > level).mean()) for level in levels),
        intervals=tuple(intervals),
        confidence=confidence,
        resamples=resamples,
    )


def probability_of_improvement(
    method_scores: npt.ArrayLike,
    baseline_scores: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
    *,
    paired: bool = True,
) -> Aggregate:
    """The chance that a run of the method scores higher than a run of the baseline on its task.

    From scores (seeds, tasks) of each. Within a task each run of the one meets each of the other,
    whatever their seeds, and a tie counts half (Mann and Whitney's U); the value is the mean over
    the tasks. It says how often, not by how much, and needs no common scale.

    `paired` draws the same seeds for both, so that what a seed does to both is kept: right where
    row i of both is one seed. The draws are those of `interquartile_mean`; if not paired, the
    baseline's follow the method's, and the numbers of seeds may differ.

    Raises ValueError as `interquartile_mean`, or if the shapes do not match.
    """
    method = finite(method_scores, "method_scores", "seeds", "tasks")
    baseline = finite(baseline_scores, "baseline_scores", "seeds", "tasks")
    if method.shape[1] != baseline.shape[1] or (paired and len(method) != len(baseline)):
        raise ValueError(
            f"method_scores {method.shape} and baseline_scores {baseline.shape} do not match "
            f"(seeds, tasks){' paired by seed' if paired else ' of the same tasks'}"
        )
    outside = places_outside(resamples, confidence)
    differences = method.T[:, :, None] - baseline.T[:, None, :]
    tolerance = ROUNDING * max(abs(method).max(), abs(baseline).max())
    # (tasks, method's seeds, baseline's seeds): 1 if the method wins, 1/2 if they tie.
    wins = (1 + np.where(abs(differences) > tolerance, np.sign(differences), 0)) / 2
    method_counts = _counts(_draw(generator, method, resamples))
    baseline_counts = method_counts if paired else _counts(_draw(generator, baseline, resamples))
    met = np.einsum("trj,trj->r", method_counts @ wins, baseline_counts)
    few = min(len(method), len(baseline)) == 1
    return Aggregate(
        value=float(wins.mean()),
        interval=_percentiles(met / wins.size, outside, few, Interval(0, 1)),
        confidence=confidence,
        resamples=resamples,
    )


def _draw(generator: np.random.Generator, scores: Floats, resamples: int) -> Indices:
    """Seeds drawn for each task on its own: (resamples, seeds, tasks)."""
    return generator.integers(len(scores), size=(resamples, *scores.shape))


def _counts(drawn: Indices) -> Floats:
    """How often each seed is drawn, from (resamples, seeds, tasks): (tasks, resamples, seeds)."""
    resamples, seeds, tasks = drawn.shape
    rows = drawn.transpose(2, 0, 1).reshape(-1, seeds)
    return drawn_counts(rows, seeds).reshape(tasks, resamples, seeds)


def _percentiles(values: Floats, outside: int, one_seed: bool, everything: Interval) -> Interval:
    """Of resampled values (resamples,), or `everything` where one seed was all there was."""
    if one_seed:
        return everything
    ordered = np.sort(values)
    return Interval(float(ordered[outside - 1]), float(ordered[-outside]))
