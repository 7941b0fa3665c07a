"""The stopping rule of a paired comparison: a decision, or the maximum number of pairs.

After every `STEP` pairs, three sequential sign-flip tests look at a comparison, each at the
comparison's level: a two-sided test of no difference, and a one-sided test against each margin. The
first test decides "better" or "worse"; the other two together decide "equivalent", without a
correction for two tests (see `paired_equivalence`). Over all looks, the chance of a false "better"
or "worse" is at most the level, and so is the chance of a false "equivalent". In a family of k
comparisons pass alpha / k: with Holm's steps the end of one comparison would move the boundaries of
another.

`decide` and `look_interval` are the rule for any sequential test; `harness.stats.pool_stopping` applies
them to pools of trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats, finite_array
from harness.stats.paired import Interval
from harness.stats.sequential import (
    Alternative,
    SequentialTest,
    look_pairs,
    sequential_sign_flip,
    spending,
)

STEP = 2
"""Pairs from one look to the next. Verdicts depend on the step, so it is a constant of the protocol."""
PATTERNS_SEED = 0
"""Seed of the random patterns, the same at every look."""
BISECTIONS = 14
Decision = Literal["better", "worse", "equivalent"]


@dataclass(frozen=True)
class Stopping:
    """The state of a comparison to which pairs are added until it is decided.

    A pair is one run of each side: report runs with one seed, or trials with one number.
    """

    decision: Decision | None
    """None if the pairs so far do not decide."""
    pairs: int
    """Number of pairs at the last look; later pairs do not count. Before the first look, all pairs."""
    max_pairs: int
    """Number of pairs at which the comparison ends without a decision."""
    alpha: float
    """The level of this comparison, a share of the family's level."""
    margin: float
    looks: tuple[int, ...]
    """Number of pairs at each look, up to `pairs`."""
    next_look: int | None
    """Number of pairs at the next look; None after a decision and after the last look."""


def first_look(max_pairs: int, alpha: float) -> int:
    """The fewest pairs at which a look can reject at least one pattern of signs.

    The result is `max_pairs` if no earlier look can. Raises ValueError if `max_pairs` is below 1 or
    `alpha` is not between 0 and 1.
    """
    _check(max_pairs, alpha)
    return next(
        (n for n in range(1, max_pairs) if 2.0**-n <= spending(n, max_pairs, alpha)), max_pairs
    )


def minimum_pairs(comparisons: int, alpha: float = 0.05) -> int:
    """The smallest `max_pairs` with which a family of comparisons can find a difference.

    Raises ValueError if `comparisons` is below 1 or `alpha` is not between 0 and 1.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, got {comparisons}")
    _check(1, alpha)
    return next(n for n in count(1) if 2 * comparisons <= alpha * 2**n)


def stopping(
    differences: npt.ArrayLike,
    max_pairs: int,
    alpha: float,
    margin: float,
    *,
    is_final: bool = False,
) -> Stopping:
    """Apply all looks that are due to the differences (pairs,), method minus baseline by seed.

    Pairs after the decision do not count. `margin` is in the unit of the scores and fixed
    beforehand. `is_final` says that no more pairs will come, because some were lost: then there is
    a look at all pairs.

    Raises ValueError if a difference is not finite, there are more than `max_pairs`, `alpha` is not
    between 0 and 1, or the margin is not positive and finite.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, got {margin}")
    values = _values(differences, max_pairs, alpha)
    looks = _look_pairs(max_pairs, alpha, len(values), is_final)
    return decide(
        lambda theta, alternative: _test(values, max_pairs, alpha, theta, alternative, is_final),
        {look: float(values[:look].mean()) for look in looks if look <= len(values)},
        len(values),
        looks,
        max_pairs,
        alpha,
        margin,
    )


def decide(
    test: Callable[[float, Alternative], SequentialTest],
    means: Mapping[int, float],
    pairs: int,
    looks: Sequence[int],
    max_pairs: int,
    alpha: float,
    margin: float,
) -> Stopping:
    """The state of a comparison with `pairs` pairs.

    `test` is the sequential test of a mean `theta` at the looks that are due, and `means` are the
    observed means by the number of pairs of these looks. `looks` are the numbers of pairs at all looks.
    """
    difference_at = equivalence_at = None
    if means:
        difference_at = test(0.0, "two-sided").rejected_at
        above_margin_at = test(-margin, "greater").rejected_at
        below_margin_at = test(margin, "less").rejected_at
        if above_margin_at is not None and below_margin_at is not None:
            equivalence_at = max(above_margin_at, below_margin_at)
    decision: Decision | None = None
    decided_pairs = max(means, default=pairs)
    if difference_at is not None and (equivalence_at is None or difference_at <= equivalence_at):
        decision, decided_pairs = "better" if means[difference_at] > 0 else "worse", difference_at
    elif equivalence_at is not None:
        decision, decided_pairs = "equivalent", equivalence_at
    next_looks = [look for look in looks if look > pairs]
    return Stopping(
        decision=decision,
        pairs=decided_pairs,
        max_pairs=max_pairs,
        alpha=alpha,
        margin=margin,
        looks=tuple(look for look in looks if look <= decided_pairs),
        next_look=next_looks[0] if next_looks and decision is None else None,
    )


def repeated_equivalence(
    differences: npt.ArrayLike,
    max_pairs: int,
    alpha: float,
    margin: float,
    *,
    is_final: bool = False,
) -> Interval:
    """The interval of the decision "equivalent": it lies within the margin exactly with this decision.

    It has the means that neither one-sided test rejects at any look, and its confidence
    `1 - 2 * alpha` holds for all looks together. `differences` (pairs,) are those up to the decision.
    Raises ValueError as `stopping` does.
    """
    values = _values(differences, max_pairs, alpha)
    return equivalence_interval(
        lambda theta, side: (
            _test(values, max_pairs, alpha, theta, side, is_final).rejected_at is not None
        ),
        float(values.mean()),
        margin,
    )


