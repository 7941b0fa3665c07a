"""Tests of several methods by their ranks in several blocks.

A block is a task, with each method's mean over seeds, or one seed of one task. The tests assume
that blocks are independent, so the choice of the blocks decides the claim. With tasks as blocks,
the claim is that some methods rank better on tasks like these. With seeds x tasks as blocks, the
claim is that some methods rank better on the same tasks with new seeds: ten seeds of one task are
not ten tasks (Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7,
2006, section 3.1.3).

A higher score is better and has the lower rank: the best method of a block has rank 1. Scores that
agree up to rounding are tied and get the average of their ranks.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy.stats

from harness.stats.arrays import Floats, finite_array
from harness.stats.family import holm
from harness.stats.paired import ROUNDING


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that no method ranks better than another."""

    average_ranks: tuple[float, ...]
    """(methods,), in the order given; lower is better."""
    blocks: int
    chi2: float
    """Friedman's statistic, corrected for ties, with methods - 1 degrees of freedom."""
    f: float
    """Iman and Davenport's statistic, (blocks - 1) chi2 / (blocks (methods - 1) - chi2); infinite
    if all blocks have the same ranks."""
    df: tuple[int, int]
    p_value: float
    """p value of the F distribution, exact if `f` is infinite. With few blocks the p value is too
    small: at the level .05 a true hypothesis is rejected with a chance of .19 for 3 methods in 3
    blocks, .07 for 3 or 4 methods in 4 blocks and .06 for 5 methods in 3 blocks (exact counts, no
    ties)."""
    permutation_p_value: float | None
    """p value from permutations of the ranks within each block, valid for any number of blocks and
    ties. None without a generator."""


@dataclass(frozen=True)
class RankComparison:
    """The comparison of two methods by the difference of their average ranks."""

    first: int
    """Position of the first method in the order given."""
    second: int
    difference: float
    """Average rank of the first method minus that of the second; negative if the first is better."""
    p_value: float
    """Two-sided p value of the normal approximation, not adjusted."""
    adjusted_p: float
    """p value adjusted in the family of all comparisons returned together."""


@dataclass(frozen=True)
class Nemenyi:
    """All pairs of methods against one critical difference of average ranks."""

    average_ranks: tuple[float, ...]
    """(methods,), in the order given; lower is better."""
    blocks: int
    alpha: float
    critical_difference: float
    """Two average ranks differ at the family-wise level `alpha` if their distance is larger."""
    comparisons: tuple[RankComparison, ...]
    """All pairs. `adjusted_p` is that of the studentised range: it is below `alpha` exactly if the
    difference is above the critical difference."""
    groups: tuple[tuple[int, ...], ...]
    """The bars of a critical-difference diagram: the largest sets of two or more methods without a
    significant difference. A set runs from its best method to its worst; the best set comes
    first."""


def average_ranks(scores: npt.ArrayLike) -> tuple[float, ...]:
    """The average rank of each method over the blocks (methods,), from scores (blocks, methods).

    Raises ValueError if a score is NaN or infinite, the shape is not (blocks, methods) or empty, or
    there are fewer than two methods.
    """
    return tuple(_ranks(scores).mean(axis=0).tolist())


