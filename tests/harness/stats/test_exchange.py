"""The exchange test against brute force over all patterns, and against the sign-flip test."""

import itertools
import math

import numpy as np
import pytest

from harness.stats import signflip
from harness.stats.exchange import (
    exchanged_differences,
    pool_segments,
    tuned_difference,
    tuned_equivalence,
)
from harness.stats.paired import paired_difference
from harness.stats.tuned_score import Pool, tuned_score

Patterns = list[tuple[bool, ...]]


def random_pool(generator: np.random.Generator, trials: int, levels: int = 1000) -> Pool:
    selection = generator.integers(levels, size=trials) / levels
    reported = 0.3 * selection + generator.normal(size=trials)
    return Pool(tuple(selection.tolist()), tuple(reported.tolist()))


def exchanged(method: Pool, baseline: Pool, pattern: tuple[bool, ...]) -> tuple[Pool, Pool]:
    """Both pools after the exchange of the pairs that the pattern names."""
    trials = [
        (pair[::-1] if is_exchanged else pair)
        for pair, is_exchanged in zip(
            zip(
                zip(method.selection, method.reported, strict=True),
                zip(baseline.selection, baseline.reported, strict=True),
                strict=True,
            ),
            pattern,
            strict=True,
        )
    ]
    first, second = zip(*trials, strict=True)
    return Pool(*zip(*first, strict=True)), Pool(*zip(*second, strict=True))


def ranked(pool: Pool) -> Pool:
    """The pool with average ranks for selection scores."""
    ranks = [
        sum(other < score for other in pool.selection)
        + (sum(other == score for other in pool.selection) + 1) / 2
        for score in pool.selection
    ]
    return Pool(tuple(ranks), pool.reported)


def shifted(pool: Pool, theta: float) -> Pool:
    return Pool(pool.selection, tuple(score - theta for score in pool.reported))


def all_differences(method: Pool, baseline: Pool, budget: int) -> np.ndarray:
    """The differences of tuned scores of all patterns; the first pattern exchanges nothing."""
    patterns = itertools.product([False, True], repeat=method.trials)
    pools = [exchanged(ranked(method), ranked(baseline), pattern) for pattern in patterns]
    return np.array([tuned_score(a, budget) - tuned_score(b, budget) for a, b in pools])


def enumerated_p(method: Pool, baseline: Pool, budget: int, theta: float = 0.0) -> float:
    differences = all_differences(shifted(method, theta), baseline, budget)
    return float(np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12))


def enumerated_upper_p(method: Pool, baseline: Pool, budget: int, theta: float) -> float:
    differences = all_differences(shifted(method, theta), baseline, budget)
    return float(np.mean(differences >= differences[0] - 1e-12))


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize(("trials", "budget"), [(4, 1), (5, 2), (6, 4), (6, 6), (7, 3)])
def test_the_p_value_counts_all_patterns(trials: int, budget: int, levels: int) -> None:
    for seed in range(5):
        generator = np.random.default_rng([seed, trials, budget])
        method, baseline = (random_pool(generator, trials, levels) for _ in range(2))
        result = tuned_difference([method], [baseline], budget)
        assert result.p_value == pytest.approx(enumerated_p(method, baseline, budget), abs=1e-12)
        assert result.mean == pytest.approx(
            tuned_score(method, budget) - tuned_score(baseline, budget), abs=1e-12
        )
        assert result.is_exact


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("budget", [1, 2, 4])
def test_segments_say_which_patterns_are_extreme_at_every_shift(budget: int, levels: int) -> None:
    for seed in range(4):
        generator = np.random.default_rng([seed, budget])
        method, baseline = (random_pool(generator, 6, levels) for _ in range(2))
        segments = pool_segments([method], [baseline], budget)
        mean = tuned_score(method, budget) - tuned_score(baseline, budget)
        for theta in generator.uniform(-4, 4, size=20):
            covering = (segments.low <= theta) & (segments.high >= theta)
            p_value = (np.count_nonzero(covering) + 1) / (len(covering) + 1)
            assert p_value == pytest.approx(
                enumerated_p(method, baseline, budget, theta), abs=1e-12
            )
            assert signflip.upper_p_value(segments, mean, theta, 1e-12) == pytest.approx(
                enumerated_upper_p(method, baseline, budget, theta), abs=1e-12
            )


@pytest.mark.parametrize("levels", [2, 7, 1000])
@pytest.mark.parametrize(("trials", "budget"), [(30, 1), (30, 4), (30, 15), (30, 30)])
def test_differences_of_large_pools_are_those_of_exchanged_pools(
    trials: int, budget: int, levels: int
) -> None:
    generator = np.random.default_rng([trials, budget, levels])
    method, baseline = (random_pool(generator, trials, levels) for _ in range(2))
    patterns = signflip.sampled_patterns(trials, generator, 40)
    differences, weights = exchanged_differences([method], [baseline], budget, patterns)
    ones = Pool(method.selection, (1.0,) * trials), Pool(baseline.selection, (0.0,) * trials)
    for pools, found in (((method, baseline), differences), (ones, weights)):
        for pattern, difference in zip(patterns, found, strict=True):
            first, second = exchanged(*map(ranked, pools), (*pattern.tolist(), False))
            expected = tuned_score(first, budget) - tuned_score(second, budget)
            assert difference == pytest.approx(expected, abs=1e-12)


