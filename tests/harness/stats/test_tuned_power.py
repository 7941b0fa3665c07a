"""Power of comparisons of tuned scores, against enumeration, closed forms and simulation."""

import math

import numpy as np
import pytest

from harness.stats import minimum_seeds
from harness.stats.exchange import least_p_value, tuned_difference
from harness.stats.power import detectable_difference, power_of, seeds_needed
from harness.stats.tuned_power import (
    detectable_tuned_difference,
    effective_trials,
    minimum_trials,
    spread_of_searches,
    trials_needed,
    tuned_power,
)
from harness.stats.tuned_score import Pool, trial_weights, tuned_score


def separated_p(selection: np.ndarray, other_selection: np.ndarray, budget: int) -> float:
    """The exact p value of two pools that differ by one in all trials."""
    method, baseline = (
        Pool(tuple(scores.tolist()), (level,) * len(scores))
        for scores, level in ((selection, 1.0), (other_selection, 0.0))
    )
    return tuned_difference([method], [baseline], budget).p_value


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 4])
def test_the_least_trials_tell_any_two_pools_apart(budget: int, alpha: float) -> None:
    """The worst pairing has equal ranks in each pair."""
    trials = minimum_trials(budget, 4, 4 * alpha)
    for n in (trials, trials - 1):
        p = separated_p(np.arange(n), np.arange(n), budget)
        assert p == 2.0 ** (budget - n)
        assert (p < alpha) == (n == trials)


def test_the_least_trials_are_those_of_the_sign_flip_test_at_a_budget_of_one() -> None:
    for comparisons in (1, 6, 24):
        assert minimum_trials(1, comparisons) == minimum_seeds(comparisons)
    assert minimum_trials(10) == 20  # twice the budget
    assert minimum_trials(4) == 9


@pytest.mark.parametrize("budget", [1, 2, 3, 4])
def test_separated_pools_reach_the_least_p_value(budget: int) -> None:
    generator = np.random.default_rng(budget)
    bounds = set()
    for _ in range(10):
        selection, other = generator.permutation(9), generator.permutation(9)
        pools = [Pool(tuple(s.tolist()), (0.0,) * 9) for s in (selection, other)]
        bound = least_p_value([pools[0]], [pools[1]], budget)
        assert separated_p(selection, other, budget) == bound
        bounds.add(bound)
    assert (len(bounds) > 1) == (budget > 2)


def test_no_p_value_is_below_the_least_with_ties_and_failures() -> None:
    generator = np.random.default_rng(0)
    smallest = []
    for _ in range(150):
        selection = generator.integers(3, size=(2, 8)).astype(float)
        selection[generator.random((2, 8)) < 0.2] = -np.inf
        reported = generator.normal([[3.0], [0.0]], 0.1, size=(2, 8))
        method, baseline = (
            Pool(tuple(s.tolist()), tuple(r.tolist()))
            for s, r in zip(selection, reported, strict=True)
        )
        test = tuned_difference([method], [baseline], 3)
        assert test.minimum_p == least_p_value([method], [baseline], 3)
        assert test.p_value >= test.minimum_p
        smallest.append(test.minimum_p)
    assert min(smallest) == 2 / 2**8 < max(smallest)


def test_a_budget_of_one_has_the_power_of_the_sign_flip_test() -> None:
    for n in (5, 9, 30):
        assert tuned_power(0.03, 0.02, n, 1) == power_of(0.03, 0.02, n)
        assert detectable_tuned_difference(0.03, n, 1) == detectable_difference(0.03, n)
    for spread in (0.001, 0.03):
        assert trials_needed(spread, 0.02, 1) == seeds_needed(spread, 0.02)


def test_below_the_least_trials_there_is_no_power() -> None:
    assert tuned_power(0.001, 1.0, 8, 4) == 0
    assert detectable_tuned_difference(0.001, 8, 4) == math.inf
    assert trials_needed(0.001, 1.0, 4) == 9
    assert tuned_power(0.001, 1.0, 9, 4) == 1
    assert math.isfinite(detectable_tuned_difference(0.001, 9, 4))


