"""Search runs: what a trial's records say together."""

from dataclasses import replace

import pytest

from harness.experiment.search_runs import _trial_score
from harness.storage.record import Record
from tests.harness.analysis.test_compare import record


def pruned(score: float) -> Record:
    return replace(record("pruned", score), status="pruned")


def test_a_trials_score_is_the_mean_over_its_seeds() -> None:
    records = [record("a", 0.5), record("b", 0.8)]
    assert _trial_score(records, "accuracy") == pytest.approx(0.65)


def test_a_pruned_run_prunes_its_trial_and_a_failed_run_fails_it() -> None:
    complete, failed = record("a", 0.9), record("b", None)
    assert _trial_score([complete, pruned(0.1)], "accuracy") == "pruned"
    assert _trial_score([complete, failed], "accuracy") is None
    assert _trial_score([pruned(0.1), failed], "accuracy") is None
