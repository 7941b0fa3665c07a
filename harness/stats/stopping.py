"""When a paired comparison needs no more seeds: decided, equivalent, or at the most it may have.

A comparison is looked at after every `STEP` pairs, by three sequential sign-flip tests, each at the
comparison's level: of no difference, two-sided, and of a difference beyond either margin, one-sided.
The first says better or worse; the other two together say equivalent, without a correction for two
(see `paired_equivalence`). The chance of a false "better" or "worse" at any look is at most the level,
and so is that of a false "equivalent". In a family of k comparisons pass alpha / k: Holm's steps would
let the end of one comparison move the boundaries of another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats, finite
from harness.stats.paired import Interval
from harness.stats.sequential import (
    Alternative,
    SequentialTest,
    look_pairs,
    sequential_sign_flip,
    spending,
)

STEP = 2
"""Pairs from one look to the next. A constant of the protocol: verdicts depend on it."""
PATTERNS_SEED = 0
"""Of the patterns that are drawn where there are too many; the same at every look."""
BISECTIONS = 14
Decision = Literal["better", "worse", "equivalent"]


@dataclass(frozen=True)
class Stopping:
    """Where a comparison stands that is looked at while seeds are added."""

    decision: Decision | None
    """None: not decided by the pairs there are."""
    pairs: int
    """Those of the last look: no later pair counts. Before the first look, all there are."""
    most: int
    """Pairs at which it ends, decided or not."""
    alpha: float
    """The level of this comparison: its share of the family's."""
    margin: float
    looks: tuple[int, ...]
    """Numbers of pairs at which was looked, up to `pairs`."""
    next_look: int | None
    """The number of pairs that is needed next; None where no more are: decided, or at the most."""


def first_look(most: int, alpha: float) -> int:
    """The fewest pairs at which anything can be decided: one pattern of signs may be spent.

    `most` where nothing can. Raises ValueError if `most` is below 1 or `alpha` is not between 0 and 1.
    """
    _check(most, alpha)
    return next((n for n in range(1, most) if 2.0**-n <= spending(n, most, alpha)), most)


def least_most(comparisons: int, alpha: float = 0.05) -> int:
    """The least `most` with which a family of so many comparisons can find any difference.

    Raises ValueError if `comparisons` is below 1 or `alpha` is not between 0 and 1.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, got {comparisons}")
    _check(1, alpha)
    return next(n for n in count(1) if 2 * comparisons <= alpha * 2**n)


def stopping(
    differences: npt.ArrayLike, most: int, alpha: float, margin: float, *, last: bool = False
) -> Stopping:
    """Look at the differences (pairs,), method minus baseline in the order of the seeds.

    The looks are those that were due up to so many pairs; what comes after the decision is not read.
    `margin` is in the unit of the scores and fixed beforehand. With `last` no more pairs will come,
    as some were lost: then there is a look at those there are.

    Raises ValueError if a difference is not finite, there are more than `most`, `alpha` is not between
    0 and 1, or the margin is not positive and finite.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, got {margin}")
    values = _values(differences, most, alpha)
    different = alike = None
    if len(values):
        different = _test(values, most, alpha, 0.0, "two-sided", last).rejected_at
        above = _test(values, most, alpha, -margin, "greater", last).rejected_at
        below = _test(values, most, alpha, margin, "less", last).rejected_at
        alike = None if above is None or below is None else max(above, below)
    due = _due(most, alpha, len(values), last)
    later = [] if last else [look for look in due if look > len(values)]
    decision: Decision | None = None
    pairs = max((look for look in due if look <= len(values)), default=len(values))
    if different is not None and (alike is None or different <= alike):
        pairs = different
        decision = "better" if values[:pairs].mean() > 0 else "worse"
    elif alike is not None:
        decision, pairs = "equivalent", alike
    return Stopping(
        decision=decision,
        pairs=pairs,
        most=most,
        alpha=alpha,
        margin=margin,
        looks=tuple(look for look in due if look <= pairs),
        next_look=later[0] if later and decision is None else None,
    )


def repeated_interval(
    differences: npt.ArrayLike, most: int, alpha: float, *, last: bool = False
) -> Interval:
    """Interval of the mean at `1 - alpha` that holds at every look together, as of the last one.

    The means that the two-sided test does not reject at the last look due for so many pairs (Jennison
    and Turnbull, "Interim analyses: the repeated confidence interval approach", Journal of the Royal
    Statistical Society B 51, 1989). It leaves out zero where that look rejects zero, also where tied
    scores make it reject zero alone. An end that this look leaves open is the last one's that bounded
    it; unbounded before the first look, or where no look can reject anything.

    Raises ValueError as `stopping` does.
    """
    values = _values(differences, most, alpha)
    looks = [look for look in _due(most, alpha, len(values), last) if look <= len(values)]
    ends = [-math.inf, math.inf]
    for look in reversed(looks):
        found = _at_look(values[:look], most, alpha, last and look == len(values))
        ends = [new if math.isinf(old) else old for old, new in zip(ends, found, strict=True)]
        if not any(map(math.isinf, ends)):
            break
    return Interval(*ends)


def _at_look(values: Floats, most: int, alpha: float, last: bool) -> Interval:
    """All means that the look at these values does not reject, whatever earlier ones did."""
    inner = float(values.mean())

    def rejected(theta: float) -> bool:
        return _test(values, most, alpha, theta, "two-sided", last).beyond[-1]

    zero = rejected(0.0)

    def end(outermost: float, side: float) -> float:
        if zero and side * inner < 0 < side * outermost:
            outside, inside = 0.0, inner
        elif rejected(outermost + side * (1 + abs(outermost))):
            outside, inside = outermost, inner
        else:
            return side * math.inf
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        return inside if outside == 0 else outside

    return Interval(end(float(values.min()), -1.0), end(float(values.max()), 1.0))


def _due(most: int, alpha: float, pairs: int, last: bool) -> tuple[int, ...]:
    """The looks; with `last` the one at `pairs` too, and none after it."""
    looks = look_pairs(most, first_look(most, alpha), STEP)
    return (*(look for look in looks if look < pairs), pairs) if last and pairs else looks


def _test(
    values: Floats,
    most: int,
    alpha: float,
    theta: float,
    alternative: Alternative,
    last: bool = False,
) -> SequentialTest:
    return sequential_sign_flip(
        values,
        most,
        alpha,
        theta=theta,
        alternative=alternative,
        first=first_look(most, alpha),
        step=STEP,
        last=last,
        generator=np.random.default_rng(PATTERNS_SEED),
    )


def _values(differences: npt.ArrayLike, most: int, alpha: float) -> Floats:
    _check(most, alpha)
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        return values
    values = finite(values, "differences", "pairs", each="every value")
    if len(values) > most:
        raise ValueError(f"{len(values)} differences are more than {most}")
    return values


def _check(most: int, alpha: float) -> None:
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
