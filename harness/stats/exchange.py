"""The exchange test of two tuned scores, and the interval that inverts the test.

Two methods have pools of N trials each. The hypothesis at `theta` says that a trial of the method,
with its reported score lowered by `theta`, is a draw from the same distribution as a trial of the
baseline. Trial i of one pool and trial i of the other may share a seed; then the hypothesis speaks
of the pair, and says that both orders of the pair are equally likely. So every pattern of exchanged
pairs is equally likely, and the test compares the observed difference of tuned scores with those of
all patterns.

Only the selection scores rank the trials, so a pattern's difference is a linear function of
`theta`: s - theta * c, where c is the weight of the method's trials in the first pool minus their
weight in the second, between -1 and 1. With d the observed difference, the pattern counts as extreme
if |s - theta * c| >= |d - theta|. With r = s - d * c this holds exactly between d + r / (1 + c) and
d - r / (1 - c), which lie on either side of d. So each pattern is a closed segment around the
observed difference, and `harness.stats.signflip` reads p values and intervals from the segments. With
a budget of one trial the tuned score is a mean, and the test is the sign-flip test.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats import signflip
from harness.stats.arrays import Floats
from harness.stats.equivalence import PairedEquivalence, segment_equivalence
from harness.stats.paired import ROUNDING, Interval
from harness.stats.signflip import Segments
from harness.stats.tuned_score import Pool, budget_shares, tuned_score

EXACT_TRIALS = 14
"""Up to this many trials the test counts all patterns; above, it samples patterns."""
BLOCK = 4096
"""Patterns in memory at once. No result depends on the number."""

Patterns = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TunedDifference:
    """Method minus baseline, when both are tuned with the same budget, with a test and an interval.

    The claim is about new searches: new trials of both methods, with new settings and seeds, on the
    same examples.
    """

    trials: int
    """Number of trials in each pool."""
    budget: int
    """Number of trials that a tuner has."""
    mean: float
    """The difference of the tuned scores."""
    confidence: float
    interval: Interval
    """Closed interval that inverts the two-sided exchange test: zero is outside exactly when
    `p_value < 1 - confidence`. The interval assumes that the methods differ by a shift of the
    reported scores."""
    p_value: float
    """Two-sided p value of the exchange test, in [minimum_p, 1]."""
    is_exact: bool
    """Whether the test counted all patterns; otherwise it sampled patterns."""
    minimum_p: float
    """The smallest p value that the test can give."""


def tuned_difference(
    method: Pool,
    baseline: Pool,
    budget: int,
    confidence: float = 0.95,
    generator: np.random.Generator | None = None,
    resamples: int = 19_999,
) -> TunedDifference:
    """Compare the tuned scores of two pools, paired by trial number.

    The test is exact if the methods are copies of each other: then the p value is below alpha with a
    chance of at most alpha. If the methods differ in their distributions of scores but not in their
    tuned scores, the level is approximate; docs/statistics.md has the simulated levels. The test
    counts all patterns up to `EXACT_TRIALS` trials. Above, `generator` draws `resamples` patterns,
    and the observed pattern counts as one more. Ties up to rounding count as equal.

    Raises ValueError if the pools differ in their number of trials, `budget` is not from 1 to that
    number, `confidence` is not between 0 and 1, or a generator is needed and missing.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    mean = tuned_score(method, budget) - tuned_score(baseline, budget)
    tolerance = _tolerance(method, baseline)
    segments = pool_segments(method, baseline, budget, generator, resamples)
    # In floating point 1 - 0.95 is a little more than 0.05.
    alpha = round(1 - confidence, 12)
    return TunedDifference(
        trials=method.trials,
        budget=budget,
        mean=mean,
        confidence=confidence,
        interval=Interval(*signflip.interval(segments, alpha, tolerance)),
        p_value=signflip.p_value(segments, tolerance),
        is_exact=method.trials <= EXACT_TRIALS,
        minimum_p=1 / (len(segments.low) + 1),
    )


