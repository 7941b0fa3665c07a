"""Equivalence within a margin, against brute force, statsmodels, pingouin and the verdict."""

import dataclasses
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_paired

from harness.stats import paired_difference
from harness.stats.equivalence import PairedEquivalence, paired_equivalence

DETERMINISTIC = settings(max_examples=200, deadline=None, derandomize=True, database=None)
gains = st.lists(st.integers(-4, 4), min_size=1, max_size=10)


def brute_p(differences: np.ndarray, margin: int) -> float:
    """The larger one-sided p value, from all sign patterns about either end of the margin."""
    signs = np.array(list(product([1, -1], repeat=len(differences))))
    above, below = differences + margin, differences - margin
    return float(max(np.mean(signs @ above >= above.sum()), np.mean(signs @ below <= below.sum())))


def test_by_hand() -> None:
    # About -4 the differences are 3, 4, 5, 4, 4: no flip reaches their sum but the one of nothing.
    # About +4 they are -5, -4, -3, -4, -4, likewise.
    result = paired_equivalence([-1, 0, 1, 0, 0], margin=4)
    assert result.p_value == result.minimum_p == 1 / 32
    assert result.is_exact
    # 2 alpha = .1 of 16 pairs: only the identity pair may miss, the ends are the extremes.
    assert result.interval == (-1, 1)
    assert (result.n, result.margin, result.alpha) == (5, 4, 0.05)


def test_a_mean_outside_the_margin_by_hand() -> None:
    # About +1 the differences are 1, 2, 3: all flips but none (of 8) give a sum below 6, or 6.
    result = paired_equivalence([2, 3, 4], margin=1)
    assert result.p_value == 1


@DETERMINISTIC
@given(gains, st.integers(1, 5))
def test_equals_brute_force(differences: list[int], margin: int) -> None:
    whole = np.array(differences)
    expected = brute_p(whole, margin)
    assert paired_equivalence(whole, margin).p_value == expected
    # Shares of 277 examples: what ties must not depend on rounding.
    right = np.arange(150, 150 + len(whole))
    shares = (right + whole) / 277 - right / 277
    assert paired_equivalence(shares, margin / 277).p_value == expected


@DETERMINISTIC
@given(gains, st.integers(1, 5), st.sampled_from([0.05, 0.1, 0.0625, 0.05 / 3, 0.4]))
def test_the_interval_lies_inside_exactly_when_equivalent(
    differences: list[int], margin: int, alpha: float
) -> None:
    result = paired_equivalence(differences, margin, alpha)
    low, high = result.interval
    assert (result.p_value < alpha) == (-margin + 1e-9 < low and high < margin - 1e-9)


def test_both_outcomes_are_met_often() -> None:
    """So that the agreement above is no agreement on one outcome."""
    generator = np.random.default_rng(0)
    rows = generator.integers(-4, 5, size=(300, 10))
    equivalent = sum(paired_equivalence(row, 3).p_value < 0.05 for row in rows)
    assert 60 < equivalent < 290


@pytest.mark.parametrize("seeds", [7, 10])
def test_the_interval_is_that_of_the_paired_difference_at_twice_alpha(seeds: int) -> None:
    differences = np.random.default_rng(seeds).normal(size=seeds)
    result = paired_equivalence(differences, 1.0, alpha=0.05)
    expected = paired_difference(differences, np.zeros(seeds), confidence=0.9).interval
    assert result.interval == expected


def test_the_one_sided_p_value_is_half_the_two_sided_one_of_shifted_scores() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, size=9)
    shifted = [paired_difference(differences, np.full(9, m)).p_value for m in (-0.9, 0.9)]
    assert paired_equivalence(differences, 0.9).p_value == max(shifted) / 2


@pytest.mark.parametrize("seeds", [2, 6, 20])
def test_t_tests_equal_statsmodels_and_pingouin(seeds: int) -> None:
    method, baseline = np.random.default_rng(seeds).normal(size=(2, seeds))
    t_p_value = paired_equivalence(method - baseline, 0.7).t_p_value
    assert t_p_value == pytest.approx(ttost_paired(method, baseline, -0.7, 0.7)[0], rel=1e-9)
    pingouin = pytest.importorskip("pingouin")
    expected = pingouin.tost(method, baseline, bound=0.7, paired=True)["pval"].iloc[0]
    assert t_p_value == pytest.approx(expected, rel=1e-9)


def test_near_the_t_test_on_normal_differences() -> None:
    differences = np.random.default_rng(2).normal(size=18)
    result = paired_equivalence(differences, 0.6)
    assert result.p_value == pytest.approx(result.t_p_value, abs=0.02)


