"""Aggregates of runs on several tasks.

Interquartile mean, performance profile and probability of improvement follow Agarwal et al., "Deep
reinforcement learning at the edge of the statistical precipice" (NeurIPS 2021). Their percentile
intervals come from a stratified bootstrap, which redraws the seeds of each task independently and
keeps the tasks. So the intervals hold for new seeds on the same tasks.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from harness.stats.arrays import Floats, finite_array
from harness.stats.bootstrap import tail_rank
from harness.stats.draws import count_draws
from harness.stats.paired import ROUNDING, Interval

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Aggregate:
    """A statistic of all runs, with a stratified bootstrap interval."""

    value: float
    interval: Interval
    """With one seed the interval is unbounded, or 0 to 1 for a share. The bootstrap cannot draw an
    outcome that no run had: for a share of 0 or 1 the interval is Clopper and Pearson's."""
    confidence: float
    resamples: int


@dataclass(frozen=True)
class PerformanceProfile:
    """The share of runs above each threshold, averaged over the tasks."""

    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    """(thresholds,), in the order given."""
    intervals: tuple[Interval, ...]
    """(thresholds,). Each interval has the confidence by itself; together they are no band."""
    confidence: float
    resamples: int


def interquartile_mean(
    scores: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Aggregate:
    """The mean of the middle half of all runs of one method, from scores (seeds, tasks).

    The value is `scipy.stats.trim_mean(scores, 0.25, axis=None)`, which cuts int(n / 4) of n runs
    at either end; below four runs the value is the mean. All tasks must share one scale: otherwise
    the cut removes the easiest and the hardest tasks. Two such intervals do not test two methods,
    whether they overlap or not. The draws are `generator.integers(seeds, size=(resamples, seeds,
    tasks))`. With n seeds the bootstrap has (n - 1) / n of the variance between seeds: a 95%
    interval covers 94% with ten seeds, 93% with six and 85% with three (simulated, 4 tasks).

    Raises ValueError if a score is NaN or infinite, the shape is not (seeds, tasks) or is empty, or
    `resamples` is too small for the confidence.
    """
    values = finite_array(scores, "scores", "seeds", "tasks")
    rank = tail_rank(resamples, confidence)
    draws = np.take_along_axis(values[None], _draw(generator, values, resamples), axis=1)
    means = scipy.stats.trim_mean(draws.reshape(resamples, -1), 0.25, axis=1)
    return Aggregate(
        value=float(scipy.stats.trim_mean(values, 0.25, axis=None)),
        interval=_percentiles(means, rank, len(values) == 1, Interval(-math.inf, math.inf)),
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
    """The share of one method's runs that score above each threshold, from scores (seeds, tasks).

    `thresholds` are (thresholds,), on the scale that all tasks share; a score at a threshold is not
    above the threshold. The draws are those of `interquartile_mean`, the same for all thresholds.

    Raises ValueError as `interquartile_mean`, or if a threshold is NaN or the shape of `thresholds`
    is not (thresholds,) or is empty.
    """
    values = finite_array(scores, "scores", "seeds", "tasks")
    levels = np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0:
        raise ValueError(f"thresholds must have the shape (thresholds,), got {levels.shape}")
    positions = np.flatnonzero(np.isnan(levels))
    if positions.size:
        raise ValueError(f"thresholds[{positions[0]}] is nan")
    rank = tail_rank(resamples, confidence)
    is_above = values[:, :, None] > levels
    shares = is_above.mean(axis=(0, 1)).tolist()
    counts = _counts(_draw(generator, values, resamples))
    drawn_shares = (counts @ is_above.swapaxes(0, 1)).sum(axis=0) / values.size
    intervals = [
        _share_interval(share, resampled, rank, len(values), values.size, confidence)
        for share, resampled in zip(shares, drawn_shares.T, strict=True)
    ]
    return PerformanceProfile(
        thresholds=tuple(levels.tolist()),
        shares=tuple(shares),
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
    pair_seeds: bool = True,
) -> Aggregate:
    """The chance that a run of the method scores higher than a run of the baseline on a task.

    Both score arrays are (seeds, tasks). Within a task every run of the method is compared with
    every run of the baseline, whatever their seeds; a tie counts half (Mann and Whitney's U). The
    value is the mean over the tasks. The value says how often the method wins, not by how much, so
    the tasks need no common scale.

    `pair_seeds` draws the same seeds for both sides, and so keeps the effect that a seed has on
    both; row i of both arrays must then be one seed. A seed that is drawn c times is c seeds, but
    a run meets the run of its own seed once: such pairs weigh c and not c squared. The draws are
    those of `interquartile_mean`. Without `pair_seeds` the baseline's draws follow the method's,
    and the numbers of seeds may differ.

    Raises ValueError as `interquartile_mean`, or if the shapes do not match.
    """
    method = finite_array(method_scores, "method_scores", "seeds", "tasks")
    baseline = finite_array(baseline_scores, "baseline_scores", "seeds", "tasks")
    if method.shape[1] != baseline.shape[1] or (pair_seeds and len(method) != len(baseline)):
        raise ValueError(
            f"method_scores {method.shape} and baseline_scores {baseline.shape} do not match "
            f"(seeds, tasks){' paired by seed' if pair_seeds else ' of the same tasks'}"
        )
    rank = tail_rank(resamples, confidence)
    differences = method.T[:, :, None] - baseline.T[:, None, :]
    tolerance = ROUNDING * max(abs(method).max(), abs(baseline).max())
    # (tasks, method's seeds, baseline's seeds): 1 for a win of the method, 1/2 for a tie.
    wins = (1 + np.where(abs(differences) > tolerance, np.sign(differences), 0)) / 2
    method_counts = _counts(_draw(generator, method, resamples))
    baseline_counts = (
        method_counts if pair_seeds else _counts(_draw(generator, baseline, resamples))
    )
    improvements = np.einsum("trj,trj->tr", method_counts @ wins, baseline_counts)
    seeds = min(len(method), len(baseline))
    if pair_seeds and seeds > 1:
        # Counts of two different seeds have the mean 1 - 1 / n in a draw.
        own_wins = np.diagonal(wins, axis1=1, axis2=2)
        squares = method_counts**2
        others = improvements - np.einsum("trj,tj->tr", squares, own_wins)
        other_pairs = (len(method) ** 2 - squares.sum(axis=2)) * seeds / (seeds - 1)
        own = np.einsum("trj,tj->tr", method_counts, own_wins)
        improvements = (others * seeds / (seeds - 1) + own) / (other_pairs + seeds)
    else:
        improvements = improvements / (len(method) * len(baseline))
    value = float(wins.mean())
    return Aggregate(
        value=value,
        interval=_share_interval(value, improvements.mean(axis=0), rank, seeds, seeds, confidence),
        confidence=confidence,
        resamples=resamples,
    )


def _draw(generator: np.random.Generator, scores: Floats, resamples: int) -> Indices:
    """Independent draws of seeds for each task: (resamples, seeds, tasks)."""
    return generator.integers(len(scores), size=(resamples, *scores.shape))


def _counts(draws: Indices) -> Floats:
    """The counts of each seed (tasks, resamples, seeds) in the draws (resamples, seeds, tasks)."""
    resamples, seeds, tasks = draws.shape
    rows = draws.transpose(2, 0, 1).reshape(-1, seeds)
    return count_draws(rows, seeds).reshape(tasks, resamples, seeds)


def _share_interval(
    share: float, values: Floats, rank: int, seeds: int, trials: int, confidence: float
) -> Interval:
    """The interval of a share, from resampled shares (resamples,).

    A share of 0 or 1 has Clopper and Pearson's interval of `trials` independent outcomes.
    """
    if seeds == 1:
        return Interval(0, 1)
    if share in (0, 1):
        low, high = proportion_confint(share * trials, trials, 1 - confidence, method="beta")
        return Interval(float(low), float(high))
    return _percentiles(values, rank, False, Interval(0, 1))


def _percentiles(values: Floats, rank: int, single_seed: bool, bounds: Interval) -> Interval:
    """The percentile interval of resampled values (resamples,); `bounds` if there is a single seed."""
    if single_seed:
        return bounds
    sorted_values = np.sort(values)
    return Interval(float(sorted_values[rank - 1]), float(sorted_values[-rank]))
