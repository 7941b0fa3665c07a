"""The sign-flip test and its interval, against hand counts, scipy and brute force."""

import dataclasses
import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from harness.stats import Interval, PairedDifference, paired_difference


def compare(differences: object, **options: object) -> PairedDifference:
    """The paired difference of scores that differ by `differences` (seeds,)."""
    values = np.asarray(differences, dtype=float)
    return paired_difference(values, np.zeros_like(values), **options)


def brute_p(differences: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """p value at each integer theta, from all sign patterns of integer differences."""
    signs = np.array(list(product([1, -1], repeat=len(differences))))
    centred = differences[:, None] - theta
    return (abs(signs @ centred) >= abs(centred.sum(axis=0))).mean(axis=0)


def test_six_positive_differences_by_hand() -> None:
    result = compare([1, 2, 3, 4, 5, 6])
    assert result.n == 6
    assert result.differences == (1, 2, 3, 4, 5, 6)
    assert result.mean == 3.5
    assert result.sd == pytest.approx(math.sqrt(3.5))
    assert result.is_exact
    assert result.p_value == result.minimum_p == 2 / 64
    # Only the two patterns that flip nothing or everything may miss theta: the ends are the
    # extreme subset means, the smallest and the largest difference.
    assert result.interval == Interval(1, 6)


def test_mixed_signs_by_hand() -> None:
    # Sums of +-1 +-1 +-1 +-3 at least 4 in size: those of the pattern (+, +, -, +) and two like
    # it, those of (+, +, +, +), and the negatives: 8 of 16.
    assert compare([1, 1, -1, 3]).p_value == 8 / 16


def test_both_ends_belong_to_the_interval() -> None:
    differences = np.array([1, 2, 3, 4, 5, 6, 7, 8])
    # The largest subset means are 8, 7.5, 7 (three times) and 20/3, that of 5, 7 and 8: at 20/3
    # the p value is 7/128, just above it 6/128. The lower end mirrors it about 4.5.
    assert compare(differences).interval == pytest.approx((7 / 3, 20 / 3))
    at_ends = brute_p(3 * differences, np.array([7, 20]))
    outside = brute_p(3000 * differences, np.array([6999, 20001]))
    np.testing.assert_array_equal(at_ends, 7 / 128)
    np.testing.assert_array_equal(outside, 6 / 128)


@pytest.mark.parametrize("confidence", [0.95, 0.9, 0.75])
@pytest.mark.parametrize("seeds", [6, 7, 9])
def test_interval_equals_inversion_by_brute_force(seeds: int, confidence: float) -> None:
    generator = np.random.default_rng(seeds)
    for _ in range(5):
        differences = generator.integers(-4, 9, size=seeds)
        low, high = compare(differences, confidence=confidence).interval
        # A grid of 1/1009, a prime: it meets no subset mean but the integers.
        theta = np.arange(-6 * 1009, 11 * 1009, 7)
        accepted = brute_p(1009 * differences, theta) >= 1 - confidence - 1e-9
        np.testing.assert_array_equal(accepted, (low <= theta / 1009) & (theta / 1009 <= high))


@pytest.mark.parametrize("confidence", [0.95, 0.9, 0.75])
def test_test_and_interval_agree_under_heavy_ties(confidence: float) -> None:
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        seeds = int(generator.integers(1, 11))
        right = generator.integers(170, 200, size=seeds)
        gained = generator.integers(-2, 6, size=seeds)
        result = paired_difference((right + gained) / 277, right / 277, confidence)
        low, high = result.interval
        rejects = result.p_value < round(1 - confidence, 12)
        assert rejects == (not low <= 0 <= high)
        assert result.p_value == brute_p(gained, np.zeros(1, dtype=int))[0]
        rejected += rejects
    assert 30 < rejected < 370


def test_p_value_equals_scipy() -> None:
    generator = np.random.default_rng(1)
    for seeds in (2, 5, 8):
        differences = generator.normal(0.5, 1, size=seeds)
        expected = scipy.stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert compare(differences).p_value == pytest.approx(expected.pvalue, abs=1e-12)


def test_t_interval_equals_scipy() -> None:
    differences = np.random.default_rng(2).normal(size=7)
    expected = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert compare(differences, confidence=0.9).t_interval == pytest.approx(tuple(expected))


def test_the_test_keeps_its_level() -> None:
    generator = np.random.default_rng(3)
    draws = generator.normal(size=(2000, 8))
    rejected = np.mean([compare(row).p_value < 0.05 for row in draws])
    # The largest reachable p value below 0.05 is 12 / 256 = 0.047; four standard errors.
    assert abs(rejected - 12 / 256) < 4 * math.sqrt(12 / 256 / 2000)


def test_one_seed_says_nothing() -> None:
    result = compare([0.3])
    assert result.p_value == result.minimum_p == 1
    assert result.interval == result.t_interval == Interval(-math.inf, math.inf)
    assert math.isnan(result.sd)


def test_five_seeds_have_no_finite_interval() -> None:
    result = compare([1, 2, 3, 4, 5])
    assert result.p_value == 2 / 32
    assert result.interval == Interval(-math.inf, math.inf)
    assert compare([1, 2, 3, 4, 5], confidence=0.9).interval == Interval(1, 5)


def test_equal_scores_have_p_one() -> None:
    scores = np.arange(8) / 277
    result = paired_difference(scores, scores)
    assert result.p_value == 1
    assert result.interval == Interval(0, 0)


def test_differences_of_rounding_only_have_p_one() -> None:
    scores = np.linspace(0.6, 0.7, 8)
    result = paired_difference(np.nextafter(scores, 1), scores)
    assert result.p_value == 1
    assert 0 in result.interval


def test_swapping_the_methods_mirrors_the_result() -> None:
    first, second = np.random.default_rng(4).integers(170, 200, size=(2, 9)) / 277
    ahead, behind = paired_difference(first, second), paired_difference(second, first)
    assert ahead.p_value == behind.p_value
    assert ahead.interval == pytest.approx((-behind.interval.high, -behind.interval.low))


def test_many_seeds_are_sampled_from_the_generator() -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, size=25)
    result = compare(differences, generator=np.random.default_rng(6), resamples=9999)
    again = compare(differences, generator=np.random.default_rng(6), resamples=9999)
    assert result == again
    assert not result.is_exact
    assert result.minimum_p == 1 / 10_000
    expected = scipy.stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=99_999,
        rng=np.random.default_rng(7),
    )
    assert result.p_value == pytest.approx(expected.pvalue, abs=4 * math.sqrt(0.05 / 9999))
    assert result.interval == pytest.approx(result.t_interval, abs=0.1)
    assert (result.p_value < 0.05) == (not result.interval.low <= 0 <= result.interval.high)


