"""The power of designs that compare methods, on pools drawn from one large pool.

A copy of a method is better by a known amount. The pool design gives each method N trials, and compares
tuned scores by the exchange test. The repeats design gives each method R tunings of T trials and one
run of the setting that each tuning keeps, and compares the R runs by the sign-flip test, as
`--repeat-search R` does. The runs with new seeds are not simulated: the kept trial's own score stands
for them. A repeat also fine-tunes a teacher, and new teachers differ; both are left out here, in favour
of the repeats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.stats import paired_difference
from harness.stats.exchange import tuned_difference
from harness.stats.tuned_score import Pool

PATTERNS = 999
"""Random patterns of each exchange test."""
POINTS = {"one_point": 0.01, "two_points": 0.02}
TRIALS = (20, 40, 60, 80)
"""Trials of each method in the pool design."""
REPEATS = (8, 16, 32)
"""Tunings of each method in the repeats design."""


def runs_for_power(
    pool: Pool, budget: int, draws: int, generator: np.random.Generator, alpha: float = 0.05
) -> list[dict[str, Any]]:
    """The share of `draws` pairs that find a difference of one and of two points, for each design.

    `runs` are the runs of each method.
    """
    rows = []
    for trials in TRIALS:
        found = dict.fromkeys(POINTS, 0)
        for _ in range(draws):
            method, baseline = (draw_pool(pool, trials, generator) for _ in range(2))
            for name, distance in POINTS.items():
                test = tuned_difference(
                    [moved_pool(method, distance)],
                    [baseline],
                    budget,
                    1 - alpha,
                    generator,
                    PATTERNS,
                )
                found[name] += test.p_value < alpha and test.mean > 0
        rows.append(_row("pool", trials, found, draws))
    for repeats in REPEATS:
        found = dict.fromkeys(POINTS, 0)
        for _ in range(draws):
            scores = [_kept_scores(pool, budget, repeats, generator) for _ in range(2)]
            for name, distance in POINTS.items():
                difference = paired_difference(
                    scores[0] + distance, scores[1], 1 - alpha, generator, PATTERNS
                )
                found[name] += difference.p_value < alpha and difference.mean > 0
        rows.append(_row("repeats", repeats * (budget + 1), found, draws))
    return rows


def draw_pool(pool: Pool, trials: int, generator: np.random.Generator) -> Pool:
    """`trials` independent draws from the trials of a large pool."""
    indices = generator.integers(pool.trials, size=trials)
    return Pool(
        tuple(pool.selection[index] for index in indices),
        tuple(pool.reported[index] for index in indices),
    )


def moved_pool(pool: Pool, distance: float) -> Pool:
    """A pool whose reported scores are higher by `distance`."""
    return Pool(pool.selection, tuple(score + distance for score in pool.reported))


def _kept_scores(
    pool: Pool, budget: int, repeats: int, generator: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The reported scores (repeats,) of the trials that tuners keep; the first of equal trials."""
    indices = generator.integers(pool.trials, size=(repeats, budget))
    selection = np.array(pool.selection)[indices]
    kept_trials = indices[np.arange(repeats), selection.argmax(axis=1)]
    scores: np.ndarray[Any, np.dtype[np.float64]] = np.array(pool.reported)[kept_trials]
    return scores


def _row(design: str, runs: int, found: dict[str, int], draws: int) -> dict[str, Any]:
    return {
        "design": design,
        "runs": runs,
        **{name: count / draws for name, count in found.items()},
    }