@pytest.mark.parametrize(("trials", "budget", "difference"), [(20, 4, 2.2), (24, 2, 1.5)])
def test_the_power_is_that_of_the_simulated_test(
    trials: int, budget: int, difference: float
) -> None:
    """Selection and reported scores have a correlation of .6; the spread is that of 4000 searches."""
    generator = np.random.default_rng(budget)

    def draw(shift: float) -> Pool:
        selection = generator.normal(size=trials)
        reported = 0.6 * selection + 0.8 * generator.normal(size=trials) + shift
        return Pool(tuple(selection.tolist()), tuple(reported.tolist()))

    scores = [tuned_score(draw(0.0), budget) for _ in range(4000)]
    spread = math.sqrt(2 * trials) * float(np.std(scores))
    shift = difference * spread / math.sqrt(trials)
    decisions = []
    for _ in range(250):
        method, baseline = draw(shift), draw(0.0)
        test = tuned_difference([method], [baseline], budget, 0.95, generator, 399)
        decisions.append(test.p_value < 0.05 and test.mean > 0)
    expected = tuned_power(spread, shift, trials, budget)
    assert 0.2 < expected < 0.9
    # three standard errors of the simulation
    assert np.mean(decisions) == pytest.approx(expected, abs=0.09)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 24])
def test_the_trials_needed_are_the_fewest(alpha: float) -> None:
    n = trials_needed(0.04, 0.01, 4, alpha)
    assert tuned_power(0.04, 0.01, n, 4, alpha) >= 0.8 > tuned_power(0.04, 0.01, n - 1, 4, alpha)
    assert detectable_tuned_difference(0.04, n, 4, alpha) <= 0.01
    assert detectable_tuned_difference(0.04, n - 1, 4, alpha) > 0.01


def test_effective_trials_by_hand() -> None:
    # The weights are 0, 1/6, 2/6 and 3/6.
    assert effective_trials(4, 2) == pytest.approx(36 / 14)
    assert effective_trials(20, 1) == pytest.approx(20)
    assert effective_trials(5, 5) == pytest.approx(1)


@pytest.mark.parametrize("budget", [1, 2, 4, 10])
def test_the_spread_of_searches_that_select_at_random(budget: int) -> None:
    """A tuned score is then a mean with fixed weights."""
    trials = 3000
    weights = trial_weights(np.arange(trials), budget)
    expected = 0.02 * math.sqrt(2 * trials * float(weights @ weights))
    assert spread_of_searches(0.02, budget) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("budget", [1, 4])
def test_the_spread_from_a_pool_makes_up_for_the_pools_mean(budget: int) -> None:
    """Selection scores at random: the mean of the squares is unbiased."""
    generator = np.random.default_rng(0)
    weights = trial_weights(np.arange(12), budget)
    squares = []
    for _ in range(4000):
        reported = generator.permutation(generator.normal(size=12))
        variance = weights @ (reported - weights @ reported) ** 2
        squares.append(spread_of_searches(math.sqrt(variance), budget, 12) ** 2)
    assert np.mean(squares) == pytest.approx(spread_of_searches(1.0, budget) ** 2, rel=0.05)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="budget must be below 4 trials, got 4"):
        spread_of_searches(0.1, 4, 4)
    with pytest.raises(ValueError, match="budget must be at least 1 trial, got 0"):
        minimum_trials(0)
    with pytest.raises(ValueError, match="budget must be at least 1 trial, got 0"):
        spread_of_searches(0.1, 0)
    with pytest.raises(ValueError, match="budget must be from 1 to 3 trials, got 4"):
        effective_trials(3, 4)
    with pytest.raises(ValueError, match="sd must be finite"):
        tuned_power(-1.0, 0.1, 20, 4)
