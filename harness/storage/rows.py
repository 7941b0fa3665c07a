"""Rows of runs and predictions with their checksums, as records or as damages."""

from __future__ import annotations

import numpy as np
from pydantic import ValidationError
from sqlalchemy import RowMapping, select

from harness.config import fault_lines
from harness.storage.checksums import Damage, UnreadableJson, changed_fields
from harness.storage.record import RECORD, Predictions, Record
from harness.storage.schema import CHECKSUMS, PREDICTIONS, RECORD_PART, RUNS, SPLIT_PART

CHANGED = "changed since the run was written (its checksum says so)"
RUN_ROWS = select(RUNS, CHECKSUMS.c.sums).outerjoin(
    CHECKSUMS,
    (CHECKSUMS.c.fingerprint == RUNS.c.fingerprint) & (CHECKSUMS.c.part == RECORD_PART),
)
PREDICTION_ROWS = select(PREDICTIONS, CHECKSUMS.c.sums).outerjoin(
    CHECKSUMS,
    (CHECKSUMS.c.fingerprint == PREDICTIONS.c.fingerprint)
    & (CHECKSUMS.c.part == SPLIT_PART + PREDICTIONS.c.split),
)
"""Rows with their checksums, which are NULL for runs of earlier versions."""


def read_record(row: RowMapping) -> Record | Damage:
    """The record in a row of `RUN_ROWS`, or its first damage."""
    values = {column.name: row[column.name] for column in RUNS.columns}
    run = str(values["fingerprint"])
    for name, value in values.items():
        if isinstance(value, UnreadableJson):
            return Damage(RUNS.name, run, name, f"is not JSON ({value.reason})")
    if row["sums"] is not None and (changed := changed_fields(values, row["sums"])):
        return Damage(RUNS.name, run, " and ".join(changed), CHANGED)
    try:
        return RECORD.validate_python(values)
    except ValidationError as error:
        first, *others = fault_lines(error)
        rest = f" (and {len(others)} more)" if others else ""
        return Damage(RUNS.name, run, first, f"- the record cannot be read{rest}")


def read_predictions(row: RowMapping) -> Predictions | Damage:
    """The predictions in a row of `PREDICTION_ROWS`, or their damage."""
    values = {column.name: row[column.name] for column in PREDICTIONS.columns}
    run = str(values["fingerprint"])
    if row["sums"] is not None and (changed := changed_fields(values, row["sums"])):
        return Damage(PREDICTIONS.name, run, " and ".join(changed), CHANGED)
    try:
        logits = np.frombuffer(values["logits"], dtype="<f4").reshape(-1, values["outputs"])
        labels = np.frombuffer(values["labels"], dtype="<f8")
        ids = np.frombuffer(values["ids"], dtype="<i8")
    except (ValueError, TypeError) as error:
        return Damage(PREDICTIONS.name, run, "logits", f"have no such shape ({error})")
    return Predictions(logits, labels, ids)
