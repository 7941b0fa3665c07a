"""Aggregates and effects across tasks, against hand counts, plain loops and closed forms."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from harness.stats.aggregate import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from harness.stats.meta_analysis import MetaAnalysis, MixedEffect, meta_analysis, mixed_effect
from harness.stats.paired import Interval

EVERYTHING = Interval(-math.inf, math.inf)


def runs(seed: int, shape: tuple[int, int] = (6, 3), ahead: float = 0.0) -> np.ndarray:
    """Scores (seeds, tasks) as accuracies on 277 examples; each task has its own level."""
    generator = np.random.default_rng(seed)
    level = np.linspace(0.5, 0.8, shape[1])
    return np.round(277 * (level + ahead + generator.normal(0, 0.02, size=shape))) / 277


def drawn(scores: np.ndarray, generator: np.random.Generator, resamples: int) -> np.ndarray:
    """Resampled scores (resamples, seeds, tasks), drawn as documented, one by one."""
    draws = generator.integers(len(scores), size=(resamples, *scores.shape))
    tasks = range(scores.shape[1])
    return np.array([[[scores[row[t], t] for t in tasks] for row in draw] for draw in draws])


def ends(values: list[float], place: int) -> Interval:
    ordered = sorted(values)
    return Interval(pytest.approx(ordered[place - 1]), pytest.approx(ordered[-place]))


# Aggregates.


def test_interquartile_mean_by_hand() -> None:
    scores = [[9.0, 1.0, 2.0, 3.0, 4.0], [-50.0, 5.0, 6.0, 7.0, 80.0]]
    # Ten runs: two are cut off at either end, and 2, 3, 4, 5, 6 and 7 are left.
    assert interquartile_mean(scores, np.random.default_rng(0)).value == 27 / 6
    # Below four runs nothing is cut off.
    assert interquartile_mean([[0.0, 9.0, 3.0]], np.random.default_rng(0)).value == 4


def test_interquartile_mean_equals_a_plain_loop_over_the_same_draws() -> None:
    scores = runs(0)
    result = interquartile_mean(scores, np.random.default_rng(1), resamples=199)
    resampled = drawn(scores, np.random.default_rng(1), 199)
    means = [float(np.mean(np.sort(r.ravel())[4:-4])) for r in resampled]
    # 200 * 0.025 = 5: the fifth from either end.
    assert result.interval == ends(means, 5)
    assert result.value == pytest.approx(np.mean(np.sort(scores.ravel())[4:-4]))
    assert (result.confidence, result.resamples) == (0.95, 199)


def test_tasks_are_resampled_each_on_its_own() -> None:
    # Each seed has one low run: whole seeds redrawn would always keep the mean.
    scores = np.eye(3)
    result = interquartile_mean(scores, np.random.default_rng(2))
    assert result.interval.low < result.value < result.interval.high


def test_interquartile_mean_covers() -> None:
    generator = np.random.default_rng(3)
    level = np.linspace(0, 2, 4)
    true = scipy.stats.trim_mean((level + generator.normal(size=(50_000, 4))).ravel(), 0.25)
    intervals = [
        interquartile_mean(level + generator.normal(size=(10, 4)), generator, 199).interval
        for _ in range(400)
    ]
    covered = sum(low <= true <= high for low, high in intervals)
    # 94% of 400 is 376, with a standard error of 4.7.
    assert 362 <= covered <= 392


def test_performance_profile_by_hand() -> None:
    scores = [[0.5, 0.7], [0.6, 0.7]]
    result = performance_profile(scores, [0.4, 0.5, 0.65, 0.7], np.random.default_rng(4))
    # Above, not at.
    assert result.shares == (1, 0.75, 0.5, 0)
    assert result.thresholds == (0.4, 0.5, 0.65, 0.7)
    # No run of four above a threshold: the exact interval of a share.
    bound = 1 - 0.025 ** (1 / 4)
    assert result.intervals[0] == pytest.approx((1 - bound, 1))
    assert result.intervals[3] == pytest.approx((0, bound))
    # Only the first task has a run at the threshold: from none above it to both.
    assert result.intervals[1] == Interval(0.5, 1)


def test_performance_profile_equals_a_plain_loop_over_the_same_draws() -> None:
    scores, thresholds = runs(5), [0.6, 0.5, 0.78]
    result = performance_profile(scores, thresholds, np.random.default_rng(6), 199, 0.9)
    resampled = drawn(scores, np.random.default_rng(6), 199)
    for threshold, share, interval in zip(thresholds, result.shares, result.intervals, strict=True):
        assert interval == ends([float(np.mean(r > threshold)) for r in resampled], 10)
        assert share == np.mean(scores > threshold)


def loop_probability(method: np.ndarray, baseline: np.ndarray) -> float:
    """Mean over the tasks of the share of pairs that the method wins, ties counting half."""
    per_task = [
        np.mean([(x > y) + (x == y) / 2 for x in m for y in b])
        for m, b in zip(method.T, baseline.T, strict=True)
    ]
    return float(np.mean(per_task))


def weighted_probability(method: np.ndarray, baseline: np.ndarray, counts: np.ndarray) -> float:
    """As `loop_probability`, for seeds drawn `counts` (seeds, tasks) times on both sides.

    A pair of different seeds weighs by both counts, a pair of one seed by its count alone.
    """
    seeds, tasks = method.shape
    per_task = []
    for task in range(tasks):
        total = weight_sum = 0.0
        for i in range(seeds):
            for j in range(seeds):
                x, y = method[i, task], baseline[j, task]
                weight = counts[i, task] * (
                    1.0 if i == j else counts[j, task] * seeds / (seeds - 1)
                )
                total += weight * ((x > y) + (x == y) / 2)
                weight_sum += weight
        per_task.append(total / weight_sum)
    return float(np.mean(per_task))


def test_probability_of_improvement_by_hand() -> None:
    method, baseline = [[3.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [1.0, 1.0]]
    # Task one: 3 beats both, 1 loses once and ties once: 2.5 of 4. Task two: 0 ties 0, loses to 1.
    result = probability_of_improvement(method, baseline, np.random.default_rng(7))
    assert result.value == (2.5 / 4 + 1 / 4) / 2


def test_probability_of_improvement_is_mann_whitneys() -> None:
    method, baseline = runs(8, (7, 3), ahead=0.01), runs(9, (5, 3))
    result = probability_of_improvement(
        method, baseline, np.random.default_rng(0), pair_seeds=False
    )
    u = scipy.stats.mannwhitneyu(method, baseline).statistic
    assert result.value == pytest.approx((u / 35).mean())


def test_probability_of_improvement_equals_a_plain_loop() -> None:
    method, baseline = runs(10, ahead=0.01), runs(11)
    result = probability_of_improvement(
        method, baseline, np.random.default_rng(12), 199, pair_seeds=False
    )
    generator = np.random.default_rng(12)
    methods, baselines = drawn(method, generator, 199), drawn(baseline, generator, 199)
    values = [loop_probability(m, b) for m, b in zip(methods, baselines, strict=True)]
    assert result.interval == ends(values, 5)
    assert result.value == pytest.approx(loop_probability(method, baseline))


def test_paired_draws_count_a_pair_of_one_seed_once() -> None:
    method, baseline = runs(10, ahead=0.01), runs(11)
    result = probability_of_improvement(method, baseline, np.random.default_rng(12), 199)
    draws = np.random.default_rng(12).integers(len(method), size=(199, *method.shape))
    values = []
    for draw in draws:
        counts = np.stack([np.bincount(column, minlength=len(method)) for column in draw.T], axis=1)
        values.append(weighted_probability(method, baseline, counts))
    assert result.interval == pytest.approx(ends(values, 5))
    assert result.value == pytest.approx(loop_probability(method, baseline))


def test_the_interval_holds_its_own_estimate() -> None:
    """A tenth of the seeds' step ahead: a method wins with its own seed, and half of the others."""
    baseline = np.arange(10.0)[:, None]
    result = probability_of_improvement(baseline + 0.1, baseline, np.random.default_rng(0))
    assert result.value == pytest.approx(0.55)
    assert result.interval.low <= result.value <= result.interval.high


