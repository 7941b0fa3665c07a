"""The crossed bootstrap, against a plain loop over the same draws."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import sklearn.metrics

from harness.metric_table import METRICS, Score
from harness.stats import (
    CrossedBootstrap,
    crossed_bootstraps,
    draws,
    paired_difference,
    with_least_width,
)
from tests.harness.metric_kinds import CLASS_METRICS

LABELS = np.array([0, 1] * 20)


def classes(seed: int, shape: tuple[int, int] = (4, 40), right: float = 0.8) -> np.ndarray:
    """Predicted classes (seeds, examples) of which a share is right."""
    hits = np.random.default_rng(seed).random(shape) < right
    return np.where(hits, LABELS, 1 - LABELS)


def crossed(
    metric: str | Score,
    method: np.ndarray,
    baseline: np.ndarray,
    labels: np.ndarray,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> CrossedBootstrap:
    """The interval of a single pair."""
    predictions, pairs = (method, baseline), ((0, 1),)
    (interval,) = crossed_bootstraps(
        metric, predictions, pairs, labels, generator, resamples, confidence
    )
    return interval


def plain_loop(method: np.ndarray, baseline: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Mean differences in Matthews' correlation (resamples,), drawn as documented."""
    generator = np.random.default_rng(seed)
    seeds, examples = method.shape
    drawn_seeds = generator.integers(seeds, size=(resamples, seeds))
    drawn_examples = generator.integers(examples, size=(resamples, examples))
    score = sklearn.metrics.matthews_corrcoef
    return np.array(
        [
            np.mean([score(LABELS[e], method[s][e]) - score(LABELS[e], baseline[s][e]) for s in ss])
            for ss, e in zip(drawn_seeds, drawn_examples, strict=True)
        ]
    )


def test_equals_a_plain_loop_over_the_same_draws() -> None:
    method, baseline = classes(0), classes(1, right=0.6)
    result = crossed("matthews", method, baseline, LABELS, np.random.default_rng(2), resamples=199)
    means = np.sort(plain_loop(method, baseline, 2, 199))
    # 200 * 0.025 = 5: the fifth from either end.
    assert (result.low, result.high) == pytest.approx((means[4], means[-5]))
    observed = [sklearn.metrics.matthews_corrcoef(LABELS, p) for p in (*method, *baseline)]
    assert result.mean == pytest.approx(np.mean(observed[:4]) - np.mean(observed[4:]))
    assert (result.resamples, result.undefined_resamples, result.confidence) == (199, 0, 0.95)


def test_a_function_equals_the_metric_of_that_name() -> None:
    named, called = (
        crossed(m, classes(0), classes(1), LABELS, np.random.default_rng(3), 99)
        for m in ("accuracy", sklearn.metrics.accuracy_score)
    )
    assert astuple(named) == pytest.approx(astuple(called))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> CrossedBootstrap:
        return crossed("accuracy", classes(0), classes(1), LABELS, np.random.default_rng(4), 99)

    whole = run()
    monkeypatch.setattr(draws, "BLOCK", 7 * 40)
    assert astuple(run()) == pytest.approx(astuple(whole))


def test_logits_are_decided_by_the_largest() -> None:
    method, baseline = classes(0), classes(1)
    logits = [np.eye(2)[p] * 3 - 1 for p in (method, baseline)]
    assert crossed("accuracy", *logits, LABELS, np.random.default_rng(5), 99) == crossed(
        "accuracy", method, baseline, LABELS, np.random.default_rng(5), 99
    )


def test_a_single_logit_is_the_value() -> None:
    values = np.random.default_rng(6).normal(size=(2, 4, 40))
    assert crossed("spearman", *values[..., None], LABELS, np.random.default_rng(7), 99) == crossed(
        "spearman", *values, LABELS, np.random.default_rng(7), 99
    )


def test_equal_predictions_differ_by_nothing() -> None:
    # Both methods see the same draws: any other pairing would spread the interval.
    result = crossed("accuracy", classes(0), classes(0), LABELS, np.random.default_rng(8), 99)
    assert (result.mean, result.low, result.high) == (0, 0, 0)


def test_undefined_resamples_are_counted_and_widen_the_interval() -> None:
    # Three examples, the first of which alone differs: (2/3)^3 = 30% of the resamples lack it.
    labels = np.array([1.0, 0.0, 0.0])
    method, baseline = np.array([[2.0, 0.1, 0.0]]), np.array([[2.0, 0.0, 0.1]])

    def pearson(true: np.ndarray, predicted: np.ndarray) -> float:
        return math.nan if np.ptp(true) == 0 else float(np.corrcoef(true, predicted)[0, 1])

    result = crossed(pearson, method, baseline, labels, np.random.default_rng(9), 999)
    assert 250 < result.undefined_resamples < 400
    assert (result.low, result.high) == (-math.inf, math.inf)


