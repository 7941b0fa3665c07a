"""Runs that results leave out, since their scores cannot be trusted. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.metric_table import METRICS
from harness.storage.checksums import Damage
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, StudyRun
from harness.storage.schema import PREDICTIONS, RUNS

CHUNK = 256
"""Runs whose predictions are held at the same time."""
TOLERANCE = 1e-6
"""The rounding between a stored score and the score of the stored predictions."""


def intact_runs(ledger: Ledger, study: str) -> list[StudyRun]:
    """The finished runs of a study whose stored scores can be trusted.

    Checksums find damages of rows. Scores without a checksum, from ledgers of earlier versions, are
    computed again from the stored predictions, where there are some. The ledger's `damages` has the runs
    that are left out. A run stays of which inspections alone are damaged, or predictions beside a record
    with a checksum.
    """
    runs = ledger.study_runs(study)
    unproven_runs = [
        run
        for run in runs
        if not run.has_checksum and run.role == "report" and run.record.status == "complete"
    ]
    for start in range(0, len(unproven_runs), CHUNK):
        for damage in _contradictions(ledger, unproven_runs[start : start + CHUNK]):
            ledger.damages[damage.run] = damage
    unproven = {run.record.fingerprint for run in unproven_runs}
    left_out = {
        run
        for run, damage in ledger.damages.items()
        if damage.table == RUNS.name or (damage.table == PREDICTIONS.name and run in unproven)
    }
    return [run for run in runs if run.record.fingerprint not in left_out]


def find_contradictions(ledger: Ledger) -> None:
    """Note in the ledger's `damages` the runs of all studies whose scores cannot be trusted."""
    for study in ledger.study_names():
        intact_runs(ledger, study)


def _contradictions(ledger: Ledger, runs: Sequence[StudyRun]) -> list[Damage]:
    """The runs, of one study, whose scores are not those of their predictions."""
    damages = []
    for split in runs[0].record.split_metrics:
        stored = ledger.predictions_of([run.record.fingerprint for run in runs], split)
        for run in runs:
            predictions = stored.get(run.record.fingerprint)
            if predictions is None:
                continue
            for name, value in run.record.split_metrics[split].items():
                if fault := _fault(name, value, split, predictions):
                    damages.append(Damage(RUNS.name, run.record.fingerprint, "metrics", fault))
    return damages


def _fault(metric: str, value: float, split: str, predictions: Predictions) -> str:
    """How a stored score contradicts the stored predictions; empty if it does not."""
    if metric not in METRICS:
        return f"have a score on {split} that no metric has: {metric!r}"
    score = _score(metric, predictions)
    if abs(score - value) <= TOLERANCE:
        return ""
    return f"say {metric} {value:.6g} on {split}, the stored predictions {score:.6g}"


def _score(metric: str, predictions: Predictions) -> float:
    """A metric of stored predictions."""
    row = METRICS[metric]
    logits = predictions.logits
    answers = logits[:, 0] if row.of_scores else logits.argmax(axis=1)
    counts = np.ones((1, len(answers)))
    return float(row.resample(predictions.labels, answers[None].astype(np.float64), counts)[0, 0])