def test_probability_of_improvement_turns_with_the_methods() -> None:
    method, baseline = runs(13, ahead=0.01), runs(14)
    ahead, behind = (
        probability_of_improvement(*pair, np.random.default_rng(15))
        for pair in ((method, baseline), (baseline, method))
    )
    assert behind.value == pytest.approx(1 - ahead.value)
    low, high = behind.interval
    assert ahead.interval == pytest.approx((1 - high, 1 - low))
    # Any increasing scale of a task gives the same.
    scaled = probability_of_improvement(
        np.exp(7 * method), np.exp(7 * baseline), np.random.default_rng(15)
    )
    assert (scaled.value, scaled.interval) == (ahead.value, ahead.interval)


def test_the_same_seeds_are_drawn_for_both() -> None:
    scores = runs(16)
    same = probability_of_improvement(scores, scores, np.random.default_rng(17))
    assert same.interval == Interval(0.5, 0.5)
    apart = probability_of_improvement(scores, scores, np.random.default_rng(17), pair_seeds=False)
    assert apart.interval.low < 0.5 < apart.interval.high


def test_runs_equal_up_to_rounding_tie() -> None:
    result = probability_of_improvement([[0.1 + 0.2]], [[0.3]], np.random.default_rng(0))
    assert result.value == 0.5