def test_a_few_undefined_resamples_move_the_ends_outward() -> None:
    labels = np.arange(9.0)
    method, baseline = np.random.default_rng(1).normal(size=(2, 4, 9))

    def closeness(true: np.ndarray, predicted: np.ndarray) -> float:
        return -float(np.mean(np.abs(true - predicted)))

    def undefined_without_small_labels(true: np.ndarray, predicted: np.ndarray) -> float:
        return math.nan if np.all(true > 3) else closeness(true, predicted)

    everywhere, some = (
        crossed(metric, method, baseline, labels, np.random.default_rng(10), 999)
        for metric in (closeness, undefined_without_small_labels)
    )
    generator = np.random.default_rng(10)
    drawn_seeds = generator.integers(4, size=(999, 4))
    drawn = generator.integers(9, size=(999, 9))
    differences = np.abs(baseline - labels) - np.abs(method - labels)
    defined = np.sort(
        [
            differences[np.ix_(s, e)].mean()
            for s, e in zip(drawn_seeds, drawn, strict=True)
            if (labels[e] <= 3).any()
        ]
    )
    assert 0 < some.undefined_resamples < 24
    assert some.undefined_resamples == 999 - len(defined)
    # 1000 * 0.025 = 25: undefined resamples take the first places at either end.
    assert some.low == pytest.approx(defined[24 - some.undefined_resamples])
    assert some.high == pytest.approx(defined[some.undefined_resamples - 25])
    assert some.low < everywhere.low
    assert some.high > everywhere.high


def test_covers_a_null_that_seeds_alone_do_not() -> None:
    generator = np.random.default_rng(11)
    labels = np.ones(120)
    crossed_covers = seeds_cover = 0
    for _ in range(150):
        # Each example favours one method for every seed; over new examples neither is ahead.
        favour = generator.normal(0, 0.25, size=120).clip(-0.25, 0.25)
        method = generator.random((10, 120)) < 0.7 + favour
        baseline = generator.random((10, 120)) < 0.7 - favour
        both = crossed("accuracy", method, baseline, labels, generator, 399)
        seeds = paired_difference(method.mean(axis=1), baseline.mean(axis=1)).interval
        crossed_covers += both.low <= 0 <= both.high
        seeds_cover += seeds.low <= 0 <= seeds.high
    # 95% of 150 is 142.5, with a standard error of 2.7.
    assert crossed_covers >= 134
    assert seeds_cover < 110


@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_several_pairs_at_once_are_each_as_alone(metric: str) -> None:
    methods = [classes(seed, right=0.6 + 0.1 * seed) for seed in range(4)]
    pairs = [(0, 3), (3, 0), (1, 2), (2, 2)]
    found = crossed_bootstraps(metric, methods, pairs, LABELS, np.random.default_rng(7), 300, 0.9)
    for (one, other), together in zip(pairs, found, strict=True):
        generator = np.random.default_rng(7)
        alone = crossed(metric, methods[one], methods[other], LABELS, generator, 300, 0.9)
        assert astuple(together) == pytest.approx(astuple(alone), abs=1e-15)
    with pytest.raises(ValueError, match=r"do not match \(seeds, examples\) of each method"):
        crossed_bootstraps(metric, [classes(0), classes(1)[:3]], [(0, 1)], LABELS, generator)


@pytest.mark.parametrize(
    ("metric", "method", "message"),
    [
        ("bleu", classes(0), f"unknown metric 'bleu'; known are {', '.join(METRICS)}$"),
        ("accuracy", classes(0)[:3], r"predictions \[\(3, 40\), \(4, 40\)\] and labels \(40,\)"),
        ("accuracy", classes(0)[:, :9], r"and labels \(40,\) do not match \(seeds, examples\)"),
        ("accuracy", np.full((4, 40), np.nan), r"predictions\[0\]\[0, 0\] is nan"),
        (lambda t, p: math.nan, classes(0), "the metric is undefined on the predictions of seed 0"),
    ],
)
def test_bad_input_is_named(metric: str, method: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossed(metric, method, classes(1), LABELS, np.random.default_rng(0))


@pytest.mark.parametrize(("resamples", "confidence"), [(38, 0.95), (999, 1.0), (999, -1.0)])
def test_too_few_resamples_are_named(resamples: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"{resamples} resamples give no interval"):
        crossed(
            "accuracy",
            classes(0),
            classes(1),
            LABELS,
            np.random.default_rng(0),
            resamples,
            confidence,
        )


def test_runs_that_agree_on_few_examples_leave_room_for_new_examples() -> None:
    """The least half-width is 1.96 / (n + 2): below one point from 195 examples on."""
    point = CrossedBootstrap(0.0, 0.0, 0.0, 0.95, 2000, 0)
    for examples, half in ((1, 0.6533), (71, 0.02685), (194, 0.0100), (277, 0.00703)):
        widened = with_least_width(point, examples)
        assert (widened.low, widened.high) == pytest.approx((-half, half), rel=1e-3)
    wide = CrossedBootstrap(0.1, -0.2, 0.11, 0.95, 2000, 0)
    assert with_least_width(wide, 50) == replace(wide, high=pytest.approx(0.1 + 1.95996 / 52))
    with pytest.raises(ValueError, match="examples must be at least 1, got 0"):
        with_least_width(point, 0)


@pytest.mark.parametrize("examples", [20, 60, 71, 150, 277])
def test_a_difference_beyond_the_margin_is_rarely_within_the_margin_over_new_examples(
    examples: int,
) -> None:
    """Ten seeds answer alike, and the method alone is right on 2 % of examples; the margin is a point.

    A study of so few examples often sees none of them.
    """
    generator, labels = np.random.default_rng(examples), np.zeros(examples)
    claims = 0
    for _ in range(60):
        answers = np.tile((generator.random(examples) < 0.02).astype(float), (10, 1))
        predictions = [np.zeros((10, examples)), answers]
        (bootstrap,) = crossed_bootstraps(
            "accuracy", predictions, [(0, 1)], labels, np.random.default_rng(0), 199
        )
        widened = with_least_width(bootstrap, examples)
        claims += widened.low > -0.01 and widened.high < 0.01
    assert claims <= 7  # the upper 1 % point of the binomial distribution at 5 %
