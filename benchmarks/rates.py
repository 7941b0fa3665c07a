"""Shares of simulations and their claims."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.stats import Interval, PairedDifference
from harness.stats.paired import EXACT_SEEDS, ROUNDING

Booleans = npt.NDArray[np.bool_]

ALPHA = 0.05
STANDARD_ERRORS = 3
PATTERNS = 99_999
"""Patterns that `paired_difference` draws above `EXACT_SEEDS`."""


@dataclass(frozen=True)
class Size:
    """Numbers of simulations."""

    simulations: int
    function_calls: int
    """Simulations that also go through the verdict's functions."""
    function_calls_wide: int
    """The same number above ten seeds, where the functions are slow."""
    effect_simulations: int
    crossed_simulations: int
    sequential_simulations: int
    exchange_simulations: int

    def through_functions(self, seeds: int) -> int:
        """Simulations with this number of seeds that also go through the verdict's functions."""
        return self.function_calls if seeds <= 10 else self.function_calls_wide


@dataclass(frozen=True)
class Rate:
    """A share of simulations, and the claim about its true value."""

    part: str
    statistic: str
    data: str
    n: int
    """Number of seeds, or the maximum if there are looks; for McNemar's test the number of examples."""
    rate: float
    simulations: int
    claim: float
    bound: Literal["at most", "at least", "about"]
    is_claimed: bool = True
    """Whether the rate has a claim. A rate with a broken assumption has none."""
    slack: float = 0.0
    """Distance from the claim that the true value may have."""
    attainable_level: float | None = None
    """The largest level below the claim that n seeds can have, for differences without ties."""

    @property
    def standard_error(self) -> float:
        """Monte Carlo error of the rate if the true value is the claim."""
        return math.sqrt(self.claim * (1 - self.claim) / self.simulations)

    @property
    def holds(self) -> bool:
        """Whether the rate is within the claim, its slack and three standard errors."""
        excess = self.rate - self.claim
        error = {"at most": excess, "at least": -excess, "about": abs(excess)}[self.bound]
        return error <= self.slack + STANDARD_ERRORS * self.standard_error

    def as_dict(self) -> dict[str, Any]:
        """All fields and properties as plain values."""
        return {**vars(self), "standard_error": self.standard_error, "holds": self.holds}


def false_positives(
    part: str,
    statistic: str,
    data: str,
    n: int,
    rejections: Booleans,
    is_claimed: bool,
    attainable_level: float | None = None,
) -> Rate:
    """The rate of rejections (simulations,) of a true hypothesis, claimed to be at most `ALPHA`."""
    return Rate(
        part,
        statistic,
        data,
        n,
        float(rejections.mean()),
        len(rejections),
        ALPHA,
        "at most",
        is_claimed,
        attainable_level=attainable_level,
    )


def coverage(
    statistic: str, data: str, n: int, hits: Booleans, is_claimed: bool, claim: float = 1 - ALPHA
) -> Rate:
    """The rate of intervals that cover the true value, from hits (simulations,)."""
    rate = float(hits.mean())
    return Rate("coverage", statistic, data, n, rate, len(hits), claim, "at least", is_claimed)


def covers(interval: Interval, truth: float) -> bool:
    """Whether the closed interval covers the true value, up to rounding."""
    return interval.low - ROUNDING <= truth <= interval.high + ROUNDING


class DisagreementError(Exception):
    """The fast computation and the functions of the verdict differ."""


def check_p(result: PairedDifference, p_value: float) -> None:
    """Raise DisagreementError unless the p values agree, up to the error of sampled patterns."""
    error = 5 * math.sqrt(p_value * (1 - p_value) / PATTERNS) + 2 / PATTERNS
    distance = abs(result.p_value - p_value)
    if distance > (0 if result.n <= EXACT_SEEDS else error):
        raise DisagreementError(f"p value of {result.differences}: {result.p_value}, not {p_value}")


def check_same(name: str, function_result: bool, fast_result: bool) -> None:
    """Raise DisagreementError unless the results are equal."""
    if function_result != fast_result:
        raise DisagreementError(
            f"{name}: {function_result} by the function, {fast_result} by the fast way"
        )