@DETERMINISTIC
@given(gains, st.integers(1, 5), st.sampled_from([-1.0, 1 / 277, -3.7, 1e6]))
def test_sign_and_scale_change_no_p_value(
    differences: list[int], margin: int, factor: float
) -> None:
    once = paired_equivalence(differences, margin)
    scaled = paired_equivalence(np.array(differences) * factor, margin * abs(factor))
    assert scaled.p_value == once.p_value
    expected = sorted(end * factor for end in once.interval)
    assert scaled.interval == pytest.approx(tuple(expected))
    if once.t_p_value is None:
        assert scaled.t_p_value is None
    else:
        assert scaled.t_p_value == pytest.approx(once.t_p_value, rel=1e-6, abs=1e-12)


@DETERMINISTIC
@given(gains, st.integers(1, 4))
def test_a_wider_margin_is_never_harder(differences: list[int], margin: int) -> None:
    narrow, wide = (paired_equivalence(differences, m).p_value for m in (margin, margin + 1))
    assert wide <= narrow


@pytest.mark.parametrize("centre", [1.0, -1.0])
def test_keeps_its_level_at_the_edge_of_the_margin(centre: float) -> None:
    draws = np.random.default_rng(3).normal(centre, 0.3, size=(2000, 8))
    called = np.mean([paired_equivalence(row, 1.0).p_value < 0.05 for row in draws])
    # The other end is far off. The largest reachable p value below .05 is 12 / 256; four errors.
    assert abs(called - 12 / 256) < 4 * math.sqrt(12 / 256 / 2000)


def test_four_seeds_cannot_be_equivalent_and_five_can() -> None:
    four, five = (paired_equivalence([0.0] * n, 0.01) for n in (4, 5))
    assert (four.p_value, four.interval) == (1 / 16, (-math.inf, math.inf))
    assert (five.p_value, five.interval) == (1 / 32, (0, 0))


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [1, 2, 8])
def test_equal_differences_have_no_t_test(value: float, seeds: int) -> None:
    result = paired_equivalence([value] * seeds, 0.5)
    assert result.t_p_value is None
    assert result.p_value == 1 / 2**seeds


def test_a_difference_at_the_margin_is_not_inside() -> None:
    # 0.7 - 0.6 is a little less than 0.1: rounding does not make it equivalent.
    assert 0.7 - 0.6 < 0.1
    result = paired_equivalence([0.7 - 0.6] * 8, 0.1)
    assert result.p_value == 1


def test_many_seeds_are_sampled_from_the_generator() -> None:
    differences = np.random.default_rng(4).normal(0, 1, size=24)

    def run(seed: int, resamples: int = 9999) -> PairedEquivalence:
        generator = np.random.default_rng(seed)
        return paired_equivalence(differences, 0.5, generator=generator, resamples=resamples)

    result = run(5)
    assert result == run(5)
    assert not result.is_exact
    assert result.minimum_p == 1 / 20_000
    signs = np.random.default_rng(6).choice([-1.0, 1.0], size=(100_000, 24))
    above, below = differences + 0.5, differences - 0.5
    expected = max(np.mean(signs @ above >= above.sum()), np.mean(signs @ below <= below.sum()))
    assert 0.005 < expected < 0.2
    assert result.p_value == pytest.approx(expected, abs=4 * math.sqrt(expected / 9999))
    low, high = result.interval
    assert (result.p_value < 0.05) == (low > -0.5 and high < 0.5)


def test_a_generator_is_asked_for() -> None:
    with pytest.raises(ValueError, match="21 pairs are more than 20: pass a generator"):
        paired_equivalence(np.ones(21), 1.0)


@pytest.mark.parametrize(
    ("differences", "options", "message"),
    [
        ([0.1, math.nan], {}, r"differences\[1\] is nan; it must be finite"),
        ([], {}, r"differences must have the shape \(seeds,\), got \(0,\)"),
        ([1.0], {"margin": 0.0}, r"margin must be positive and finite, got 0\.0"),
        ([1.0], {"margin": math.nan}, "margin must be positive and finite, got nan"),
        ([1.0], {"margin": math.inf}, "margin must be positive and finite, got inf"),
        ([1.0], {"alpha": 0.5}, r"alpha must be between 0 and 1/2, got 0\.5"),
    ],
)
def test_bad_input_is_named(differences: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_equivalence(differences, **{"margin": 1.0, **options})


def test_the_result_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        paired_equivalence([1, 2], 1.0).margin = 2.0  # type: ignore[misc]
