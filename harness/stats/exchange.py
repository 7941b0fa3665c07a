"""The exchange test of two tuned scores, and the interval that inverts the test.

Two methods have pools of N trials each. The hypothesis at `theta` says that a trial of the method,
with its reported score lowered by `theta`, is a draw from the same distribution as a trial of the
baseline. Trial i of one pool and trial i of the other may share a seed; then the hypothesis speaks
of the pair, and says that both orders of the pair are equally likely. So every pattern of exchanged
pairs is equally likely, and the test compares the observed difference of tuned scores with those of
all patterns.

The trials of two methods enter one pool after an exchange, and their selection scores may not be
comparable: a loss on labels depends on how a method calibrates its students. So the test replaces each
selection score by its rank in its own pool. Tuned scores depend on these ranks alone. The ranks of a
pool depend on all its trials, so the test is exact with a budget of one trial, and approximate with a
larger one, even for copies of one method. Without the ranks the test would be exact for copies, and
wrong by any amount for methods with different scales; docs/statistics.md has the simulated levels.

Only the selection scores rank the trials, so a pattern's difference is a linear function of
`theta`: s - theta * c, where c is the weight of the method's trials in the first pool minus their
weight in the second, between -1 and 1. With d the observed difference, the pattern counts as extreme
if |s - theta * c| >= |d - theta|. With r = s - d * c this holds exactly between d + r / (1 + c) and
d - r / (1 - c), which lie on either side of d. So each pattern is a closed segment around the
observed difference (a half-line if |c| = 1), and `harness.stats.signflip` reads p values and intervals
from the segments. With a budget of one trial the tuned score is a mean, and the test is the sign-flip
test.

Where several teachers were fine-tuned, each method has one pool a teacher. A tuner works with one
teacher, so a method's tuned score is the mean over the teachers. Pairs are exchanged within a
teacher; the difference of a pattern is the mean over the teachers, and so is its weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from harness.stats import signflip
from harness.stats.arrays import Floats
from harness.stats.equivalence import PairedEquivalence, segment_equivalence
from harness.stats.paired import ROUNDING, Interval
from harness.stats.signflip import Patterns, Segments
from harness.stats.tuned_score import Pool, budget_shares, trial_weights, tuned_mean

EXACT_TRIALS = 14
"""Up to this many trials the test counts all patterns; above, it samples patterns."""
BLOCK = 4096
"""Patterns in memory at once. No result depends on the number."""


@dataclass(frozen=True)
class TunedDifference:
    """Method minus baseline, when both are tuned with the same budget, with a test and an interval.

    The claim is about new searches: new trials of both methods, with new settings and seeds, on the
    same examples.
    """

    trials: int
    """Number of trials of each method, with all teachers."""
    teachers: int
    """Number of teachers, each with a pool of its own."""
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
    """A lower bound of all p values: `least_p_value` if the test is exact."""


@dataclass(frozen=True)
class ExchangeTest:
    """The exchange test of two methods' pools. `exchange_test` makes it."""

    method: Sequence[Pool]
    baseline: Sequence[Pool]
    budget: int
    segments: Segments

    @property
    def mean(self) -> float:
        """The difference of the tuned scores."""
        return tuned_mean(self.method, self.budget) - tuned_mean(self.baseline, self.budget)

    @property
    def is_exact(self) -> bool:
        """Whether the test counts all patterns; otherwise it samples patterns."""
        return _trials(self.method) <= EXACT_TRIALS

    def difference(self, confidence: float = 0.95) -> TunedDifference:
        """The test of no difference, and the interval. Raises ValueError as `tuned_difference` does."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
        tolerance = _tolerance(self.method, self.baseline)
        # In floating point 1 - 0.95 is a little more than 0.05.
        alpha = round(1 - confidence, 12)
        return TunedDifference(
            trials=_trials(self.method),
            teachers=len(self.method),
            budget=self.budget,
            mean=self.mean,
            confidence=confidence,
            interval=Interval(*signflip.interval(self.segments, alpha, tolerance)),
            p_value=signflip.p_value(self.segments, tolerance),
            is_exact=self.is_exact,
            minimum_p=least_p_value(self.method, self.baseline, self.budget)
            if self.is_exact
            else 1 / (len(self.segments.low) + 1),
        )

    def equivalence(self, margin: float, alpha: float = 0.05) -> PairedEquivalence:
        """Two one-sided tests of the margin. Raises ValueError as `tuned_equivalence` does."""
        return segment_equivalence(
            self.segments,
            self.mean,
            _trials(self.method),
            margin,
            alpha,
            max(_tolerance(self.method, self.baseline), ROUNDING * margin),
            is_exact=self.is_exact,
        )


def exchange_test(
    method: Sequence[Pool],
    baseline: Sequence[Pool],
    budget: int,
    generator: np.random.Generator | None = None,
    resamples: int = 19_999,
) -> ExchangeTest:
    """The exchange test, whose patterns serve the difference, its interval and the equivalence.

    Raises ValueError as `pool_segments` does.
    """
    segments = pool_segments(method, baseline, budget, generator, resamples)
    return ExchangeTest(method, baseline, budget, segments)


def tuned_difference(
    method: Sequence[Pool],
    baseline: Sequence[Pool],
    budget: int,
    confidence: float = 0.95,
    generator: np.random.Generator | None = None,
    resamples: int = 19_999,
) -> TunedDifference:
    """Compare the tuned scores of two methods, by one pool a teacher, paired by trial number.

    The level is approximate; docs/statistics.md has the simulated levels. The claim is about these
    teachers: pairs are exchanged within a teacher. The test counts all patterns up to `EXACT_TRIALS`
    trials. Above, `generator` draws `resamples` patterns, and the observed pattern counts as one more.
    Ties up to rounding count as equal.

    Raises ValueError if there are no pools, the methods differ in their numbers of trials, `budget` is
    not from 1 to the number of trials of each pool, `confidence` is not between 0 and 1, or a generator
    is needed and missing.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return exchange_test(method, baseline, budget, generator, resamples).difference(confidence)


