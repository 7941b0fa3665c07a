"""Tests over examples, against hand counts, brute force, scipy and mlxtend."""

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from harness.metric_table import Score
from harness.stats import draws
from harness.stats.bootstrap import (
    ExamplesBootstrap,
    crossed_bootstraps,
    examples_bootstraps_per_seed,
)
from harness.stats.examples import cochran_q, mcnemar, mcnemar_per_seed
from tests.harness.metric_kinds import CLASS_METRICS

LABELS = np.array([0, 1] * 20)


def counted(both: int, method_only: int, baseline_only: int, neither: int) -> np.ndarray:
    """Method and baseline, (2, examples), with these counts."""
    cells = [[1, 1], [1, 0], [0, 1], [0, 0]]
    return np.repeat(cells, [both, method_only, baseline_only, neither], axis=0).T


def classes(seed: int, right: float, shape: tuple[int, ...] = (4, 40)) -> np.ndarray:
    hits = np.random.default_rng(seed).random(shape) < right
    return np.where(hits, LABELS, 1 - LABELS)


def test_mcnemar_published_value() -> None:
    result = mcnemar(*counted(9959, 11, 1, 29))
    assert (result.both_right, result.method_only) == (9959, 11)
    assert (result.baseline_only, result.neither_right) == (1, 29)
    assert result.examples == 10_000
    assert result.p_value == pytest.approx(0.0063476563, abs=5e-11)
    # Less C(12, 1) / 2^12.
    assert result.mid_p_value == pytest.approx(26 / 4096 - 12 / 4096)


def test_mcnemar_by_hand() -> None:
    result = mcnemar(*counted(5, 3, 1, 2))
    # Of 16 outcomes of four discordant examples, 2 (1 + 4) are as uneven; 4 are 3 against 1.
    assert result.p_value == pytest.approx(10 / 16)
    assert result.mid_p_value == pytest.approx(6 / 16)


@pytest.mark.parametrize("discordant", [1, 2, 3, 6, 9])
def test_mcnemar_equals_all_swaps(discordant: int) -> None:
    """Under the hypothesis each discordant example is as likely to be the other model's."""
    sums = np.array([sum(signs) for signs in product((1, -1), repeat=discordant)])
    for ahead in range(discordant + 1):
        result = mcnemar(*counted(4, ahead, discordant - ahead, 3))
        seen = 2 * ahead - discordant
        exact = np.mean(abs(sums) >= abs(seen))
        assert result.p_value == pytest.approx(exact)
        assert result.mid_p_value == pytest.approx(exact - np.mean(sums == seen) * (seen != 0))


def test_mcnemar_equals_scipy_and_mlxtend() -> None:
    evaluate = pytest.importorskip("mlxtend.evaluate")
    generator = np.random.default_rng(0)
    for _ in range(30):
        truth = generator.integers(3, size=90)
        method, baseline = generator.integers(3, size=(2, 90))
        result = mcnemar(method == truth, baseline == truth)
        table = evaluate.mcnemar_table(truth, method, baseline)
        assert result.p_value == pytest.approx(evaluate.mcnemar(table, exact=True)[1])
        counts = (result.method_only, result.baseline_only)
        assert result.p_value == pytest.approx(
            scipy.stats.binomtest(counts[0], sum(counts), 0.5).pvalue
        )


def test_mcnemar_of_equal_counts_is_one() -> None:
    for discordant in (0, 5):
        result = mcnemar(*counted(7, discordant, discordant, 2))
        assert result.p_value == 1
        assert result.mid_p_value == pytest.approx(1)


@pytest.mark.parametrize("value", [True, False])
def test_mcnemar_of_constant_answers(value: bool) -> None:
    constant = np.full(9, value)
    result = mcnemar(constant, constant)
    assert (result.p_value, result.mid_p_value) == (1, 1)
    # Against the opposite, all nine are discordant.
    assert mcnemar(constant, ~constant).p_value == pytest.approx(2 / 2**9)


def test_mcnemar_swaps_with_its_arguments() -> None:
    method, baseline = np.random.default_rng(1).random((2, 50)) < 0.7
    ahead, behind = mcnemar(method, baseline), mcnemar(baseline, method)
    assert (ahead.method_only, ahead.baseline_only) == (behind.baseline_only, behind.method_only)
    assert (ahead.p_value, ahead.mid_p_value) == (behind.p_value, behind.mid_p_value)


def test_exact_mcnemar_keeps_its_level_and_mid_p_comes_closer() -> None:
    levels = np.zeros((2, 60))
    for discordant in range(1, 61):
        counts = np.arange(discordant + 1)
        chance = scipy.stats.binom.pmf(counts, discordant, 0.5)
        results = [mcnemar(*counted(0, c, discordant - c, 0)) for c in counts]
        rejected = [[r.p_value < 0.05, r.mid_p_value < 0.05] for r in results]
        levels[:, discordant - 1] = chance @ rejected
    assert levels[0].max() < 0.05
    assert levels[0].mean() < levels[1].mean() < 0.055


