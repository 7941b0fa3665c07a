"""Tuning curves, against hand counts, enumeration and the exact coverage of the band."""

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats.tuning import TuningCurve, minimum_curve_trials, tuning_curve

DETERMINISTIC = settings(max_examples=60, deadline=None, derandomize=True, database=None)
scores = st.lists(st.integers(-3, 3), min_size=1, max_size=6)
"""Few values, so that many tie."""


def brute_median(values: list[float], k: int) -> float:
    """The least score that the best of k draws does not exceed in at least half of all draws."""
    best = sorted(max(drawn) for drawn in product(values, repeat=k))
    return best[math.ceil(len(best) / 2) - 1]


def coverage(low: np.ndarray, high: np.ndarray) -> float:
    """Chance that a band covers the curve of a continuous distribution, as ends (n,) in ranks.

    With q = 2^(-1/k), the low end is at most the true median best of k exactly if at least `low[k]`
    of n uniform numbers are at most q, the high end is above it if fewer than `high[k]` are. Numbers
    at most q are counted from one q to the next: each one above moves below by a known chance.
    """
    n = len(low)
    counts = np.zeros(n + 1)
    counts[0] = 1
    reached = 0.0
    for k, (least, beyond) in enumerate(zip(low, high, strict=True), start=1):
        q = 0.5 ** (1 / k)
        moved = np.array(
            [scipy.stats.binom.pmf(np.arange(n + 1) - m, n - m, (q - reached) / (1 - reached))
             for m in range(n + 1)]
        )  # fmt: skip
        inside = (np.arange(n + 1) >= least) & (np.arange(n + 1) < beyond)
        counts = np.where(inside, counts @ moved, 0)
        reached = q
    return float(counts.sum())


def ranks(n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.transpose(tuning_curve(np.arange(1.0, n + 1), 0, confidence).band)
    return np.where(np.isinf(low), 0, low), np.where(np.isinf(high), n + 1, high)


def test_by_hand() -> None:
    curve = tuning_curve([3, 1, 2])
    # The best of two of three: 3, 3 and 2. Drawn anew, the best is at most 2 with chance (2/3)^k.
    assert curve.expected_best == pytest.approx((2, 8 / 3, 3))
    assert curve.median == (2, 3, 3)
    assert (curve.n, curve.failures, curve.confidence) == (3, 0, 0.95)


@DETERMINISTIC
@given(scores)
def test_expected_best_equals_the_mean_over_all_subsets(values: list[int]) -> None:
    curve = tuning_curve(values)
    for k, expected in enumerate(curve.expected_best, start=1):
        best = [max(chosen) for chosen in combinations(values, k)]
        assert expected == pytest.approx(np.mean(best), abs=1e-12)


@DETERMINISTIC
@given(scores, st.integers(0, 2))
def test_median_best_equals_enumeration_of_all_draws(values: list[int], failed: int) -> None:
    everything = [*map(float, values), *[-math.inf] * failed][-5:]
    kept = [value for value in everything if value > -math.inf]
    curve = tuning_curve(kept, len(everything) - len(kept))
    assert curve.median == tuple(brute_median(everything, k + 1) for k in range(curve.n))


def test_expected_best_is_without_bias_and_drawing_again_is_not() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.random((1000, 5))
    found = np.mean([tuning_curve(row).expected_best for row in drawn], axis=0)
    # The best of k uniform numbers has the mean k / (k + 1).
    assert found == pytest.approx([k / (k + 1) for k in range(1, 6)], abs=0.015)
    again = np.mean([[max(d) for d in product(row, repeat=5)] for row in drawn[:20]])
    assert again < np.mean([tuning_curve(row).expected_best[-1] for row in drawn[:20]]) - 0.03


@pytest.mark.parametrize("n", [4, 8, 10, 20, 40])
@pytest.mark.parametrize(("confidence", "most"), [(0.8, 0.97), (0.95, 0.999)])
def test_the_band_covers_the_whole_curve(n: int, confidence: float, most: float) -> None:
    """Exactly computed. More often than said, because the curve is the better half of the band."""
    assert confidence <= coverage(*ranks(n, confidence)) < most


def test_ends_of_each_k_alone_would_not_cover_the_whole_curve() -> None:
    """Else the test above could not tell the two apart."""
    below = scipy.stats.binom(20, 0.5 ** (1 / np.arange(1, 21)))
    assert coverage(below.ppf(0.025), below.ppf(0.975) + 1) < 0.92


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20])
def test_the_band_is_what_its_definition_says(n: int) -> None:
    """Equal-tailed intervals of all order statistics, as wide as it takes to hold at once."""
    drawn = np.sort(np.random.default_rng(1).random((50_000, n)), axis=1)
    order = scipy.stats.beta(np.arange(1, n + 1), np.arange(n, 0, -1))
    inside = np.quantile(abs(2 * order.cdf(drawn) - 1).max(axis=1), 0.95)
    low, high = order.ppf((1 - inside) / 2), order.ppf((1 + inside) / 2)
    # Below the first score the distribution is between 0 and high[0], from the last on low[-1] to 1.
    places = [
        (np.searchsorted([*high, 1.0], q), np.searchsorted([*low, 1.0], q) + 1)
        for q in 0.5 ** (1 / np.arange(1, n + 1))
    ]
    assert [tuple(ends) for ends in zip(*ranks(n, 0.95), strict=True)] == places