def test_one_seed_says_nothing_of_others() -> None:
    one, generator = [[0.5, 0.7]], np.random.default_rng(18)
    assert interquartile_mean(one, generator).interval == EVERYTHING
    profile = performance_profile(one, [0.6], generator)
    assert (profile.shares, profile.intervals) == ((0.5,), (Interval(0, 1),))
    assert probability_of_improvement(one, one, generator).interval == Interval(0, 1)
    many = probability_of_improvement(runs(19, (5, 2)), one, generator, pair_seeds=False)
    assert many.interval == Interval(0, 1)


def test_one_task_and_constant_scores() -> None:
    constant, generator = np.full((5, 1), 0.6), np.random.default_rng(20)
    assert interquartile_mean(constant, generator).interval == pytest.approx((0.6, 0.6))
    improvement = probability_of_improvement(constant, constant, generator)
    assert (improvement.value, improvement.interval) == (0.5, Interval(0.5, 0.5))
    better = probability_of_improvement(constant + 0.1, constant, generator)
    assert better.value == 1
    # Five of five seeds: the exact interval of a share.
    assert better.interval == pytest.approx((0.025 ** (1 / 5), 1))


AGGREGATES: list[Callable[..., Any]] = [
    interquartile_mean,
    lambda scores, *rest: performance_profile(scores, [0.5], *rest),
    lambda scores, *rest: probability_of_improvement(scores, np.ones((2, 2)), *rest),
]


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([0.1, 0.2], (), r"scores must have the shape \(seeds, tasks\), got \(2,\)"),
        (np.ones((0, 2)), (), r"scores must have the shape \(seeds, tasks\), got \(0, 2\)"),
        ([[0.1, 0.2], [math.nan, 0.1]], (), r"scores\[1, 0\] is nan; every score must be finite"),
        (np.ones((2, 2)), (38,), "38 resamples give no interval of confidence 0.95"),
        (np.ones((2, 2)), (99, 1.0), "99 resamples give no interval of confidence 1.0"),
    ],
)
def test_bad_scores_are_named(
    aggregate: Callable[..., Any], scores: Any, options: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        aggregate(scores, np.random.default_rng(0), *options)


def test_bad_thresholds_and_shapes_are_named() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"thresholds must have the shape \(thresholds,\), got"):
        performance_profile(runs(0), 0.5, generator)
    with pytest.raises(ValueError, match=r"thresholds\[1\] is nan"):
        performance_profile(runs(0), [0.5, math.nan], generator)
    with pytest.raises(ValueError, match=r"\(5, 3\) do not match \(seeds, tasks\) paired by seed"):
        probability_of_improvement(runs(0), runs(1, (5, 3)), generator)
    with pytest.raises(
        ValueError, match=r"\(6, 2\) do not match \(seeds, tasks\) of the same task"
    ):
        probability_of_improvement(runs(0), runs(1, (6, 2)), generator, pair_seeds=False)


# Effects across tasks.


