"""Sampled sign patterns, against all of them."""

import math

import numpy as np
import pytest

from harness.stats import signflip


def test_segments_by_hand() -> None:
    # Flipping 1, 2, or both, of 1, 2 and 6: each mean beside the mean of the rest.
    low, high = signflip.segments_up_to(20, np.array([1.0, 2.0, 6.0]), None, 0)
    np.testing.assert_array_equal(low, [1, 2, 1.5])
    np.testing.assert_array_equal(high, [4, 3.5, 6])


def test_sampled_segments_approach_all_of_them() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1, size=12)
    exact = signflip.segments_up_to(20, differences, None, 0)
    sampled = signflip.segments_up_to(0, differences, np.random.default_rng(1), 20_000)
    p_value = signflip.p_value(exact, 0.0)
    error = math.sqrt(p_value * (1 - p_value) / 20_000)
    assert signflip.p_value(sampled, 0.0) == pytest.approx(p_value, abs=4 * error)
    expected = signflip.interval(exact, 0.05, 0.0)
    assert signflip.interval(sampled, 0.05, 0.0) == pytest.approx(expected, abs=0.05)


def test_a_sampled_identity_pattern_covers_everything() -> None:
    # One of eight patterns of four differences flips nothing: p stays above 0.05 everywhere.
    sampled = signflip.segments_up_to(0, np.arange(4.0), np.random.default_rng(2), 999)
    assert signflip.interval(sampled, 0.05, 0.0) == (-math.inf, math.inf)
