"""The tuned score: what a method scores on average when it is tuned with a budget of trials.

A pool holds N independent trials of one method. Each trial draws its setting from the same space,
trains one run with a seed of its own, and has two scores: a selection score, by which a tuner
chooses, and a reported score on another split. A tuner with a budget of T trials trains T of them
and keeps the trial with the best selection score. The tuned score at budget T is the mean reported
score of the kept trial, over all subsets of T trials of the pool. In a pool of N trials the trial
with the j-th worst selection score is kept in C(j - 1, T - 1) of the C(N, T) subsets. So the tuned
score is a weighted mean of the reported scores; this mean is a U-statistic, and it is unbiased for
every budget up to N. The idea is the expected validation performance of Dodge et al. ("Show your
work", EMNLP 2019) in the unbiased form of Tang et al. (ACL 2020), with the selection and the report
on different splits.

Trials with equal selection scores share their weights: a tuner picks one of them at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import index

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats, finite_array

CACHED_SHARES = 2048
"""Arrays of shares in memory. A curve of a thousand trials takes a thousand."""


@dataclass(frozen=True)
class Pool:
    """The trials of one method: N independent draws of a setting and a seed, in the order drawn."""

    selection: tuple[float, ...]
    """(trials,): selection scores, larger is better. Minus infinity for a trial that failed: a tuner
    keeps such a trial only if all trials of the budget failed."""
    reported: tuple[float, ...]
    """(trials,): scores on the reported split. A failed trial has the score of a student that is
    worth nothing, such as a constant prediction."""

    def __post_init__(self) -> None:
        """Raises ValueError unless both have the shape (trials,) with at least one trial, every
        reported score is finite, and no selection score is NaN or plus infinity."""
        finite_array(self.reported, "reported", "trials")
        selection = np.asarray(self.selection, dtype=np.float64)
        if selection.shape != (len(self.reported),):
            raise ValueError(
                f"selection has the shape {selection.shape}, reported has {len(self.reported)} trials"
            )
        positions = np.flatnonzero(np.isnan(selection) | (selection == np.inf))
        if len(positions):
            position = int(positions[0])
            raise ValueError(f"selection[{position}] is {selection[position]}; it must be finite")

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.reported)

    def first(self, trials: int) -> Pool:
        """The pool of the first `trials` trials."""
        return Pool(self.selection[:trials], self.reported[:trials])


def budget_shares(trials: int, budget: int) -> Floats:
    """The share of subsets of `budget` trials that lie within the m worst trials, m = 0 to `trials`.

    The result has the shape (trials + 1,) and is read-only. Raises ValueError if `budget` is not from 1
    to `trials`.
    """
    # Python's integers do not overflow, and NumPy's are equal keys of the cache.
    return _budget_shares(index(trials), index(budget))


@lru_cache(maxsize=CACHED_SHARES)
def _budget_shares(trials: int, budget: int) -> Floats:
    if not 1 <= budget <= trials:
        raise ValueError(f"budget must be from 1 to {trials} trials, got {budget}")
    subsets = [0] * budget + [1]
    for m in range(budget + 1, trials + 1):
        subsets.append(subsets[-1] * m // (m - budget))
    shares = np.array([count / subsets[-1] for count in subsets])
    shares.flags.writeable = False
    return shares


def trial_weights(selection: npt.ArrayLike, budget: int) -> Floats:
    """The share of subsets of `budget` trials in which each trial is kept (trials,); the sum is 1.

    Raises ValueError if `budget` is not from 1 to the number of trials.
    """
    scores = np.asarray(selection, dtype=np.float64)
    shares = budget_shares(len(scores), budget)
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    weights: Floats = (shares[upto] - shares[below]) / (upto - below)
    return weights


def tuned_score(pool: Pool, budget: int) -> float:
    """The mean reported score of the trial that a tuner keeps, over all subsets of `budget` trials.

    Raises ValueError if `budget` is not from 1 to the number of trials.
    """
    return float(trial_weights(pool.selection, budget) @ np.asarray(pool.reported))


def tuned_mean(pools: Sequence[Pool], budget: int) -> float:
    """The mean of the pools' tuned scores: one pool for each teacher.

    Raises ValueError if there are no pools or a pool has fewer trials than the budget.
    """
    if not pools:
        raise ValueError("a tuned score needs at least one pool")
    return float(np.mean([tuned_score(pool, budget) for pool in pools]))


def pseudo_scores(pool: Pool, budget: int) -> Floats:
    """The jackknife's pseudo-scores (trials,) of the tuned score; their mean is the tuned score.

    The pseudo-score of a trial is N times the tuned score minus N - 1 times the tuned score without
    the trial. The variance of the pseudo-scores over N estimates the variance of the tuned score
    (Tukey, 1958).

    Raises ValueError if `budget` is not from 1 to the number of trials minus one.
    """
    trials = pool.trials
    if not 1 <= budget < trials:
        raise ValueError(f"budget must be from 1 to {trials - 1} trials, got {budget}")
    scores: Floats = trials * tuned_score(pool, budget) - (trials - 1) * _scores_without(
        pool, budget
    )
    return scores


def _scores_without(pool: Pool, budget: int) -> Floats:
    """The tuned score of the other trials, for each trial that is left out (trials,).

    Trials with equal selection scores are a group. Without a trial, groups of lower scores keep their
    places among the worst trials, and groups of higher scores move down by one place.
    """
    reported = np.asarray(pool.reported)
    _, group, sizes = np.unique(pool.selection, return_inverse=True, return_counts=True)
    upto = np.cumsum(sizes)
    below = upto - sizes
    sums = np.bincount(group, weights=reported)
    shares = budget_shares(pool.trials - 1, budget)
    # The highest group is never a lower group, and the lowest group never a higher group.
    lower = (shares[np.minimum(upto, pool.trials - 1)] - shares[below]) * sums / sizes
    higher = (shares[upto - 1] - shares[np.maximum(below - 1, 0)]) * sums / sizes
    of_lower = np.concatenate([[0.0], np.cumsum(lower)[:-1]])
    of_higher = np.concatenate([np.cumsum(higher[::-1])[-2::-1], [0.0]])
    rest = (sums[group] - reported) / np.maximum(sizes[group] - 1, 1)
    of_group = (shares[upto - 1] - shares[below])[group] * rest
    without: Floats = of_lower[group] + of_group + of_higher[group]
    return without
