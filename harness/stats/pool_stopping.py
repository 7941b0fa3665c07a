"""The stopping rule of two pools: trials are added until the comparison of tuned scores is decided.

At look k both pools have n_k trials. The statistic is the difference of their tuned scores, and under
the hypothesis every pattern of exchanged pairs is equally likely (see `harness.stats.exchange`). A
pattern exchanges the same pairs at every look, so it has a path of differences over the looks, and
`harness.stats.sequential` spends alpha on the paths. Selection scores are ranked in their own pool,
among the trials of the look.

A pattern's difference at the shift `theta` is s - theta * c. So `read_looks` computes s and c once for
each look, and all tests and the repeated interval use them. The rule is that of
`harness.stats.stopping`: a two-sided test decides "better" or "worse", and two one-sided tests against
the margins decide "equivalent".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.config import FIRST_LOOK, LOOK_STEP
from harness.stats.arrays import Floats
from harness.stats.equivalence import check_margin
from harness.stats.exchange import EXACT_TRIALS, exchanged_differences
from harness.stats.paired import ROUNDING, Interval
from harness.stats.sequential import Alternative, SequentialTest, look_pairs, sequential_test
from harness.stats.signflip import Patterns
from harness.stats.stopping import (
    PATTERNS_SEED,
    Stopping,
    decide,
    equivalence_interval,
    intersect,
    look_interval,
)
from harness.stats.tuned_score import Pool

PATTERNS = 19_999
"""Random patterns of exchanged pairs, beside the observed pattern."""
DOUBLINGS = 10
"""An end of the interval is unbounded if no shift up to 2^DOUBLINGS ranges of the scores is rejected."""


@dataclass(frozen=True)
class PoolLook:
    """One look at two pools, for all patterns of exchanged pairs; the observed pattern is the first."""

    trials: int
    """Number of trials of each method."""
    differences: Floats
    """(patterns,): the difference of the tuned scores of each pattern."""
    weights: Floats
    """(patterns,): the weight c of the method's trials in each pattern, from -1 to 1."""
    low: float
    """The lowest reported score."""
    high: float
    """The highest reported score."""

    @property
    def difference(self) -> float:
        """The observed difference of the tuned scores, method minus baseline."""
        return float(self.differences[0])

    @property
    def scale(self) -> float:
        """The largest absolute reported score; ties are relative to it."""
        return max(abs(self.low), abs(self.high))


def look_trials(max_trials: int) -> tuple[int, ...]:
    """The number of trials of each method at each look; the last look is at `max_trials`."""
    return look_pairs(max_trials, min(FIRST_LOOK, max_trials), LOOK_STEP)


def look_patterns(
    max_trials: int, generator: np.random.Generator | None = None, patterns: int = PATTERNS
) -> Patterns:
    """The patterns of exchanged pairs (patterns, max_trials); the first one exchanges nothing.

    These are all patterns up to `EXACT_TRIALS` trials, and `patterns` random ones above. `generator`
    draws them trial by trial, by default from the protocol's seed.
    """
    if max_trials <= EXACT_TRIALS:
        numbers = np.arange(2**max_trials)[:, None]
        all_patterns: Patterns = (numbers >> np.arange(max_trials)) & 1 == 1
        return all_patterns
    generator = generator or np.random.default_rng(PATTERNS_SEED)
    draws = [generator.integers(2, size=patterns, dtype=np.int8) for _ in range(max_trials)]
    nothing = np.zeros((1, max_trials), dtype=np.bool_)
    return np.concatenate([nothing, np.stack(draws, axis=1) == 1])


def read_looks(
    method: Pool,
    baseline: Pool,
    budget: int,
    looks: Sequence[int],
    patterns: Patterns,
) -> tuple[PoolLook, ...]:
    """The looks at the first trials of two pools, for `patterns` (patterns, trials).

    Raises ValueError if a look has more trials than a pool, or fewer than the budget.
    """
    results = []
    for trials in looks:
        if trials > min(method.trials, baseline.trials):
            raise ValueError(
                f"a look at {trials} trials: the pools have {method.trials} and {baseline.trials}"
            )
        pools = [pool.first(trials) for pool in (method, baseline)]
        differences, weights = exchanged_differences(
            pools[:1], pools[1:], budget, patterns[:, :trials]
        )
        reported = [score for pool in pools for score in pool.reported]
        results.append(PoolLook(trials, differences, weights, min(reported), max(reported)))
    return tuple(results)


def sequential_exchange(
    looks: Sequence[PoolLook],
    max_trials: int,
    alpha: float,
    *,
    theta: float = 0.0,
    alternative: Alternative = "two-sided",
) -> SequentialTest:
    """The sequential exchange test that the tuned scores differ by `theta`, at these looks.

    Raises ValueError if `alpha` is not between 0 and 1 or a look has more than `max_trials` trials.
    """
    scale = max((look.scale for look in looks), default=0.0)
    return sequential_test(
        (look.differences - theta * look.weights for look in looks),
        [look.trials for look in looks],
        max_trials,
        alpha,
        alternative,
        ROUNDING * (scale + abs(theta)),
        is_exact=max_trials <= EXACT_TRIALS,
    )


def pool_stopping(
    looks: Sequence[PoolLook], trials: int, max_trials: int, alpha: float, margin: float
) -> Stopping:
    """Apply all looks that are due to two pools with `trials` trials each.

    `looks` are those of `read_looks` up to `trials`; looks after the decision do not count. The margin
    is in the unit of the scores and fixed beforehand.

    Raises ValueError if `alpha` is not between 0 and 1, or the margin is not positive and finite.
    """
    check_margin(margin, alpha)
    return decide(
        lambda theta, alternative: sequential_exchange(
            looks, max_trials, alpha, theta=theta, alternative=alternative
        ),
        {look.trials: look.difference for look in looks},
        trials,
        look_trials(max_trials),
        max_trials,
        alpha,
        margin,
    )


def pool_interval(looks: Sequence[PoolLook], max_trials: int, alpha: float) -> Interval:
    """The repeated interval of the difference of tuned scores, as `repeated_interval` of a mean.

    It holds for all looks together, if the methods differ by a shift of the reported scores. It is
    unbounded before the first look, and if no look can reject. Raises ValueError as `pool_stopping`.
    """
    return intersect(
        _interval_at(looks[:count], max_trials, alpha) for count in range(len(looks), 0, -1)
    )


def pool_equivalence(
    looks: Sequence[PoolLook], max_trials: int, alpha: float, margin: float
) -> Interval:
    """The interval of the decision "equivalent" at the last look, as `repeated_equivalence` has it."""
    return equivalence_interval(
        lambda theta, side: (
            sequential_exchange(looks, max_trials, alpha, theta=theta, alternative=side).rejected_at
            is not None
        ),
        looks[-1].difference,
        margin,
    )


def _interval_at(looks: Sequence[PoolLook], max_trials: int, alpha: float) -> Interval:
    """The interval of the shifts that the last of the looks does not reject."""
    look = looks[-1]

    def rejects(theta: float) -> bool:
        return sequential_exchange(looks, max_trials, alpha, theta=theta).crossings[-1]

    def bound(side: float) -> float:
        distances = ((look.high - look.low or 1.0) * 2**k for k in range(DOUBLINGS + 1))
        ends = (look.difference + side * distance for distance in distances)
        return next((end for end in ends if rejects(end)), side * math.inf)

    return look_interval(rejects, look.difference, bound(-1.0), bound(1.0))
