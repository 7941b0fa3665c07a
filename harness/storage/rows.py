"""Stored rows with their checksums: how runs are written, and how rows are read as values or as damages.

Predictions and inspections are rows of their run. A damaged manifest is an error, not a `Damage`.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, RowMapping, select

from harness.errors import DamagedManifestError, OtherVersionError
from harness.storage.checksums import (
    Damage,
    UnreadableJson,
    changed_fields,
    checksums,
    is_sealed,
    unsealed,
)
from harness.storage.database import insert_new
from harness.storage.inspected import inspection_damage
from harness.storage.json_values import storable
from harness.storage.record import LABEL_LOSS, RECORD, Predictions, Record, Result
from harness.storage.schema import (
    CHECKSUMS,
    INSPECTION_PART,
    INSPECTIONS,
    PREDICTIONS,
    RECORD_PART,
    RUNS,
    SPLIT_PART,
)
from harness.validation_faults import fault_lines

T = TypeVar("T")

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
INSPECTION_ROWS = select(INSPECTIONS, CHECKSUMS.c.sums).outerjoin(
    CHECKSUMS,
    (CHECKSUMS.c.fingerprint == INSPECTIONS.c.fingerprint)
    & (CHECKSUMS.c.part == INSPECTION_PART + INSPECTIONS.c.name),
)
"""Rows with their checksums, which are NULL for runs of earlier versions."""


def read_record(row: RowMapping) -> Record | Damage:
    """The record in a row of `RUN_ROWS`, or its first damage."""
    values = {column.name: row[column.name] for column in RUNS.columns}
    run = str(values["fingerprint"])
    for name, value in values.items():
        if isinstance(value, UnreadableJson):
            return Damage(RUNS.name, run, name, f"is not JSON ({value.reason})")
    if row["sums"] is not None:
        if changed := changed_fields(values, row["sums"]):
            return Damage(RUNS.name, run, " and ".join(changed), CHANGED)
        return RECORD.validate_python(values)
    try:
        # Strict, and of JSON: else a text of digits would pass for a number.
        record = RECORD.validate_json(json.dumps(values), strict=True)
    except (ValidationError, TypeError) as error:
        first, *others = [str(error)] if isinstance(error, TypeError) else fault_lines(error)
        rest = f" (and {len(others)} more)" if others else ""
        return Damage(RUNS.name, run, first, f"- the record cannot be read{rest}")
    if fault := _contradiction(record):
        return Damage(RUNS.name, run, *fault)
    return record


def _contradiction(record: Record) -> tuple[str, str] | None:
    """A field of a record without a checksum that contradicts the others, and how."""
    if record.inputs.fingerprint != record.fingerprint:
        return "inputs", "are not those of this fingerprint"
    if record.status != "complete":
        return (
            None if record.reason else ("reason", f"is missing, and the status is {record.status}")
        )
    if record.reason is not None:
        return "status", f"is complete, and there is a reason ({record.reason})"
    first, *others = record.split_metrics.values()
    if not first or any(scores.keys() != first.keys() for scores in others):
        return "metrics", f"lack some of a complete run's scores (they have {[*record.metrics]})"
    has_selection = record.inputs.selection is not None
    if has_selection and record.selection.keys() != {*first, LABEL_LOSS}:
        return "selection", f"lacks some of a trial's scores (it has {[*record.selection]})"
    return None


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
    for name, found in (("labels", labels), ("ids", ids)):
        if len(found) != len(logits):
            reason = f"are of {len(found)} examples, the logits of {len(logits)}"
            return Damage(PREDICTIONS.name, run, name, reason)
    return Predictions(logits, labels, ids)


def read_inspection(row: RowMapping) -> Any | Damage:
    """The value in a row of `INSPECTION_ROWS`, or its damage."""
    values = {column.name: row[column.name] for column in INSPECTIONS.columns}
    run, name, value = str(values["fingerprint"]), str(values["name"]), values["value"]
    if row["sums"] is None or isinstance(value, UnreadableJson):
        damage = inspection_damage(run, name, value)
        return value if damage is None else damage
    return (
        Damage(INSPECTIONS.name, run, name, CHANGED)
        if changed_fields(values, row["sums"])
        else value
    )


def read_manifest(adapter: TypeAdapter[T], values: Any, subject: str, way_out: str) -> T:
    """The typed form of a sealed JSON object. Messages name the subject and end with the way out.

    Raises:
        DamagedManifestError: the object has changed, or cannot be read.
        OtherVersionError: the object is sound, and this version cannot read it.
    """

    def damaged(fault: str) -> DamagedManifestError:
        return DamagedManifestError(f"{subject} {fault}; {way_out}")

    if isinstance(values, UnreadableJson):
        raise damaged(f"is not JSON ({values.reason})")
    try:
        return adapter.validate_python(unsealed(values))
    except ValidationError as error:
        fault, *others = fault_lines(error)
        rest = f" (and {len(others)} more)" if others else ""
        if is_sealed(values):
            raise OtherVersionError(
                f"{subject} is of another version of the harness: {fault}{rest}"
            ) from error
        raise damaged(f"cannot be read: {fault}{rest}") from error
    except ValueError as error:
        raise damaged(str(error)) from error


def write_run(connection: Connection, result: Result, moment: float) -> bool:
    """Write a run that is new. Returns whether the ledger has the record of that moment."""
    record = result.record
    key = RUNS.c.fingerprint == record.fingerprint
    failed = select(RUNS.c.fingerprint).where(key, RUNS.c.status == "failed")
    connection.execute(CHECKSUMS.delete().where(CHECKSUMS.c.fingerprint.in_(failed)))
    connection.execute(RUNS.delete().where(key, RUNS.c.status == "failed"))
    row = storable(RECORD.dump_python(record, mode="json") | {"created": moment})
    if not insert_new(connection, RUNS, row):
        # An earlier attempt of this transaction may have written the record.
        return connection.scalar(select(RUNS.c.created).where(key)) == moment
    for table in (PREDICTIONS, INSPECTIONS, CHECKSUMS):
        # A run that was deleted by hand may have left its rows.
        connection.execute(table.delete().where(table.c.fingerprint == record.fingerprint))
    sums = {RECORD_PART: checksums(row)}
    for split, predictions in result.predictions.items():
        values = {
            "fingerprint": record.fingerprint,
            "split": split,
            "outputs": predictions.logits.shape[1],
            "logits": predictions.logits.astype("<f4").tobytes(),
            "labels": predictions.labels.astype("<f8").tobytes(),
            "ids": predictions.ids.astype("<i8").tobytes(),
        }
        connection.execute(PREDICTIONS.insert().values(**values))
        sums[SPLIT_PART + split] = checksums(values)
    for name, value in result.inspections.items():
        row = storable({"fingerprint": record.fingerprint, "name": name, "value": value})
        connection.execute(INSPECTIONS.insert().values(**row))
        sums[INSPECTION_PART + row["name"]] = checksums(row)
    parts = [
        {"fingerprint": record.fingerprint, "part": part, "sums": text}
        for part, text in sums.items()
    ]
    connection.execute(CHECKSUMS.insert(), parts)
    return True
