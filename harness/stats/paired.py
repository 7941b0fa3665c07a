"""The paired difference of two methods over their common seeds."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats

from harness.stats import signflip
from harness.stats.arrays import Floats, finite_array

EXACT_SEEDS = 20
"""Up to this many seeds the test counts all sign patterns; above, it samples patterns."""

ROUNDING = 1e-12
"""Sums of differences that agree up to this share of the largest score are ties."""


class Interval(NamedTuple):
    """A closed interval, in the unit of the scores; its ends may be infinite."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Method minus baseline over the seeds, with a sign-flip test and intervals.

    The claim is about other seeds, with the same examples and the same teacher.
    """

    differences: tuple[float, ...]
    """(seeds,): method minus baseline, in the order given."""
    mean: float
    sd: float
    """Sample standard deviation (ddof = 1); NaN for one seed."""
    confidence: float
    interval: Interval
    """Closed interval that inverts the two-sided sign-flip test of the mean: zero is outside
    exactly when `p_value < 1 - confidence`."""
    t_interval: Interval
    """Student's t interval, for comparison; this interval assumes normal differences."""
    p_value: float
    """Two-sided sign-flip p value of a zero mean, in [least_p, 1]."""
    is_exact: bool
    """Whether the test counted all sign patterns; otherwise it sampled patterns."""
    minimum_p: float
    """The smallest p value that the test can give: 2 / 2^n if exact."""

    @property
    def n(self) -> int:
        """Number of seeds; each seed is a pair of runs."""
        return len(self.differences)


def paired_difference(
    method_scores: npt.ArrayLike,
    baseline_scores: npt.ArrayLike,
    confidence: float = 0.95,
    generator: np.random.Generator | None = None,
    resamples: int = 99_999,
) -> PairedDifference:
    """Compare two methods by their scores (seeds,), paired by position.

    The test is exact up to `EXACT_SEEDS` seeds. Above, `generator` draws `resamples` sign patterns;
    if b patterns are at least as extreme, p = (b + 1) / (resamples + 1) (Phipson and Smyth,
    "Permutation p-values should never be zero", 2010). Sums that tie up to rounding count as equal,
    which can only raise the p value. If all differences are equal, so are the ends of a finite
    interval: the test has no other spread than that of the data.

    Raises ValueError if a score is NaN or infinite, the shapes differ, are not (seeds,) or are
    empty, `confidence` is not between 0 and 1, or a generator is needed and missing.
    """
    method = finite_array(method_scores, "method_scores", "seeds")
    baseline = finite_array(baseline_scores, "baseline_scores", "seeds")
    if len(method) != len(baseline):
        raise ValueError(
            f"method_scores has {len(method)} seeds, baseline_scores has {len(baseline)}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    differences = method - baseline
    tolerance = ROUNDING * float(max(abs(method).max(), abs(baseline).max()))
    is_exact = len(differences) <= EXACT_SEEDS
    segments = signflip.segments_up_to(EXACT_SEEDS, differences, generator, resamples)
    # In floating point 1 - 0.95 is a little more than 0.05.
    alpha = round(1 - confidence, 12)
    return PairedDifference(
        differences=tuple(differences.tolist()),
        mean=float(differences.mean()),
        sd=float(differences.std(ddof=1)) if len(differences) > 1 else math.nan,
        confidence=confidence,
        interval=Interval(*signflip.interval(segments, alpha, tolerance)),
        t_interval=t_interval(differences, confidence),
        p_value=signflip.p_value(segments, tolerance),
        is_exact=is_exact,
        minimum_p=1 / (len(segments.low) + 1),
    )


@lru_cache
def t_quantile(confidence: float, df: int) -> float:
    """Half the width of Student's t interval with `df` degrees of freedom, in standard errors."""
    return float(scipy.stats.t.ppf((1 + confidence) / 2, df))


def t_interval(differences: Floats, confidence: float) -> Interval:
    """Student's t interval of the mean of differences (n,); unbounded for one difference."""
    n = len(differences)
    if n == 1:
        return Interval(-math.inf, math.inf)
    mean = float(differences.mean())
    half = t_quantile(confidence, n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
    return Interval(mean - half, mean + half)
