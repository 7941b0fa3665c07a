"""Repair of a ledger: damaged runs leave the tables, and later commands train them again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, LargeBinary, Row, Select, String, Table, cast, select

from harness.errors import StorageError
from harness.storage.checksums import Damage
from harness.storage.inspected import inspection_damage
from harness.storage.ledger import Ledger
from harness.storage.rows import PREDICTION_ROWS, RUN_ROWS, read_predictions, read_record
from harness.storage.schema import CHECKSUMS, INSPECTIONS, PREDICTIONS, RUNS

CHUNK = 256
"""Runs that are held at the same time."""
TABLES = (CHECKSUMS, PREDICTIONS, INSPECTIONS, RUNS)
"""The tables with rows of a run. Those that refer to another one come first."""


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
        _set_aside(ledger, damage, folder)
    return list(damages.values())


def _damages(ledger: Ledger, keys: Sequence[str]) -> Iterator[Damage]:
    """The damages of runs with these fingerprints, in all their rows."""
    records = RUN_ROWS.where(RUNS.c.fingerprint.in_(keys))
    predictions = PREDICTION_ROWS.where(PREDICTIONS.c.fingerprint.in_(keys))
    results = [
        *(read_record(row._mapping) for row in _rows(ledger, records)),
        *(read_predictions(row._mapping) for row in _rows(ledger, predictions)),
    ]
    yield from (result for result in results if isinstance(result, Damage))
    inspections = select(INSPECTIONS).where(INSPECTIONS.c.fingerprint.in_(keys))
    for row in _rows(ledger, inspections):
        if (damage := inspection_damage(row.fingerprint, row.name, row.value)) is not None:
            yield damage


def _set_aside(ledger: Ledger, damage: Damage, folder: Path) -> None:
    rows = {table.name: _texts(ledger, table, damage.run) for table in TABLES}
    _write(folder, damage.run, json.dumps({"damage": damage.sentence, "rows": rows}, indent=1))

    def remove(connection: Connection) -> None:
        for table in TABLES:
            connection.execute(table.delete().where(table.c.fingerprint == damage.run))

    ledger.transact(remove)


def _write(folder: Path, run: str, text: str) -> None:
    """Write a text to `RUN.json`, or to `RUN-2.json` and so on where others lie already.

    A text that lies there already is not written again: a kill may come between file and removal.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            file = folder / (f"{run}.json" if number == 1 else f"{run}-{number}.json")
            try:
                with file.open("x") as new:
                    new.write(text)
            except FileExistsError:
                if file.read_text() != text:
                    continue
            return
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror})") from error


def _texts(ledger: Ledger, table: Table, run: str) -> list[dict[str, str | None]]:
    """A run's rows of a table by column, as texts, since damaged values have no other form."""
    text = LargeBinary if ledger.engine.dialect.name == "sqlite" else String
    columns = [
        column if isinstance(column.type, LargeBinary) else cast(column, text)
        for column in table.columns
    ]
    query = select(*columns).where(table.c.fingerprint == run)
    return [
        {
            column.name: _text(value, isinstance(column.type, LargeBinary))
            for column, value in zip(table.columns, row, strict=True)
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
