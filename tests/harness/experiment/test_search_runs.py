"""Search runs: what a trial's records say together."""

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from harness.analysis.compare import summarise
from harness.experiment.search_runs import _trial_score
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import LABEL_LOSS, Record
from harness.study import main
from tests.conftest import small_study
from tests.harness.analysis.test_compare import record


def pruned(score: float) -> Record:
    return replace(record("pruned", score), status="pruned")


def test_a_trials_score_is_the_mean_over_its_seeds() -> None:
    records = [record("a", 0.5), record("b", 0.8)]
    assert _trial_score(records, "accuracy", "metric") == pytest.approx(0.65)
    losses = [{"accuracy": 0.5, "label_loss": loss} for loss in (0.4, 0.6)]
    records = [record("a", 0.5, selection=scores) for scores in losses]
    assert _trial_score(records, "accuracy", "loss") == pytest.approx(-0.5)


def test_a_pruned_run_prunes_its_trial_and_a_failed_run_fails_it() -> None:
    complete, failed = record("a", 0.9), record("b", None)
    assert _trial_score([complete, pruned(0.1)], "accuracy", "metric") == "pruned"
    assert _trial_score([complete, failed], "accuracy", "metric") is None
    assert _trial_score([pruned(0.1), failed], "accuracy", "metric") is None


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_by_the_loss_reports_the_setting_of_the_least_loss(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str], sampler: str
) -> None:
    words = ("protocol.unit=settings", "search.criterion=loss", "--sampler", sampler)
    out = tmp_path / "runs"
    assert main(small_study(out, tiny_encoder, "--trials", "6", *words)) == 0
    name = json.loads(capsys.readouterr().out)["ablation"]
    ledger = Ledger(storage_url(out, None))
    for result in summarise(ledger, name).results:
        losses = {run.trial: run.record.selection[LABEL_LOSS] for run in result.search}
        assert len(set(losses.values())) == 6
        assert result.best_trial == min(losses, key=lambda trial: losses[trial])
        assert {run.trial for run in result.report} == {result.best_trial}
        study = optuna.load_study(study_name=result.study, storage=ledger.url)
        told = {trial.number: trial.value for trial in study.trials if trial.number < 6}
        assert told == {trial: pytest.approx(-loss) for trial, loss in losses.items()}
    ledger.close()
