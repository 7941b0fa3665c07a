"""Repair of a ledger: damaged rows leave the tables, and later commands write them again."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Row, Select, String, cast, delete, select

from harness.errors import DamagedManifestError, OtherVersionError, StorageError
from harness.storage.checksums import Damage
from harness.storage.ledger import Ledger
from harness.storage.rows import (
    INSPECTION_ROWS,
    PREDICTION_ROWS,
    RUN_ROWS,
    read_inspection,
    read_predictions,
    read_record,
)
from harness.storage.schema import ABLATIONS, CHECKSUMS, INSPECTIONS, PREDICTIONS, RUNS

CHUNK = 256
"""Runs that are held at the same time."""
PLACES = tuple(table.c.fingerprint for table in (CHECKSUMS, PREDICTIONS, INSPECTIONS, RUNS))
"""The columns with a run's fingerprint in the tables with its rows. Tables that refer to another one
come first."""


def set_aside_damaged(ledger: Ledger, folder: Path) -> list[Damage]:
    """Remove every damaged run with all its rows, which files of `folder` keep as texts.

    Runs in the ledger's `damages` are among them. The studies go on using the fingerprints, so a
    command trains the runs again.

    Raises:
        StorageError: a file cannot be written. The run then stays.
    """
    keys = [row.fingerprint for row in _rows(ledger, select(RUNS.c.fingerprint))]
    damages = dict(ledger.damages)
    ledger.damages.clear()
    for start in range(0, len(keys), CHUNK):
        for damage in _damages(ledger, keys[start : start + CHUNK]):
            damages.setdefault(damage.run, damage)
    for damage in damages.values():
        _set_aside(ledger, PLACES, damage.run, folder / f"{damage.run}.json", damage.sentence)
    return list(damages.values())


def set_aside_manifests(ledger: Ledger, folder: Path) -> list[str]:
    """Remove the damaged manifests of ablations, which files of `folder` keep as texts.

    Returns:
        The names of these ablations. Their commands write the manifests again, and may no longer know
        how many trials or seeds earlier commands asked for.

    Raises:
        StorageError: a file cannot be written. The manifest then stays.
    """
    names = []
    for name in ledger.ablations():
        try:
            ledger.manifest(name)
        except OtherVersionError:
            continue
        except DamagedManifestError as error:
            file = folder / f"manifest-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
            _set_aside(ledger, [ABLATIONS.c.name], name, file, str(error))
            names.append(name)
    return names


def _damages(ledger: Ledger, keys: Sequence[str]) -> Iterator[Damage]:
    """The damages of runs with these fingerprints, in all their rows."""
    records = RUN_ROWS.where(RUNS.c.fingerprint.in_(keys))
    predictions = PREDICTION_ROWS.where(PREDICTIONS.c.fingerprint.in_(keys))
    inspections = INSPECTION_ROWS.where(INSPECTIONS.c.fingerprint.in_(keys))
    results = [
        *(read_record(row._mapping) for row in _rows(ledger, records)),
        *(read_predictions(row._mapping) for row in _rows(ledger, predictions)),
        *(read_inspection(row._mapping) for row in _rows(ledger, inspections)),
    ]
    yield from (result for result in results if isinstance(result, Damage))


def _set_aside(
    ledger: Ledger, places: Sequence[Column[Any]], key: str, file: Path, damage: str
) -> None:
    """Move the rows with that key at these places into the file."""
    rows = {place.table.name: _texts(ledger, place, key) for place in places}
    _write(file, json.dumps({"damage": damage, "rows": rows}, indent=1))

    def remove(connection: Connection) -> None:
        for place in places:
            connection.execute(delete(place.table).where(place == key))

    ledger.transact(remove)


def _write(first: Path, text: str) -> None:
    """Write a text to `first`, or with `-2` and so on before the suffix where others lie already.

    A text that lies there already is not written again: a kill may come between file and removal.
    """
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            file = first if number == 1 else first.with_stem(f"{first.stem}-{number}")
            try:
                with file.open("x") as new:
                    new.write(text)
            except FileExistsError:
                if file.read_text() != text:
                    continue
            return
    except OSError as error:
        raise StorageError(f"{first.parent}: cannot be written ({error.strerror})") from error


def _texts(ledger: Ledger, place: Column[Any], key: str) -> list[dict[str, str | None]]:
    """The rows with that key by column, as texts, since damaged values have no other form."""
    text = LargeBinary if ledger.engine.dialect.name == "sqlite" else String
    columns = [
        column if isinstance(column.type, LargeBinary) else cast(column, text)
        for column in place.table.columns
    ]
    query = select(*columns).where(place == key)
    return [
        {
            column.name: _text(value, isinstance(column.type, LargeBinary))
            for column, value in zip(place.table.columns, row, strict=True)
        }
        for row in _rows(ledger, query)
    ]


def _text(value: Any, is_binary: bool) -> str | None:
    """A value as text, a binary column's in base 64. SQLite may hold any bytes in a column of texts."""
    if isinstance(value, bytes | memoryview):
        data = bytes(value)
        return (
            base64.b64encode(data).decode() if is_binary else data.decode(errors="backslashreplace")
        )
    return None if value is None else str(value)


def _rows(ledger: Ledger, query: Select[Any]) -> Sequence[Row[Any]]:
    return ledger.transact(lambda connection: connection.execute(query).all())
