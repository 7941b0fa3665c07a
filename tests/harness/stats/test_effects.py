"""Effects of paired differences, against hand counts, enumeration, scipy and pingouin."""

import dataclasses
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import effects as module
from harness.stats.effects import PairedEffects, paired_effects, paired_effects_of_each
from harness.stats.paired import Interval

DETERMINISTIC = settings(max_examples=100, deadline=None, derandomize=True, database=None)
gains = st.lists(st.integers(-6, 6), min_size=1, max_size=12)
"""Differences in right answers, with ties and zeros."""


def effects(differences: Any, confidence: float = 0.95, resamples: int = 499) -> PairedEffects:
    return paired_effects(differences, confidence, np.random.default_rng(0), resamples)


def brute_signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p value from all sign patterns, ranking by counting (zeros ranked, signless)."""
    sizes = np.abs(differences)
    ranks = np.array([np.sum(sizes < s) + (np.sum(sizes == s) + 1) / 2 for s in sizes])
    ranks = ranks[differences != 0]
    signs = np.array(list(product([1.0, -1.0], repeat=len(ranks))))
    observed = abs(np.sum(ranks * np.sign(differences[differences != 0])))
    return float(np.mean(np.abs(signs @ ranks) >= observed))


def test_by_hand() -> None:
    result = effects([1, 2, 3, -1, 5])
    # Ranks 1.5, 3, 4, -1.5, 5. Of 32 patterns, those at least 12 in size: flip nothing, or one of
    # the 1.5 (12 each); and their negatives: 6.
    assert result.n == 5
    assert result.wilcoxon_p_value == 6 / 32
    assert result.rank_biserial == pytest.approx(12 / 15)
    # Mean 2, deviations -1, 0, 1, -3, 3: variance 20 / 4.
    assert result.d_z == pytest.approx(2 / math.sqrt(5))
    assert result.superiority == 4 / 5


def test_zeros_by_hand() -> None:
    result = effects([0, 0, 3, -4, 5, 6])
    # Ranks 1.5 and 1.5 without sign, then 3, -4, 5, 6. Sums of +-3 +-4 +-5 +-6 at least 10 in
    # size: 18, 12, 10 and their negatives: 6 of 16.
    assert result.wilcoxon_p_value == 6 / 16
    assert result.rank_biserial == pytest.approx(10 / 21)
    assert result.superiority == 4 / 6


@DETERMINISTIC
@given(gains)
def test_signed_rank_p_value_equals_enumeration(differences: list[int]) -> None:
    expected = brute_signed_rank_p(np.array(differences))
    assert effects(np.array(differences) / 277, resamples=39).wilcoxon_p_value == expected


@pytest.mark.parametrize("seeds", [1, 2, 6, 10, 25])
def test_signed_rank_p_value_equals_scipy_without_ties(seeds: int) -> None:
    differences = np.random.default_rng(seeds).normal(0.3, 1, size=seeds)
    expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert effects(differences).wilcoxon_p_value == pytest.approx(expected, abs=1e-12)


def test_signed_rank_p_value_equals_scipy_with_ties_and_zeros() -> None:
    differences = np.array([0, 1, 1, -1, 2, 2, 3, 0, 4, -3])
    everything = scipy.stats.PermutationMethod(n_resamples=2**11)
    expected = scipy.stats.wilcoxon(differences, zero_method="pratt", method=everything).pvalue
    assert effects(differences).wilcoxon_p_value == pytest.approx(expected, abs=1e-12)


def test_an_increase_from_zero_keeps_the_signed_rank_test_significant() -> None:
    """Pratt's example: with zeros dropped, the p value rises from .027 to .034 here."""
    others = [2, 3, 4, 6, 7, 8, 9, 11, 14, 15, 17, -18]
    below, at_zero = ([first, *others] for first in (-1e-3, 0.0))
    dropped = [scipy.stats.wilcoxon(d, method="exact").pvalue for d in (below, at_zero[1:])]
    ranked = [effects(d).wilcoxon_p_value for d in (below, at_zero)]
    assert dropped[0] < dropped[1]
    assert ranked[0] > ranked[1]