def test_sampled_p_value_counts_the_observed_pattern() -> None:
    result = compare([1.0] * 25, generator=np.random.default_rng(8), resamples=999)
    assert result.p_value == 1 / 1000


def test_a_p_value_of_alpha_is_no_rejection() -> None:
    result = compare([1.0] * 25, generator=np.random.default_rng(8), resamples=19)
    assert result.p_value == 1 / 20
    assert result.interval == Interval(-math.inf, math.inf)


def test_the_limit_of_the_exact_test() -> None:
    assert compare(np.ones(20)).p_value == 2 / 2**20
    with pytest.raises(ValueError, match="21 pairs are more than 20: pass a generator"):
        compare(np.ones(21))


@pytest.mark.parametrize(
    ("method", "baseline", "message"),
    [
        ([0.1, math.nan], [0.1, 0.2], r"method_scores\[1\] is nan"),
        ([0.1, 0.2], [math.inf, 0.2], r"baseline_scores\[0\] is inf"),
        ([0.1, 0.2], [0.1], "method_scores has 2 seeds, baseline_scores has 1"),
        ([], [], r"method_scores must have the shape \(seeds,\), got \(0,\)"),
        ([[0.1]], [[0.1]], r"method_scores must have the shape \(seeds,\), got \(1, 1\)"),
    ],
)
def test_bad_scores_are_named(method: list[float], baseline: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(method, baseline)


def test_bad_confidence_is_named() -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        compare([1, 2], confidence=95)


def test_the_result_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        compare([1, 2]).mean = 0.0  # type: ignore[misc]