def pairs(
    differences: np.ndarray, order: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Method, baseline, tasks and seeds (pairs,) that have these differences (seeds, tasks)."""
    seeds, tasks = np.indices(differences.shape)
    chosen = np.arange(differences.size) if order is None else order
    names = np.array([f"task-{t}" for t in tasks.ravel()])
    baseline = np.linspace(0.6, 0.8, differences.size)
    columns = (baseline + differences.ravel(), baseline, names, seeds.ravel())
    return tuple(column[chosen] for column in columns)  # type: ignore[return-value]


def combined(differences: np.ndarray, **options: float) -> MetaAnalysis:
    attempt = meta_analysis(*pairs(differences)[:3], **options)
    assert attempt.reason == ""
    assert attempt.result is not None
    return attempt.result


def fitted(differences: np.ndarray, order: np.ndarray | None = None) -> MixedEffect:
    attempt = mixed_effect(*pairs(differences, order))
    assert attempt.reason == ""
    assert attempt.result is not None
    return attempt.result


def table(
    seed: int, shape: tuple[int, int] = (10, 5), between: float = 0.01, seed_sd: float = 0.005
) -> np.ndarray:
    """Differences (seeds, tasks) with effects of task and seed."""
    generator = np.random.default_rng(seed)
    seeds, tasks = shape
    effects = generator.normal(0, between, tasks) + generator.normal(0, seed_sd, (seeds, 1))
    return 0.01 + effects + generator.normal(0, 0.01, shape)


def test_meta_analysis_by_hand() -> None:
    # Means 1 and 4, each with the variance 1 of the mean of two.
    result = combined(np.array([[0.0, 3.0], [2.0, 5.0]]))
    assert result.tasks == ("task-0", "task-1")
    assert result.seeds == (2, 2)
    assert result.effects == pytest.approx((1, 4))
    assert result.variances == pytest.approx((1, 1))
    assert result.fixed_effect.mean == result.random_effect.mean == pytest.approx(2.5)
    assert result.q == pytest.approx(2 * 1.5**2)
    assert result.q_p_value == pytest.approx(scipy.stats.chi2.sf(4.5, 1))
    assert result.i_squared == pytest.approx(1 - 1 / 4.5)
    # Paule and Mandel: 4.5 / (1 + tau^2) = 1.
    assert result.tau_squared == pytest.approx(3.5, rel=1e-4)
    # Meier: 1 / 2 * (1 + 4 * 2 * 1/2 * 1/2 / 1).
    assert result.fixed_effect.standard_error == pytest.approx(math.sqrt(0.5 * 3))
    assert result.random_effect.standard_error == pytest.approx(math.sqrt(4.5 / 2), rel=1e-4)
    half = scipy.stats.t.ppf(0.975, 1) * result.random_effect.standard_error
    assert result.random_effect.interval == pytest.approx((2.5 - half, 2.5 + half))


@pytest.mark.parametrize("between", [0.0, 0.01])
def test_meta_analysis_equals_its_equations(between: float) -> None:
    found = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.005, (10, 1)) * np.linspace(-1, 1, 5)
        differences = table(seed, between=between, seed_sd=0) + noise
        result = combined(differences, confidence=0.9)
        effects, variances = differences.mean(axis=0), differences.var(axis=0, ddof=1) / 10
        assert result.effects == pytest.approx(tuple(effects))
        assert result.variances == pytest.approx(tuple(variances))

        def q(tau: float, e: np.ndarray = effects, v: np.ndarray = variances) -> float:
            mean = np.average(e, weights=1 / (v + tau))
            return float(((e - mean) ** 2 / (v + tau)).sum())

        tau = scipy.optimize.brentq(lambda t: q(t) - 4, 0, 1) if q(0) > 4 else 0.0
        weights = 1 / (variances + tau)
        mean = np.average(effects, weights=weights)
        hartung_knapp = (weights * (effects - mean) ** 2).sum() / 4 / weights.sum()
        assert result.q == pytest.approx(q(0))
        assert result.i_squared == pytest.approx(max(0, 1 - 4 / q(0)))
        assert result.tau_squared == pytest.approx(tau, rel=1e-3)
        assert result.random_effect.mean == pytest.approx(mean, rel=1e-3)
        error = math.sqrt(max(hartung_knapp, 1 / weights.sum()))
        assert result.random_effect.standard_error == pytest.approx(error, rel=1e-3)
        assert result.fixed_effect.mean == pytest.approx(np.average(effects, weights=1 / variances))
        half = scipy.stats.t.ppf(0.95, 4) * result.random_effect.standard_error
        assert np.ptp(result.random_effect.interval) == pytest.approx(2 * half)
        found.append(tau)
    assert (0 < np.count_nonzero(found) < 20) if between == 0 else np.count_nonzero(found) > 10


def test_effects_that_agree_do_not_narrow_the_interval() -> None:
    # Hartung and Knapp's variance alone would be zero.
    spread = np.array([-1.0, 0.0, 1.0, 0.0])[:, None]
    result = combined(1 + spread * np.ones(3))
    assert (result.q, result.i_squared, result.tau_squared) == pytest.approx((0, 0, 0), abs=1e-12)
    assert result.q_p_value == pytest.approx(1)
    assert result.random_effect.standard_error == pytest.approx(math.sqrt(2 / 3 / 4 / 3))


def test_tasks_may_have_different_numbers_of_seeds() -> None:
    method, baseline, tasks, _ = pairs(table(0, (4, 3)), np.arange(10))
    result = meta_analysis(method, baseline, tasks).result
    assert result is not None
    assert result.seeds == (4, 3, 3)
    assert result.fixed_effect.df == 2
    # In any order.
    turned = meta_analysis(method[::-1], baseline[::-1], tasks[::-1]).result
    assert turned is not None
    assert turned.random_effect.mean == pytest.approx(result.random_effect.mean)


def test_meta_analysis_covers_where_normal_intervals_do_not() -> None:
    generator = np.random.default_rng(21)
    covered, naive, random = 0, 0, 0
    for _ in range(600):
        differences = generator.normal(size=(6, 4)) * [0.5, 0.8, 1.2, 1.5]
        result = combined(differences)
        covered += result.fixed_effect.interval.low <= 0 <= result.fixed_effect.interval.high
        variance = 1 / sum(1 / v for v in result.variances)
        naive += abs(result.fixed_effect.mean) <= 1.96 * math.sqrt(variance)
        # The effect of the tasks has an effect of its own to cover.
        shifted = combined(differences + generator.normal(0, 1, size=4)).random_effect.interval
        random += shifted.low <= 0 <= shifted.high
    # 95% of 600 is 570, with a standard error of 5.3.
    assert covered >= 554
    assert naive <= 530
    assert random >= 554


@pytest.mark.parametrize("effect", [combined, fitted])
def test_effects_scale_with_the_scores(effect: Callable[[np.ndarray], Any]) -> None:
    shares, points = (effect(scale * table(22)) for scale in (1, 1e4))
    unit = 1e4
    if effect is combined:
        pairs_of_effects = [
            (shares.random_effect, points.random_effect),
            (shares.fixed_effect, points.fixed_effect),
        ]
        assert points.q == pytest.approx(shares.q)
        assert points.tau_squared == pytest.approx(unit**2 * shares.tau_squared)
    else:
        pairs_of_effects = [(shares.effect, points.effect)]
    for one, other in pairs_of_effects:
        assert other.mean == pytest.approx(unit * one.mean)
        assert other.standard_error == pytest.approx(unit * one.standard_error, rel=1e-5)
        assert other.interval == pytest.approx(tuple(unit * np.array(one.interval)), rel=1e-4)


def test_no_meta_analysis_without_variances() -> None:
    method, baseline, tasks, _ = pairs(table(23, (3, 2)))
    one = meta_analysis(method[tasks == "task-1"], baseline[tasks == "task-1"], ["task-1"] * 3)
    assert (one.result, one.reason) == (None, "one task, task-1: nothing to combine")
    single = meta_analysis(method[:-2], baseline[:-2], ["a", "b", "a", "a"])
    assert (single.result, single.reason) == (
        None,
        "one pair on the task b: its variance is unknown",
    )
    # Two collapsed students differ by the same on every seed, up to rounding.
    flat = np.array([[0.1, 0.02], [0.2, 0.02], [0.4, 0.02]])
    attempt = meta_analysis(*pairs(flat)[:3])
    assert attempt.result is None
    assert attempt.reason == "all differences on the task task-1 are equal: no variance"


def mean_squares(differences: np.ndarray) -> tuple[float, float, float]:
    seeds, tasks = differences.shape
    rows, columns = differences.mean(axis=1, keepdims=True), differences.mean(axis=0)
    grand = differences.mean()
    rest = differences - rows - columns + grand
    return (
        seeds * float(((columns - grand) ** 2).sum()) / (tasks - 1),
        tasks * float(((rows - grand) ** 2).sum()) / (seeds - 1),
        float((rest**2).sum()) / (seeds - 1) / (tasks - 1),
    )


@pytest.mark.parametrize("shape", [(10, 5), (6, 3), (4, 8)])
def test_mixed_model_equals_the_analysis_of_variance(shape: tuple[int, int]) -> None:
    """For balanced data REML has a closed form, where that puts no component below zero."""
    both = 0
    for seed in range(12):
        differences = table(seed, shape)
        by_task, by_seed, rest = mean_squares(differences)
        if min(by_task, by_seed) <= rest:
            continue
        both += 1
        result = fitted(differences)
        seeds, tasks = shape
        error = math.sqrt((by_task + by_seed - rest) / (seeds * tasks))
        assert result.effect.mean == pytest.approx(differences.mean())
        assert result.effect.standard_error == pytest.approx(error, rel=1e-3)
        assert result.effect.df == min(shape) - 1
        assert result.pairs == seeds * tasks
    assert both >= 4


def test_mixed_model_without_a_seed_effect_is_the_t_interval_of_the_tasks() -> None:
    left_out = 0
    for seed in range(12):
        differences = table(seed, seed_sd=0.0)
        by_task, by_seed, rest = mean_squares(differences)
        if by_seed < rest < by_task:
            left_out += 1
            result = fitted(differences)
            means = scipy.stats.ttest_1samp(differences.mean(axis=0), 0)
            assert result.effect.df == 4
            error = result.effect.standard_error
            assert result.effect.interval == pytest.approx(
                tuple(means.confidence_interval()), abs=1e-3 * error
            )
    assert left_out >= 3


def reml(
    differences: np.ndarray, tasks: np.ndarray, seeds: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Mean, standard error and variances (task, seed, residual), by maximising REML directly."""
    same_task, same_seed = tasks[:, None] == tasks, seeds[:, None] == seeds
    ones = np.ones(len(differences))

    def parts(log_variances: np.ndarray) -> tuple[float, float, float]:
        task, seed, rest = np.exp(log_variances)
        covariance = task * same_task + seed * same_seed + rest * np.eye(len(ones))
        inverse = np.linalg.inv(covariance)
        precision = ones @ inverse @ ones
        mean = ones @ inverse @ differences / precision
        centred = differences - mean
        deviance = (
            np.linalg.slogdet(covariance)[1] + np.log(precision) + centred @ inverse @ centred
        )
        return deviance, mean, precision**-0.5

    start = np.full(3, np.log(differences.var() / 3))
    found = scipy.optimize.minimize(
        lambda x: parts(x)[0],
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 4000},
    )
    return (*parts(found.x)[1:], np.exp(found.x))