def friedman(
    scores: npt.ArrayLike,
    generator: np.random.Generator | None = None,
    resamples: int = 9999,
) -> Friedman:
    """Test whether some methods rank better than others, from scores (blocks, methods).

    The statistics are Friedman's chi-square (JASA 32, 1937) with the correction for ties, and Iman
    and Davenport's F (Communications in Statistics A9, 1980), the analysis of variance of the
    ranks. With a generator, `generator.permuted` also draws `resamples` permutations within the
    blocks; if b of them are at least as extreme, the p value is (b + 1) / (resamples + 1) (Phipson
    and Smyth, 2010). If every block ties all methods, the statistics are 0 and the p values 1. A
    single block has the p value 1. With two methods the chi-square is that of the sign test.

    Raises ValueError as `average_ranks`, or if `resamples` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    ranks = _ranks(scores)
    blocks, methods = ranks.shape
    centred_ranks = ranks - (methods + 1) / 2
    # Ranks are multiples of 1/2, so the sums are exact and so are comparisons of them.
    squared_rank_sums, squared_ranks = (
        float((centred_ranks.sum(axis=0) ** 2).sum()),
        float((centred_ranks**2).sum()),
    )
    df = methods - 1, (methods - 1) * (blocks - 1)
    chi2 = (methods - 1) * squared_rank_sums / squared_ranks if squared_ranks else 0.0
    agreement = squared_rank_sums == blocks * squared_ranks
    if squared_ranks and agreement:
        f, p_value = math.inf, _chance_of_agreement(ranks)
    else:
        # The divisor is not zero: chi2 has its maximum exactly if all blocks agree.
        f = (blocks - 1) * chi2 / (blocks * (methods - 1) - chi2)
        p_value = float(scipy.stats.f.sf(f, *df)) if squared_ranks else 1.0
    permutation_p = None
    if generator is not None:
        extremes = _permuted_rank_sums(centred_ranks, generator, resamples) >= squared_rank_sums
        permutation_p = (int(extremes.sum()) + 1) / (resamples + 1)
    return Friedman(
        average_ranks=tuple(ranks.mean(axis=0).tolist()),
        blocks=blocks,
        chi2=chi2,
        f=f,
        df=df,
        p_value=p_value,
        permutation_p_value=permutation_p,
    )


def critical_difference(methods: int, blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks: q sqrt(methods (methods + 1) / (6 blocks)).

    q is the upper `alpha` quantile of the studentised range of `methods` normal values with
    infinite degrees of freedom, divided by sqrt(2) (Demsar, 2006, section 3.2.2).

    Raises ValueError if there are fewer than two methods or one block, or `alpha` is not between 0
    and 1.
    """
    if methods < 2 or blocks < 1:
        raise ValueError(
            f"at least two methods and one block are needed, got {methods} and {blocks}"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    quantile = float(scipy.stats.studentized_range.isf(alpha, methods, np.inf))
    return quantile / math.sqrt(2) * _standard_error(methods, blocks)


def nemenyi(scores: npt.ArrayLike, alpha: float = 0.05) -> Nemenyi:
    """Compare all pairs of methods by Nemenyi's test, from scores (blocks, methods).

    The result for two methods depends on the other methods in the table, as in all tests on average
    ranks. The level holds for the hypothesis that all methods are equal, not for a pair of equal
    methods beside others that differ (Benavoli, Corani and Mangili, "Should we really use post-hoc
    tests based on mean-ranks?", JMLR 17, 2016). For a verdict on two methods use the paired
    difference. Ties make the test more cautious.

    Raises ValueError as `average_ranks` and `critical_difference`.
    """
    ranks = _ranks(scores)
    blocks, methods = ranks.shape
    limit = critical_difference(methods, blocks, alpha)
    averages = ranks.mean(axis=0)
    pairs = tuple(combinations(range(methods), 2))
    differences, p_values = _pairwise(averages, blocks, pairs)
    ranges = abs(differences) / _standard_error(methods, blocks) * math.sqrt(2)
    adjusted_p_values = scipy.stats.studentized_range.sf(ranges, methods, np.inf)
    return Nemenyi(
        average_ranks=tuple(averages.tolist()),
        blocks=blocks,
        alpha=alpha,
        critical_difference=limit,
        comparisons=_comparisons(pairs, differences, p_values, tuple(adjusted_p_values.tolist())),
        groups=rank_groups(averages, limit),
    )


def rank_comparisons(
    scores: npt.ArrayLike, control: int | None = None
) -> tuple[RankComparison, ...]:
    """Compare pairs of methods by their average ranks, Holm-adjusted, from scores (blocks, methods).

    Without `control` the family has all pairs. With `control`, the position of a method, the family
    has each other method against that method, which comes second; a smaller family has more power
    (Demsar, 2006, section 3.2.2). The statistic is the difference over sqrt(methods (methods + 1) /
    (6 blocks)), assumed normal, which is rough with few blocks. The limits of average ranks in
    `nemenyi` hold here too.

    Raises ValueError as `average_ranks`, or if `control` is not a position of a method.
    """
    ranks = _ranks(scores)
    blocks, methods = ranks.shape
    if control is None:
        pairs = tuple(combinations(range(methods), 2))
    elif 0 <= control < methods:
        pairs = tuple((method, control) for method in range(methods) if method != control)
    else:
        raise ValueError(f"control must be between 0 and {methods - 1}, got {control}")
    differences, p_values = _pairwise(ranks.mean(axis=0), blocks, pairs)
    return _comparisons(pairs, differences, p_values, holm(p_values))


def rank_groups(averages: npt.ArrayLike, difference: float) -> tuple[tuple[int, ...], ...]:
    """The largest groups of two or more methods whose average ranks (methods,) are within `difference`.

    A group runs from its best method to its worst; the group of the best method comes first; equal
    ranks keep the order given. Groups may overlap: two methods may each share a group with a third
    method, and no group with each other.
    """
    ranks = np.asarray(averages, dtype=np.float64)
    order = np.argsort(ranks, kind="stable")
    sorted_ranks = ranks[order]
    groups = []
    last_end = 0
    for start in range(len(order)):
        end = int(np.count_nonzero(sorted_ranks - sorted_ranks[start] <= difference))
        if end - start > 1 and end > last_end:
            groups.append(tuple(order[start:end].tolist()))
        last_end = max(last_end, end)
    return tuple(groups)


def _ranks(scores: npt.ArrayLike) -> Floats:
    """Ranks (blocks, methods) of scores (blocks, methods): 1 for the best, averages for ties."""
    values = finite_array(scores, "scores", "blocks", "methods")
    if values.shape[1] < 2:
        raise ValueError("ranks need at least two methods, got 1")
    order = np.argsort(values, axis=1)
    gaps = np.diff(np.take_along_axis(values, order, axis=1), axis=1)
    steps = gaps > ROUNDING * abs(values).max(axis=1, keepdims=True)
    levels = np.zeros(values.shape)
    np.put_along_axis(levels, order[:, 1:], np.cumsum(steps, axis=1), axis=1)
    ranks: Floats = scipy.stats.rankdata(-levels, axis=1)
    return ranks


def _chance_of_agreement(ranks: Floats) -> float:
    """The chance that all blocks have the ranks of the first block, if all orders are equally likely."""
    _, copies = np.unique(ranks[0], return_counts=True)
    orders = math.factorial(ranks.shape[1]) // math.prod(math.factorial(c) for c in copies.tolist())
    return float(1 / orders) ** (len(ranks) - 1)


def _permuted_rank_sums(
    centred_ranks: Floats, generator: np.random.Generator, resamples: int
) -> Floats:
    """The sum of squared rank sums of each permutation (resamples,)."""
    sums = np.zeros((resamples, centred_ranks.shape[1]))
    for block in centred_ranks:
        sums += generator.permuted(np.tile(block, (resamples, 1)), axis=1)
    squares: Floats = (sums**2).sum(axis=1)
    return squares


def _standard_error(methods: int, blocks: int) -> float:
    """The standard error of the difference of two average ranks without ties."""
    return math.sqrt(methods * (methods + 1) / (6 * blocks))


def _pairwise(
    averages: Floats, blocks: int, pairs: tuple[tuple[int, int], ...]
) -> tuple[Floats, tuple[float, ...]]:
    """The differences (pairs,) of the average ranks (methods,), and two-sided normal p values."""
    first, second = np.array(pairs).T
    differences = averages[first] - averages[second]
    z = abs(differences) / _standard_error(len(averages), blocks)
    return differences, tuple((2 * scipy.stats.norm.sf(z)).tolist())


def _comparisons(
    pairs: tuple[tuple[int, int], ...],
    differences: Floats,
    p_values: tuple[float, ...],
    adjusted_p_values: tuple[float, ...],
) -> tuple[RankComparison, ...]:
    return tuple(
        RankComparison(first, second, difference, p_value, adjusted_p)
        for (first, second), difference, p_value, adjusted_p in zip(
            pairs, differences.tolist(), p_values, adjusted_p_values, strict=True
        )
    )
