"""The interval of a standard deviation that is estimated from a few seeds."""

import math

import scipy.stats

from harness.stats.paired import Interval


def sd_interval(sd: float, n: float, confidence: float = 0.95) -> Interval:
    """The interval of the true standard deviation, from `sd` of n differences (ddof = 1).

    The interval has the unit of `sd`. It uses the chi-square distribution of (n - 1) sd² over the
    variance, which assumes normal differences; with heavier tails the interval covers too little.
    n may be a fraction: the effective number of values with unequal weights.

    Raises ValueError if `sd` is negative or not finite, n is below 2 or `confidence` is not between
    0 and 1.
    """
    if not 0 <= sd < math.inf:
        raise ValueError(f"sd must be finite and not negative, got {sd}")
    if n < 2:
        raise ValueError(f"n must be at least 2, got {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low, high = (
        sd * math.sqrt((n - 1) / float(quantile))
        for quantile in scipy.stats.chi2.ppf([1 - tail, tail], df=n - 1)
    )
    return Interval(low, high)