def test_mixed_model_with_missing_pairs_equals_reml() -> None:
    compared = 0
    for seed in range(4):
        differences = table(seed, between=0.02, seed_sd=0.01)
        order = np.random.default_rng(seed).permutation(50)[:41]
        method, baseline, tasks, seeds = pairs(differences, order)
        result = fitted(differences, order)
        mean, error, variances = reml(method - baseline, tasks, seeds)
        assert result.pairs == 41
        assert result.effect.mean == pytest.approx(mean, rel=1e-3)
        assert result.effect.standard_error == pytest.approx(error, rel=2e-3)
        compared += math.sqrt(variances[1]) > 1e-3
    assert compared >= 2


def test_mixed_model_is_nearly_always_there() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attempts = [mixed_effect(*pairs(table(seed, (6, 3)))) for seed in range(40)]
    assert all(attempt.result is not None for attempt in attempts)


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        (table(0, (5, 1)), "1 task(s) and 5 seed(s): at least two of each are needed"),
        (table(0, (1, 5)), "5 task(s) and 1 seed(s): at least two of each are needed"),
        (np.zeros((5, 3)), "the differences do not vary beyond tasks and seeds"),
        (np.full((5, 3), 0.1), "the differences do not vary beyond tasks and seeds"),
        (np.add.outer([0.1, 0.3], [1, 2, 4]), "the differences do not vary beyond tasks and seeds"),
    ],
)
def test_no_mixed_model_and_why(differences: np.ndarray, reason: str) -> None:
    attempt = mixed_effect(*pairs(differences))
    assert (attempt.result, attempt.reason) == (None, reason)


