"""Several methods over several blocks, by their ranks.

A block is what the methods are compared in: a task, with each method's mean over its seeds, or one
seed of one task. Blocks are taken for independent, so the choice decides what is claimed. With
tasks as blocks: that some methods rank better on tasks like these; with seeds x tasks as blocks:
that they rank better on these very tasks, over new seeds, since ten seeds of one task are not ten
tasks (Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006,
section 3.1.3).

A higher score is better and has the lower rank: the best method of a block has rank 1. Scores that
agree up to rounding are tied and share the average of their ranks.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy.stats

from harness.stats.arrays import Floats, finite
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
    """The statistic of Iman and Davenport, (blocks - 1) chi2 / (blocks (methods - 1) - chi2);
    infinite where all blocks rank the methods alike."""
    df: tuple[int, int]
    p_value: float
    """Of the F distribution, and exact where `f` is infinite. With few blocks it is too small: at
    the level .05 it rejects a true hypothesis with chance .19 for 3 methods in 3 blocks, .07 for 3
    or 4 methods in 4 and .06 for 5 in 3 (exact counts, no ties)."""
    permutation_p_value: float | None
    """From ranks permuted within each block: valid for any number of blocks and ties. None without
    a generator."""


@dataclass(frozen=True)
class RankComparison:
    """Two methods, by the difference of their average ranks."""

    first: int
    """The position of a method in the order given."""
    second: int
    difference: float
    """Average rank of the first less that of the second: negative if the first is better."""
    p_value: float
    """Two-sided, of the normal approximation, not adjusted."""
    adjusted_p: float
    """In the family of all comparisons returned together."""


@dataclass(frozen=True)
class Nemenyi:
    """All pairs of methods against one critical difference of average ranks."""

    average_ranks: tuple[float, ...]
    """(methods,), in the order given; lower is better."""
    blocks: int
    alpha: float
    critical_difference: float
    """Average ranks further apart than this differ at the family-wise level `alpha`."""
    comparisons: tuple[RankComparison, ...]
    """All pairs; `adjusted_p` is that of the studentised range, which is below `alpha` exactly
    where the difference is beyond the critical one."""
    groups: tuple[tuple[int, ...], ...]
    """The bars of a critical-difference diagram: the largest sets of two or more methods that no
    two of differ significantly, each from its best method to its worst, the best set first."""


def average_ranks(scores: npt.ArrayLike) -> tuple[float, ...]:
    """Average rank of each method over the blocks, from scores (blocks, methods).

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

    Friedman's chi-square (JASA 32, 1937) with the correction for ties, and the F of Iman and
    Davenport (Communications in Statistics A9, 1980), which is the analysis of variance of the
    ranks. With a generator, also the p value from `resamples` permutations within the blocks, drawn
    by `generator.permuted`: (b + 1) / (resamples + 1) for b at least as extreme (Phipson and Smyth,
    2010). If every block ties all methods, the statistics are 0 and the p values 1; one block has
    the p value 1. Two methods are allowed: the chi-square is then that of the sign test.

    Raises ValueError as `average_ranks`, or if `resamples` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    ranks = _ranks(scores)
    blocks, methods = ranks.shape
    centred = ranks - (methods + 1) / 2
    # Ranks are multiples of 1/2, so these are exact sums and compare exactly.
    between, within = float((centred.sum(axis=0) ** 2).sum()), float((centred**2).sum())
    df = methods - 1, (methods - 1) * (blocks - 1)
    chi2 = (methods - 1) * between / within if within else 0.0
    alike = between == blocks * within
    if within and alike:
        f, p_value = math.inf, _chance_of_agreement(ranks)
    else:
        # No division by zero: chi2 reaches its maximum exactly where all blocks agree.
        f = (blocks - 1) * chi2 / (blocks * (methods - 1) - chi2)
        p_value = float(scipy.stats.f.sf(f, *df)) if within else 1.0
    permuted = None
    if generator is not None:
        extreme = _permuted_between(centred, generator, resamples) >= between
        permuted = (int(extreme.sum()) + 1) / (resamples + 1)
    return Friedman(
        average_ranks=tuple(ranks.mean(axis=0).tolist()),
        blocks=blocks,
        chi2=chi2,
        f=f,
        df=df,
        p_value=p_value,
        permutation_p_value=permuted,
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

    As with all tests on average ranks, whether two methods differ depends on the other methods in
    the table, and the level holds for the hypothesis that all methods are alike, not for a pair
    beside others that differ (Benavoli, Corani and Mangili, "Should we really use post-hoc tests
    based on mean-ranks?", JMLR 17, 2016). For a verdict on two methods use the paired difference.
    Ties make the test more cautious.

    Raises ValueError as `average_ranks` and `critical_difference`.
    """
    ranks = _ranks(scores)
    blocks, methods = ranks.shape
    critical = critical_difference(methods, blocks, alpha)
    averages = ranks.mean(axis=0)
    pairs = tuple(combinations(range(methods), 2))
    differences, p_values = _pairwise(averages, blocks, pairs)
    ranges = abs(differences) / _standard_error(methods, blocks) * math.sqrt(2)
    adjusted = scipy.stats.studentized_range.sf(ranges, methods, np.inf)
    return Nemenyi(
        average_ranks=tuple(averages.tolist()),
        blocks=blocks,
        alpha=alpha,
        critical_difference=critical,
        comparisons=_comparisons(pairs, differences, p_values, tuple(adjusted.tolist())),
        groups=alike_groups(averages, critical),
    )


def rank_comparisons(
    scores: npt.ArrayLike, control: int | None = None
) -> tuple[RankComparison, ...]:
    """Compare pairs of methods by their average ranks, Holm-adjusted, from scores (blocks, methods).

    All pairs, or each other method against the one at the position `control`, which is then the
    second: a smaller family, so more power (Demsar, 2006, section 3.2.2). The statistic is the
    difference over sqrt(methods (methods + 1) / (6 blocks)), taken for normal; with few blocks that
    is rough. What `nemenyi` says about average ranks holds here too.

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


def alike_groups(averages: npt.ArrayLike, difference: float) -> tuple[tuple[int, ...], ...]:
    """The maximal intervals of two or more methods whose ranks are within `difference`.

    `averages` are average ranks (methods,). Each group runs from its best method to its worst, the
    group of the best method first; equal ranks keep the order given. Groups may overlap: that two
    methods are each in a group with a third does not put the two in one.
    """
    ranks = np.asarray(averages, dtype=np.float64)
    order = np.argsort(ranks, kind="stable")
    ordered = ranks[order]
    groups = []
    reached = 0
    for start in range(len(order)):
        end = int(np.count_nonzero(ordered - ordered[start] <= difference))
        if end - start > 1 and end > reached:
            groups.append(tuple(order[start:end].tolist()))
        reached = max(reached, end)
    return tuple(groups)


def _ranks(scores: npt.ArrayLike) -> Floats:
    """Ranks (blocks, methods), 1 for the best, ties averaged."""
    values = finite(scores, "scores", "blocks", "methods")
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
    """That all blocks rank the methods as the first does, if each order were equally likely."""
    _, copies = np.unique(ranks[0], return_counts=True)
    orders = math.factorial(ranks.shape[1]) // math.prod(math.factorial(c) for c in copies.tolist())
    return float(1 / orders) ** (len(ranks) - 1)


def _permuted_between(centred: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    """The sum of squared rank sums of each permutation: (resamples,)."""
    sums = np.zeros((resamples, centred.shape[1]))
    for block in centred:
        sums += generator.permuted(np.tile(block, (resamples, 1)), axis=1)
    squares: Floats = (sums**2).sum(axis=1)
    return squares


def _standard_error(methods: int, blocks: int) -> float:
    """Of the difference of two average ranks, without ties."""
    return math.sqrt(methods * (methods + 1) / (6 * blocks))


def _pairwise(
    averages: Floats, blocks: int, pairs: tuple[tuple[int, int], ...]
) -> tuple[Floats, tuple[float, ...]]:
    """Differences (pairs,) of the average ranks and their two-sided normal p values."""
    first, second = np.array(pairs).T
    differences = averages[first] - averages[second]
    z = abs(differences) / _standard_error(len(averages), blocks)
    return differences, tuple((2 * scipy.stats.norm.sf(z)).tolist())


def _comparisons(
    pairs: tuple[tuple[int, int], ...],
    differences: Floats,
    p_values: tuple[float, ...],
    adjusted: tuple[float, ...],
) -> tuple[RankComparison, ...]:
    return tuple(
        RankComparison(first, second, difference, p_value, adjusted_p)
        for (first, second), difference, p_value, adjusted_p in zip(
            pairs, differences.tolist(), p_values, adjusted, strict=True
        )
    )
