"""Tuned scores against enumeration of all subsets of trials, and against opda."""

import itertools
import math

import numpy as np
import pytest
from opda.nonparametric import EmpiricalDistribution

from harness.stats.tuned_score import (
    Pool,
    budget_shares,
    pseudo_scores,
    trial_weights,
    tuned_score,
)


def enumerated_score(selection: list[float], reported: list[float], budget: int) -> float:
    """The mean over all subsets; a subset's score is the mean over its trials that tie for best."""
    scores = []
    for subset in itertools.combinations(range(len(reported)), budget):
        best = max(selection[trial] for trial in subset)
        scores.append(np.mean([reported[trial] for trial in subset if selection[trial] == best]))
    return float(np.mean(scores))


def tuned_scores(pool: Pool) -> list[float]:
    """The tuned scores at all budgets."""
    return [tuned_score(pool, budget) for budget in range(1, pool.trials + 1)]


def random_pool(generator: np.random.Generator, trials: int, levels: int) -> Pool:
    """A pool whose selection scores have many ties: they are among `levels` numbers."""
    selection = generator.integers(levels, size=trials) / levels
    return Pool(tuple(selection.tolist()), tuple(generator.normal(size=trials).tolist()))


@pytest.mark.parametrize("levels", [2, 4, 1000])
@pytest.mark.parametrize("trials", [1, 2, 5, 9])
def test_tuned_scores_are_the_means_over_all_subsets(trials: int, levels: int) -> None:
    pool = random_pool(np.random.default_rng(trials), trials, levels)
    expected = [
        enumerated_score(list(pool.selection), list(pool.reported), budget)
        for budget in range(1, trials + 1)
    ]
    assert tuned_scores(pool) == pytest.approx(expected, abs=1e-12)


def test_weights_by_hand() -> None:
    # Of the three pairs among three trials two keep the best trial and one the second best.
    np.testing.assert_allclose(trial_weights([0.3, 0.1, 0.2], 2), [2 / 3, 0, 1 / 3])
    # Two trials that tie for the best share the three pairs.
    np.testing.assert_allclose(trial_weights([0.3, 0.1, 0.3], 2), [1 / 2, 0, 1 / 2])


def test_a_budget_of_one_trial_is_the_mean_and_all_trials_the_best_trial() -> None:
    pool = random_pool(np.random.default_rng(0), 30, 1000)
    assert tuned_score(pool, 1) == pytest.approx(np.mean(pool.reported), abs=1e-12)
    assert tuned_score(pool, 30) == pool.reported[int(np.argmax(pool.selection))]


def test_selection_by_the_reported_score_is_the_expected_best_of_opda() -> None:
    scores = np.random.default_rng(1).normal(size=25)
    pool = Pool(tuple(scores.tolist()), tuple(scores.tolist()))
    expected = EmpiricalDistribution(scores).u_tuning_curve(np.arange(1, 26))
    assert tuned_scores(pool) == pytest.approx(expected, abs=1e-12)


def test_a_failed_trial_counts_where_all_trials_of_a_budget_failed() -> None:
    pool = Pool((-math.inf, 0.5, -math.inf), (0.1, 0.9, 0.3))
    # The pairs: one of a failed and a failed trial, two with the trial that did not fail.
    assert tuned_score(pool, 2) == pytest.approx((0.2 + 0.9 + 0.9) / 3)
    assert tuned_score(pool, 3) == 0.9


def test_pseudo_scores_leave_out_one_trial_each() -> None:
    pool = random_pool(np.random.default_rng(2), 8, 1000)
    for budget in (1, 3, 7):
        expected = [
            8 * enumerated_score(list(pool.selection), list(pool.reported), budget)
            - 7
            * enumerated_score(
                [score for i, score in enumerate(pool.selection) if i != trial],
                [score for i, score in enumerate(pool.reported) if i != trial],
                budget,
            )
            for trial in range(8)
        ]
        scores = pseudo_scores(pool, budget)
        assert scores == pytest.approx(expected, abs=1e-10)
        assert scores.mean() == pytest.approx(tuned_score(pool, budget), abs=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize("trials", [2, 3, 12, 40])
def test_pseudo_scores_of_tied_and_failed_trials(trials: int, levels: int) -> None:
    pool = random_pool(np.random.default_rng([trials, levels]), trials, levels)
    failed = {0, trials - 1}
    selection = [-math.inf if n in failed else x for n, x in enumerate(pool.selection)]
    for scores in (list(pool.selection), selection):
        whole = Pool(tuple(scores), pool.reported)
        rests = [
            Pool(
                tuple(score for n, score in enumerate(scores) if n != trial),
                tuple(score for n, score in enumerate(pool.reported) if n != trial),
            )
            for trial in range(trials)
        ]
        for budget in range(1, trials):
            expected = [
                trials * tuned_score(whole, budget) - (trials - 1) * tuned_score(rest, budget)
                for rest in rests
            ]
            assert pseudo_scores(whole, budget) == pytest.approx(expected, abs=1e-10)


def test_shares_are_quotients_of_binomials_that_nobody_may_change() -> None:
    for trials, budget in ((1, 1), (5, 2), (9, 9), (300, 4), (300, 150)):
        shares = budget_shares(trials, budget)
        expected = [math.comb(m, budget) / math.comb(trials, budget) for m in range(trials + 1)]
        assert shares.tolist() == expected
        with pytest.raises(ValueError, match="read-only"):
            shares[0] = 1.0


@pytest.mark.parametrize(
    ("selection", "reported", "message"),
    [
        ((0.1, 0.2), (0.1,), "reported has 1 trials"),
        ((0.1, math.nan), (0.1, 0.2), r"selection\[1\] is nan; it must be finite"),
        ((math.inf, 0.1), (0.1, 0.2), r"selection\[0\] is inf"),
        ((0.1, 0.2), (0.1, -math.inf), r"reported\[1\] is -inf"),
        ((), (), r"reported must have the shape \(trials,\)"),
    ],
)
def test_pools_of_other_numbers_are_refused(
    selection: tuple[float, ...], reported: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Pool(selection, reported)


@pytest.mark.parametrize("budget", [0, 4])
def test_a_budget_beyond_the_trials_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match=f"budget must be from 1 to 3 trials, got {budget}"):
        tuned_score(Pool((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)), budget)
