"""How many seeds a paired comparison takes, and what it can detect with those it has.

The comparison is the two-sided exact sign-flip test of `paired_difference`, the differences are
taken as normal with the standard deviation `sd`, and power is the chance that the test rejects on
the side of the true difference; a rejection on the other side is an error, not power.

Power is that of the t test at the level the sign-flip test can reach: the largest p value below
alpha that n seeds can give, 2 k / 2^n. With a few patterns (k) this is far too high, by up to 16
points with 10 seeds in 15 comparisons, the least that can decide at all: there the sign-flip test
rejects only if no seed disagrees, whatever the mean. So where fewer than `FEW_PATTERNS` count, the
power is that of the sign-flip test itself on fixed, evenly spread normal points. Either is within
3 points of the share that random normal points give.

In a family of k comparisons pass alpha / k, what Holm asks of the smallest p value.
"""

import math
from bisect import bisect_left
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import qmc
from statsmodels.stats.power import TTestPower

from harness.stats import signflip
from harness.stats.arrays import Floats
from harness.stats.family import least_seeds
from harness.stats.paired import EXACT_SEEDS, ROUNDING

FEW_PATTERNS = 128
"""With so many pairs of patterns that reject, the t test's power is within 3 points up to 20 seeds;
with 32 it was 6 off at 20."""

POINTS = 2**12
"""Points of the quadrature; its error is below one point of power."""

LEAST_EFFECT = 1e-6
"""In standard deviations; below, the seeds are beyond 10^12 and the arithmetic fails."""


def power_of(sd: float, difference: float, n: int, alpha: float = 0.05) -> float:
    """Chance that n seeds decide for the right side if the true mean is `difference`.

    Zero where n is below `least_seeds`: no difference, however large, can be decided then.

    Raises ValueError if `sd` is negative or not finite, `difference` is zero, not finite or below a
    millionth of `sd`, n is below 1 or `alpha` is not between 0 and 1.
    """
    _check_seeds(n)
    _check_alpha(alpha)
    return _power(_effect(sd, difference), n, alpha)


def detectable_difference(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The least true difference that n seeds decide with the given power, in the unit of `sd`.

    Infinite where n is below `least_seeds`; zero where `sd` is.

    Raises ValueError if `sd` is negative or not finite, n is below 1, `alpha` is not between 0 and
    1 or `power` not between `alpha` and 1.
    """
    _check_sd(sd)
    _check_seeds(n)
    _check_alpha(alpha)
    _check_power(power, alpha)
    if n < least_seeds(1, alpha):
        return math.inf
    return sd * _least_effect(n, alpha, power)


@lru_cache
def seeds_needed(sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest seeds with which a true mean of `difference` is decided with the given power.

    Never below `least_seeds`.

    For a comparison that is not decided, ask with the equivalence margin as `difference` and the
    observed `sd`: how many seeds would have shown a difference that matters? Never ask with the
    observed mean. "Observed power" is the p value in other words, since it depends on nothing else:
    a result that just misses the level has observed power near one half, whatever was true, and one
    further off asks for so many seeds that the effect is called absent. That is to take the
    estimate for the truth (Hoenig and Heisey, "The abuse of power", The American Statistician 55,
    2001).

    The observed `sd` is an estimate too: with 95% confidence the true one is .69 to 1.83 times that
    of ten seeds, .62 to 2.45 times that of six (normal differences), and the number goes with its
    square. It plans; it promises nothing.

    Raises ValueError as `power_of` and `detectable_difference` do.
    """
    effect = _effect(sd, difference)
    _check_alpha(alpha)
    _check_power(power, alpha)
    least = enough = least_seeds(1, alpha)
    while _power(effect, enough, alpha) < power:
        enough *= 2
    candidates = range(least, enough + 1)
    return candidates[bisect_left(candidates, power, key=lambda n: _power(effect, n, alpha))]


def _power(effect: float, n: int, alpha: float) -> float:
    """Power for a true mean of `effect` standard deviations, which may be infinite."""
    if n < least_seeds(1, alpha):
        return 0.0
    if math.isinf(effect):
        return 1.0
    if n > EXACT_SEEDS:
        return _t_power(effect, n, alpha)
    # Patterns come in pairs, each worth 2 / 2^n: so many can reject, strictly below alpha.
    patterns = math.ceil(alpha * 2 ** (n - 1)) - 1
    if patterns < FEW_PATTERNS:
        return _decided(_points(n) + effect, alpha)
    return _t_power(effect, n, patterns / 2 ** (n - 1))


def _t_power(effect: float, n: int, level: float) -> float:
    power = float(TTestPower().power(effect, n, level / 2, alternative="larger"))
    # statsmodels gives NaN for noncentralities above 38, where the power is 1 up to rounding.
    return 1.0 if math.isnan(power) else power


def _decided(samples: Floats, alpha: float) -> float:
    """Share of samples (samples, n) with a positive mean and a sign-flip p value below alpha."""
    p_values = signflip.exact_p_values(samples, ROUNDING * float(abs(samples).max()))
    return float(np.mean((p_values < alpha) & (samples.mean(axis=1) > 0)))


@lru_cache
def _points(n: int) -> Floats:
    """Points (POINTS, n) that fill the standard normal distribution evenly, always the same."""
    engine = qmc.Sobol(n, rng=0)
    points: Floats = qmc.MultivariateNormalQMC(np.zeros(n), engine=engine).random(POINTS)
    return points


@lru_cache
def _least_effect(n: int, alpha: float, power: float) -> float:
    """The effect at which `_power` reaches `power`, to a ten-thousandth."""
    enough = 1.0
    while _power(enough, n, alpha) < power:
        enough *= 2
    return float(brentq(lambda e: _power(e, n, alpha) - power, 0.0, enough, xtol=1e-4))


def _effect(sd: float, difference: float) -> float:
    _check_sd(sd)
    if difference == 0 or not math.isfinite(difference):
        raise ValueError(f"difference must be finite and not zero, got {difference}")
    effect = abs(difference) / sd if sd > 0 else math.inf
    if effect < LEAST_EFFECT:
        raise ValueError(f"difference {difference} is below {LEAST_EFFECT:g} of the sd {sd}")
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
