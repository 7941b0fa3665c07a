"""The selection of a trial: which number decides, and which one breaks ties."""

import itertools

import pytest

from harness.analysis.selection import (
    best_trial,
    mean_score,
    selection_ranks,
    selection_score,
    trial_score,
)
from harness.config import Criterion
from harness.storage.record import LABEL_LOSS, StudyRun
from tests.records import record


def search_run(trial: int, seed: int, accuracy: float | None, loss: float) -> StudyRun:
    scores = {} if accuracy is None else {"accuracy": accuracy, LABEL_LOSS: loss}
    run = record(f"{trial}-{seed}", accuracy, selection=scores)
    return StudyRun("search", trial, seed, run)


def test_a_larger_metric_beats_any_loss_and_a_smaller_loss_breaks_ties() -> None:
    best, good, poor = (
        selection_score({"accuracy": accuracy, LABEL_LOSS: loss}, "accuracy", "metric")
        for accuracy, loss in ((0.8, 9.0), (0.7, 0.1), (0.7, 0.2))
    )
    assert best > good > poor
    scores = {"accuracy": 0.8, LABEL_LOSS: 9.0}
    assert selection_score(scores, "accuracy", "loss") == (-9.0,)


def test_ranks_agree_with_all_pairs_of_scores() -> None:
    scores = [(0.7, -0.4), None, (0.8, -0.9), (0.7, -0.3), (0.7, -0.4), (0.6, -0.1)]
    ranks = selection_ranks(scores)
    assert [rank is None for rank in ranks] == [score is None for score in scores]
    for one, other in itertools.combinations(range(len(scores)), 2):
        first, second = scores[one], scores[other]
        if first is not None and second is not None:
            assert (ranks[one] < ranks[other]) == (first < second)
            assert (ranks[one] == ranks[other]) == (first == second)


def test_means_over_seeds_tie_in_any_order() -> None:
    values = (0.1, 0.2, 0.3)
    means = {mean_score([(a, 0.0) for a in order]) for order in itertools.permutations(values)}
    assert means == {(0.2, 0.0)}


@pytest.mark.parametrize(
    ("trials", "criterion", "expected"),
    [
        ({0: [(0.5, 1.0)], 1: [(0.7, 0.9)], 2: [(0.7, 0.9)]}, "metric", 1),
        ({0: [(0.7, 0.9)], 1: [(0.7, 0.8)], 2: [(0.6, 0.1)]}, "metric", 1),
        ({0: [(0.7, 0.9)], 1: [(0.7, 0.8)], 2: [(0.6, 0.1)]}, "loss", 2),
        ({0: [(0.9, 1.0), None], 1: [(0.4, 1.0), (0.6, 1.0)]}, "metric", 1),
        ({0: [(0.8, 0.5), (0.6, 0.5)], 1: [(0.6, 0.3), (0.8, 0.6)]}, "metric", 1),
        ({0: [None], 1: [None]}, "metric", None),
        ({}, "loss", None),
    ],
)
def test_the_best_trial(
    trials: dict[int, list[tuple[float, float] | None]],
    criterion: Criterion,
    expected: int | None,
) -> None:
    runs = [
        search_run(trial, seed, *(scores or (None, 0.0)))
        for trial, values in reversed(trials.items())
        for seed, scores in enumerate(values)
    ]
    assert best_trial(runs, "accuracy", criterion) == expected


def test_a_failed_run_leaves_its_trial_without_a_score() -> None:
    runs = [search_run(0, 0, 0.5, 1.0).record, search_run(0, 1, None, 0.0).record]
    assert trial_score(runs[:1], "accuracy", "metric") == (0.5, -1.0)
    assert trial_score(runs, "accuracy", "metric") is None