def tuned_equivalence(
    method: Pool,
    baseline: Pool,
    budget: int,
    margin: float,
    alpha: float = 0.05,
    generator: np.random.Generator | None = None,
    resamples: int = 19_999,
) -> PairedEquivalence:
    """Test whether the tuned scores differ by less than the margin: two one-sided exchange tests.

    See `paired_equivalence` for the levels. Raises ValueError as `tuned_difference` does, and if the
    margin is not positive and finite or `alpha` is not between 0 and 1/2.
    """
    mean = tuned_score(method, budget) - tuned_score(baseline, budget)
    return segment_equivalence(
        pool_segments(method, baseline, budget, generator, resamples),
        mean,
        method.trials,
        margin,
        alpha,
        max(_tolerance(method, baseline), ROUNDING * margin),
        is_exact=method.trials <= EXACT_TRIALS,
    )


def pool_segments(
    method: Pool,
    baseline: Pool,
    budget: int,
    generator: np.random.Generator | None = None,
    resamples: int = 19_999,
) -> Segments:
    """The segments of all patterns up to `EXACT_TRIALS` trials, otherwise of `resamples` random ones.

    A pattern never exchanges the last pair, since a pattern and its complement have one segment.

    Raises ValueError as `tuned_difference` does.
    """
    if method.trials != baseline.trials:
        raise ValueError(f"the pools have {method.trials} and {baseline.trials} trials")
    patterns = signflip.patterns_up_to(EXACT_TRIALS, method.trials, generator, resamples)
    mean = tuned_score(method, budget) - tuned_score(baseline, budget)
    difference, weight = exchanged_differences(method, baseline, budget, patterns)
    rest = difference - mean * weight
    rest[np.abs(rest) <= _tolerance(method, baseline)] = 0.0
    ends = mean + np.stack([_quotient(rest, 1 + weight), -_quotient(rest, 1 - weight)])
    is_neutral = (rest == 0) & (1 - np.abs(weight) <= ROUNDING)
    return Segments(
        np.where(is_neutral, -np.inf, ends.min(axis=0)),
        np.where(is_neutral, np.inf, ends.max(axis=0)),
    )


def exchanged_differences(
    method: Pool, baseline: Pool, budget: int, patterns: Patterns
) -> tuple[Floats, Floats]:
    """The difference of tuned scores and the weight c of the method's trials, for each pattern.

    `patterns` (patterns, pairs) says which of the first pairs are exchanged; further pairs are not.
    Both results have the shape (patterns,).
    """
    trials = method.trials
    selection = np.array([*method.selection, *baseline.selection])
    values = np.array([*method.reported, *baseline.reported])
    is_upto = (selection[:, None] <= selection).astype(np.float32)
    is_below = (selection[:, None] < selection).astype(np.float32)
    shares = budget_shares(trials, budget)
    difference, weight = np.empty(len(patterns)), np.empty(len(patterns))
    for start in range(0, len(patterns), BLOCK):
        rows = slice(start, start + BLOCK)
        exchanged = np.zeros((len(patterns[rows]), trials), dtype=bool)
        exchanged[:, : patterns.shape[1]] = patterns[rows]
        in_first = np.concatenate([~exchanged, exchanged], axis=1)
        signed = np.zeros(in_first.shape)
        for members, sign in ((in_first, 1.0), (~in_first, -1.0)):
            counts = members.astype(np.float32)
            upto, below = (counts @ is_upto).astype(int), (counts @ is_below).astype(int)
            ties = np.maximum(upto - below, 1)
            signed += sign * members * (shares[upto] - shares[below]) / ties
        difference[rows] = signed @ values
        weight[rows] = signed[:, :trials].sum(axis=1)
    return difference, weight


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient (patterns,); infinite where the denominator is zero up to rounding."""
    is_zero = denominator <= ROUNDING
    quotient = numerator / np.where(is_zero, 1.0, denominator)
    return np.where(is_zero & (numerator != 0), np.copysign(np.inf, numerator), quotient)


def _tolerance(method: Pool, baseline: Pool) -> float:
    return ROUNDING * float(np.abs([*method.reported, *baseline.reported]).max())