def test_the_mixed_model_is_the_pooled_mean_where_neither_tasks_nor_seeds_vary() -> None:
    pooled = 0
    for seed in range(20):
        differences = table(seed, between=0.0, seed_sd=0.0)
        by_task, by_seed, _ = mean_squares(differences)
        if max(by_task, by_seed) < differences.var(ddof=1):
            pooled += 1
            result = fitted(differences)
            test = scipy.stats.ttest_1samp(differences.ravel(), 0)
            assert result.effect.mean == pytest.approx(differences.mean())
            assert result.effect.interval == pytest.approx(tuple(test.confidence_interval()))
            assert result.effect.df == differences.size - 1
    assert pooled >= 3


def test_a_mixed_model_that_does_not_converge_is_not_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit = MixedLM.fit

    def stopped(self: Any, **options: Any) -> Any:
        return fit(self, maxiter=3, **options)

    monkeypatch.setattr(MixedLM, "fit", stopped)
    attempt = mixed_effect(*pairs(table(0)))
    assert attempt.result is None
    assert attempt.reason.startswith("the mixed model did not converge: Maximum Likelihood")


def test_a_mixed_model_that_warns_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = MixedLM.fit

    def singular(self: Any, **options: Any) -> Any:
        message = "The random effects covariance matrix is singular."
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return fit(self, **options)

    monkeypatch.setattr(MixedLM, "fit", singular)
    attempt = mixed_effect(*pairs(table(0)))
    assert attempt.result is None
    assert attempt.reason == (
        "the mixed model is not to be trusted: The random effects covariance matrix is singular."
    )