@pytest.mark.parametrize("seeds", [3, 6, 10, 30])
def test_t_test_and_its_check_equal_scipy(seeds: int) -> None:
    method, baseline = np.random.default_rng(seeds).normal(size=(2, seeds))
    result = effects(method - baseline)
    expected = scipy.stats.ttest_rel(method, baseline).pvalue
    assert result.t_p_value == pytest.approx(expected, rel=1e-9)
    normality = scipy.stats.shapiro(method - baseline).pvalue
    assert result.normality_p_value == pytest.approx(normality, rel=1e-9)


@pytest.mark.parametrize("seeds", [4, 8, 15])
def test_equals_pingouin(seeds: int) -> None:
    pingouin = pytest.importorskip("pingouin")
    method, baseline = np.random.default_rng(seeds).normal([[0.5], [0]], 1, size=(2, seeds))
    result = effects(method - baseline)
    t_test = pingouin.ttest(method, baseline, paired=True)
    signed_rank = pingouin.wilcoxon(method, baseline)
    d_z = pingouin.ttest(method - baseline, 0)["cohen_d"].iloc[0]
    assert result.t_p_value == pytest.approx(t_test["p_val"].iloc[0], rel=1e-9)
    assert abs(result.d_z or 0) == pytest.approx(d_z, rel=1e-9)
    assert result.rank_biserial == pytest.approx(signed_rank["RBC"].iloc[0], abs=1e-12)
    assert result.wilcoxon_p_value == pytest.approx(signed_rank["p_val"].iloc[0], abs=1e-12)


def test_bca_interval_equals_scipy_on_other_scores() -> None:
    differences = np.random.default_rng(1).gamma(2, size=12)
    expected = scipy.stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=0.9,
        n_resamples=1999,
        rng=np.random.default_rng(0),
    ).confidence_interval
    result = effects(differences, confidence=0.9, resamples=1999)
    assert result.bca_interval == pytest.approx(tuple(expected), abs=1e-12)
    assert (result.confidence, result.resamples) == (0.9, 1999)


