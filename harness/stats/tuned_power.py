"""The power of a comparison of tuned scores: the trials that it needs, the difference that it finds.

The comparison is the exchange test of two pools with N trials each, at a tuner's budget of T trials.
With a budget of one trial the test is the sign-flip test of N pairs, and so is its power.

`spread` is the standard deviation of the difference of tuned scores times the square root of N. The
jackknife estimates it: it is the standard deviation of the differences of pseudo-scores. A tuned score
is a U-statistic of order T. Its variance falls faster than 1 / N while N is near T, but from N = 2 T on
the difference is small: N times the variance at 2 T is 1.1 to 1.3 times its limit, at 4 T 1.0 to 1.1
times. So the spread counts as one number for all N. For the chance to reject, the exchange test of N
trials is as good as the sign-flip test of N pairs whose differences have this spread, so `power_of`
gives the power. docs/statistics.md has the measured accuracy.
"""

import math

import numpy as np

from harness.stats.family import minimum_seeds
from harness.stats.power import detectable_difference, power_of, seeds_needed
from harness.stats.tuned_score import trial_weights


def minimum_trials(budget: int, comparisons: int = 1, alpha: float = 0.05) -> int:
    """The fewest trials with which two pools that differ in all trials are always told apart.

    The T - 1 trials of a pool with the worst selection scores have no weight. If the two pools' worst
    trials are paired, 2^(T - 1) patterns of exchanges change nothing. So the least p value of N trials
    is 2^T / 2^N in the worst pairing, and the result is the smallest N with a value below
    alpha / comparisons, or twice the budget, which a pool needs anyway. With fewer trials the pairing
    decides whether the test can reject.

    Raises ValueError if `budget` is below 1, or as `minimum_seeds` does.
    """
    _check_budget(budget)
    return max(2 * budget, minimum_seeds(comparisons, alpha) + budget - 1)


def tuned_power(
    spread: float, difference: float, trials: int, budget: int, alpha: float = 0.05
) -> float:
    """The chance that pools of `trials` trials decide for the right side at a true `difference`.

    The power is zero below `minimum_trials`.

    Raises ValueError as `power_of` does, or if `budget` is below 1.
    """
    power = power_of(spread, difference, trials, alpha)
    return power if trials >= minimum_trials(budget, 1, alpha) else 0.0


def detectable_tuned_difference(
    spread: float, trials: int, budget: int, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that pools of `trials` trials decide, in the unit of `spread`.

    The difference is infinite below `minimum_trials`.

    Raises ValueError as `detectable_difference` does, or if `budget` is below 1.
    """
    difference = detectable_difference(spread, trials, alpha, power)
    return difference if trials >= minimum_trials(budget, 1, alpha) else math.inf


def trials_needed(
    spread: float, difference: float, budget: int, alpha: float = 0.05, power: float = 0.8
) -> int:
    """The fewest trials of each method that decide a true `difference` with the given power.

    The number is never below `minimum_trials`. Pass the difference that matters, such as the margin,
    and never the observed difference; see `seeds_needed`.

    Raises ValueError as `seeds_needed` does, or if `budget` is below 1.
    """
    return max(minimum_trials(budget, 1, alpha), seeds_needed(spread, difference, alpha, power))


def effective_trials(trials: int, budget: int) -> float:
    """The number of equally weighted trials that say as much of a tuned score's spread.

    The result is 1 over the sum of squared weights (Kish, "Survey sampling", 1965), from 1 to `trials`:
    a few trials with good selection scores carry a tuned score. A spread that the jackknife estimates
    from N trials is as uncertain as a standard deviation of so many normal values.

    Raises ValueError if `budget` is not from 1 to `trials`.
    """
    weights = trial_weights(np.arange(trials), budget)
    return float(1 / (weights @ weights))


def spread_of_searches(sd: float, budget: int, trials: int | None = None) -> float:
    """The spread of two alike methods, from `sd`, the standard deviation of one search's score.

    A search trains `budget` trials; its score is the reported score of the trial that it keeps. If
    selection scores say nothing of reported scores, a tuned score is a mean with fixed weights, and its
    variance times N has the limit sd² T² / (2 T - 1); the difference of two methods has twice as much.
    If selection scores order the trials well, the true spread is larger, by 3 to 8 % at a correlation
    of .6 and by 14 % at .9. With a budget of one trial the result is exact: the square root of 2 times
    `sd`.

    `trials` is the size of the pool that `sd` was estimated from; None if `sd` is a true value. A pool's
    standard deviation is that about its own weighted mean, and so too small: of its square, the share
    1 / `effective_trials` is missing, and the result adds it.

    Raises ValueError if `budget` is below 1, or not below `trials`.
    """
    _check_budget(budget)
    variance = 2 * (sd * budget) ** 2 / (2 * budget - 1)
    if trials is not None:
        if trials <= budget:
            raise ValueError(f"budget must be below {trials} trials, got {budget}")
        variance /= 1 - 1 / effective_trials(trials, budget)
    return math.sqrt(variance)


def _check_budget(budget: int) -> None:
    if budget < 1:
        raise ValueError(f"budget must be at least 1 trial, got {budget}")
