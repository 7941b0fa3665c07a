"""The two-sided sign-flip test of a mean, and the interval that inverts it.

Under the hypothesis that the differences are symmetric about `theta`, every pattern of signs of
`differences - theta` is equally likely. A pattern that flips the subset F counts against the
hypothesis when the absolute sum it gives is at least the observed one. With X the sum over F and
Y the sum over the rest, |Y - X| >= |Y + X| holds exactly when X * Y <= 0, that is, when `theta`
lies between the mean of F and the mean of the rest. So each pattern is a closed segment, and the
p value at `theta` is the share of segments that cover it. All segments cover the mean of the
differences, so the p value falls with the distance from it on either side, and the ends of the
interval are order statistics of subset means: the typical values of Hartigan, "Using subsample
values as typical values", JASA 64 (1969).

scipy.stats.permutation_test gives the same p value, but not its inverse; both are read off the
same segments here, so that the test and the interval cannot disagree.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats


class Segments(NamedTuple):
    """What each pattern covers; the identity pattern covers everything and is left out."""

    low: Floats
    """(patterns,): the lower of the two means."""
    high: Floats
    """(patterns,): the upper of the two means."""


def exact_segments(differences: Floats) -> Segments:
    """All 2^(n-1) - 1 segments of differences (n,); a pattern and its complement are one."""
    free = len(differences) - 1
    patterns = np.arange(1, 2**free, dtype=np.uint32)[:, None]
    return _segments(differences, (patterns >> np.arange(free, dtype=np.uint32)) & 1 == 1)


def sampled_segments(
    differences: Floats, generator: np.random.Generator, patterns: int
) -> Segments:
    """The segments of `patterns` patterns drawn at random, for differences (n,)."""
    free = len(differences) - 1
    return _segments(differences, generator.integers(2, size=(patterns, free), dtype=np.int8) == 1)


def segments_up_to(
    seeds: int,
    differences: Floats,
    generator: np.random.Generator | None,
    patterns: int,
) -> Segments:
    """All segments of up to `seeds` differences (n,); above, those of `patterns` drawn ones.

    Raises ValueError if a generator is needed and missing.
    """
    if len(differences) <= seeds:
        return exact_segments(differences)
    if generator is None:
        raise ValueError(f"{len(differences)} seeds are more than {seeds}: pass a generator")
    return sampled_segments(differences, generator, patterns)


def p_value(segments: Segments, tolerance: float) -> float:
    """Two-sided p value at zero, in (0, 1]; ends within `tolerance` of zero count as zero."""
    covering = (segments.low <= tolerance) & (segments.high >= -tolerance)
    return float((np.count_nonzero(covering) + 1) / (len(covering) + 1))


def inverted(segments: Segments, alpha: float, tolerance: float) -> tuple[float, float]:
    """The closed interval of all `theta` that have a p value of at least `alpha`.

    Infinite where even the least reachable p value is not below `alpha`. An end within
    `tolerance` of zero is zero, as in `p_value`.
    """
    reachable = np.arange(1, len(segments.low) + 2) / (len(segments.low) + 1)
    needed = int(np.searchsorted(reachable, alpha))
    if needed == 0:
        return -np.inf, np.inf
    low = np.partition(segments.low, needed - 1)[needed - 1]
    high = np.partition(segments.high, -needed)[-needed]
    return _snapped(low, tolerance), _snapped(high, tolerance)


def upper_p_value(segments: Segments, mean: float, theta: float, tolerance: float) -> float:
    """One-sided p value of a centre at or below `theta`, against one above it.

    With X the sum of `differences - theta` over the flipped subset F, flipping gives a sum at least
    as large exactly when X <= 0, that is, when the mean of F is at most `theta`. So the p value is
    the share of subsets with such a mean: of each segment both ends, the empty subset always, and
    the full one, whose mean is `mean`, the mean of the differences. Below it the upper ends lie
    above `theta` and the p value is half the two-sided one.
    """
    ends = np.concatenate([segments.low, np.where(segments.high == np.inf, mean, segments.high)])
    counted = np.count_nonzero(ends <= theta + tolerance) + int(mean <= theta + tolerance) + 1
    return float(counted / (len(ends) + 2))


def mirrored(segments: Segments) -> Segments:
    """The segments of the negated differences."""
    return Segments(-segments.high, -segments.low)


def exact_p_values(samples: Floats, tolerance: float) -> Floats:
    """Two-sided p values at zero (samples,) of many samples of differences (samples, n).

    The numbers are those of `p_value` on `exact_segments`, faster: the 2^n signed sums are the sums
    of a left half and a right half, 2^(n/2) each, so that one sorted half is searched for each sum
    of the other. Means that agree within `tolerance` are ties.
    """
    n = samples.shape[1]
    left, right = _signs(n // 2), _signs(n - n // 2)
    counts = np.empty(len(samples))
    for index, differences in enumerate(samples):
        needed = abs(differences.sum()) - n * tolerance - left @ differences[: n // 2]
        sums = np.sort(right @ differences[n // 2 :])
        counts[index] = np.sum(len(sums) - np.searchsorted(sums, needed))
    p_values: Floats = np.minimum(2 * counts / 2**n, 1.0)
    return p_values


def _signs(n: int) -> Floats:
    """All patterns of signs: (2^n, n)."""
    flipped = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return (1 - 2 * flipped).astype(np.float64)


def _segments(differences: Floats, members: npt.NDArray[np.bool_]) -> Segments:
    """Segments of the subsets `members` (patterns, n - 1), none of which has the last difference.

    The empty subset is the identity pattern: it covers everything.
    """
    size = members.sum(axis=1)
    inside = members @ differences[:-1]
    inside_mean = inside / np.maximum(size, 1)
    outside_mean = (differences.sum() - inside) / (len(differences) - size)
    return Segments(
        np.where(size > 0, np.minimum(inside_mean, outside_mean), -np.inf),
        np.where(size > 0, np.maximum(inside_mean, outside_mean), np.inf),
    )


def _snapped(end: np.floating[Any], tolerance: float) -> float:
    return 0.0 if abs(end) <= tolerance else float(end)