def test_each_seed_is_tested_on_its_own() -> None:
    method, baseline = np.random.default_rng(2).random((2, 5, 30)) < 0.8
    results = mcnemar_per_seed(method, baseline)
    assert results == tuple(mcnemar(m, b) for m, b in zip(method, baseline, strict=True))
    # Pooled, ten copies of one seed would be decided; on its own none of them is.
    ten = [np.repeat(row, 10, axis=0) for row in counted(20, 5, 2, 3)[:, None]]
    assert mcnemar(ten[0].ravel(), ten[1].ravel()).p_value < 0.001
    assert {r.p_value for r in mcnemar_per_seed(*ten)} == {mcnemar(*counted(20, 5, 2, 3)).p_value}


@pytest.mark.parametrize(
    ("method", "baseline", "message"),
    [
        ([1, 0, 2], [1, 0, 1], r"method_answers\[2\] is 2; it must be true or false"),
        ([1, 0], [1, math.nan], r"baseline_answers\[1\] is nan"),
        ([1, 0], [1, 0, 1], r"method_answers \(2,\) and baseline_answers \(3,\) differ in shape"),
        ([], [], r"method_answers must have the shape \(examples,\), got \(0,\)"),
        ([[1]], [[1]], r"method_answers must have the shape \(examples,\), got \(1, 1\)"),
    ],
)
def test_bad_answers_are_named(method: list[float], baseline: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar(method, baseline)


def test_different_numbers_of_seeds_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 9\) and baseline_answers \(2, 9\) differ in shape"):
        mcnemar_per_seed(np.ones((3, 9)), np.ones((2, 9)))
    with pytest.raises(ValueError, match=r"method_answers must have the shape \(seeds, examples\)"):
        mcnemar_per_seed(np.ones(9), np.ones(9))


def test_cochran_q_by_hand() -> None:
    right = [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]]
    result = cochran_q(right)
    assert result.right_counts == (5, 2, 2)
    assert (result.examples, result.discordant_examples, result.df) == (6, 4, 2)
    # 2 (3 (25 + 4 + 4) - 81) / (3 * 9 - (9 + 4 + 1 + 4 + 1)).
    assert result.q == pytest.approx(2 * 18 / 8)
    assert result.p_value == pytest.approx(math.exp(-4.5 / 2))


def test_cochran_q_equals_mlxtend() -> None:
    evaluate = pytest.importorskip("mlxtend.evaluate")
    generator = np.random.default_rng(3)
    for methods in (2, 3, 5):
        right = generator.random((methods, 80)) < np.linspace(0.6, 0.8, methods)[:, None]
        result = cochran_q(right)
        expected = evaluate.cochrans_q(np.ones(80, dtype=int), *right.astype(int))
        assert (result.q, result.p_value) == pytest.approx(expected)


def test_cochran_q_of_two_models_is_mcnemar_without_correction() -> None:
    assert cochran_q(counted(50, 14, 6, 9)).q == pytest.approx((14 - 6) ** 2 / 20)


def test_cochran_q_ignores_the_order_of_methods() -> None:
    right = np.random.default_rng(4).random((4, 60)) < 0.7
    first, second = cochran_q(right), cochran_q(right[[2, 0, 3, 1]])
    assert second.q == pytest.approx(first.q)
    assert second.right_counts == tuple(first.right_counts[i] for i in (2, 0, 3, 1))