def test_the_band_covers_scores_with_ties_and_failures() -> None:
    """12 trials: a tenth fail, and the others have one of seven accuracies."""
    generator, levels = np.random.default_rng(1), np.arange(7) / 7
    true = [levels[math.ceil((0.5 ** (1 / k) - 0.1) / 0.9 * 7) - 1] for k in range(1, 13)]
    covered, simulations = 0, 1000
    for _ in range(simulations):
        failed = int(generator.binomial(12, 0.1))
        curve = tuning_curve(generator.choice(levels, 12 - failed), failed)
        covered += all(low <= t <= high for t, (low, high) in zip(true, curve.band, strict=True))
    assert covered >= 0.95 * simulations - 3 * math.sqrt(0.05 * 0.95 * simulations)


def test_failed_trials_rank_below_every_score() -> None:
    curve, last = tuning_curve([3.0, 2, 1, 5, 4, 6, 7, 8], 2), tuning_curve(range(-1, 9))
    assert np.isnan(curve.expected_best).all()
    assert (curve.n, curve.failures) == (10, 2)
    places = {-1.0: -math.inf, 0.0: -math.inf}
    assert curve.median == tuple(places.get(value, value) for value in last.median)
    mapped = [(places.get(low, low), places.get(high, high)) for low, high in last.band]
    assert list(curve.band) == mapped
    assert tuning_curve([1.0], 3).median == (-math.inf, -math.inf, 1.0, 1.0)


@DETERMINISTIC
@given(st.lists(st.integers(0, 20), min_size=2, max_size=24), st.integers(0, 3))
def test_the_curve_rises_within_its_band(values: list[int], failed: int) -> None:
    curve = tuning_curve(values, failed)
    assert len(curve.expected_best) == len(curve.median) == len(curve.band) == curve.n
    low, high = np.transpose(curve.band)
    assert (low <= curve.median).all()
    assert (curve.median <= high).all()
    for line in (curve.median, low, high):
        assert list(line) == sorted(line)
    wider = np.transpose(tuning_curve(values, failed, 0.99).band)
    assert (wider[0] <= low).all()
    assert (wider[1] >= high).all()


@DETERMINISTIC
@given(st.lists(st.integers(0, 20), min_size=8, max_size=12), st.randoms())
def test_order_and_unit_of_the_scores_do_not_matter(values: list[int], random: Any) -> None:
    shuffled = random.sample(values, len(values))
    curve, other = tuning_curve(values), tuning_curve(shuffled)
    points = tuning_curve([100.0 * value - 3 for value in values])
    assert (other.median, other.band) == (curve.median, curve.band)
    assert other.expected_best == pytest.approx(curve.expected_best)
    assert points.median == pytest.approx([100 * value - 3 for value in curve.median])
    assert points.expected_best == pytest.approx([100 * value - 3 for value in curve.expected_best])
    assert np.array(points.band) == pytest.approx(100 * np.array(curve.band) - 3)


def bounded(curve: TuningCurve) -> list[bool]:
    return [bool(np.isfinite(ends).all()) for ends in curve.band]


def test_the_least_trials_are_the_least() -> None:
    assert minimum_curve_trials(0.95) == 8
    assert bounded(tuning_curve(range(8))) == [True] + [False] * 7
    assert not any(any(bounded(tuning_curve(range(n)))) for n in range(1, 8))
    assert minimum_curve_trials(0.99) > 8 > minimum_curve_trials(0.8)


def test_one_trial_bounds_nothing() -> None:
    curve = tuning_curve([0.7])
    assert (curve.expected_best, curve.median) == ((0.7,), (0.7,))
    assert curve.band == ((-math.inf, math.inf),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1, math.nan], r"scores\[1\] is nan; every score must be finite"),
        ([-math.inf], r"scores\[0\] is -inf; every score must be finite"),
        ([], r"scores must have the shape \(trials,\), got \(0,\)"),
        ([[0.1]], r"scores must have the shape \(trials,\), got \(1, 1\)"),
    ],
)
def test_bad_scores_are_named(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuning_curve(values)


def test_bad_counts_and_levels_are_named() -> None:
    with pytest.raises(ValueError, match="failures must not be negative, got -1"):
        tuning_curve([1.0], -1)
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match=f"between 0 and 1, got {confidence}"):
            tuning_curve([1.0], 0, confidence)
        with pytest.raises(ValueError, match=f"between 0 and 1, got {confidence}"):
            minimum_curve_trials(confidence)
