"""Holm's adjustment and the seeds it takes."""

import math

import numpy as np
import pytest

from harness.stats import holm, holm_levels, minimum_seeds, paired_difference


def test_holm_by_hand() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04 * 1 raised to the 0.06 before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_holm_leaves_one_p_value_and_caps_at_one() -> None:
    assert holm([0.3]) == (0.3,)
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_holm_names_a_bad_p_value(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"p_values\[1\] is {bad}"):
        holm([0.5, bad])


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 6), (6, 8), (15, 10)])
def test_least_seeds_by_hand(comparisons: int, seeds: int) -> None:
    assert minimum_seeds(comparisons) == seeds


def test_least_seeds_needs_a_p_value_below_alpha() -> None:
    # 2 / 2^3 = 0.25 is not below 0.25.
    assert minimum_seeds(1, alpha=0.25) == 4


def test_least_seeds_is_the_least_that_can_reject() -> None:
    for comparisons in (1, 2, 6, 15):
        seeds = minimum_seeds(comparisons)
        reached = [paired_difference([1.0] * n, [0.0] * n).p_value for n in (seeds - 1, seeds)]
        fewer, enough = (holm([p] * comparisons)[0] for p in reached)
        assert enough < 0.05 <= fewer


@pytest.mark.parametrize(
    ("comparisons", "alpha", "message"),
    [(0, 0.05, "comparisons must be at least 1, got 0"), (1, 0.0, "alpha must be between 0 and 1")],
)
def test_least_seeds_names_bad_input(comparisons: int, alpha: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minimum_seeds(comparisons, alpha)


def test_levels_of_holm_by_hand() -> None:
    """Sorted: .005 < .05 / 4 and .01 < .05 / 3 are rejected; .03 > .05 / 2 stops the procedure."""
    assert holm_levels([0.01, 0.04, 0.03, 0.005], 0.05) == pytest.approx(
        (0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4)
    )
    assert holm_levels([0.01, 0.02], 0.05) == pytest.approx((0.025, 0.05))
    assert holm_levels([], 0.05) == ()


def test_a_p_value_is_below_its_level_exactly_when_holm_rejects() -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        p_values = generator.choice([1, 2, 5, 9, 30, 400], generator.integers(1, 8)) / 1000
        levels = holm_levels(p_values, 0.05)
        for p, level, adjusted in zip(p_values, levels, holm(p_values), strict=True):
            assert (p < level) == (adjusted < 0.05)
