"""Tuned scores over new examples, against a plain loop, and the sum of the two intervals by hand."""

import itertools
import math
from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest

from harness.stats import draws, tuned_examples
from harness.stats.bootstrap import ExamplesBootstrap
from harness.stats.paired import Interval
from harness.stats.tuned_examples import TunedRuns, tuned_examples_bootstraps, tuned_interval
from harness.stats.tuned_score import trial_weights

EXAMPLES, TRIALS, BUDGET, RESAMPLES = 30, 6, 2, 199
CONSTANT = 0.4


def f1(labels: np.ndarray, answers: np.ndarray) -> float:
    hits = np.sum((labels == 1) & (answers == 1))
    return float(2 * hits / (np.sum(labels == 1) + np.sum(answers == 1)))


def correlation(labels: np.ndarray, answers: np.ndarray) -> float:
    """Pearson's correlation; of zeros and ones it is Matthews'."""
    x, y = labels - labels.mean(), answers - answers.mean()
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, answers: float(np.mean(labels == answers)),
    "f1": f1,
    "matthews": correlation,
    "pearson": correlation,
}


def answers(metric: str, trials: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (examples,), equal for all seeds, and answers (trials, examples)."""
    labels = np.random.default_rng(0).normal(size=EXAMPLES)
    noise = np.random.default_rng(seed).normal(size=(trials, EXAMPLES))
    values = labels + (0.5 + 0.3 * np.arange(trials)[:, None]) * noise
    return (labels, values) if metric == "pearson" else (labels > 0, (values > 0).astype(float))


def enumerated_score(selection: np.ndarray, scores: np.ndarray) -> float:
    """The mean score of the trial with the best selection score, over all pairs of trials."""
    pairs = itertools.combinations(range(len(scores)), BUDGET)
    return float(np.mean([scores[max(pair, key=lambda trial: selection[trial])] for pair in pairs]))


@pytest.mark.parametrize("metric", SCORES)
def test_the_bootstrap_equals_a_plain_loop_over_all_searches(metric: str) -> None:
    """The method has a failed trial, with the constant's score at every resample."""
    score, generator = SCORES[metric], np.random.default_rng(1)
    selections = generator.permutation(TRIALS), generator.permutation(TRIALS)
    labels, all_answers = answers(metric, 2 * TRIALS, 2)
    sides = np.split(all_answers.astype(float), 2)
    failed = int(np.argsort(selections[0])[2])

    def difference(rows: np.ndarray) -> float:
        method = np.array([score(labels[rows], side[rows]) for side in sides[0]])
        method[failed] = CONSTANT
        baseline = np.array([score(labels[rows], side[rows]) for side in sides[1]])
        return enumerated_score(selections[0], method) - enumerated_score(selections[1], baseline)

    draws = np.random.default_rng(3).integers(EXAMPLES, size=(RESAMPLES, EXAMPLES))
    expected = np.sort([difference(rows) for rows in draws])
    weights = [trial_weights(selection, BUDGET) for selection in selections]
    rest = np.arange(TRIALS) != failed
    (result,) = tuned_examples_bootstraps(
        metric,
        [
            TunedRuns(sides[0][rest], weights[0][rest], weights[0][failed] * CONSTANT),
            TunedRuns(sides[1], weights[1]),
        ],
        [(0, 1)],
        labels.astype(float),
        np.random.default_rng(3),
        RESAMPLES,
    )
    # 200 * .025 = 5: the fifth from either end.
    assert (result.low, result.high) == pytest.approx((expected[4], expected[-5]), abs=1e-12)
    assert result.mean == pytest.approx(difference(np.arange(EXAMPLES)), abs=1e-12)
    assert expected[4] < expected[-5]
    assert (result.resamples, result.undefined_resamples) == (RESAMPLES, 0)


def test_pairs_and_blocks_change_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods differ in their numbers of trials; each pair is as it is alone."""
    labels, first = answers("accuracy", 6, 1)
    _, second = answers("accuracy", 4, 2)
    runs = [TunedRuns(first, np.full(6, 1 / 6)), TunedRuns(second, np.full(4, 1 / 4))]
    pairs = [(0, 1), (1, 0), (0, 0)]

    def intervals(some: list[tuple[int, int]]) -> list[tuple[float, ...]]:
        generator = np.random.default_rng(5)
        found = tuned_examples_bootstraps("accuracy", runs, some, labels, generator, 99)
        return [astuple(interval) for interval in found]

    together = intervals(pairs)
    alone = [intervals([pair])[0] for pair in pairs]
    monkeypatch.setattr(draws, "BLOCK", 7 * EXAMPLES)
    for expected, single, blocks in zip(together, alone, intervals(pairs), strict=True):
        assert single == pytest.approx(expected, abs=1e-15)
        assert blocks == pytest.approx(expected, abs=1e-15)
    assert together[0][:3] == pytest.approx(-np.array(together[1][:3])[[0, 2, 1]])
    assert together[2][:3] == (0, 0, 0)


def test_undefined_resamples_of_a_trial_with_weight_count_against_every_claim() -> None:
    labels = np.array([1.0, 0.0, 0.0])
    predictions = np.array([[2.0, 0.1, 0.0], [2.0, 0.0, 0.1]])

    def pearson(true: np.ndarray, predicted: np.ndarray) -> float:
        """Undefined without the first example: in (2/3)^3 = 30 % of the resamples."""
        return math.nan if np.ptp(true) == 0 else float(np.corrcoef(true, predicted)[0, 1])

    def broken(true: np.ndarray, predicted: np.ndarray) -> float:
        return math.nan if predicted[0] < 0 else -float(np.abs(true - predicted).mean())

    runs = [TunedRuns(predictions, [0.5, 0.5]), TunedRuns(predictions, [1.0, 0.0])]
    arguments = (runs, [(0, 1)], labels, np.random.default_rng(9), 999)
    (result,) = tuned_examples_bootstraps(pearson, *arguments)
    assert 250 < result.undefined_resamples < 400
    assert (result.low, result.high) == (-math.inf, math.inf)
    # A trial that no search keeps has no part in the score, so its metric may be undefined.
    without = [TunedRuns(np.vstack([predictions, [-1, -1, -1]]), [0.5, 0.5, 0.0]), runs[1]]
    (result,) = tuned_examples_bootstraps(broken, without, *arguments[1:])
    assert result.undefined_resamples == 0
    kept = [TunedRuns(np.vstack([predictions, [-1, -1, -1]]), [0.5, 0.4, 0.1]), runs[1]]
    with pytest.raises(ValueError, match=r"undefined on the predictions of methods\[0\]"):
        tuned_examples_bootstraps(broken, kept, *arguments[1:])


def test_the_half_widths_are_added_in_quadrature_on_each_side() -> None:
    over_examples = ExamplesBootstrap(0.02, -0.02, 0.08, 0.95, 2000, 0)
    result = tuned_interval(0.02, Interval(-0.01, 0.10), over_examples, 10_000)
    assert (result.low, result.high) == pytest.approx((0.02 - 0.05, 0.02 + 0.1), abs=1e-12)
    assert (result.mean, result.confidence) == (0.02, 0.95)
    assert result.search_share == pytest.approx(0.0121 / (0.0121 + 0.01))
    unbounded = tuned_interval(0.02, Interval(-math.inf, 0.10), over_examples, 10_000)
    assert (unbounded.low, unbounded.high) == (-math.inf, pytest.approx(0.12))
    assert math.isnan(unbounded.search_share)


def test_answers_that_all_agree_claim_nothing_on_few_examples() -> None:
    """The least half-width is 1.96 / (n + 2), with the interval over searches on top."""
    point = ExamplesBootstrap(0.0, 0.0, 0.0, 0.95, 2000, 0)
    result = tuned_interval(0.0, Interval(-0.004, 0.0), point, 58)
    least = 1.959964 / 60
    assert result.high == pytest.approx(least, rel=1e-6)
    assert result.low == pytest.approx(-math.hypot(0.004, least), rel=1e-6)
    with pytest.raises(ValueError, match="examples must be at least 1"):
        tuned_interval(0.0, Interval(0.0, 0.0), point, 0)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (TunedRuns(np.ones((2, 3)), [1.0]), r"weights \(1,\) do not match 2 predictions"),
        (TunedRuns(np.ones((2, 4)), [0.5, 0.5]), r"labels \(3,\) do not match"),
        (TunedRuns(np.full((1, 3), np.nan), [1.0]), r"predictions\[0\]\[0, 0\] is nan"),
    ],
)
def test_bad_input_is_named(runs: TunedRuns, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuned_examples.tuned_examples_bootstraps(
            "accuracy", [runs], [(0, 0)], np.ones(3), np.random.default_rng(0)
        )
