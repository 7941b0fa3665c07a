"""One comparison of two methods on a task: the numbers and the verdict. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

from harness.stats import (
    Interval,
    OverExamples,
    PairedDifference,
    PairedEffects,
    PairedEquivalence,
    Stopping,
    Verdict,
)

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class DecidingInterval:
    """The interval whose place decides: zero, or both margins, lie outside exactly as the verdict says.

    Runs that failed on the favoured side take a verdict away, and no interval shows that.
    """

    interval: Interval
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """One method against one baseline on one task.

    `unpaired_seeds` are complete on one side only and are left out. `equivalence_p` is adjusted in the
    family of the tests of equivalence. `interval` inverts the verdict's test. Where seeds or trials
    were added until the decision, `stopping` is the state of the sequential test, `interval` is the
    repeated interval, and `equivalence` and `adjusted_p` are None: a p value for a fixed number of
    seeds does not hold there.
    """

    task: str
    method: str
    baseline: str
    metric: str
    difference: PairedDifference
    interval: Interval
    adjusted_p: float | None
    stopping: Stopping | None
    effects: PairedEffects | None
    """None for tuned scores: they are one number for all trials, and no trial has an effect."""
    equivalence: PairedEquivalence | None
    equivalence_p: float
    deciding: DecidingInterval
    """Of the test of a difference, at the level at which Holm's method tests this comparison; with added
    runs the repeated interval. It excludes zero exactly if the method tests better or worse."""
    deciding_equivalence: DecidingInterval | None
    """Of the test of equivalence, at its level in Holm's method: the confidence is 1 minus twice the
    level, and the interval lies inside the margin exactly if the sides test equivalent. Where runs were
    added it is that of all looks together, and None without this decision."""
    over_examples: OverExamples | None
    """The interval over new examples, and over new seeds or, for tuned scores, new searches."""
    verdict: Verdict
    detectable_difference: float | None
    """The least true difference that this number of pairs finds with power 0.8, at the observed spread
    and this comparison's share of alpha. Infinite where no difference can be found; None without a
    spread, or where runs were added until the decision."""
    seeds: tuple[int, ...]
    unpaired_seeds: tuple[int, ...]

    @property
    def margin(self) -> float:
        """The margin of equivalence, in the unit of the scores."""
        test = self.equivalence if self.stopping is None else self.stopping
        assert test is not None
        return test.margin

    @property
    def decided_by(self) -> DecidingInterval:
        """The interval of the test that gave the verdict: for "equivalent" that of equivalence."""
        if self.verdict.outcome == "equivalent" and self.deciding_equivalence is not None:
            return self.deciding_equivalence
        return self.deciding

    @property
    def difference_text(self) -> str:
        """The difference in points with the interval that decides, for tables."""
        ends = [
            "unbounded" if math.isinf(end) else f"{100 * end:+.1f}"
            for end in self.decided_by.interval
        ]
        interval = "(unbounded)" if set(ends) == {"unbounded"} else f"[{ends[0]}, {ends[1]}]"
        return f"{100 * self.difference.mean:+.1f} {interval}"


class Awaited(Sequence[Comparison]):
    """Comparisons that are still made: the first look at any of them, or at their number, waits."""

    def __init__(self, wait: Callable[[], tuple[Comparison, ...]]) -> None:
        """`wait` gives the comparisons; it is called once."""
        self._wait = wait

    @cached_property
    def _comparisons(self) -> tuple[Comparison, ...]:
        return self._wait()

    @overload
    def __getitem__(self, position: int) -> Comparison: ...

    @overload
    def __getitem__(self, position: slice) -> tuple[Comparison, ...]: ...

    def __getitem__(self, position: int | slice) -> Comparison | tuple[Comparison, ...]:
        return self._comparisons[position]

    def __len__(self) -> int:
        return len(self._comparisons)
