"""The two-sided sign-flip test of a mean, and the interval that inverts the test.

The hypothesis says that the differences are symmetric about `theta`. Then every pattern of signs of
`differences - theta` is equally likely. A pattern flips a subset F; the pattern counts as extreme
if its absolute sum is at least the observed one. With X the sum over F and Y the sum over the rest,
|Y - X| >= |Y + X| holds exactly when X * Y <= 0: when `theta` lies between the mean of F and the
mean of the rest. So each pattern is a closed segment between two means, and the p value at `theta`
is the share of segments that cover `theta`. All segments cover the mean of the differences, so the
p value falls with the distance from that mean, and the ends of the interval are order statistics of
subset means: Hartigan's typical values ("Using subsample values as typical values", JASA 64, 1969).

scipy.stats.permutation_test gives the same p value, but no interval. Here test and interval use the
same segments, so that they cannot disagree.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats

Patterns = npt.NDArray[np.bool_]


class Segments(NamedTuple):
    """The segments of the patterns. The identity pattern is not among them; it covers every value."""

    low: Floats
    """(patterns,): the lower mean of each pattern."""
    high: Floats
    """(patterns,): the upper mean of each pattern."""


def segments_up_to(
    seeds: int,
    differences: Floats,
    generator: np.random.Generator | None,
    patterns: int,
) -> Segments:
    """All segments of differences (n,) if n is at most `seeds`; otherwise those of random patterns.

    Raises ValueError if a generator is needed and missing.
    """
    return _segments(differences, patterns_up_to(seeds, len(differences), generator, patterns))


def patterns_up_to(
    limit: int, pairs: int, generator: np.random.Generator | None, patterns: int
) -> Patterns:
    """All patterns if there are at most `limit` pairs; otherwise `patterns` random ones.

    Raises ValueError if a generator is needed and missing.
    """
    if pairs <= limit:
        return exact_patterns(pairs)
    if generator is None:
        raise ValueError(f"{pairs} pairs are more than {limit}: pass a generator")
    return sampled_patterns(pairs, generator, patterns)


def exact_patterns(pairs: int) -> Patterns:
    """All patterns that flip some of the pairs and not the last one (2^(pairs-1) - 1, pairs - 1)."""
    bits = pairs - 1
    numbers = np.arange(1, 2**bits, dtype=np.uint32)[:, None]
    patterns: Patterns = (numbers >> np.arange(bits, dtype=np.uint32)) & 1 == 1
    return patterns


def sampled_patterns(pairs: int, generator: np.random.Generator, patterns: int) -> Patterns:
    """Random patterns (patterns, pairs - 1) that do not flip the last pair."""
    members: Patterns = generator.integers(2, size=(patterns, pairs - 1), dtype=np.int8) == 1
    return members


def p_value(segments: Segments, tolerance: float) -> float:
    """The two-sided p value at zero, in (0, 1]; ends within `tolerance` of zero count as zero."""
    covers_zero = (segments.low <= tolerance) & (segments.high >= -tolerance)
    return float((np.count_nonzero(covers_zero) + 1) / (len(covers_zero) + 1))


def interval(segments: Segments, alpha: float, tolerance: float) -> tuple[float, float]:
    """The closed interval of all `theta` with a p value of at least `alpha`.

    The interval is infinite if the smallest possible p value is not below `alpha`. An end within
    `tolerance` of zero is zero, as in `p_value`.
    """
    levels = np.arange(1, len(segments.low) + 2) / (len(segments.low) + 1)
    rank = int(np.searchsorted(levels, alpha))
    if rank == 0:
        return -np.inf, np.inf
    low = np.partition(segments.low, rank - 1)[rank - 1]
    high = np.partition(segments.high, -rank)[-rank]
    return _snap(low, tolerance), _snap(high, tolerance)


def upper_p_value(segments: Segments, mean: float, theta: float, tolerance: float) -> float:
    """The one-sided p value of a centre at or below `theta`, against a centre above `theta`.

    Let X be the sum of `differences - theta` over the flipped subset F. The flip gives a sum at
    least as large exactly when X <= 0: when the mean of F is at most `theta`. So the p value is the
    share of subsets with such a mean. The subset means are both ends of each segment and, for the
    full subset, `mean`, the mean of the differences; the empty subset always counts. If `theta` is
    below `mean`, all upper ends lie above `theta`, and the p value is half the two-sided one.
    """
    is_neutral = (segments.low == -np.inf) & (segments.high == np.inf)
    ends = np.concatenate([segments.low, np.where(is_neutral, mean, segments.high)])
    count = np.count_nonzero(ends <= theta + tolerance) + int(mean <= theta + tolerance) + 1
    return float(count / (len(ends) + 2))


def mirror(segments: Segments) -> Segments:
    """The segments of the negated differences."""
    return Segments(-segments.high, -segments.low)


def exact_p_values(samples: Floats, tolerance: float) -> Floats:
    """Two-sided p values at zero (samples,) of many samples of differences (samples, n).

    The p values equal those of `p_value` on all segments, and the function is faster. Each of
    the 2^n signed sums is the sum of a left half and a right half, with 2^(n/2) sums each; so the
    function sorts the sums of one half and searches for each sum of the other half. Means that
    agree within `tolerance` are ties.
    """
    n = samples.shape[1]
    left_signs, right_signs = _signs(n // 2), _signs(n - n // 2)
    limits = abs(samples.sum(axis=1, keepdims=True)) - n * tolerance
    thresholds = limits - samples[:, : n // 2] @ left_signs.T
    sums = np.sort(samples[:, n // 2 :] @ right_signs.T, axis=1)
    counts = np.array(
        [
            thresholds.shape[1] * len(row) - row.searchsorted(least).sum()
            for row, least in zip(sums, thresholds, strict=True)
        ]
    )
    p_values: Floats = np.minimum(2 * counts / 2**n, 1.0)
    return p_values


def _signs(n: int) -> Floats:
    """All patterns of n signs (2^n, n)."""
    flips = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return (1 - 2 * flips).astype(np.float64)


def _segments(differences: Floats, members: Patterns) -> Segments:
    """The segments of differences (n,) for subsets `members` (patterns, n - 1).

    No subset has the last difference. The empty subset is the identity pattern, which covers every
    value.
    """
    size = members.sum(axis=1)
    member_sum = members @ differences[:-1]
    member_mean = member_sum / np.maximum(size, 1)
    rest_mean = (differences.sum() - member_sum) / (len(differences) - size)
    return Segments(
        np.where(size > 0, np.minimum(member_mean, rest_mean), -np.inf),
        np.where(size > 0, np.maximum(member_mean, rest_mean), np.inf),
    )


def _snap(end: np.floating[Any], tolerance: float) -> float:
    return 0.0 if abs(end) <= tolerance else float(end)
