"""The test of equivalence: whether two methods differ by less than a margin fixed beforehand."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from harness.stats import signflip
from harness.stats.arrays import Floats, finite_array
from harness.stats.paired import EXACT_SEEDS, ROUNDING, Interval


@dataclass(frozen=True)
class PairedEquivalence:
    """Two one-sided tests of the paired mean against plus and minus the margin.

    The claim is about seeds only, as in `PairedDifference`. No equivalence does not mean a
    difference, which is the claim of the other test. Both claims may hold: a difference that is
    smaller than the margin.
    """

    n: int
    margin: float
    """In the unit of the scores, on either side of zero."""
    alpha: float
    p_value: float
    """The larger of the two one-sided sign-flip p values."""
    interval: Interval
    """Sign-flip interval of confidence 1 - 2 alpha, by the test of `paired_difference`. Both ends
    lie strictly inside the margin exactly when `p_value < alpha`."""
    is_exact: bool
    """Whether the test counted all sign patterns; otherwise it sampled patterns."""
    minimum_p: float
    """The smallest p value that the test can give: 1 / 2^n if exact."""
    t_p_value: float | None
    """The p value of two one-sided t tests, for comparison; these tests assume normal differences.
    None for one seed and for differences that are all equal."""


def paired_equivalence(
    differences: npt.ArrayLike,
    margin: float,
    alpha: float = 0.05,
    generator: np.random.Generator | None = None,
    resamples: int = 99_999,
) -> PairedEquivalence:
    """Test the differences (seeds,) for a centre strictly between -margin and +margin.

    The hypothesis says that the centre lies at or below -margin, or at or above +margin. A
    one-sided test at the level alpha tests each half, and both tests must reject. Two tests need no
    correction: at most one half is true, and an error is to reject the true half, with a chance of
    at most alpha (Schuirmann, 1987; Berger and Hsu, "Bioequivalence trials, intersection-union
    tests", Statistical Science 11, 1996).

    The interval of this test has the confidence 1 - 2 alpha, not 1 - alpha. On either side the
    interval leaves out the centres that a one-sided test at alpha rejects; so the interval lies
    inside the margin exactly when both tests reject. The one-sided sign-flip p value is half the
    two-sided one. So the interval is the two-sided sign-flip interval at 2 alpha, and verdict and
    equivalence rest on the same test.

    The margin must be fixed before anyone sees the scores; otherwise the level has no meaning.
    Equivalence needs at least n seeds with 1 / 2^n < alpha, five for .05. Above `EXACT_SEEDS` seeds
    `generator` draws `resamples` sign patterns, and each pattern counts with its complement. Ties
    up to rounding count against equivalence. If all differences are equal, the interval is that
    point: the test has no other spread than that of the data.

    Raises ValueError if a difference is NaN or infinite, the shape is not (seeds,) or is empty, the
    margin is not positive and finite, `alpha` is not between 0 and 1/2, or a generator is needed
    and missing.
    """
    values = finite_array(differences, "differences", "seeds", item="it")
    check_margin(margin, alpha)
    tolerance = ROUNDING * max(1.0, margin, float(abs(values).max()))
    segments = signflip.segments_up_to(EXACT_SEEDS, values, generator, resamples)
    test = segment_equivalence(
        segments,
        float(values.mean()),
        len(values),
        margin,
        alpha,
        tolerance,
        is_exact=len(values) <= EXACT_SEEDS,
    )
    return replace(test, t_p_value=_t_p_value(values, margin, tolerance))


def segment_equivalence(
    segments: signflip.Segments,
    mean: float,
    n: int,
    margin: float,
    alpha: float,
    tolerance: float,
    *,
    is_exact: bool,
) -> PairedEquivalence:
    """The two one-sided tests of n pairs with this mean and these segments, as `paired_equivalence`.

    Raises ValueError if the margin is not positive and finite, or `alpha` is not between 0 and 1/2.
    """
    check_margin(margin, alpha)
    p_value = max(
        signflip.upper_p_value(segments, mean, -margin, tolerance),
        signflip.upper_p_value(signflip.mirror(segments), -mean, -margin, tolerance),
    )
    return PairedEquivalence(
        n=n,
        margin=margin,
        alpha=alpha,
        p_value=p_value,
        interval=Interval(*signflip.interval(segments, 2 * alpha, tolerance)),
        is_exact=is_exact,
        minimum_p=1 / (2 * len(segments.low) + 2),
        t_p_value=None,
    )


def check_margin(margin: float, alpha: float) -> None:
    """Raise ValueError unless the margin is positive and finite and alpha is between 0 and 1/2."""
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, got {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 1/2, got {alpha}")


def _t_p_value(differences: Floats, margin: float, tolerance: float) -> float | None:
    if np.ptp(differences) <= tolerance:
        return None
    mean, n = differences.mean(), len(differences)
    error = differences.std(ddof=1) / math.sqrt(n)
    # The farther limit of the margin rejects less.
    return float(stdtr(n - 1, (abs(mean) - margin) / error))
