"""Curves of tuned scores: against the scores themselves, the normal law, and simulated truth."""

import numpy as np
import pytest
import scipy.stats

from harness.stats.tuned_curve import tuned_curve
from harness.stats.tuned_score import Pool, tuned_score


def random_pool(generator: np.random.Generator, trials: int) -> Pool:
    """Selection and reported scores are a setting's quality plus noise."""
    quality = generator.normal(size=trials)
    selection = quality + generator.normal(size=trials)
    reported = quality + 0.5 * generator.normal(size=trials)
    return Pool(tuple(selection.tolist()), tuple(reported.tolist()))


def true_score(budget: int) -> float:
    """The kept trial's quality: half of the largest of `budget` normal numbers of variance 2."""
    if budget == 1:
        return 0.0
    draws = np.random.default_rng(0).normal(size=(200_000, budget)).max(axis=1)
    return float(draws.mean() / np.sqrt(2))


def test_the_scores_are_the_tuned_scores_up_to_half_of_the_trials() -> None:
    pools = [random_pool(np.random.default_rng(seed), 9) for seed in (1, 2)]
    curve = tuned_curve(pools, 0.95, np.random.default_rng(0))
    expected = [np.mean([tuned_score(pool, budget) for pool in pools]) for budget in (1, 2, 3, 4)]
    assert curve.scores == pytest.approx(expected, abs=1e-12)
    assert list(curve.budgets) == [1, 2, 3, 4]


def test_at_one_budget_the_band_is_the_normal_interval_of_a_mean() -> None:
    pool = Pool((0.1, 0.2, 0.3), (1.0, 2.0, 6.0))
    curve = tuned_curve([pool], 0.9, np.random.default_rng(0))
    half = scipy.stats.norm.ppf(0.95) * np.std(pool.reported, ddof=1) / np.sqrt(3)
    assert curve.high[0] - 3.0 == pytest.approx(half, rel=0.05)
    assert 3.0 - curve.low[0] == pytest.approx(half, rel=0.05)


def test_equal_scores_have_a_band_without_width() -> None:
    pool = Pool((0.3, 0.1, 0.2, 0.4), (0.5,) * 4)
    curve = tuned_curve([pool], 0.95, np.random.default_rng(0))
    assert curve.low == curve.high == curve.scores == (0.5, 0.5)


def test_the_band_covers_the_whole_true_curve() -> None:
    """The level is approximate: 40 trials and budgets up to 20 cover about 90 of 100 times."""
    truth = np.array([true_score(budget) for budget in range(1, 21)])
    generator = np.random.default_rng(5)
    hits = []
    for _ in range(200):
        curve = tuned_curve([random_pool(generator, 40)], 0.95, generator)
        hits.append(bool(np.all((curve.low <= truth) & (truth <= curve.high))))
    assert 0.84 <= np.mean(hits) <= 0.98


def test_pools_without_a_curve_are_refused() -> None:
    pool, generator = Pool((0.1, 0.2), (0.1, 0.2)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least two trials, got 1"):
        tuned_curve([Pool((0.1,), (0.1,))], 0.95, generator)
    with pytest.raises(ValueError, match="at least one pool"):
        tuned_curve([], 0.95, generator)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        tuned_curve([pool], 0.0, generator)