def test_a_mixed_model_that_cannot_be_fitted_is_not_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(self: Any, **options: Any) -> Any:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(MixedLM, "fit", failing)
    attempt = mixed_effect(*pairs(table(0)))
    assert attempt.result is None
    assert attempt.reason == "the mixed model could not be fitted: Singular matrix"


@pytest.mark.parametrize("effect", [meta_analysis, mixed_effect])
@pytest.mark.parametrize(
    ("method", "baseline", "confidence", "message"),
    [
        ([0.1, math.nan], [0.1, 0.2], 0.95, r"method_scores\[1\] is nan"),
        ([0.1, 0.2], [0.1], 0.95, "method_scores has 2 pairs, baseline_scores has 1"),
        ([], [], 0.95, r"method_scores must have the shape \(pairs,\), got \(0,\)"),
        ([[0.1]], [[0.1]], 0.95, r"method_scores must have the shape \(pairs,\), got \(1, 1\)"),
        ([0.1, 0.2], [0.1, 0.2], 95, "confidence must be between 0 and 1, got 95"),
        ([0.1] * 3, [0.1] * 3, 0.95, r"tasks must name each of the 3 pairs, got \(2,\)"),
    ],
)
def test_bad_pairs_are_named(
    effect: Callable[..., Any], method: Any, baseline: Any, confidence: float, message: str
) -> None:
    names = [["a", "b"]] + [[1, 2]] * (effect is mixed_effect)
    with pytest.raises(ValueError, match=message):
        effect(method, baseline, *names, confidence=confidence)


def test_a_pair_that_comes_twice_is_named() -> None:
    with pytest.raises(ValueError, match="task rte, seed 7 comes twice"):
        mixed_effect([0.1] * 3, [0.2] * 3, ["rte", "sst2", "rte"], [7, 7, 7])
