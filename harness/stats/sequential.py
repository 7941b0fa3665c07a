"""Sequential permutation tests: interim looks while pairs are added, at one error rate for all looks.

A permutation test has a statistic for each pattern, and under its hypothesis all patterns are equally
likely. With looks a pattern has a path: its statistic at each look. So one can count the paths that a
look would reject. Every look rejects the largest statistics among the paths that earlier looks did not
reject, as many as the spending function allows. This is alpha spending (Lan and DeMets, "Discrete
sequential boundaries for clinical trials", Biometrika 70, 1983) on the permutation distribution of the
path instead of a normal distribution. The boundary of a look depends only on the data up to that look,
and not on the observed pattern. So the chance of any rejection is at most alpha, whenever the study
stops.

`sequential_test` counts the paths. The sequential sign-flip test is below: its hypothesis says that
every difference is symmetric about `theta`, its patterns are the signs of `differences - theta`, and
its statistic is their sum. `harness.stats.pool_stopping` has the sequential exchange test.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats, finite_array

EXACT_PAIRS = 18
"""Up to this many pairs the test counts all patterns; for longer paths it samples patterns."""
Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class SequentialTest:
    """The looks at the observed path of a statistic."""

    alternative: Alternative
    alpha: float
    looks: tuple[int, ...]
    """Number of pairs at each look."""
    boundaries: tuple[float, ...]
    """(looks,): the smallest statistic that rejects (the absolute value if two-sided, the negative
    statistic for "less"); infinite if the look can reject nothing."""
    rejected_shares: tuple[float, ...]
    """(looks,): share of the patterns rejected up to the look, at most the spending function."""
    crossings: tuple[bool, ...]
    """(looks,): whether the observed statistic is at or beyond the boundary."""
    rejected_at: int | None
    """Number of pairs at the first rejection; None without a rejection."""
    is_exact: bool


def spending(pairs: int, max_pairs: int, alpha: float) -> float:
    """The alpha that may be spent up to a number of pairs: alpha · (pairs / max_pairs)^1.5.

    The function is of Kim and DeMets' power family, Biometrika 74 (1987), between Pocock's and
    O'Brien's boundaries. Raises ValueError if `pairs` is outside 1..max_pairs.
    """
    if not 1 <= pairs <= max_pairs:
        raise ValueError(f"pairs must be from 1 to {max_pairs}, got {pairs}")
    return alpha * float((pairs / max_pairs) ** 1.5)


def look_pairs(max_pairs: int, first: int = 1, step: int = 1) -> tuple[int, ...]:
    """The number of pairs at each look: from `first` in steps, and `max_pairs`.

    Raises ValueError if `first` or `step` is below 1.
    """
    if first < 1 or step < 1:
        raise ValueError(f"first and step must be at least 1, got {first} and {step}")
    return (*range(first, max_pairs, step), max_pairs)


def sequential_test(
    paths: Iterable[Floats],
    looks: Sequence[int],
    max_pairs: int,
    alpha: float,
    alternative: Alternative,
    tolerance: float,
    *,
    is_exact: bool,
) -> SequentialTest:
    """Test the observed path among all paths, which are equally likely under the hypothesis.

    Args:
        paths: the statistics (paths,) at each look; the first path is the observed one. A look may have
            a multiple of the paths of the look before. Then path i continues path i modulo the earlier
            number of paths.
        looks: the number of pairs at each look.
        max_pairs: the number of pairs at which the study ends, fixed beforehand.
        alpha: the chance of any rejection under the hypothesis.
        alternative: "greater" rejects large statistics, "less" small ones, "two-sided" both.
        tolerance: statistics within the tolerance are ties.
        is_exact: whether the paths are those of all patterns, and not of random ones.

    Raises:
        ValueError: `alpha` is not between 0 and 1, or a look is outside 1..max_pairs.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    survivors = np.ones(1, dtype=np.bool_)
    boundaries: list[float] = []
    rejected_shares: list[float] = []
    crossings: list[bool] = []
    for pairs, statistics in zip(looks, paths, strict=True):
        sizes = _sizes(statistics, alternative)
        survivors = np.tile(survivors, len(sizes) // len(survivors))
        allowed = int(np.floor(spending(pairs, max_pairs, alpha) * len(sizes) + 1e-9))
        rejections = int(np.count_nonzero(~survivors))
        boundary = _boundary(sizes[survivors], allowed - rejections, tolerance)
        crossings.append(bool(sizes[0] >= boundary - tolerance))
        survivors &= sizes < boundary - tolerance
        boundaries.append(boundary)
        rejected_shares.append(float(np.count_nonzero(~survivors)) / len(sizes))
    return SequentialTest(
        alternative=alternative,
        alpha=alpha,
        looks=tuple(looks),
        boundaries=tuple(boundaries),
        rejected_shares=tuple(rejected_shares),
        crossings=tuple(crossings),
        rejected_at=next(
            (n for n, crossing in zip(looks, crossings, strict=True) if crossing), None
        ),
        is_exact=is_exact,
    )


def sequential_sign_flip(
    differences: npt.ArrayLike,
    max_pairs: int,
    alpha: float,
    *,
    theta: float = 0.0,
    alternative: Alternative = "two-sided",
    first: int = 1,
    step: int = 1,
    is_final: bool = False,
    generator: np.random.Generator | None = None,
    patterns: int = 100_000,
) -> SequentialTest:
    """Test the differences (pairs,), in the order in which they came, with many looks.

    Args:
        differences: method minus baseline (pairs,), in the order of the seeds.
        max_pairs: the number of pairs at which the study ends, fixed beforehand.
        alpha: the chance of any rejection if the differences are symmetric about `theta`.
        theta: the mean under the hypothesis.
        alternative: "greater" rejects large sums, "less" small sums, "two-sided" both.
        first: the number of pairs at the first look; no alpha is spent before.
        step: pairs from one look to the next; the last look is always at `max_pairs`.
        is_final: no more pairs will come, for a reason that does not depend on the signs; then
            there is a look at all pairs.
        generator: draws the patterns if `max_pairs` is above `EXACT_PAIRS`.
        patterns: number of patterns to draw.

    Raises:
        ValueError: a difference is not finite, there are no differences or more than `max_pairs`,
            `alpha` is not between 0 and 1, or a generator is needed and missing.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not 1 <= len(values) <= max_pairs:
        raise ValueError(f"differences must have 1 to {max_pairs} values, got {values.shape}")
    values = finite_array(values, "differences", "pairs", item="every value")
    is_exact = max_pairs <= EXACT_PAIRS
    if not is_exact and generator is None:
        raise ValueError(f"{max_pairs} pairs are more than {EXACT_PAIRS}: pass a generator")
    centred_differences = values - theta
    looks = [pairs for pairs in look_pairs(max_pairs, first, step) if pairs <= len(values)]
    if is_final and len(values) not in looks:
        looks.append(len(values))
    return sequential_test(
        _sums(centred_differences, looks, None if is_exact else generator, patterns),
        looks,
        max_pairs,
        alpha,
        alternative,
        1e-12 * float(np.abs(centred_differences).sum()),
        is_exact=is_exact,
    )


def _sums(
    differences: Floats, looks: Sequence[int], generator: np.random.Generator | None, patterns: int
) -> Iterator[Floats]:
    """The partial sums (patterns,) at each look: of all patterns, or of those that a generator draws.

    The observed pattern comes first.
    """
    sums: Floats = np.zeros(1 if generator is None else patterns + 1)
    for pairs, difference in enumerate(differences, start=1):
        if generator is None:
            sums = np.concatenate([sums + difference, sums - difference])
        else:
            signs = 2.0 * generator.integers(2, size=len(sums)) - 1.0
            signs[0] = 1.0
            sums = sums + signs * difference
        if pairs in looks:
            yield sums


def _sizes(sums: Floats, alternative: Alternative) -> Floats:
    if alternative == "two-sided":
        return np.abs(sums)
    return sums if alternative == "greater" else -sums


def _boundary(sizes: Floats, budget: int, tolerance: float) -> float:
    """The smallest size (paths,) that at most `budget` paths reach; infinite if there is no such size.

    Sizes within `tolerance` are ties, which are rejected together or not at all.
    """
    if budget < 1 or not len(sizes):
        return float("inf")
    if budget >= len(sizes):
        return float(sizes.min())
    # Only the `budget` largest sizes matter, and the next one below.
    descending_sizes = np.sort(np.partition(sizes, len(sizes) - budget - 1)[-budget - 1 :])[::-1]
    gaps = descending_sizes[:budget] - descending_sizes[budget] > tolerance
    boundary_indices = np.flatnonzero(gaps)
    return float(descending_sizes[boundary_indices[-1]]) if boundary_indices.size else float("inf")