def equivalence_interval(
    rejects: Callable[[float, Alternative], bool], mean: float, margin: float
) -> Interval:
    """The means within the margin that neither one-sided test rejects, by bisection.

    `rejects` tells whether a one-sided test rejects a mean at any look up to the decision; both margins
    are rejected. `mean` is the observed mean at the last look.
    """

    def end(bound: float, alternative: Alternative) -> float:
        rejected_mean, accepted_mean = bound, min(max(mean, -margin), margin)
        if rejects(accepted_mean, alternative):
            return accepted_mean
        for _ in range(BISECTIONS):
            middle = (accepted_mean + rejected_mean) / 2
            if rejects(middle, alternative):
                rejected_mean = middle
            else:
                accepted_mean = middle
        return rejected_mean

    return Interval(end(-margin, "greater"), end(margin, "less"))


def repeated_interval(
    differences: npt.ArrayLike, max_pairs: int, alpha: float, *, is_final: bool = False
) -> Interval:
    """The repeated interval of the mean: the confidence `1 - alpha` holds for all looks together.

    The interval has the means that the two-sided test does not reject at the last look that is due
    (Jennison and Turnbull, "Interim analyses: the repeated confidence interval approach", Journal
    of the Royal Statistical Society B 51, 1989). The interval excludes zero if that look rejects
    zero, even if tied scores make the look reject zero alone. If the look does not bound an end,
    the end comes from the latest look that does. The interval is unbounded before the first look,
    and if no look can reject.

    Raises ValueError as `stopping` does.
    """
    values = _values(differences, max_pairs, alpha)
    looks = [
        look for look in _look_pairs(max_pairs, alpha, len(values), is_final) if look <= len(values)
    ]
    return intersect(
        _interval_at(values[:look], max_pairs, alpha, is_final and look == len(values))
        for look in reversed(looks)
    )


def intersect(intervals: Iterable[Interval]) -> Interval:
    """Each end from the first interval that bounds it; the latest look comes first."""
    ends = [-math.inf, math.inf]
    for interval in intervals:
        ends = [
            look_end if math.isinf(end) else end
            for end, look_end in zip(ends, interval, strict=True)
        ]
        if not any(map(math.isinf, ends)):
            break
    return Interval(*ends)


def look_interval(
    rejects: Callable[[float], bool], mean: float, low: float, high: float
) -> Interval:
    """The interval of the means that a look does not reject, by bisection.

    `mean` is the observed mean. The look rejects `low` and `high`; one of them is infinite if the look
    rejects no mean on that side.
    """
    zero_is_rejected = rejects(0.0)

    def end(bound: float, side: float) -> float:
        if zero_is_rejected and side * mean < 0 < side * bound:
            rejected_mean, accepted_mean = 0.0, mean
        elif math.isinf(bound):
            return bound
        else:
            rejected_mean, accepted_mean = bound, mean
        for _ in range(BISECTIONS):
            middle = (accepted_mean + rejected_mean) / 2
            accepted_mean, rejected_mean = (
                (accepted_mean, middle) if rejects(middle) else (middle, rejected_mean)
            )
        return accepted_mean if rejected_mean == 0 else rejected_mean

    return Interval(end(low, -1.0), end(high, 1.0))


def _interval_at(values: Floats, max_pairs: int, alpha: float, is_final: bool) -> Interval:
    """The interval of the means that the look at all values (pairs,) does not reject."""

    def rejects(theta: float) -> bool:
        return _test(values, max_pairs, alpha, theta, "two-sided", is_final).crossings[-1]

    def bound(value: float, side: float) -> float:
        return value if rejects(value + side * (1 + abs(value))) else side * math.inf

    low, high = bound(float(values.min()), -1.0), bound(float(values.max()), 1.0)
    return look_interval(rejects, float(values.mean()), low, high)


def look_seeds(max_pairs: int, alpha: float) -> tuple[int, ...]:
    """The number of pairs at each look of a comparison at the level alpha."""
    return look_pairs(max_pairs, first_look(max_pairs, alpha), STEP)


def _look_pairs(max_pairs: int, alpha: float, pairs: int, is_final: bool) -> tuple[int, ...]:
    """The number of pairs at each look; if `is_final`, the last look is at `pairs`."""
    looks = look_seeds(max_pairs, alpha)
    if not is_final:
        return looks
    return (*(look for look in looks if look < pairs), pairs) if pairs else ()


def _test(
    values: Floats,
    max_pairs: int,
    alpha: float,
    theta: float,
    alternative: Alternative,
    is_final: bool = False,
) -> SequentialTest:
    return sequential_sign_flip(
        values,
        max_pairs,
        alpha,
        theta=theta,
        alternative=alternative,
        first=first_look(max_pairs, alpha),
        step=STEP,
        is_final=is_final,
        generator=np.random.default_rng(PATTERNS_SEED),
    )


def _values(differences: npt.ArrayLike, max_pairs: int, alpha: float) -> Floats:
    _check(max_pairs, alpha)
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        return values
    values = finite_array(values, "differences", "pairs", item="every value")
    if len(values) > max_pairs:
        raise ValueError(f"{len(values)} differences are more than {max_pairs}")
    return values


def _check(max_pairs: int, alpha: float) -> None:
    if max_pairs < 1:
        raise ValueError(f"max_pairs must be at least 1, got {max_pairs}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
