"""Differences that are there: how often they are found, against what was planned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks import simulated
from benchmarks.rates import ALPHA, Found, Rate, Size, check_p
from harness.stats import paired_difference
from harness.stats.paired import ROUNDING
from harness.stats.power import power_of, seeds_needed
from harness.stats.signflip import exact_p_values

NORMAL = "normal"
SD = 0.012
POWER = 0.8
SLACK = 0.03
"""Power is claimed to be within three points."""


def power_rates(
    law: str, effect: float, n: int, comparisons: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Power of the sign-flip test for a mean of `effect` standard deviations, as predicted."""
    alpha, difference = ALPHA / comparisons, effect * SD
    predicted = power_of(SD, difference, n, alpha)
    found = _decided(law, difference, n, alpha, size, rng)
    data = f"{law}, d = {effect:g}, α = .05{f' / {comparisons}' if comparisons > 1 else ''}"
    shown = Rate("power", "power_of", data, n, float(found.mean()), len(found), predicted, "about")
    return [replace(shown, slack=SLACK, promised=law == NORMAL)]


def seeds_rates(
    effect: float, comparisons: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Power with the number of seeds that is said to give 80 %, and with one less."""
    alpha, difference = ALPHA / comparisons, effect * SD
    needed = seeds_needed(SD, difference, alpha, POWER)
    data = f"normal, d = {effect:g}, α = .05{f' / {comparisons}' if comparisons > 1 else ''}"
    enough = _decided(NORMAL, difference, needed, alpha, size, rng)
    fewer = _decided(NORMAL, difference, needed - 1, alpha, size, rng)
    shown = Rate(
        "power", "seeds_needed", data, needed, float(enough.mean()), len(enough), POWER, "at least"
    )
    shown = replace(shown, slack=SLACK)
    return [
        shown,
        replace(
            shown,
            statistic="one seed fewer",
            n=needed - 1,
            rate=float(fewer.mean()),
            bound="at most",
        ),
    ]


def _decided(
    law: str, difference: float, n: int, alpha: float, size: Size, rng: np.random.Generator
) -> Found:
    """Whether the test is below alpha on the side of the difference (simulations,)."""
    samples = difference + SD * simulated.standardised(law, size.simulations, n, rng)
    p_values = exact_p_values(samples, ROUNDING)
    for i in range(size.through_functions(n)):
        check_p(paired_difference(samples[i], np.zeros(n), generator=rng), p_values[i])
    decided: Found = (p_values < alpha) & (samples.mean(axis=1) * difference > 0)
    return decided
