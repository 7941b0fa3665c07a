"""The power of a paired comparison: the seeds that it needs, and the difference that it can detect.

The comparison is the two-sided exact sign-flip test of `paired_difference`. The differences are
assumed normal with the standard deviation `sd`. Power is the chance that the test rejects on the
side of the true difference; a rejection on the other side is an error.

The power is that of the t test at the level that the sign-flip test can reach: the largest p value
below alpha that n seeds can give, 2 k / 2^n. With few patterns k this approximation is too high, by
up to 16 points with 10 seeds in 15 comparisons, the minimum that can decide: there the sign-flip
test rejects only if all seeds agree, whatever the mean is. So with fewer than `FEW_PATTERNS`
patterns the power is that of the sign-flip test itself, on fixed normal points that are evenly
spread. Both ways are within 3 points of the share that random normal points give.

In a family of k comparisons pass alpha / k, the bound of Holm's method for the smallest p value.
"""

import math
from bisect import bisect_left
from functools import lru_cache
from itertools import count

import numpy as np
from scipy.optimize import brentq
from scipy.stats import qmc
from statsmodels.stats.power import TTestPower

from harness.stats import signflip
from harness.stats.arrays import Floats
from harness.stats.family import minimum_seeds
from harness.stats.paired import EXACT_SEEDS, ROUNDING

FEW_PATTERNS = 128
"""From 128 pairs of patterns that reject, the t test's power is within 3 points up to 20 seeds;
from 32 pairs the power was 6 points off at 20 seeds."""

POINTS = 2**12
"""Points of the quadrature, whose error is below one point of power."""

MINIMUM_EFFECT = 1e-6
"""In standard deviations. A smaller effect needs more than 10^12 seeds, and the arithmetic fails."""


def power_of(sd: float, difference: float, n: int, alpha: float = 0.05) -> float:
    """The chance that n seeds decide for the right side if the true mean is `difference`.

    The power is zero below `minimum_seeds`, where no difference can be decided.

    Raises ValueError if `sd` is negative or not finite, `difference` is zero, not finite or below a
    millionth of `sd`, n is below 1 or `alpha` is not between 0 and 1.
    """
    _check_seeds(n)
    _check_alpha(alpha)
    return _power(_effect(sd, difference), n, alpha)


def detectable_difference(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that n seeds decide with the given power, in the unit of `sd`.

    The difference is infinite below `minimum_seeds`, and zero if `sd` is zero.

    Raises ValueError if `sd` is negative or not finite, n is below 1, `alpha` is not between 0 and
    1 or `power` not between `alpha` and 1.
    """
    _check_sd(sd)
    _check_seeds(n)
    _check_alpha(alpha)
    _check_power(power, alpha)
    if n < minimum_seeds(1, alpha):
        return math.inf
    return sd * _minimum_effect(n, alpha, power)


@lru_cache
def seeds_needed(sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest seeds that decide a true mean of `difference` with the given power.

    The number is never below `minimum_seeds`.

    After a comparison without a decision, pass the margin of equivalence as `difference` and the
    observed `sd`: the result is the number of seeds that find a difference that matters. Never pass
    the observed mean. "Observed power" depends on the p value alone, so it adds nothing: a result
    that just misses the level has an observed power near one half, whatever the truth is, and a
    result further away asks for so many seeds that the effect seems absent. Observed power takes
    the estimate for the truth (Hoenig and Heisey, "The abuse of power", The American Statistician
    55, 2001).

    The observed `sd` is an estimate too. With 95% confidence the true value is .69 to 1.83 times
    the value of ten seeds and .62 to 2.45 times that of six (normal differences), and the number of
    seeds grows with its square. The number is a plan, not a promise.

    Raises ValueError as `power_of` and `detectable_difference` do.
    """
    effect = _effect(sd, difference)
    _check_alpha(alpha)
    _check_power(power, alpha)
    minimum = minimum_seeds(1, alpha)
    # The power by counting takes a hundred times as long as by a formula, so it comes last.
    formula = next(
        n for n in count(minimum) if n > EXACT_SEEDS or _patterns(n, alpha) >= FEW_PATTERNS
    )
    if _power(effect, formula, alpha) < power:
        minimum = formula
    maximum = minimum
    while _power(effect, maximum, alpha) < power:
        maximum *= 2
    candidates = range(minimum, maximum + 1)
    return candidates[bisect_left(candidates, power, key=lambda n: _power(effect, n, alpha))]


def _power(effect: float, n: int, alpha: float) -> float:
    """The power for a true mean of `effect` standard deviations, which may be infinite."""
    if n < minimum_seeds(1, alpha):
        return 0.0
    if math.isinf(effect):
        return 1.0
    if n > EXACT_SEEDS:
        return _t_power(effect, n, alpha)
    patterns = _patterns(n, alpha)
    if patterns < FEW_PATTERNS:
        return _decided_share(_points(n) + effect, alpha)
    return _t_power(effect, n, patterns / 2 ** (n - 1))


def _patterns(n: int, alpha: float) -> int:
    """How many pairs of patterns, each worth 2 / 2^n, stay strictly below alpha."""
    return math.ceil(alpha * 2.0 ** (n - 1)) - 1


def _t_power(effect: float, n: int, level: float) -> float:
    power = float(TTestPower().power(effect, n, level / 2, alternative="larger"))
    # statsmodels gives NaN for a noncentrality above 38, where the power is 1 up to rounding.
    return 1.0 if math.isnan(power) else power


def _decided_share(samples: Floats, alpha: float) -> float:
    """The share of samples (samples, n) with a positive mean and a sign-flip p value below alpha."""
    p_values = signflip.exact_p_values(samples, ROUNDING * float(abs(samples).max()))
    return float(np.mean((p_values < alpha) & (samples.mean(axis=1) > 0)))


@lru_cache
def _points(n: int) -> Floats:
    """Fixed points (POINTS, n) that fill the standard normal distribution evenly."""
    engine = qmc.Sobol(n, rng=0)
    points: Floats = qmc.MultivariateNormalQMC(np.zeros(n), engine=engine).random(POINTS)
    return points


@lru_cache
def _minimum_effect(n: int, alpha: float, power: float) -> float:
    """The effect at which `_power` equals `power`, to a ten-thousandth."""
    maximum = 1.0
    while _power(maximum, n, alpha) < power:
        maximum *= 2
    return float(brentq(lambda e: _power(e, n, alpha) - power, 0.0, maximum, xtol=1e-4))


def _effect(sd: float, difference: float) -> float:
    _check_sd(sd)
    if difference == 0 or not math.isfinite(difference):
        raise ValueError(f"difference must be finite and not zero, got {difference}")
    effect = abs(difference) / sd if sd > 0 else math.inf
    if effect < MINIMUM_EFFECT:
        raise ValueError(f"difference {difference} is below {MINIMUM_EFFECT:g} of the sd {sd}")
    return effect


def _check_sd(sd: float) -> None:
    if not 0 <= sd < math.inf:
        raise ValueError(f"sd must be finite and not negative, got {sd}")


def _check_seeds(n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")


def _check_power(power: float, alpha: float) -> None:
    if not alpha < power < 1:
        raise ValueError(f"power must be between alpha = {alpha:g} and 1, got {power}")
