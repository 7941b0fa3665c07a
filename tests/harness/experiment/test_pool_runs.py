"""Pools of trials, trained by the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional

from harness.analysis.compare import summarise
from harness.analysis.pools import TrialScores
from harness.data.scores import label_loss
from harness.data.tasks import load_task
from harness.experiment import pool_runs
from harness.experiment.ablation import Ablation
from harness.experiment.flows import Flow, RunRequest
from harness.experiment.population_queue import PopulationQueue
from harness.stats import pool_stopping
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import Record
from harness.study import main
from tests.conftest import small_pools
from tests.statements import statements


def study(out: Path, encoder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    assert main(small_pools(out, encoder, *more)) == 0
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


def test_trials_are_added_look_by_look_and_no_later_trial_changes_a_decision(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With looks at 4, 6 and 8 trials; the margin makes any two methods equivalent, or none."""
    monkeypatch.setattr(pool_stopping, "FIRST_LOOK", 4)
    monkeypatch.setattr(pool_stopping, "LOOK_STEP", 2)
    waves: list[int] = []
    open_request = PopulationQueue.open

    def watched(self: PopulationQueue, flow: Flow, request: RunRequest) -> Any:
        waves.append(len(request.runs))
        return open_request(self, flow, request)

    monkeypatch.setattr(PopulationQueue, "open", watched)
    out = tmp_path / "runs"

    def answer(*words: str) -> Any:
        waves.clear()
        return study(out, tiny_encoder, capsys, "protocol.alpha=0.3", "protocol.budget=1", *words)

    auto = ("--trials", "auto", "--max-trials", "8")
    wide = answer(*auto, "protocol.margins.accuracy=0.9")
    (comparison,) = wide["comparisons"]
    assert waves == [8]
    assert (comparison["verdict"], comparison["pairs"], comparison["most_pairs"]) == (
        "equivalent",
        4,
        8,
    )
    assert (
        "after 4 of at most 8 trials of each method): tuned with 1 trial, "
        in comparison["sentence"]
    )
    assert (comparison["adjusted_p"], comparison["equivalence_p"]) == (None, None)
    page = Path(wide["report"]).read_text()
    assert "at most 8, until decided" in page
    assert answer(*auto, "protocol.margins.accuracy=0.9")["comparisons"] == wide["comparisons"]

    def undecided(record: Record, *_: Any) -> TrialScores:
        is_method = record.inputs.method == "alp"
        return TrialScores((0.5,), 0.5 + 0.2 * (-1) ** record.inputs.seed * is_method)

    monkeypatch.setattr(pool_runs, "trial_scores", undecided)
    answer(*auto, "protocol.margins.accuracy=0.0001")
    assert waves == [8, 12, 16]
    again = answer(*auto, "protocol.margins.accuracy=0.9")
    assert (again["results"], again["comparisons"]) == (wide["results"], wide["comparisons"])
    ledger = Ledger(storage_url(out, None))
    manifest = ledger.manifest(again["ablation"])
    assert (manifest.sequential, manifest.trials) == (True, 8)
    assert manifest.seed_requests == (("sequential", 8),)
    ledger.close()
    fixed = answer("--trials", "8")
    assert waves == [16]
    assert "TRIALS: asked for up to 8, until decided, then 8" in Path(fixed["report"]).read_text()


def test_a_choice_that_changes_after_results_has_a_banner(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"

    def banners(*words: str) -> list[str]:
        answer = study(out, tiny_encoder, capsys, *words)
        ledger = Ledger(storage_url(out, None))
        banners = ledger.manifest(answer["ablation"]).banners
        ledger.close()
        return [banner for banner in banners if banner.startswith(("BUDGET", "SELECTION"))]

    assert banners() == []
    (budget,) = banners("protocol.budget=1")
    assert budget.startswith(
        "BUDGET: earlier commands compared these methods with protocol.budget=2."
    )
    budget, selection = banners("protocol.budget=1", "search.criterion=loss")
    assert "protocol.budget=2. Error rates hold only if 1 was " in budget
    assert "with search.criterion=metric. Error rates hold only if loss was" in selection
    assert banners("training.epochs=2") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("protocol.budget=3",), "a budget of 3 needs at least 6 trials"),
        (
            ("protocol.name=paper",),
            "protocol.name=paper needs protocol.unit=settings: a pool selects",
        ),
        (("--protocol", "paper"), "protocol.budget=2 needs protocol.unit=methods"),
        (("--trials", "1001"), "search.trials=1001: a pool has at most 1000"),
        (("--sampler", "tpe"), "search.sampler=tpe needs protocol.unit=settings: the trials"),
        (("search.seeds=2",), "search.seeds=2 needs protocol.unit=settings: the trials"),
        (
            ("search.rungs=[1]", "training.epochs=2"),
            "search.rungs=[1] needs protocol.unit=settings",
        ),
        (("--seeds", "auto"), "--seeds auto needs protocol.unit=settings: each trial"),
        (("--seeds", "12"), "--seeds 12 needs protocol.unit=settings: each trial"),
        (("--seeds", "10"), "--seeds 10 needs protocol.unit=settings: each trial"),
    ],
)
def test_designs_that_break_a_pool_are_refused(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert main(small_pools(tmp_path / "runs", tiny_encoder, *words)) == 2
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


def test_a_command_that_finds_all_runs_asks_no_more_of_a_larger_ledger(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"

    def count(*words: str) -> int:
        with statements() as executed:
            study(out, tiny_encoder, capsys, *words)
        assert not [s for s in executed if s.startswith("INSERT INTO harness_runs")]
        return len(executed)

    printed = study(out, tiny_encoder, capsys)
    few_runs = count()
    ledger = Ledger(storage_url(out, None))
    manifest = ledger.manifest(printed["ablation"])
    for number in range(20):
        ledger.write_ablation(replace(manifest, name=f"copy-{number}"))
    ledger.close()
    assert count() == few_runs
    study(out, tiny_encoder, capsys, "--trials", "12")
    assert count("--trials", "12") == few_runs
