"""Stored predictions as answers, worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.answers import StoredAnswers
from harness.analysis.compare import summarising
from harness.analysis.examples import example_tests
from harness.analysis.results import MethodResult, read_results
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Record, Result, StudyRun
from tests import records
from tests.manifests import STUDY, manifest

LABELS = np.array([0.0, 1.0, 1.0])
IDS = np.array([7, 8, 9])
LOGITS = {
    100: np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0]], np.float32),
    101: np.array([[0.0, 1.0, 1.0], [5.0, 1.0, 2.0], [0.0, 3.0, 2.0]], np.float32),
}


def record(name: str, status: str = "complete", score: float = 0.5) -> Record:
    metrics = {"accuracy": score, "pearson": score} if status == "complete" else {}
    inputs = {"evaluation": [["validation", "sha"], ["other", "sha"]]}
    return records.record(name, inputs=inputs, status=status, metrics=metrics)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two methods with seeds 100 and 101; `alp` has a failed one too, and one without predictions."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.write_ablation(
        manifest(
            trials=1,
            report_seeds=[100, 101, 102, 103],
            baseline="kd",
            family=[["rte", "alp", "kd"]],
        )
    )
    for study in ("s-alp", "s-kd"):
        ledger.write_study(study, STUDY)
        use(ledger, study, "search", 0, record(f"{study}-search"))
        for seed, logits in LOGITS.items():
            use(ledger, study, "report", seed, record(f"{study}-{seed}"), logits)
    use(ledger, "s-alp", "report", 102, record("s-alp-102", "failed"))
    return ledger


def use(
    ledger: Ledger,
    study: str,
    role: str,
    seed: int,
    found: Record,
    logits: np.ndarray | None = None,
) -> None:
    kept = {}
    if logits is not None:
        kept["validation"] = Predictions(logits, LABELS, IDS)
        kept["other"] = Predictions(-logits, LABELS, IDS)
    ledger.write_runs([Result(found, kept, {})])
    ledger.use_run(study, role, 0, seed, found.fingerprint)  # type: ignore[arg-type]


def results(ledger: Ledger, metric: str = "accuracy") -> list[MethodResult]:
    written = ledger.manifest("ablation")
    task = replace(written.tasks["rte"], metrics=(metric,))
    changed = replace(written, tasks={"rte": task})
    return read_results(ledger, changed, "rte", changed.studies["rte"])


def test_answers_are_the_largest_logits_on_the_first_split(ledger: Ledger) -> None:
    answers = StoredAnswers(ledger).answers_of(results(ledger)[0])
    assert answers is not None
    assert not answers.is_regression
    # Of equal logits the first one counts.
    np.testing.assert_array_equal(answers.stack([101, 100]), [[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    np.testing.assert_array_equal(answers.labels, LABELS)
    assert all(list(ids) == list(IDS) for ids in answers.ids.values())
    assert list(answers.by_seed) == [100, 101]


def test_answers_of_a_regression_are_its_scores(ledger: Ledger) -> None:
    answers = StoredAnswers(ledger).answers_of(results(ledger, "pearson")[0])
    assert answers is not None
    assert answers.is_regression
    np.testing.assert_array_equal(answers.stack([100, 101]), [[2.0, 0.0, 0.0], [0.0, 5.0, 0.0]])


def test_a_run_without_stored_predictions_has_no_answers(ledger: Ledger) -> None:
    use(ledger, "s-alp", "report", 103, record("s-alp-103"))
    (alp, kd), stored = results(ledger), StoredAnswers(ledger)
    assert alp.seeds == (100, 101, 103)
    answers = stored.answers_of(alp)
    assert answers is not None
    assert answers.has((100, 101))
    assert not answers.has((100, 103))
    with pytest.raises(KeyError, match="103"):
        answers.stack([100, 103])
    without = [StudyRun("report", 0, 103, record("s-alp-103"))]
    for runs in (without, []):
        assert stored.answers_of(MethodResult(**{**vars(kd), "report": tuple(runs)})) is None


def test_a_report_reads_the_predictions_of_each_run_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = Ledger.predictions_of

    def counting(self: Ledger, fingerprints: object, split: str) -> dict[str, Predictions]:
        own = list(fingerprints)  # type: ignore[call-overload]
        asked.extend(own)
        return read(self, own, split)

    monkeypatch.setattr(Ledger, "predictions_of", counting)
    for name, seed in (("s-alp", 103), ("s-kd", 102), ("s-kd", 103)):
        use(ledger, name, "report", seed, record(f"{name}-{seed}", "failed"))
    stored = StoredAnswers(ledger)
    with summarising(ledger, "ablation", stored) as summary:
        found = example_tests(stored, summary.draft)
    assert found.pairs[0].seeds == (100, 101)
    assert sorted(asked) == ["s-alp-100", "s-alp-101", "s-kd-100", "s-kd-101"]


def test_scores_are_given_in_the_order_of_the_seeds(ledger: Ledger) -> None:
    use(ledger, "s-kd", "report", 103, record("s-kd-103", score=0.75))
    kd = results(ledger)[1]
    scores = kd.scores_of((103, 100))
    assert scores.dtype == np.float64
    assert scores.tolist() == [0.75, 0.5]
    with pytest.raises(KeyError, match="102"):
        kd.scores_of((102,))
