"""Records made by hand: what a test does not give has a default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from harness.storage.ledger import Ledger
from harness.storage.record import LABEL_LOSS, RECORD, RUN_INPUTS, Record, RunInputs
from harness.storage.schema import INSPECTIONS
from tests.manifests import PROVENANCE

INPUTS: dict[str, Any] = {
    "results_version": 1,
    "task": "rte",
    "source": "demo",
    "method": "alp",
    "method_source": "m" * 64,
    "setting": {},
    "seed": 1,
    "role": "report",
    "teacher": "t" * 64,
    "student": {},
    "start": "t" * 64,
    "pooling": "cls",
    "pooling_source": "pooling",
    "metric_sources": ["metric"],
    "training": {"precision": "fp32", "engine": "stacked"},
    "weights": "convex",
    "device": "cpu",
    "train": "train",
    "evaluation": [["validation", "sha"]],
}
FIELDS: dict[str, Any] = {
    "status": "complete",
    "reason": None,
    "curves": [],
    "seconds": 1.0,
    "examples_per_second": 1.0,
    "peak_memory": 1.0,
}


def run_inputs(**given: Any) -> RunInputs:
    """The inputs of a report run on rte."""
    training = INPUTS["training"] | given.pop("training", {})
    return RUN_INPUTS.validate_python({**INPUTS, **given, "training": training})


def record(
    fingerprint: str,
    score: float | None = 0.5,
    metric: str = "accuracy",
    *,
    inputs: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Record:
    """The record of a complete run with that score, or of a failed run without a score.

    The run has the same metrics on the selection split, with a label loss of 0.
    """
    failed: dict[str, Any] = {"status": "failed", "reason": "loss is NaN", "metrics": {}}
    surroundings = {**PROVENANCE, "threads": 1, "population": [fingerprint], **(provenance or {})}
    values = {
        **FIELDS,
        **(failed if score is None else {"metrics": {metric: score}}),
        "fingerprint": fingerprint,
        "inputs": run_inputs(**(inputs or {})).plain(),
        "provenance": surroundings,
        **fields,
    }
    metrics = values["metrics"]
    values.setdefault("selection", {**metrics, LABEL_LOSS: 0.0} if metrics else {})
    return RECORD.validate_python(values)


def inspections(ledger: Ledger, run: str) -> dict[str, Any]:
    """All stored inspections of a run, by name, as they stand."""
    rows = ledger.transact(
        lambda connection: connection.execute(
            select(INSPECTIONS).where(INSPECTIONS.c.fingerprint == run)
        ).all()
    )
    return {row.name: row.value for row in rows}
