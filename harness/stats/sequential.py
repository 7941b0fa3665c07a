"""The sign-flip test with a look after every pair, at an error rate that holds over all looks.

Under the hypothesis that every difference is symmetric about `theta`, all patterns of signs of
`differences - theta` are equally likely, given their sizes. So the paths of partial sums that the
patterns give are equally likely, too, and how many of them would have been rejected by a look can be
counted. At every look the largest sums are rejected among the paths that earlier looks have kept, as
many as the spending function allows: alpha spending after Lan and DeMets, "Discrete sequential
boundaries for clinical trials", Biometrika 70 (1983), on the permutation distribution of the path
instead of a normal one. The boundary of a look depends on the sizes of the differences up to that look
only. So, given the sizes, the chance of any rejection is at most alpha, whatever the sizes are and
whenever one stops.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats, finite

EXACT_PAIRS = 18
"""Up to this many pairs all patterns are counted; for longer paths they are sampled."""
Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class SequentialTest:
    """A path of looks; `rejected_at` is the number of pairs at the first rejection, None without one."""

    alternative: Alternative
    alpha: float
    looks: tuple[int, ...]
    """Numbers of pairs at which was looked."""
    boundaries: tuple[float, ...]
    """Of each look: the smallest sum of `differences - theta` (its absolute value if two-sided, its
    negative for "less") that rejects; infinite where nothing can be spent yet."""
    spent: tuple[float, ...]
    """Share of the patterns that are rejected up to each look, at most what the function allows."""
    beyond: tuple[bool, ...]
    """Of each look: whether the observed sum reaches its boundary."""
    rejected_at: int | None
    exact: bool


def spending(pairs: int, most: int, alpha: float) -> float:
    """What may be spent up to so many pairs: alpha · (pairs / most)^1.5, between Pocock and O'Brien.

    The power family of Kim and DeMets, Biometrika 74 (1987). Raises ValueError for pairs outside
    1..most.
    """
    if not 1 <= pairs <= most:
        raise ValueError(f"pairs must be from 1 to {most}, got {pairs}")
    return alpha * float((pairs / most) ** 1.5)


def look_pairs(most: int, first: int = 1, step: int = 1) -> tuple[int, ...]:
    """The numbers of pairs at which is looked: from `first` in steps, and at `most`.

    Raises ValueError if `first` or `step` is below 1.
    """
    if first < 1 or step < 1:
        raise ValueError(f"first and step must be at least 1, got {first} and {step}")
    return (*range(first, most, step), most)


def sequential_sign_flip(
    differences: npt.ArrayLike,
    most: int,
    alpha: float,
    *,
    theta: float = 0.0,
    alternative: Alternative = "two-sided",
    first: int = 1,
    step: int = 1,
    last: bool = False,
    generator: np.random.Generator | None = None,
    patterns: int = 100_000,
) -> SequentialTest:
    """Test the differences (pairs,), in the order in which they came, with many looks.

    Args:
        differences: method minus baseline, in the order of the seeds.
        most: the number of pairs at which the study would end, fixed beforehand.
        alpha: the chance of any rejection if the differences are symmetric about `theta`.
        theta: the mean under the hypothesis.
        alternative: "greater" rejects for sums above, "less" below, "two-sided" either.
        first: the first number of pairs at which is looked; nothing is spent before it.
        step: pairs from one look to the next; there is always one at `most`.
        last: look at all there are, too: no more will come, for reasons that are not in the signs.
        generator: draws `patterns` patterns where `most` is above `EXACT_PAIRS`.

    Raises:
        ValueError: a difference is not finite, there are none or more than `most`, `alpha` is not
            between 0 and 1, or a generator is needed and missing.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not 1 <= len(values) <= most:
        raise ValueError(f"differences must have 1 to {most} values, got {values.shape}")
    values = finite(values, "differences", "pairs", each="every value")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    exact = most <= EXACT_PAIRS
    if not exact and generator is None:
        raise ValueError(f"{most} pairs are more than {EXACT_PAIRS}: pass a generator")
    centred = values - theta
    tolerance = 1e-12 * float(np.abs(centred).sum())
    looks = [pairs for pairs in look_pairs(most, first, step) if pairs <= len(values)]
    if last and len(values) not in looks:
        looks.append(len(values))
    sums, kept = _Sums(exact, generator, patterns), None
    boundaries: list[float] = []
    spent: list[float] = []
    beyond: list[bool] = []
    for pairs in range(1, len(values) + 1):
        paths = _sized(sums.extended(centred[pairs - 1]), alternative)
        kept = np.ones(len(paths), dtype=bool) if kept is None else sums.repeated(kept)
        if pairs not in looks:
            continue
        budget = int(np.floor(spending(pairs, most, alpha) * len(paths) + 1e-9))
        gone = int(np.count_nonzero(~kept))
        boundary = _boundary(paths[kept], budget - gone, tolerance)
        # The first path is the observed one.
        beyond.append(bool(paths[0] >= boundary - tolerance))
        kept &= paths < boundary - tolerance
        boundaries.append(boundary)
        spent.append(float(np.count_nonzero(~kept)) / len(paths))
    return SequentialTest(
        alternative=alternative,
        alpha=alpha,
        looks=tuple(looks),
        boundaries=tuple(boundaries),
        spent=tuple(spent),
        beyond=tuple(beyond),
        rejected_at=next((n for n, far in zip(looks, beyond, strict=True) if far), None),
        exact=exact,
    )


class _Sums:
    """Partial sums of all patterns, or of patterns drawn at random, the observed one first."""

    def __init__(self, exact: bool, generator: np.random.Generator | None, patterns: int) -> None:
        self.generator = None if exact else generator
        self.sums: Floats = np.zeros(1 if exact else patterns + 1)

    def extended(self, difference: float) -> Floats:
        """The sums with one more difference, with either sign."""
        if self.generator is None:
            self.sums = np.concatenate([self.sums + difference, self.sums - difference])
            return self.sums
        signs = 2.0 * self.generator.integers(2, size=len(self.sums)) - 1.0
        signs[0] = 1.0
        self.sums = self.sums + signs * difference
        return self.sums

    def repeated(self, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of the longer paths begin with one that was kept."""
        return np.concatenate([kept, kept]) if self.generator is None else kept


def _sized(sums: Floats, alternative: Alternative) -> Floats:
    if alternative == "two-sided":
        return np.abs(sums)
    return sums if alternative == "greater" else -sums


def _boundary(sizes: Floats, budget: int, tolerance: float) -> float:
    """The smallest size of which no more than `budget` paths are at or above; infinite without one.

    Sizes within `tolerance` are ties: they are rejected together or not at all.
    """
    if budget < 1 or not len(sizes):
        return float("inf")
    if budget >= len(sizes):
        return float(sizes.min())
    # Only the largest matter, and the one below them.
    ordered = np.sort(np.partition(sizes, len(sizes) - budget - 1)[-budget - 1 :])[::-1]
    ties = ordered[:budget] - ordered[budget] > tolerance
    allowed = np.flatnonzero(ties)
    return float(ordered[allowed[-1]]) if allowed.size else float("inf")