@pytest.mark.parametrize("right", [np.zeros((3, 5)), np.ones((3, 5)), [[0, 1, 1]] * 3])
def test_cochran_q_without_discordant_examples(right: np.ndarray) -> None:
    result = cochran_q(right)
    assert (result.q, result.p_value, result.discordant_examples, result.df) == (0, 1, 0, 2)


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ([[1, 0]], "Cochran's Q needs at least two methods, got 1"),
        ([1, 0], r"answers must have the shape \(methods, examples\), got \(2,\)"),
        ([[1, 0], [1, -1]], r"answers\[1, 1\] is -1; it must be true or false"),
    ],
)
def test_bad_tables_are_named(right: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cochran_q(right)


def of_one_pair(
    metric: str | Score,
    method: np.ndarray,
    baseline: np.ndarray,
    labels: np.ndarray,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[ExamplesBootstrap, ...]:
    """The interval of each seed of a single pair."""
    predictions, pairs = (method, baseline), ((0, 1),)
    (intervals,) = examples_bootstraps_per_seed(
        metric, predictions, pairs, labels, generator, resamples, confidence
    )
    return intervals


def test_examples_bootstraps_equal_a_plain_loop_over_the_same_draws() -> None:
    method, baseline = classes(5, 0.8, (2, 40)), classes(6, 0.6, (2, 40))
    intervals = of_one_pair(
        "matthews", method, baseline, LABELS, np.random.default_rng(7), resamples=199
    )
    drawn = np.random.default_rng(7).integers(40, size=(199, 40))
    score = sklearn.metrics.matthews_corrcoef
    for interval, m, b in zip(intervals, method, baseline, strict=True):
        gains = np.sort([score(LABELS[e], m[e]) - score(LABELS[e], b[e]) for e in drawn])
        # 200 * 0.025 = 5: the fifth from either end.
        assert (interval.low, interval.high) == pytest.approx((gains[4], gains[-5]))
        assert interval.mean == pytest.approx(score(LABELS, m) - score(LABELS, b))
        assert (interval.resamples, interval.undefined_resamples, interval.confidence) == (
            199,
            0,
            0.95,
        )


def test_examples_bootstrap_of_one_seed_is_the_crossed_one() -> None:
    # A single seed is drawn every time, and takes nothing from the generator.
    one = [classes(seed, 0.7, (1, 40)) for seed in (8, 9)]
    (fixed,) = of_one_pair("f1", *one, LABELS, np.random.default_rng(10), 199)
    (crossed,) = crossed_bootstraps("f1", one, [(0, 1)], LABELS, np.random.default_rng(10), 199)
    assert vars(fixed) == vars(crossed)


def test_examples_bootstrap_holds_the_seeds_fixed() -> None:
    # Every example is alike and only the seeds differ: other examples change nothing.
    method = np.array([[1] * 40, [0] * 40, [1] * 40, [1] * 40])
    baseline = np.array([[0] * 40, [0] * 40, [0] * 40, [1] * 40])
    intervals = of_one_pair(
        "accuracy", method, baseline, np.ones(40), np.random.default_rng(11), 199
    )
    ends = [(interval.mean, interval.low, interval.high) for interval in intervals]
    assert ends == [(1, 1, 1), (0, 0, 0), (1, 1, 1), (0, 0, 0)]


def test_examples_bootstrap_covers_the_difference_on_all_examples() -> None:
    generator = np.random.default_rng(12)
    method = generator.random((1, 20_000)) < 0.75
    baseline = (generator.random((1, 20_000)) < 0.7) | (generator.random((1, 20_000)) < 0.1)
    true = method.mean() - baseline.mean()
    covered = 0
    for _ in range(200):
        chosen = generator.integers(20_000, size=150)
        (interval,) = of_one_pair(
            "accuracy", method[:, chosen], baseline[:, chosen], np.ones(150), generator, 199
        )
        covered += interval.low <= true <= interval.high
    # 95% of 200 is 190, with a standard error of 3.1.
    assert 178 <= covered < 200


def test_examples_bootstrap_names_bad_input() -> None:
    arrays = (classes(0, 0.8), classes(1, 0.8), LABELS)
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown metric 'bleu'"):
        of_one_pair("bleu", *arrays, generator)
    with pytest.raises(ValueError, match="38 resamples give no interval of confidence"):
        of_one_pair("accuracy", *arrays, generator, 38)
    with pytest.raises(ValueError, match=r"predictions \[\(3, 40\), \(4, 40\)\] and labels"):
        of_one_pair("accuracy", arrays[0][:3], *arrays[1:], generator)


def test_constant_predictions_have_no_spread() -> None:
    # Matthews' correlation of constant predictions is 0, on all resamples alike.
    constant = np.zeros((2, 40), dtype=int)
    intervals = of_one_pair("matthews", constant, constant, LABELS, np.random.default_rng(1))
    for interval in intervals:
        assert (interval.mean, interval.low, interval.high, interval.undefined_resamples) == (
            0,
            0,
            0,
            0,
        )


@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_each_pair_and_seed_is_bootstrapped_as_if_alone(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draws, "BLOCK", 40 * 30)  # several blocks of draws
    methods = [classes(13 + row, share, (3, 40)) for row, share in enumerate((0.8, 0.6, 0.7))]
    pairs = ((0, 1), (2, 1))
    of_pairs = examples_bootstraps_per_seed(
        metric, methods, pairs, LABELS, np.random.default_rng(15), 199, 0.9
    )
    assert len(of_pairs) == 2
    for (method, baseline), of_seeds in zip(pairs, of_pairs, strict=True):
        assert len({interval.low for interval in of_seeds}) == 3
        for seed, interval in enumerate(of_seeds):
            pair = methods[method][seed : seed + 1], methods[baseline][seed : seed + 1]
            (alone,) = of_one_pair(metric, *pair, LABELS, np.random.default_rng(15), 199, 0.9)
            assert vars(interval) == pytest.approx(vars(alone))


def test_a_seed_without_a_metric_is_named() -> None:
    arrays = (np.zeros((2, 40)), np.ones((2, 40))), ((0, 1),), LABELS
    with pytest.raises(ValueError, match="the metric is undefined on the predictions of seed 0"):
        examples_bootstraps_per_seed(lambda t, p: math.nan, *arrays, np.random.default_rng(0))