def test_the_interval_has_the_shifts_that_the_test_does_not_reject() -> None:
    generator = np.random.default_rng(3)
    method, baseline = (random_pool(generator, 8) for _ in range(2))
    low, high = tuned_difference([method], [baseline], 3, confidence=0.9).interval
    for theta in (low + 1e-9, high - 1e-9):
        assert enumerated_p(method, baseline, 3, theta) >= 0.1
    for theta in (low - 1e-9, high + 1e-9):
        assert enumerated_p(method, baseline, 3, theta) < 0.1


def test_a_budget_of_one_trial_gives_the_sign_flip_test() -> None:
    generator = np.random.default_rng(4)
    method, baseline = (random_pool(generator, 10) for _ in range(2))
    result = tuned_difference([method], [baseline], 1)
    expected = paired_difference(method.reported, baseline.reported)
    assert result.p_value == expected.p_value
    assert result.interval == pytest.approx(expected.interval, abs=1e-9)
    assert result.mean == pytest.approx(expected.mean, abs=1e-12)


def test_the_scale_of_a_methods_selection_scores_changes_nothing() -> None:
    generator = np.random.default_rng(5)
    method, baseline = (random_pool(generator, 9, 4) for _ in range(2))
    other_scale = Pool(tuple(3 + 10 * score for score in method.selection), method.reported)
    result = tuned_difference([method], [baseline], 3)
    assert tuned_difference([other_scale], [baseline], 3) == result
    assert tuned_equivalence([other_scale], [baseline], 3, 1.5) == tuned_equivalence(
        [method], [baseline], 3, 1.5
    )


def test_equivalence_is_both_one_sided_tests() -> None:
    generator = np.random.default_rng(6)
    method, baseline = (random_pool(generator, 8) for _ in range(2))
    result = tuned_equivalence([method], [baseline], 2, margin=1.5, alpha=0.1)
    expected = max(
        enumerated_upper_p(method, baseline, 2, -1.5), enumerated_upper_p(baseline, method, 2, -1.5)
    )
    assert result.p_value == pytest.approx(expected, abs=1e-12)
    assert (result.p_value < 0.1) == (result.interval.low > -1.5 and result.interval.high < 1.5)


def test_sampled_patterns_approach_all_patterns() -> None:
    generator = np.random.default_rng(7)
    method, baseline = (random_pool(generator, 15) for _ in range(2))
    result = tuned_difference([method], [baseline], 4, generator=np.random.default_rng(0))
    differences, _ = exchanged_differences([method], [baseline], 4, signflip.exact_patterns(15))
    p_value = (1 + np.count_nonzero(np.abs(differences) >= abs(result.mean) - 1e-12)) / 2**14
    error = math.sqrt(p_value * (1 - p_value) / 19_999)
    assert not result.is_exact
    assert result.p_value == pytest.approx(p_value, abs=4 * error)


def test_failed_trials_are_exchanged_like_others() -> None:
    method = Pool((-math.inf, 0.3, 0.2, -math.inf, 0.6), (0.1, 0.6, 0.5, 0.1, 0.9))
    baseline = Pool((0.2, 0.4, -math.inf, 0.1, 0.5), (0.5, 0.6, 0.1, 0.4, 0.7))
    for budget in (1, 2, 5):
        result = tuned_difference([method], [baseline], budget)
        assert result.p_value == pytest.approx(enumerated_p(method, baseline, budget), abs=1e-12)


def test_equal_pools_have_no_difference() -> None:
    pool = random_pool(np.random.default_rng(8), 6)
    result = tuned_difference([pool], [pool], 2)
    assert (result.mean, result.p_value) == (0.0, 1.0)
    assert result.interval.low <= 0 <= result.interval.high


def test_pools_that_cannot_be_compared_are_refused() -> None:
    generator = np.random.default_rng(9)
    short, long = random_pool(generator, 5), random_pool(generator, 6)
    with pytest.raises(ValueError, match=r"the pools have \[5\] and \[6\] trials"):
        tuned_difference([short], [long], 2)
    with pytest.raises(ValueError, match="15 pairs are more than 14: pass a generator"):
        tuned_difference([random_pool(generator, 15)], [random_pool(generator, 15)], 2)
    with pytest.raises(ValueError, match="budget must be from 1 to 5 trials, got 6"):
        tuned_difference([short], [short], 6)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        tuned_difference([short], [short], 2, confidence=1.0)
    with pytest.raises(ValueError, match="margin must be positive"):
        tuned_equivalence([short], [short], 2, margin=0.0)
    with pytest.raises(ValueError, match=r"the pools have \[\] and \[\] trials"):
        pool_segments([], [], 2)


def test_with_several_teachers_pairs_are_exchanged_within_a_teacher() -> None:
    generator = np.random.default_rng(10)
    method, baseline = ([random_pool(generator, size) for size in (4, 3)] for _ in range(2))
    by_teacher = [all_differences(*pools, 2) for pools in zip(method, baseline, strict=True)]
    differences = (by_teacher[0][:, None] + by_teacher[1]).ravel() / 2
    result = tuned_difference(method, baseline, 2)
    assert result.mean == pytest.approx(differences[0], abs=1e-12)
    assert (result.trials, result.teachers) == (7, 2)
    expected = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    assert result.p_value == pytest.approx(expected, abs=1e-12)
    low, high = tuned_difference(method, baseline, 2, confidence=0.8).interval
    for theta, is_inside in ((low + 1e-9, True), (low - 1e-9, False), (high + 1e-9, False)):
        moved = [shifted(pool, theta) for pool in method]
        assert (tuned_difference(moved, baseline, 2).p_value >= 0.2) == is_inside
