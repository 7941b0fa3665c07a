"""Successive halving: who stays, what is recorded, and that those who stay are not touched."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import Criterion
from harness.registry.discovery import registry
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import LABEL_LOSS
from harness.study import main
from harness.training.halving import Halving
from harness.training.run import Run
from tests.conftest import small_study
from tests.records import run_inputs


def runs_of(method: str, settings: list[int], seeds: int = 1) -> list[Run]:
    halving = {"rungs": [1], "round": [{"layer_weight": number} for number in settings]}
    kind = registry().resolve(method)
    return [
        Run(kind, "study", 0, seed, "search", setting, run_inputs(halving=halving, setting=setting))
        for setting in halving["round"]
        for seed in range(seeds)
    ]


def stay(
    runs: list[Run],
    scores: list[float],
    order: list[int] | None = None,
    losses: list[float] | None = None,
    criterion: Criterion = "metric",
) -> Any:
    values = [
        {"accuracy": score, LABEL_LOSS: loss}
        for score, loss in zip(scores, losses or [0.0] * len(runs), strict=True)
    ]
    halving = Halving([1], "accuracy", criterion, runs, lambda p: [values[m] for m in p.indices])
    order = list(range(len(runs))) if order is None else order
    population: Any = SimpleNamespace(indices=order, members=order)
    return sorted(order[place] for place in halving.stay(1, population)), halving


def test_the_better_half_of_each_methods_round_stays() -> None:
    runs = runs_of("alp", [1, 2, 3, 4]) + runs_of("kd", [1, 2])
    staying, halving = stay(runs, [0.5, 0.9, 0.7, 0.6, 0.1, 0.2])
    assert staying == [1, 2, 5]
    assert sorted(halving.prunings) == [0, 3, 4]
    assert halving.prunings[3].scores == {"accuracy": 0.6, LABEL_LOSS: 0.0}
    assert halving.prunings[3].reason == "in the worse half of its round after epoch 1"


def test_an_odd_round_keeps_the_larger_half_and_ties_go_to_the_earlier() -> None:
    assert stay(runs_of("alp", [1, 2, 3]), [0.5, 0.5, 0.5])[0] == [0, 1]
    assert stay(runs_of("alp", [1]), [0.0])[0] == [0]


def test_the_loss_breaks_ties_or_decides_alone() -> None:
    scores, losses = [0.5, 0.5, 0.9, 0.4], [0.6, 0.5, 0.8, 0.3]
    runs = runs_of("alp", [1, 2, 3, 4])
    assert stay(runs, scores, losses=losses)[0] == [1, 2]
    assert stay(runs, scores, losses=losses, criterion="loss")[0] == [1, 3]


def test_settings_are_compared_by_the_mean_over_seeds_whatever_the_order() -> None:
    runs = runs_of("alp", [1, 2], seeds=2)
    staying, _ = stay(runs, [1.0, 0.0, 0.6, 0.6], order=[3, 1, 0, 2])
    assert staying == [2, 3]


def test_a_score_that_is_no_number_is_the_worst() -> None:
    assert stay(runs_of("alp", [1, 2]), [float("nan"), -1.0])[0] == [1]


def test_nothing_happens_between_rungs() -> None:
    halving = Halving([2], "accuracy", "metric", [], lambda population: [])
    population: Any = SimpleNamespace(indices=[0, 1], members=[0, 1])
    assert halving.stay(1, population) == [0, 1]


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    out = tmp_path_factory.mktemp("halved")
    more = ("--trials", "4", "training.epochs=3", "search.rungs=[1,2]")
    assert main(small_study(out, tiny_encoder, *more)) == 0
    return out


def test_a_study_prunes_and_reports_its_best(halved: Path) -> None:
    ledger = Ledger(storage_url(halved, None))
    (ablation,) = ledger.ablations()
    studies = ledger.manifest(ablation).studies["rte"]
    for study in studies.values():
        found = [run.record for run in ledger.study_runs(study) if run.role == "search"]
        assert sorted(len(record.curves) for record in found) == [1, 1, 2, 3]
        for record in found:
            assert record.status == ("complete" if len(record.curves) == 3 else "pruned")
            assert set(record.metrics) == {"accuracy"}
            assert set(record.selection) == {"accuracy", LABEL_LOSS}
        reports = [run.record for run in ledger.study_runs(study) if run.role == "report"]
        assert [len(record.curves) for record in reports] == [3, 3]
    ledger.close()
    with sqlite3.connect(halved / "ledger.db") as database:
        states = database.execute("SELECT state, COUNT(*) FROM trials GROUP BY state").fetchall()
    database.close()
    assert sorted(states) == [("COMPLETE", 2), ("PRUNED", 6)]
    assert "3 of 4 search trials were pruned" in next(halved.glob("*/report.html")).read_text()


def test_pruned_runs_are_replayed(halved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(storage_url(halved, None))
    study = ledger.manifest(ledger.ablations()[0]).studies["rte"]["alp"]
    pruned = next(r.record for r in ledger.study_runs(study) if r.record.status == "pruned")
    ledger.close()
    assert main(["--replay", pruned.fingerprint, "--out", str(halved)]) == 0
    assert "the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("search.rungs=[2,1]", "search.rungs must rise, not [2, 1]"),
        ("search.rungs=[1]", "search.rungs: 1 is not before the last of 1 epochs"),
        ("search.rungs=[0]", "search.rungs.0: input should be greater than or equal to 1"),
    ],
)
def test_rungs_that_cannot_be_are_refused(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    given: str,
    expected: str,
) -> None:
    assert main(small_study(tmp_path, tiny_encoder, given)) == 2
    assert expected in capsys.readouterr().err


def test_rungs_need_runs_that_train_together(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("training.epochs=2", "search.rungs=[1]", "training.engine=reference")
    assert main(small_study(tmp_path, tiny_encoder, *more)) == 2
    assert "search.rungs: runs of this kind of encoder are trained one at a time" in (
        capsys.readouterr().err
    )
