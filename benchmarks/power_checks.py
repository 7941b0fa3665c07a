"""Checks of power: how often tests find true differences, against the plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks import simulated
from benchmarks.rates import ALPHA, Booleans, Rate, Size, check_p
from harness.stats import paired_difference
from harness.stats.paired import ROUNDING
from harness.stats.power import power_of, seeds_needed
from harness.stats.signflip import exact_p_values

NORMAL_LAW = "normal"
SD = 0.012
POWER = 0.8
SLACK = 0.03
"""The claim is a power within three points of the plan."""


def power_rates(
    law: str, effect: float, n: int, comparisons: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Power of the sign-flip test for a mean of `effect` standard deviations, against the plan."""
    alpha, difference = ALPHA / comparisons, effect * SD
    planned_power = power_of(SD, difference, n, alpha)
    decisions = _decisions(law, difference, n, alpha, size, rng)
    data = f"{law}, d = {effect:g}, α = .05{f' / {comparisons}' if comparisons > 1 else ''}"
    rate = Rate(
        "power",
        "power_of",
        data,
        n,
        float(decisions.mean()),
        len(decisions),
        planned_power,
        "about",
    )
    return [replace(rate, slack=SLACK, is_claimed=law == NORMAL_LAW)]


def seeds_rates(
    effect: float, comparisons: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Power with the number of seeds that is planned for 80 %, and with one seed fewer."""
    alpha, difference = ALPHA / comparisons, effect * SD
    seeds = seeds_needed(SD, difference, alpha, POWER)
    data = f"normal, d = {effect:g}, α = .05{f' / {comparisons}' if comparisons > 1 else ''}"
    decisions = _decisions(NORMAL_LAW, difference, seeds, alpha, size, rng)
    fewer_decisions = _decisions(NORMAL_LAW, difference, seeds - 1, alpha, size, rng)
    rate = Rate(
        "power",
        "seeds_needed",
        data,
        seeds,
        float(decisions.mean()),
        len(decisions),
        POWER,
        "at least",
    )
    rate = replace(rate, slack=SLACK)
    return [
        rate,
        replace(
            rate,
            statistic="one seed fewer",
            n=seeds - 1,
            rate=float(fewer_decisions.mean()),
            bound="at most",
        ),
    ]


def _decisions(
    law: str, difference: float, n: int, alpha: float, size: Size, rng: np.random.Generator
) -> Booleans:
    """Whether the test rejects on the side of the difference (simulations,)."""
    samples = difference + SD * simulated.standard_draws(law, size.simulations, n, rng)
    p_values = exact_p_values(samples, ROUNDING)
    for i in range(size.through_functions(n)):
        check_p(paired_difference(samples[i], np.zeros(n), generator=rng), p_values[i])
    decisions: Booleans = (p_values < alpha) & (samples.mean(axis=1) * difference > 0)
    return decisions