def least_p_value(method: Sequence[Pool], baseline: Sequence[Pool], budget: int) -> float:
    """A lower bound of the exact p value, whatever the reported scores are.

    A pair is neutral if both of its trials rank below all trials with a weight, in both pools. An
    exchange of neutral pairs changes no weighted trial and so no tuned score. With m neutral pairs among
    N, all 2^m such patterns and their complements count as extreme, and the p value is at least
    2 * 2^m / 2^N. Without ties of selection scores, two pools that differ by the same amount in all
    trials reach the bound.

    Raises ValueError if the methods differ in their numbers of trials, or `budget` is not from 1 to the
    number of trials of each pool.
    """
    neutral_pairs = 0
    for method_pool, baseline_pool in zip(method, baseline, strict=True):
        ranks = [rankdata(pool.selection) for pool in (method_pool, baseline_pool)]
        least_weighted = min(r[trial_weights(r, budget) > 0].min() for r in ranks)
        neutral_pairs += int(np.sum(np.maximum(*ranks) < least_weighted))
    return 2.0 ** (1 + neutral_pairs - _trials(method))


def tuned_equivalence(
    method: Sequence[Pool],
    baseline: Sequence[Pool],
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
    return exchange_test(method, baseline, budget, generator, resamples).equivalence(margin, alpha)


def pool_segments(
    method: Sequence[Pool],
    baseline: Sequence[Pool],
    budget: int,
    generator: np.random.Generator | None = None,
    resamples: int = 19_999,
) -> Segments:
    """The segments of all patterns up to `EXACT_TRIALS` trials, otherwise of `resamples` random ones.

    A pattern never exchanges the last pair, since a pattern and its complement have one segment.

    Raises ValueError if there are no pools, the methods differ in their numbers of trials, `budget` is
    not from 1 to the number of trials of each pool, or a generator is needed and missing.
    """
    sizes = [[pool.trials for pool in pools] for pools in (method, baseline)]
    if not method or sizes[0] != sizes[1]:
        raise ValueError(f"the pools have {sizes[0]} and {sizes[1]} trials")
    patterns = signflip.patterns_up_to(EXACT_TRIALS, _trials(method), generator, resamples)
    mean = tuned_mean(method, budget) - tuned_mean(baseline, budget)
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
    method: Sequence[Pool], baseline: Sequence[Pool], budget: int, patterns: Patterns
) -> tuple[Floats, Floats]:
    """The difference of tuned scores and the weight c of the method's trials, for each pattern.

    `patterns` (patterns, pairs) says which of the first pairs are exchanged; further pairs are not.
    Both results have the shape (patterns,).
    """
    difference, weight = np.zeros(len(patterns)), np.zeros(len(patterns))
    first = 0
    for method_pool, baseline_pool in zip(method, baseline, strict=True):
        trials = method_pool.trials
        pool_patterns = patterns[:, first : first + trials]
        first += trials
        for start in range(0, len(patterns), BLOCK):
            rows = slice(start, start + BLOCK)
            weights = _signed_weights(method_pool, baseline_pool, budget, pool_patterns[rows])
            difference[rows] += weights @ np.array([*method_pool.reported, *baseline_pool.reported])
            weight[rows] += weights[:, :trials].sum(axis=1)
    return difference / len(method), weight / len(method)


def _signed_weights(method: Pool, baseline: Pool, budget: int, patterns: Patterns) -> Floats:
    """The weights of all trials in the difference of tuned scores, for each pattern.

    `patterns` has the shape (patterns, pairs), and the result (patterns, 2 * trials): the method's
    trials, then the baseline's. A trial in the first pool has a positive weight, and a trial in the
    second pool a negative one.
    """
    selection = np.concatenate([rankdata(pool.selection) for pool in (method, baseline)])
    order = np.argsort(selection)
    _, group, sizes = np.unique(selection, return_inverse=True, return_counts=True)
    # Trials with equal selection scores are a group: `upto` counts the trials up to each group.
    upto = np.concatenate([[0], np.cumsum(sizes)])
    shares = budget_shares(method.trials, budget)
    exchanged = np.zeros((len(patterns), method.trials), dtype=bool)
    exchanged[:, : patterns.shape[1]] = patterns
    in_first = np.concatenate([~exchanged, exchanged], axis=1)
    ranked = np.zeros((len(patterns), len(selection) + 1), dtype=np.int32)
    np.cumsum(in_first[:, order], axis=1, out=ranked[:, 1:])
    upto_first = ranked[:, upto]
    weights, second_weights = (
        np.diff(shares[counts], axis=1) / np.maximum(np.diff(counts, axis=1), 1)
        for counts in (upto_first, upto - upto_first)
    )
    signed: Floats = np.where(in_first, weights[:, group], -second_weights[:, group])
    return signed


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient (patterns,); infinite where the denominator is zero up to rounding."""
    is_zero = denominator <= ROUNDING
    quotient = numerator / np.where(is_zero, 1.0, denominator)
    return np.where(is_zero & (numerator != 0), np.copysign(np.inf, numerator), quotient)


def _trials(pools: Sequence[Pool]) -> int:
    return sum(pool.trials for pool in pools)


def _tolerance(method: Sequence[Pool], baseline: Sequence[Pool]) -> float:
    scores = [score for pool in (*method, *baseline) for score in pool.reported]
    return ROUNDING * float(np.abs(scores).max())
