"""Checks of the exchange test, with and without looks: levels and coverage, on simulated pools.

A trial's setting has a quality. The selection score and the reported score are the quality plus noise
of their own, so a tuner that selects sees the quality through noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.null_power import moved_pool
from benchmarks.rates import ALPHA, Rate, Size, coverage, covers, false_positives
from benchmarks.simulated import UNIT
from harness.stats.arrays import Floats
from harness.stats.exchange import tuned_difference, tuned_equivalence
from harness.stats.pool_stopping import (
    look_patterns,
    look_trials,
    pool_interval,
    pool_stopping,
    read_looks,
    sequential_exchange,
)
from harness.stats.tuned_score import Pool

PART = "tuned scores"
PATTERNS = 499
"""Random patterns of each simulated test. Fewer patterns make a test more conservative, never less."""
TRUTH_SEARCHES = 200_000
"""Searches that give a law's true tuned score."""
SELECTION_NOISE, REPORT_NOISE = 1.5, 0.7
"""Standard deviations of a trial's selection score and reported score around the setting's quality."""

QUALITIES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "wide": lambda rng, shape: 2.5 * rng.normal(size=shape),
    "skewed": lambda rng, shape: -2.0 * rng.exponential(size=shape),
    "some fail": lambda rng, shape: (
        0.6 * rng.normal(size=shape) - rng.uniform(4, 25, size=shape) * (rng.random(shape) < 0.15)
    ),
    "levels": lambda rng, shape: rng.integers(3, size=shape).astype(np.float64),
    "offset": lambda rng, shape: 0.3 * rng.normal(size=shape),
}
"""Qualities of settings (simulations, trials) by the name of their law, in the unit of the scores."""
SLACK = 0.01
"""The exchange test is approximate: its level may be a point above the claim."""
OFFSETS = {"offset": 3.0}
"""Distances of selection scores, by law: the methods' scores are then not on one scale."""


def draw_pools(law: str, simulations: int, trials: int, rng: np.random.Generator) -> list[Pool]:
    """Pools of trials whose qualities have the law. The scores of "levels" have many ties."""
    shape = (simulations, trials)
    quality = QUALITIES[law](rng, shape)
    selection = quality + SELECTION_NOISE * rng.normal(size=shape) + OFFSETS.get(law, 0.0)
    reported = quality + REPORT_NOISE * rng.normal(size=shape)
    if law == "levels":
        selection, reported = np.round(selection), np.round(2 * reported) / 2
    return [
        Pool(tuple(row.tolist()), tuple((UNIT * values).tolist()))
        for row, values in zip(selection, reported, strict=True)
    ]


def true_tuned_score(law: str, budget: int, rng: np.random.Generator) -> float:
    """The tuned score of a law, from many searches."""
    pools = draw_pools(law, 1, budget * TRUTH_SEARCHES, rng)[0]
    selection = np.reshape(pools.selection, (TRUTH_SEARCHES, budget))
    reported = np.reshape(pools.reported, (TRUTH_SEARCHES, budget))
    is_best = selection == selection.max(axis=1, keepdims=True)
    return float(((is_best * reported).sum(axis=1) / is_best.sum(axis=1)).mean())


def exchange_rates(
    law: str, other_law: str, trials: int, budget: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Rates of the test, the test of equivalence at the margin, and the interval.

    The methods have the same true tuned score. They are copies of each other if both laws are equal;
    otherwise the baseline is moved by the difference of the true scores, and there is no claim.
    """
    is_copy = law == other_law
    gap = 0.0
    if not is_copy:
        gap = true_tuned_score(law, budget, rng) - true_tuned_score(other_law, budget, rng)
    margin = 4 * UNIT
    """So wide that the test against the other end always rejects."""
    rejections, equivalences, hits = (
        np.empty(size.exchange_simulations, dtype=bool) for _ in range(3)
    )
    methods = draw_pools(law, size.exchange_simulations, trials, rng)
    baselines = draw_pools(other_law, size.exchange_simulations, trials, rng)
    for index, (method, drawn_baseline) in enumerate(zip(methods, baselines, strict=True)):
        baseline = moved_pool(drawn_baseline, gap)
        test = tuned_difference([method], [baseline], budget, 1 - ALPHA, rng, PATTERNS)
        rejections[index] = test.p_value < ALPHA
        better = [moved_pool(method, margin)]
        shifted_test = tuned_difference(better, [baseline], budget, 1 - ALPHA, rng, PATTERNS)
        hits[index] = covers(shifted_test.interval, margin)
        equivalence = tuned_equivalence(better, [baseline], budget, margin, ALPHA, rng, PATTERNS)
        equivalences[index] = equivalence.p_value < ALPHA
    data = f"{law}, best of {budget}" if is_copy else f"{law} and {other_law}, best of {budget}"
    rates = [
        false_positives(PART, "exchange", data, trials, rejections, is_copy),
        false_positives(
            PART, "equivalence of tuned scores, at the margin", data, trials, equivalences, is_copy
        ),
        coverage("exchange interval", data, trials, hits, is_copy),
    ]
    return [replace(rate, slack=SLACK) for rate in rates]


def look_rates(
    law: str, other_law: str, max_trials: int, budget: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Rates of false decisions over all looks at two pools, and of the repeated interval at all looks.

    The methods have the same true tuned score, as in `exchange_rates`. A "better" or "worse" is false;
    here the margin is too small for "equivalent". An "equivalent" at the margin is false, and needs a
    rejection of the margin, which is counted: most such comparisons are "better" before.
    """
    is_copy = law == other_law
    gap = 0.0
    if not is_copy:
        gap = true_tuned_score(law, budget, rng) - true_tuned_score(other_law, budget, rng)
    margin = 4 * UNIT
    rejections, equivalences, hits = (
        np.empty(size.sequential_simulations, dtype=bool) for _ in range(3)
    )
    methods = draw_pools(law, size.sequential_simulations, max_trials, rng)
    baselines = draw_pools(other_law, size.sequential_simulations, max_trials, rng)
    for index, (method, drawn_baseline) in enumerate(zip(methods, baselines, strict=True)):
        patterns = look_patterns(max_trials, rng, PATTERNS)
        null_looks, margin_looks = (
            read_looks(
                pool, moved_pool(drawn_baseline, gap), budget, look_trials(max_trials), patterns
            )
            for pool in (method, moved_pool(method, margin))
        )
        state = pool_stopping(null_looks, max_trials, max_trials, ALPHA, UNIT / 1e6)
        rejections[index] = state.decision is not None
        test = sequential_exchange(
            margin_looks, max_trials, ALPHA, theta=margin, alternative="less"
        )
        equivalences[index] = test.rejected_at is not None
        hits[index] = all(
            covers(pool_interval(margin_looks[:count], max_trials, ALPHA), margin)
            for count in range(1, len(margin_looks) + 1)
        )
    data = f"{law}, best of {budget}" if is_copy else f"{law} and {other_law}, best of {budget}"
    rates = [
        false_positives(
            PART, "looks at pools: better or worse", data, max_trials, rejections, is_copy
        ),
        false_positives(
            PART, "looks at pools: below the margin", data, max_trials, equivalences, is_copy
        ),
        coverage("repeated, at all looks at pools", data, max_trials, hits, is_copy),
    ]
    return [replace(rate, slack=SLACK) for rate in rates]
