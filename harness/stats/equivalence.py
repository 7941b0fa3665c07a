"""Whether two methods are equal for practical purposes: within a margin fixed beforehand."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from statsmodels.stats.weightstats import DescrStatsW

from harness.stats import signflip
from harness.stats.arrays import Floats, finite
from harness.stats.paired import EXACT_SEEDS, ROUNDING, Interval


@dataclass(frozen=True)
class PairedEquivalence:
    """Two one-sided tests of the paired mean against plus and minus the margin.

    The claim is about seeds only, as that of `PairedDifference`. Not equivalent never means
    different: that is the other test's to say, and both may hold, of a difference that is there and
    too small to matter.
    """

    n: int
    margin: float
    """In the unit of the scores, on either side of zero."""
    alpha: float
    p_value: float
    """The larger of the two one-sided sign-flip p values."""
    interval: Interval
    """Sign-flip interval of confidence 1 - 2 alpha, by the test of `paired_difference`. Both ends lie
    strictly inside the margin exactly when `p_value < alpha`."""
    exact: bool
    """All sign patterns were counted; otherwise they were sampled."""
    least_p: float
    """The smallest p value the test can give: 1 / 2^n where exact."""
    t_p_value: float | None
    """The same by two one-sided t tests, for comparison: it assumes normal differences. None for
    one seed and where all differences are equal."""


def paired_equivalence(
    differences: npt.ArrayLike,
    margin: float,
    alpha: float = 0.05,
    generator: np.random.Generator | None = None,
    resamples: int = 99_999,
) -> PairedEquivalence:
    """Test the differences (seeds,) for a centre strictly between -margin and +margin.

    The hypothesis to reject is that the centre lies outside: at or below -margin, or at or above
    +margin. Each half is tested at the level alpha, one-sided, and both must fall. No correction
    for two tests is due: the centre cannot be on both sides, so at most one of the halves is true,
    and to err is to reject that one, which has the chance alpha at most (Schuirmann, 1987; Berger
    and Hsu, "Bioequivalence trials, intersection-union tests", Statistical Science 11, 1996).

    The interval that belongs to it has the confidence 1 - 2 alpha, not 1 - alpha: it leaves out, on
    either side, what a one-sided test at alpha rejects, so it lies inside the margin exactly when
    both tests reject. The one-sided sign-flip p value is half the two-sided one, so that interval
    is the two-sided sign-flip interval at 2 alpha: verdict and equivalence rest on one test.

    The margin must be fixed before the scores are seen; chosen after, the level means nothing. No
    fewer seeds than the least n with 1 / 2^n < alpha can give equivalence, five for .05. Above
    `EXACT_SEEDS` seeds `resamples` sign patterns are drawn from `generator`, each counting with its
    complement. Ties up to rounding count against equivalence. If all differences are equal, the
    interval is that point: the test knows no spread but the one it saw.

    Raises ValueError if a difference is NaN or infinite, the shape is not (seeds,) or empty, the
    margin is not positive and finite, `alpha` is not between 0 and 1/2, or a generator is needed
    and missing.
    """
    values = finite(differences, "differences", "seeds", each="it")
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, got {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 1/2, got {alpha}")
    tolerance = ROUNDING * max(1.0, margin, float(abs(values).max()))
    segments = signflip.segments_up_to(EXACT_SEEDS, values, generator, resamples)
    mean = float(values.mean())
    p_value = max(
        signflip.upper_p_value(segments, mean, -margin, tolerance),
        signflip.upper_p_value(signflip.mirrored(segments), -mean, -margin, tolerance),
    )
    return PairedEquivalence(
        n=len(values),
        margin=margin,
        alpha=alpha,
        p_value=p_value,
        interval=Interval(*signflip.inverted(segments, 2 * alpha, tolerance)),
        exact=len(values) <= EXACT_SEEDS,
        least_p=1 / (2 * len(segments.low) + 2),
        t_p_value=_t_p_value(values, margin, tolerance),
    )


def _t_p_value(differences: Floats, margin: float, tolerance: float) -> float | None:
    if np.ptp(differences) <= tolerance:
        return None
    return float(DescrStatsW(differences).ttost_mean(-margin, margin)[0])
