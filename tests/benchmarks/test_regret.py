"""The regret of a selection, on made-up answers."""

import numpy as np

from benchmarks.regret import score_of_half
from harness.metric_table import metric_of
from harness.stats.tuned_score import Pool

ACCURACY = metric_of("accuracy")


def mean_scores(selection: list[float], answers: np.ndarray) -> np.ndarray:
    labels = np.ones(answers.shape[1])
    pool = Pool(tuple(selection), tuple(answers.mean(axis=1)))
    generator = np.random.default_rng(0)
    return np.mean(
        [score_of_half(pool, labels, answers, ACCURACY, 2, generator) for _ in range(50)], axis=0
    )


def test_an_oracle_gains_nothing_over_a_selection_that_orders_the_trials_rightly() -> None:
    answers = (np.arange(200) < np.array([[40], [80], [120], [160]])).astype(float)
    tuner, oracle = mean_scores([0.0, 1.0, 2.0, 3.0], answers)
    assert tuner == oracle
    # Of the six pairs of trials the best is 2nd once, 3rd twice, 4th three times.
    assert abs(tuner - (0.4 + 2 * 0.6 + 3 * 0.8) / 6) < 0.01


def test_an_oracle_gains_the_whole_difference_where_the_selection_is_reversed() -> None:
    answers = (np.arange(200) < np.array([[40], [80], [120], [160]])).astype(float)
    tuner, oracle = mean_scores([3.0, 2.0, 1.0, 0.0], answers)
    # The worst of each pair: the 1st three times, the 2nd twice, the 3rd once.
    assert abs(oracle - tuner - (4.0 - (3 * 0.2 + 2 * 0.4 + 0.6)) / 6) < 0.01
