"""Checks of tuned scores over new examples, on simulated answers of trials to examples.

An answer is right if its latent quality, a sum of normal effects, is above zero. The trial's setting has
an effect, which the selection score sees through noise; so have the example, the example with one
method, and the single answer, which is the interaction of trials and examples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from benchmarks.pool_checks import PART, PATTERNS, SLACK
from benchmarks.rates import ALPHA, Booleans, Rate, Size, coverage, covers, false_positives
from harness.stats import Interval
from harness.stats.arrays import Floats
from harness.stats.exchange import TunedDifference, tuned_difference, tuned_equivalence
from harness.stats.tuned_examples import TunedRuns, tuned_examples_bootstraps, tuned_interval
from harness.stats.tuned_score import Pool, trial_weights

TRIALS, BUDGET = 20, 4
RESAMPLES = 499
SELECTION_NOISE = 1.0
"""Standard deviation of a trial's selection score around the effect of its setting, which has 1."""
THRESHOLD = float(norm.ppf(0.67))
"""The threshold of the baseline: a setting without an effect is right on 67 % of all examples."""
TRUTH_SEARCHES = 200_000
"""Searches that give a true tuned score."""
MARGINS = {60: 0.16, 277: 0.09, 1000: 0.06}
"""Margins of equivalence by the number of examples, about half the width of an interval."""


class Effects(NamedTuple):
    """Variances of the effects that make the latent quality; without the setting's the sum is one."""

    difficulty: float
    """Effect of the example, equal for both methods."""
    example: float
    """Effect of the example for one method."""
    luck: float
    """Effect of the single answer."""
    setting: float
    """Effect of the trial's setting and seed."""


MIXTURES = {
    "all effects": Effects(0.5, 0.05, 0.45, 0.01),
    "examples dominate": Effects(0.5, 0.45, 0.05, 0.0004),
    "trials dominate": Effects(0.93, 0.0, 0.07, 0.09),
    "luck dominates": Effects(0.2, 0.0, 0.8, 0.0004),
}


def draw_settings(searches: int, trials: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Effects of settings, of variance one, and selection scores: both (searches, trials)."""
    effects = rng.normal(size=(searches, trials))
    return effects, effects + SELECTION_NOISE * rng.normal(size=effects.shape)


def threshold_of(effects: Effects, difference: float, rng: np.random.Generator) -> float:
    """The threshold of a method whose true tuned score is above the baseline's by the difference."""
    settings, selection = draw_settings(TRUTH_SEARCHES, BUDGET, rng)
    kept = np.take_along_axis(settings, selection.argmax(axis=1)[:, None], axis=1)[:, 0]

    def score(threshold: float) -> float:
        return float(norm.cdf(threshold + np.sqrt(effects.setting) * kept).mean())

    truth = score(THRESHOLD) + difference
    return float(brentq(lambda threshold: score(threshold) - truth, THRESHOLD, THRESHOLD + 2))


def draw_study(
    effects: Effects, examples: int, rng: np.random.Generator
) -> tuple[list[Floats], list[Floats]]:
    """Selection scores (trials,) and latent qualities (trials, examples) of two copies of a method."""
    difficulty = np.sqrt(effects.difficulty) * rng.normal(size=examples)
    selections, qualities = [], []
    for _ in range(2):
        settings, selection = (values[0] for values in draw_settings(1, TRIALS, rng))
        quality = difficulty + np.sqrt(effects.example) * rng.normal(size=examples)
        quality = quality + np.sqrt(effects.setting) * settings[:, None]
        quality = quality + np.sqrt(effects.luck) * rng.normal(size=(TRIALS, examples))
        selections.append(selection)
        qualities.append(quality)
    return selections, qualities


def over_examples_rates(
    mixture: str, examples: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Rates of false claims over new searches and new examples, and of intervals that hold the truth.

    Claims of a difference are made of copies of one method. Claims of equivalence are made of methods
    whose true difference, over all trials and examples, is the margin.
    """
    effects, margin = MIXTURES[mixture], MARGINS[examples]
    shift = threshold_of(effects, margin, rng)
    differences, equivalences, hits, shifted_hits = (
        np.empty(size.exchange_simulations, dtype=bool) for _ in range(4)
    )
    for index in range(size.exchange_simulations):
        selections, qualities = draw_study(effects, examples, rng)
        runs = [quality > -THRESHOLD for quality in qualities]
        pools = _pools(selections, runs)
        test = tuned_difference(*pools, BUDGET, 1 - ALPHA, rng, PATTERNS)
        interval = _interval(test, selections, runs, rng)
        differences[index] = test.p_value < ALPHA and not covers(interval, 0.0)
        hits[index] = covers(interval, 0.0)
        runs[0] = qualities[0] > -shift
        pools = _pools(selections, runs)
        test = tuned_difference(*pools, BUDGET, 1 - ALPHA, rng, PATTERNS)
        interval = _interval(test, selections, runs, rng)
        equivalence = tuned_equivalence(*pools, BUDGET, margin, ALPHA, rng, PATTERNS)
        is_within = -margin < interval.low and interval.high < margin
        equivalences[index] = equivalence.p_value < ALPHA and is_within
        shifted_hits[index] = covers(interval, margin)
    name = "over searches and examples"
    rates = [
        false_positives(PART, f"{name}: better or worse", mixture, examples, differences, True),
        false_positives(
            PART, f"{name}: equivalent, at the margin", mixture, examples, equivalences, True
        ),
        coverage(f"{name}, copies", mixture, examples, hits, True),
        coverage(f"{name}, at the margin", mixture, examples, shifted_hits, True),
    ]
    return [replace(rate, slack=SLACK) for rate in rates]


def _pools(selections: list[Floats], runs: list[Booleans]) -> list[list[Pool]]:
    """The pools of two methods, from right answers (trials, examples)."""
    return [
        [Pool(tuple(selection.tolist()), tuple(right.mean(axis=1).tolist()))]
        for selection, right in zip(selections, runs, strict=True)
    ]


def _interval(
    test: TunedDifference, selections: list[Floats], runs: list[Booleans], rng: np.random.Generator
) -> Interval:
    """The interval over searches and examples, from right answers (trials, examples)."""
    examples = runs[0].shape[1]
    tuned_runs = [
        TunedRuns(right, trial_weights(selection, BUDGET))
        for selection, right in zip(selections, runs, strict=True)
    ]
    (bootstrap,) = tuned_examples_bootstraps(
        "accuracy", tuned_runs, [(0, 1)], np.ones(examples), rng, RESAMPLES, 1 - ALPHA
    )
    interval = tuned_interval(test.mean, test.interval, bootstrap, examples)
    return Interval(interval.low, interval.high)
