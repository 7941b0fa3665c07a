"""Power of the paired comparison, against closed forms, statsmodels and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.power import TTestPower

from harness.stats import minimum_seeds, paired_difference, signflip
from harness.stats.power import (
    FEW_PATTERNS,
    detectable_difference,
    power_of,
    seeds_needed,
)

DETERMINISTIC = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def simulated_power(
    sd: float,
    difference: float,
    n: int,
    alpha: float,
    generator: np.random.Generator,
    simulations: int = 10_000,
) -> float:
    """The share of drawn samples (simulations, n) that the sign-flip test decides for the right side.

    Its standard error is at most 1 / (2 sqrt(simulations)).
    """
    draws = math.copysign(1.0, difference) * generator.normal(difference, sd, (simulations, n))
    p_values = signflip.exact_p_values(draws, 1e-12)
    return float(np.mean((p_values < alpha) & (draws.mean(axis=1) > 0)))


def test_the_known_number_of_seeds() -> None:
    solved = TTestPower().solve_power(effect_size=0.8, alpha=0.05, power=0.8)
    assert solved == pytest.approx(14.30, abs=0.005)
    assert seeds_needed(1, 0.8, 0.05) == 15


@pytest.mark.parametrize("comparisons", [1, 6, 15])
@pytest.mark.parametrize("effect", [0.5, 0.8, 1.2, 2.0])
def test_the_least_seeds_decide_only_if_none_disagrees(comparisons: int, effect: float) -> None:
    alpha, n = 0.05 / comparisons, minimum_seeds(comparisons)
    # One pair of patterns can reject: all differences must be positive.
    assert math.ceil(alpha * 2 ** (n - 1)) - 1 == 1
    assert power_of(0.02, 0.02 * effect, n, alpha) == pytest.approx(norm.cdf(effect) ** n, abs=0.01)


def test_the_t_test_promises_too_much_there() -> None:
    alpha = 0.05 / 15
    promised = TTestPower().power(1.5, 10, alpha)
    assert promised - power_of(1, 1.5, 10, alpha) > 0.2


@pytest.mark.parametrize(
    ("n", "difference", "alpha"),
    [
        (6, 1.5, 0.05),
        (8, 1.0, 0.05),
        (9, 2.0, 0.05 / 6),
        (10, 0.8, 0.05),
        (10, 2.0, 0.05 / 15),
        (12, 1.2, 0.05 / 15),
        (14, 0.8, 0.05),
        (16, 1.0, 0.05 / 15),
        (20, 0.6, 0.05),
    ],
)
def test_within_three_points_of_the_simulated_test(n: int, difference: float, alpha: float) -> None:
    simulated = simulated_power(0.02, 0.02 * difference, n, alpha, np.random.default_rng(n), 8000)
    assert 0.2 < simulated < 0.95
    assert power_of(0.02, 0.02 * difference, n, alpha) == pytest.approx(simulated, abs=0.03)


@pytest.mark.parametrize("n", [14, 20, 21, 40])
def test_with_many_patterns_it_is_the_power_of_the_t_test(n: int) -> None:
    expected = TTestPower().power(0.5, n, 0.05)
    assert power_of(0.02, 0.01, n, 0.05) == pytest.approx(expected, abs=0.002)


def test_the_level_is_the_largest_that_can_be_reached() -> None:
    # 2 k / 2^11 below .26: k = 266, which is .2598; the t test at .26 would have more.
    n, alpha = 11, 0.26
    assert FEW_PATTERNS <= 266
    expected = TTestPower().power(0.8, n, 266 / 2**10 / 2, alternative="larger")
    assert power_of(1, 0.8, n, alpha) == expected


def test_a_rejection_on_the_wrong_side_is_no_power() -> None:
    # Next to no difference: half of the level, the largest below .05 that nine seeds can reach.
    assert power_of(1, 1e-4, 9, 0.05) == pytest.approx(12 / 512, abs=0.005)
    simulated = simulated_power(1, 1e-4, 9, 0.05, np.random.default_rng(0), 10_000)
    assert simulated == pytest.approx(12 / 512, abs=0.006)


def test_the_simulation_is_of_the_verdicts_own_test() -> None:
    draws = np.random.default_rng(1).normal(-0.01, 0.02, size=(300, 9))
    tested = [paired_difference(row, np.zeros(9)) for row in draws]
    decided = np.mean([d.p_value < 0.05 and d.mean < 0 for d in tested])
    assert 0.1 < decided < 0.9
    assert simulated_power(0.02, -0.01, 9, 0.05, np.random.default_rng(1), 300) == decided


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9, 12])
def test_many_p_values_equal_those_of_one_sample(n: int) -> None:
    generator = np.random.default_rng(n)
    tied = generator.integers(-3, 5, size=(40, n))
    samples = np.concatenate([tied / 277, generator.normal(0.3, 1, size=(10, n)), np.zeros((1, n))])
    expected = [
        signflip.p_value(signflip.segments_up_to(20, row, None, 0), 1e-12) for row in samples
    ]
    np.testing.assert_array_equal(signflip.exact_p_values(samples, 1e-12), expected)


@DETERMINISTIC
@given(
    st.floats(0.3, 3),
    st.sampled_from([0.05, 0.05 / 6, 0.05 / 15]),
    st.sampled_from([0.5, 0.8, 0.9]),
)
def test_seeds_needed_are_the_fewest(effect: float, alpha: float, power: float) -> None:
    n = seeds_needed(0.02, 0.02 * effect, alpha, power)
    assert n >= minimum_seeds(1, alpha)
    assert power_of(0.02, 0.02 * effect, n, alpha) >= power
    assert power_of(0.02, 0.02 * effect, n - 1, alpha) < power


@pytest.mark.parametrize(
    ("n", "alpha", "power"),
    [(6, 0.05, 0.8), (10, 0.05 / 15, 0.5), (14, 0.05, 0.8), (30, 0.05, 0.9), (200, 0.001, 0.8)],
)
def test_the_detectable_difference_has_the_power(n: int, alpha: float, power: float) -> None:
    difference = detectable_difference(0.02, n, alpha, power)
    assert power_of(0.02, difference, n, alpha) == pytest.approx(power, abs=1e-3)
    # A little more is detected with these seeds, a little less is not.
    assert seeds_needed(0.02, 1.01 * difference, alpha, power) <= n
    assert seeds_needed(0.02, 0.99 * difference, alpha, power) > n


def test_the_detectable_difference_equals_statsmodels() -> None:
    expected = TTestPower().solve_power(nobs=40, alpha=0.05, power=0.8)
    assert detectable_difference(0.02, 40) == pytest.approx(0.02 * expected, rel=1e-3)


@DETERMINISTIC
@given(st.floats(0.05, 4), st.integers(1, 30), st.sampled_from([1e-3, 7.0, -1.0, -1e4]))
def test_sign_and_unit_change_nothing(effect: float, n: int, factor: float) -> None:
    once = power_of(1, effect, n, 0.05)
    assert power_of(abs(factor), factor * effect, n, 0.05) == pytest.approx(once, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 15])
def test_more_of_anything_is_more_power(alpha: float) -> None:
    by_seeds = [power_of(1, 0.9, n, alpha) for n in range(1, 30)]
    by_difference = [power_of(1, d, 12, alpha) for d in np.arange(0.1, 4, 0.1)]
    assert by_seeds == sorted(by_seeds)
    assert by_difference == sorted(by_difference)
    assert by_seeds[0] == 0
    assert by_difference[-1] > 0.99


def test_too_few_seeds_have_no_power() -> None:
    assert power_of(0.001, 1.0, 5, 0.05) == 0
    assert detectable_difference(0.001, 5) == math.inf
    assert seeds_needed(0.001, 1.0) == 6
    assert seeds_needed(0.001, 1.0, 0.05 / 15) == 10
    assert power_of(0.001, 1.0, 6, 0.05) == 1


def test_without_spread_the_least_seeds_will_do() -> None:
    assert seeds_needed(0.0, 0.01) == 6
    assert [power_of(0.0, 0.01, n) for n in (5, 6)] == [0, 1]
    assert detectable_difference(0.0, 6) == 0


def test_large_effects_have_power_one() -> None:
    """Statsmodels gives NaN for some of these."""
    for n in (20, 200, 1000):
        powers = [power_of(1, d / math.sqrt(n), n, 0.05) for d in np.geomspace(10, 1e5, 500)]
        np.testing.assert_allclose(powers, 1, atol=1e-6)


def test_a_small_difference_takes_very_many_seeds() -> None:
    # (1.96 + .84)^2 / 10^-10.
    assert seeds_needed(1, 1e-5) == pytest.approx((norm.isf(0.025) + norm.isf(0.2)) ** 2 * 1e10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sd": -0.1}, r"sd must be finite and not negative, got -0\.1"),
        ({"sd": math.nan}, "sd must be finite and not negative, got nan"),
        ({"difference": 0.0}, r"difference must be finite and not zero, got 0\.0"),
        ({"difference": math.inf}, "difference must be finite and not zero, got inf"),
        ({"difference": 1e-9}, r"difference 1e-09 is below 1e-06 of the sd 1\.0"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"alpha": 1.0}, r"alpha must be between 0 and 1, got 1\.0"),
    ],
)
def test_bad_input_is_named(options: dict[str, float], message: str) -> None:
    given_options = {"sd": 1.0, "difference": 1.0, "n": 10, "alpha": 0.05, **options}
    with pytest.raises(ValueError, match=message):
        power_of(**given_options)


@pytest.mark.parametrize("power", [0.05, 1.0, math.nan])
def test_an_impossible_power_is_named(power: float) -> None:
    with pytest.raises(
        ValueError, match=rf"power must be between alpha = 0\.05 and 1, got {power}"
    ):
        seeds_needed(1, 1, 0.05, power)
    with pytest.raises(ValueError, match="power must be between"):
        detectable_difference(1, 10, 0.05, power)
