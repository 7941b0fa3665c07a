"""Outcomes to results: each run gets the scores of its own member, and the right status."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evaluation.scoring import RunScores
from harness.registry.discovery import registry
from harness.storage.record import Role
from harness.training.halving import Pruning
from harness.training.loop import Outcome
from harness.training.run import Run
from harness.workers.outcomes import PopulationOutcomes, failed_result
from tests.records import run_inputs

INDICES = [3, 0, 4]
"""Five runs: one failed, one was pruned; the other members lie in another order than the runs."""


def run_of(number: int, role: Role) -> Run:
    kind = registry().resolve("kd")
    return Run(kind, "study", 0, number, role, {}, run_inputs(seed=number, role=role))


class FakeEvaluation:
    """Each row's score is a hundredth of its row; row 2 has none."""

    def predict(self, population: Any, runs: Any) -> dict[str, list[int]]:
        return {"validation": list(range(len(population.indices)))}

    def score(self, run: Run, method: Any, outputs: Any, pooling: str) -> RunScores:
        row = outputs["validation"]
        assert (method, pooling) == (f"method {row}", "cls")
        scores = RunScores({"accuracy": math.nan if row == 2 else row / 100})
        scores.predictions["validation"] = row
        scores.inspections["targets"] = {"row": row}
        return scores


def outcomes_of(role: Role = "report") -> PopulationOutcomes:
    population: Any = SimpleNamespace(
        indices=INDICES,
        recipe=SimpleNamespace(view=SimpleNamespace(pooling="cls")),
        method=lambda row: f"method {row}",
        network=SimpleNamespace(weights=lambda row: {"row": row}),
    )
    recorder: Any = SimpleNamespace(records=lambda index: {"epochs": {"index": index}})
    evaluation: Any = FakeEvaluation()
    outcomes = [
        Outcome(
            [{"total": float(number)}], 1.0 + number, 2.0, 3, "diverged" if number == 1 else None
        )
        for number in range(5)
    ]
    prunings = {2: Pruning(1, {"accuracy": 0.5, "label_loss": 0.7})}
    runs = [run_of(number, role) for number in range(5)]
    return PopulationOutcomes(runs, outcomes, population, prunings, recorder, evaluation)


@pytest.mark.parametrize(("index", "row"), [(0, 1), (3, 0)])
def test_a_complete_run_has_the_scores_of_its_members_row(index: int, row: int) -> None:
    outcomes = outcomes_of()
    result = outcomes.result(index)
    assert (result.record.status, result.record.reason) == ("complete", None)
    assert result.record.metrics == {"accuracy": row / 100}
    assert result.record.fingerprint == outcomes.runs[index].fingerprint
    assert result.record.seconds == 1.0 + index
    assert result.predictions == {"validation": row}
    assert result.inspections == {"targets": {"row": row}, "epochs": {"index": index}}
    assert outcomes.student(index) == ({"row": row}, f"method {row}")


def test_search_runs_keep_no_predictions() -> None:
    assert outcomes_of("search").result(0).predictions == {}


@pytest.mark.parametrize(
    ("index", "status", "reason", "metrics"),
    [
        (1, "failed", "diverged", {}),
        (2, "pruned", "in the worse half of its round after epoch 1", {"accuracy": 0.5}),
        (4, "failed", "accuracy is not a finite number", {}),
    ],
)
def test_other_runs_say_why_they_ended(
    index: int, status: str, reason: str, metrics: dict[str, float]
) -> None:
    result = outcomes_of().result(index)
    record = result.record
    assert (record.status, record.reason, record.metrics) == (status, reason, metrics)
    assert record.selection == (metrics | {"label_loss": 0.7} if status == "pruned" else {})
    assert list(record.curves) == [{"total": float(index)}]
    assert (result.predictions, result.inspections) == ({}, {})


def test_every_record_names_the_runs_of_its_population() -> None:
    outcomes = outcomes_of()
    fingerprints = [run.fingerprint for run in outcomes.runs]
    for index in range(5):
        assert outcomes.result(index).record.provenance.population == tuple(fingerprints)
    lone = failed_result(outcomes.runs[0], "no memory")
    assert lone.record.provenance.population == tuple(fingerprints[:1])
    assert (lone.record.curves, lone.record.seconds) == ((), 0.0)
