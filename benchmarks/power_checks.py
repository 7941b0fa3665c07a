"""Checks of power: how often tests find true differences, against the plan."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from benchmarks import pool_checks, simulated
from benchmarks.null_power import moved_pool
from benchmarks.rates import ALPHA, Booleans, Rate, Size, check_p, coverage, covers
from harness.stats import paired_difference
from harness.stats.exchange import tuned_difference
from harness.stats.paired import ROUNDING
from harness.stats.power import power_of, seeds_needed
from harness.stats.signflip import exact_p_values
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import detectable_tuned_difference, effective_trials
from harness.stats.tuned_score import pseudo_scores, tuned_score

NORMAL_LAW = "normal"
SD = 0.012
POWER = 0.8
SLACK = 0.03
"""The claim is a power within three points of the plan."""
TUNED_SLACK = 0.07
"""The claim for tuned scores is a power within seven points of the plan."""
SPREAD_SLACK = 0.04
"""The interval of a pool's spread covers the truth in four points less than claimed, or more often."""
SPREAD_SEARCHES = 4000
"""Pools that give a law's true spread."""


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


def tuned_rates(
    law: str, trials: int, budget: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Power of the exchange test for the difference that is planned for 80 %, and the spread's interval.

    Both methods have the law. The plan is made with the true spread; the interval is that of the spread
    of the jackknife from one pair of pools. Near the least number of trials, twice the budget, the power
    may be lower than planned and has no claim.
    """
    searches = pool_checks.draw_pools(law, SPREAD_SEARCHES, trials, rng)
    spread = math.sqrt(2 * trials) * float(np.std([tuned_score(p, budget) for p in searches]))
    difference = detectable_tuned_difference(spread, trials, budget, ALPHA, POWER)
    decisions, hits = np.empty((2, size.exchange_simulations), dtype=bool)
    methods = pool_checks.draw_pools(law, len(hits), trials, rng)
    baselines = pool_checks.draw_pools(law, len(hits), trials, rng)
    for index, (method, baseline) in enumerate(zip(methods, baselines, strict=True)):
        better = moved_pool(method, difference)
        test = tuned_difference([better], [baseline], budget, 1 - ALPHA, rng, pool_checks.PATTERNS)
        decisions[index] = test.p_value < ALPHA and test.mean > 0
        pseudo_differences = pseudo_scores(method, budget) - pseudo_scores(baseline, budget)
        sd = float(pseudo_differences.std(ddof=1))
        hits[index] = covers(sd_interval(sd, effective_trials(trials, budget)), spread)
    data = f"{law}, best of {budget}"
    rate = Rate(
        "power",
        "detectable_tuned_difference",
        data,
        trials,
        float(decisions.mean()),
        len(decisions),
        POWER,
        "about",
        is_claimed=trials >= 3 * budget,
        slack=TUNED_SLACK,
    )
    interval = coverage("spread of tuned scores", data, trials, hits, is_claimed=True)
    return [rate, replace(interval, slack=SPREAD_SLACK)]


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
