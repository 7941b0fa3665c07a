"""The confidence set of the best, against brute force, scipy and simulated ties."""

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from harness.stats.best import best_set


def brute_p_values(scores: np.ndarray) -> list[float]:
    """Each method's p value from all sign patterns of its differences to every other method."""
    seeds, methods = scores.shape
    signs = np.array(list(product([1, -1], repeat=seeds)))
    found = []
    for method in range(methods):
        least = 1.0
        for other in set(range(methods)) - {method}:
            differences = scores[:, other] - scores[:, method]
            if differences.sum() > 0:
                least = min(least, float((signs @ differences >= differences.sum()).mean()))
        found.append(min(1.0, (methods - 1) * least))
    return found


def test_six_seeds_by_hand() -> None:
    first = np.array([5, 6, 7, 8, 9, 10])
    scores = np.column_stack([first, first - 1, first + np.array([1, -1] * 3)])
    found = best_set(scores, alpha=0.05)
    # The second loses every seed to the first: 1 of 64 patterns, for two others.
    assert found.p_values == (1.0, 2 / 64, 1.0)
    assert found.members == (True, False, True)
    assert found.minimum_p == 2 / 64


def test_p_values_are_those_of_brute_force_and_of_scipy() -> None:
    rng = np.random.default_rng(1)
    for seeds in (1, 2, 5, 8):
        scores = rng.integers(0, 12, size=(seeds, 4)).astype(float)
        assert best_set(scores).p_values == pytest.approx(brute_p_values(scores))
    scores = rng.normal(size=(7, 2)) + np.array([0.0, 1.0])
    expected = scipy.stats.permutation_test(
        (scores[:, 1] - scores[:, 0],),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=math.inf,
    )
    assert best_set(scores).p_values == pytest.approx((expected.pvalue, 1.0))


def test_equal_methods_are_all_members() -> None:
    assert best_set(np.ones((20, 3))).members == (True, True, True)
    assert best_set([[0.5]]).p_values == (1.0,)


def test_too_few_seeds_can_leave_nothing_out() -> None:
    scores = np.array([[0.0, 1.0, 2.0]] * 5)
    found = best_set(scores, alpha=0.05)
    assert found.minimum_p == 2 / 32 > found.alpha
    assert found.members == (True, True, True)
    assert best_set(np.vstack([scores, scores[:1]])).members == (False, False, True)


def test_a_method_that_lost_a_run_shows_no_other_to_be_lower() -> None:
    scores = np.array([[0.0, 1.0]] * 8)
    assert best_set(scores).members == (False, True)
    scores[0, 1] = np.nan
    assert best_set(scores).members == (True, True)
    scores[0] = np.nan, 1.0
    assert best_set(scores).members == (False, True)


def test_a_method_without_runs_is_unknown() -> None:
    scores = np.array([[0.0, 1.0, np.nan]] * 8)
    found = best_set(scores)
    assert math.isnan(found.p_values[2])
    assert found.members == (False, True, False)
    assert found.p_values[0] == 2 / 2**8


def test_above_twenty_seeds_patterns_are_sampled() -> None:
    rng = np.random.default_rng(2)
    scores = np.column_stack([np.zeros(21), rng.normal(0.25, 1, size=21)])
    differences = scores[:, 1]
    assert differences.sum() > 0
    half = np.array(list(product([1, -1], repeat=11))) @ differences[:11]
    rest = np.array(list(product([1, -1], repeat=10))) @ differences[11:]
    reached = half[:, None] + rest >= differences.sum() - 1e-9
    p = float(reached.mean())
    found = best_set(scores, generator=np.random.default_rng(3))
    assert found.p_values[0] == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 9999))
    assert found.minimum_p == 1 / 10_000
    with pytest.raises(ValueError, match="pass a generator"):
        best_set(scores)


def test_the_best_of_tied_methods_is_kept_as_often_as_promised() -> None:
    rng = np.random.default_rng(4)
    alpha, studies = 0.1, 1500
    kept = [best_set(rng.normal(size=(9, 4)), alpha).members[0] for _ in range(studies)]
    lost = 1 - float(np.mean(kept))
    assert lost <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / studies)
    assert lost > alpha / 3  # a set that keeps everything would be of no use


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([1.0, 2.0], {}, r"scores must have the shape \(seeds, methods\), got \(2,\)"),
        ([[1.0, math.inf]], {}, "infinite"),
        ([[1.0, 2.0]], {"alpha": 0.0}, "alpha must be between 0 and 1, got 0.0"),
    ],
)
def test_bad_input_is_named(scores: object, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_set(scores, **options)