@pytest.mark.parametrize("in_memory", [1, 2**20])
def test_effects_of_each_equal_those_of_one(
    monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    """Many comparisons at once: sizes, scales, ties and constants in one family."""
    monkeypatch.setattr(module, "LARGEST_SAMPLE", in_memory)
    generator = np.random.default_rng(4)
    rows = [
        generator.normal(0.3, scale, size) for size in (10, 6, 25, 2, 10, 3) for scale in (1, 1e-3)
    ]
    rows += [np.zeros(10), np.ones(6), np.array([0.5]), generator.integers(-2, 4, size=10) / 277]
    together = paired_effects_of_each(rows, 0.9, seed=3, resamples=199)
    for row, found in zip(rows, together, strict=True):
        alone = paired_effects(row, 0.9, np.random.default_rng(3), 199)
        for name, value in vars(alone).items():
            assert getattr(found, name) == (
                value if value is None else pytest.approx(value, rel=1e-12, abs=1e-15)
            )


def test_effects_of_each_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 1"):
        paired_effects_of_each([[0.1, 0.2]], 1.0, seed=0)
    with pytest.raises(ValueError, match="differences"):
        paired_effects_of_each([[0.1, 0.2], [0.1, np.nan]], 0.95, seed=0)
    assert paired_effects_of_each([], 0.95, seed=0) == []


def test_bca_interval_does_not_depend_on_rounding() -> None:
    # Over 277 the resampled means that tie with the mean would fall to either side of it.
    for seed in range(20):
        gained = np.random.default_rng(seed).integers(-2, 4, size=7)
        whole, share = effects(gained), effects((190 + gained) / 277 - 190 / 277)
        assert whole.bca_interval is not None
        scaled = tuple(end / 277 for end in whole.bca_interval)
        assert share.bca_interval == pytest.approx(scaled, abs=1e-9)


def test_bca_interval_covers_too_rarely_with_six_seeds() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        interval = paired_effects(generator.normal(size=6), 0.95, generator, 399).bca_interval
        assert interval is not None
        covered += interval.low <= 0 <= interval.high
    # .86 of 400 is 344, with a standard error of 7; 380 would be 95%.
    assert 316 < covered < 366


def test_superiority_interval_by_hand() -> None:
    # All of six: the lower end p has p^6 = 0.025; the other way round mirrors it.
    ahead, behind = (effects([d] * 6).superiority_interval for d in (1, -1))
    assert ahead == pytest.approx((0.025 ** (1 / 6), 1))
    assert behind == pytest.approx((0, 1 - 0.025 ** (1 / 6)))


def test_superiority_interval_equals_scipy_and_agrees_with_the_sign_test() -> None:
    decided = 0
    for wins in range(13):
        result = effects([1] * wins + [-1] * (12 - wins), confidence=0.9, resamples=39)
        test = scipy.stats.binomtest(wins, 12)
        interval = test.proportion_ci(0.9, method="exact")
        low, high = result.superiority_interval
        assert (low, high) == pytest.approx((interval.low, interval.high))
        assert (low <= 0.5 <= high) == (test.pvalue >= 0.1)
        decided += test.pvalue < 0.1
    assert decided == 6


@pytest.mark.parametrize("seeds", [6, 10])
def test_superiority_interval_covers_with_ties(seeds: int) -> None:
    """Exactly, by summing over all counts of wins and ties (Wilson's: .83 at the least)."""
    halves = [[1.0] * (k // 2) + [0.0] * (k % 2) for k in range(2 * seeds + 1)]
    padded = [values + [-1.0] * (seeds - len(values)) for values in halves]
    intervals = [effects(values, resamples=39).superiority_interval for values in padded]
    low, high = np.transpose(intervals)
    for tied in (0.0, 0.02, 0.1, 0.3, 0.6):
        winning = np.linspace(0, 1 - tied, 400)
        truth = winning + tied / 2
        covered = np.zeros_like(winning)
        for wins, ties in product(range(seeds + 1), repeat=2):
            if wins + ties <= seeds:
                counts = np.array([wins, ties, seeds - wins - ties])
                shares = np.stack([winning, np.full(400, tied), 1 - tied - winning], axis=1)
                shares = shares.clip(0) / shares.clip(0).sum(axis=1, keepdims=True)
                chance = scipy.stats.multinomial.pmf(counts, seeds, shares)
                k = 2 * wins + ties
                covered += chance * ((low[k] <= truth) & (truth <= high[k]))
        assert covered[1:-1].min() >= 0.95


@DETERMINISTIC
@given(gains)
def test_negating_mirrors_everything(differences: list[int]) -> None:
    ahead, behind = effects(differences), effects([-d for d in differences])
    for name in ("n", "t_p_value", "normality_p_value", "wilcoxon_p_value"):
        assert getattr(behind, name) == pytest.approx(getattr(ahead, name), nan_ok=False)
    assert behind.rank_biserial == -ahead.rank_biserial
    assert behind.superiority == pytest.approx(1 - ahead.superiority)
    low, high = ahead.superiority_interval
    assert behind.superiority_interval == pytest.approx((1 - high, 1 - low))
    if ahead.bca_interval is None:
        assert (behind.bca_interval, ahead.d_z, behind.d_z) == (None, None, None)
    else:
        low, high = ahead.bca_interval
        assert behind.bca_interval == pytest.approx((-high, -low), abs=1e-12)
        assert behind.d_z == pytest.approx(-(ahead.d_z or 0), abs=1e-12)


@DETERMINISTIC
@given(gains, st.sampled_from([1 / 277, 0.1, 3.7, 1e6]))
def test_scaling_changes_intervals_of_the_mean_only(differences: list[int], factor: float) -> None:
    once, scaled = effects(differences), effects(np.array(differences) * factor)
    for field in dataclasses.fields(PairedEffects):
        value, again = getattr(once, field.name), getattr(scaled, field.name)
        if field.name == "bca_interval" and value is not None:
            value = tuple(end * factor for end in value)
        assert again == (value if value is None else pytest.approx(value, rel=1e-6, abs=1e-9))


@DETERMINISTIC
@given(gains)
def test_rounding_of_scores_changes_nothing(differences: list[int]) -> None:
    right = np.random.default_rng(0).integers(100, 200, size=len(differences))
    noisy = (right + differences) / 277 - right / 277
    clean, rounded = effects(np.array(differences) / 277), effects(noisy)
    assert rounded.wilcoxon_p_value == clean.wilcoxon_p_value
    assert rounded.rank_biserial == clean.rank_biserial
    assert rounded.superiority == clean.superiority
    assert (rounded.d_z is None) == (clean.d_z is None)


@pytest.mark.parametrize("value", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("seeds", [1, 2, 8])
def test_without_spread_nothing_is_divided_by_it(value: float, seeds: int) -> None:
    result = effects([value] * seeds)
    sign = np.sign(value)
    assert result.bca_interval is None
    assert result.t_p_value is None
    assert result.normality_p_value is None
    assert result.d_z is None
    assert result.rank_biserial == sign
    assert result.superiority == (sign + 1) / 2
    assert result.wilcoxon_p_value == (2 / 2**seeds if value else 1)
    assert 0 <= result.superiority_interval.low < result.superiority_interval.high <= 1


def test_differences_of_rounding_only_are_zero() -> None:
    scores = np.linspace(0.6, 0.7, 8)
    result = effects(np.nextafter(scores, 1) - scores)
    assert (result.wilcoxon_p_value, result.rank_biserial, result.superiority) == (1, 0, 0.5)
    assert result.d_z is None


def test_differences_equal_up_to_rounding_have_no_spread() -> None:
    differences = [0.1, 0.3 - 0.2, 0.4 - 0.3, 0.1]
    assert len(set(differences)) == 3
    result = effects(differences)
    assert (result.t_p_value, result.d_z, result.bca_interval) == (None, None, None)


def test_two_seeds_have_no_check_of_normality() -> None:
    result = effects([1.0, 2.0])
    assert result.normality_p_value is None
    assert result.t_p_value == pytest.approx(scipy.stats.ttest_1samp([1.0, 2.0], 0).pvalue)
    assert result.d_z == pytest.approx(1.5 / math.sqrt(0.5))
    assert isinstance(result.bca_interval, Interval)


def test_very_many_seeds() -> None:
    result = effects(np.arange(5001.0) % 7 - 3, resamples=39)
    assert result.normality_p_value is None
    assert 0.9 < result.wilcoxon_p_value <= 1
    assert effects(np.zeros(5001), resamples=39).wilcoxon_p_value == 1


def test_the_signed_rank_test_goes_over_to_its_approximation_smoothly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gained = np.random.default_rng(3).integers(-6, 8, size=150)
    exact = effects(gained).wilcoxon_p_value
    monkeypatch.setattr(module, "EXACT_RANKS", 100)
    approximate = effects(gained).wilcoxon_p_value
    assert 0.001 < exact < 0.5
    assert exact != approximate
    assert exact == pytest.approx(approximate, rel=0.02)


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ([0.1, math.nan], r"differences\[1\] is nan; it must be finite"),
        ([], r"differences must have the shape \(seeds,\), got \(0,\)"),
        ([[0.1]], r"differences must have the shape \(seeds,\), got \(1, 1\)"),
    ],
)
def test_bad_differences_are_named(differences: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effects(differences)


def test_bad_confidence_and_too_few_resamples_are_named() -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        effects([1, 2], confidence=95)
    with pytest.raises(ValueError, match=r"38 resamples give no interval of confidence 0\.95"):
        effects([1, 2], resamples=38)
