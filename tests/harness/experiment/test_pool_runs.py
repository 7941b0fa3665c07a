"""Pools of trials, trained by the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional

from harness.analysis.compare import summarise
from harness.data.scores import label_loss
from harness.data.tasks import load_task
from harness.experiment.ablation import Ablation
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from tests.conftest import small_study

POOL = ("protocol.unit=methods", "protocol.budget=2", "--sampler", "random", "--trials", "4")


def study(out: Path, encoder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    assert main(small_study(out, encoder, *POOL, *more)) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("criterion", ["metric", "loss"])
def test_every_trial_has_a_setting_and_a_seed_of_its_own_and_two_scores(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str], criterion: str
) -> None:
    out = tmp_path / "runs"
    printed = study(out, tiny_encoder, capsys, f"search.criterion={criterion}", "--keep", "best")
    ledger = Ledger(storage_url(out, None))
    result = summarise(ledger, printed["ablation"])
    for method in result.results:
        assert [run.seed for run in method.report] == [1, 2, 3, 4]
        assert [run.trial for run in method.report] == [0, 1, 2, 3]
        settings = {json.dumps(dict(run.record.inputs.setting)) for run in method.report}
        assert len(settings) == 4
        for run in method.report:
            assert set(run.record.selection) == {"accuracy", "label_loss"}
            assert run.record.inputs.selection == result.manifest.tasks["rte"].sha256["selection"]
            assert ledger.predictions(run.record.fingerprint, "validation") is not None
        scores = [
            (
                run.record.selection["accuracy"] * (criterion == "metric"),
                -run.record.selection["label_loss"],
            )
            for run in method.report
        ]
        assert scores[method.best_trial or 0] == max(scores)
        (folder,) = (out / "students" / method.study).iterdir()
        (kept,) = (r for r in method.report if r.record.fingerprint.startswith(folder.name))
        assert scores[kept.trial] == max(scores)
    (comparison,) = result.comparisons
    assert "tuned with 2 trials" in comparison.verdict.sentence
    assert "tuned with 2 trials" in printed["comparisons"][0]["sentence"]
    page = Path(printed["report"]).read_text()
    assert 'id="tuned"' in page
    assert 'id="seeds"' not in page
    assert "tuned scores at a budget of 2 trials" in page
    ledger.close()


def test_more_trials_continue_a_pool_and_its_settings_do_not_depend_on_names(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The settings depend on the method and the task. A study's name has a hash of the code."""

    def settings(out: Path, *more: str) -> dict[int, Any]:
        printed = study(out, tiny_encoder, capsys, *more)
        ledger = Ledger(storage_url(out, None))
        result = summarise(ledger, printed["ablation"]).results[0]
        ledger.close()
        return {run.trial: dict(run.record.inputs.setting) for run in result.report}

    first = settings(tmp_path / "runs")
    more = settings(tmp_path / "runs", "--trials", "5")
    assert {trial: more[trial] for trial in first} == first
    assert len(more) == 5
    write_study = Ablation._write_study

    def renamed(self: Ablation, *words: Any) -> str:
        name = write_study(self, *words)
        manifest = self.ledger.study_manifest(name)
        assert manifest is not None
        self.ledger.write_study(f"{name}-again", manifest)
        return f"{name}-again"

    monkeypatch.setattr(Ablation, "_write_study", renamed)
    assert settings(tmp_path / "other") == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("protocol.budget=3",), "protocol.budget=3 is above half of search.trials=4"),
        (("--protocol", "paper"), "selects on a split of its own: the protocol 'paper' has none"),
        (("--trials", "1001"), "search.trials=1001: a pool has at most 1000"),
        (("--sampler", "tpe"), "protocol.unit=methods needs search.sampler=random, not tpe"),
        (("search.seeds=2",), "protocol.unit=methods needs search.seeds=1, not 2"),
        (("--seeds", "auto"), "protocol.unit=methods needs protocol.stopping=fixed"),
    ],
)
def test_designs_that_break_a_pool_are_refused(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert main(small_study(tmp_path / "runs", tiny_encoder, *POOL, *words)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_label_loss_is_the_librarys() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    labels = np.arange(20) % 3
    shares = torch.tensor(logits, dtype=torch.float64).softmax(dim=1).numpy()
    task = load_task("mnli")
    assert label_loss(task, labels, logits) == pytest.approx(log_loss(labels, shares), rel=1e-9)
    scores, targets = logits[:, :1], np.linspace(0, 5, 20, dtype=np.float32)
    expected = functional.mse_loss(torch.tensor(scores[:, 0]).double(), torch.tensor(targets))
    assert label_loss(load_task("stsb"), targets, scores) == pytest.approx(float(expected))
