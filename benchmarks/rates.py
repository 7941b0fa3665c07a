"""Shares of simulations, and whether they agree with what is claimed of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.stats import Interval, PairedDifference
from harness.stats.paired import EXACT_SEEDS, ROUNDING

Found = npt.NDArray[np.bool_]

ALPHA = 0.05
STANDARD_ERRORS = 3
SAMPLED = 99_999
"""Patterns that `paired_difference` draws above `EXACT_SEEDS`."""


@dataclass(frozen=True)
class Size:
    """How many simulations are done of what."""

    simulations: int
    called: int
    """Of those, through the verdict's functions as well."""
    called_wide: int
    """The same above ten seeds, where the functions are slow."""
    effects: int
    crossed: int
    sequential: int

    def through_functions(self, seeds: int) -> int:
        """How many simulations of so many seeds go through the verdict's functions."""
        return self.called if seeds <= 10 else self.called_wide


@dataclass(frozen=True)
class Rate:
    """A share of simulations, and what is claimed of its true value."""

    part: str
    statistic: str
    data: str
    n: int
    """Seeds; the most seeds, where there are looks before; examples, for McNemar's test."""
    rate: float
    simulations: int
    claim: float
    bound: Literal["at most", "at least", "about"]
    promised: bool = True
    """Else it is shown beside: what it assumes does not hold, or nothing is claimed."""
    slack: float = 0.0
    """How far the true value may be off."""
    reachable: float | None = None
    """The largest level below the claim that so many seeds can have, where differences never tie."""

    @property
    def standard_error(self) -> float:
        """Monte Carlo error of the rate, if the claim is just met."""
        return math.sqrt(self.claim * (1 - self.claim) / self.simulations)

    @property
    def holds(self) -> bool:
        """Whether the rate is within the claim, its slack and three standard errors."""
        above = self.rate - self.claim
        off = {"at most": above, "at least": -above, "about": abs(above)}[self.bound]
        return off <= self.slack + STANDARD_ERRORS * self.standard_error

    def as_dict(self) -> dict[str, Any]:
        """All of it, plain."""
        return {**vars(self), "standard_error": self.standard_error, "holds": self.holds}


def false_positives(
    part: str,
    statistic: str,
    data: str,
    n: int,
    rejected: Found,
    promised: bool,
    reachable: float | None = None,
) -> Rate:
    """The share of true hypotheses that are rejected (simulations,), at the level `ALPHA`."""
    return Rate(
        part,
        statistic,
        data,
        n,
        float(rejected.mean()),
        len(rejected),
        ALPHA,
        "at most",
        promised,
        reachable=reachable,
    )


def coverage(
    statistic: str, data: str, n: int, covered: Found, promised: bool, claim: float = 1 - ALPHA
) -> Rate:
    """The share of intervals that hold the truth (simulations,)."""
    rate = float(covered.mean())
    return Rate("coverage", statistic, data, n, rate, len(covered), claim, "at least", promised)


def covers(interval: Interval, truth: float) -> bool:
    """Whether the closed interval holds the truth, up to rounding."""
    return interval.low - ROUNDING <= truth <= interval.high + ROUNDING


class DisagreementError(Exception):
    """The fast computation and the functions that users get give different results."""


def check_p(tested: PairedDifference, p_value: float) -> None:
    """Raise DisagreementError unless it is the p value, or one that drawing patterns explains."""
    error = 5 * math.sqrt(p_value * (1 - p_value) / SAMPLED) + 2 / SAMPLED
    off = abs(tested.p_value - p_value)
    if off > (0 if tested.n <= EXACT_SEEDS else error):
        raise DisagreementError(f"p value of {tested.differences}: {tested.p_value}, not {p_value}")


def check_same(what: str, public: bool, fast: bool) -> None:
    """Raise DisagreementError unless both say the same."""
    if public != fast:
        raise DisagreementError(f"{what}: {public} by the public function, {fast} by the fast way")
