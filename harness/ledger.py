"""The run ledger: one database with a record for each run that was trained, unique by fingerprint.

Never imports torch: reports read it on machines without one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    false,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import StorageError
from harness.storage import open_engine, shown_url

SCHEMA_VERSION = 3
Role = Literal["search", "report"]
Status = Literal["complete", "pruned", "failed"]

_tables = MetaData()
_meta = Table(
    "harness_meta", _tables, Column("key", String, primary_key=True), Column("value", Integer)
)
_ablations = Table(
    "harness_ablations",
    _tables,
    Column("name", String, primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("created", Float, nullable=False),
)
_studies = Table(
    "harness_studies",
    _tables,
    Column("name", String, primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("created", Float, nullable=False),
)
_runs = Table(
    "harness_runs",
    _tables,
    Column("fingerprint", String(64), primary_key=True),
    Column("inputs", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String),
    Column("metrics", JSON, nullable=False),
    Column("curves", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("examples_per_second", Float, nullable=False),
    Column("peak_memory", Float, nullable=False),
    Column("provenance", JSON, nullable=False),
    Column("created", Float, nullable=False),
)
_uses = Table(
    "harness_study_runs",
    _tables,
    Column("study", ForeignKey("harness_studies.name"), primary_key=True),
    Column("role", String, primary_key=True),
    Column("trial", Integer, primary_key=True),
    Column("seed", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
)
_predictions = Table(
    "harness_predictions",
    _tables,
    Column("fingerprint", ForeignKey("harness_runs.fingerprint"), primary_key=True),
    Column("split", String, primary_key=True),
    Column("outputs", Integer, nullable=False),
    Column("logits", LargeBinary, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("ids", LargeBinary, nullable=False),
)
_inspections = Table(
    "harness_inspections",
    _tables,
    Column("fingerprint", ForeignKey("harness_runs.fingerprint"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
)
_claims = Table(
    "harness_claims",
    _tables,
    Column("key", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("heartbeat", Float, nullable=False),
)


@dataclass(frozen=True)
class Predictions:
    """One report run on one split: `logits` (examples, outputs), `labels` and `ids` (examples,)."""

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Record:
    """What is kept of one run. `inputs` are the fingerprint's: task, method, setting, seed, role..."""

    fingerprint: str
    inputs: dict[str, Any]
    status: Status
    reason: str | None
    metrics: dict[str, float]
    curves: list[dict[str, float]]
    seconds: float
    examples_per_second: float
    peak_memory: float
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRun:
    """A record as one study uses it: the trial it belongs to (the best one for report runs)."""

    role: Role
    trial: int
    seed: int
    record: Record


class Ledger:
    """All access to the harness's tables. Every write is one transaction."""

    def __init__(self, url: str) -> None:
        """Open the database of that URL and make its tables. Raises `StorageError`."""
        self.engine: Engine = open_engine(url)
        self.url = url
        self._make_tables()
        with self._write() as connection:
            self._check_version(connection)

    def close(self) -> None:
        """Release the database's connections."""
        self.engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"ledger {shown_url(self.url)}: {cause}") from error

    def _make_tables(self) -> None:
        try:
            with self._write() as connection:
                _tables.create_all(connection)
        except StorageError:
            # PostgreSQL fails when another worker has just made them: then they are there.
            with self._write() as connection:
                _tables.create_all(connection)

    def _check_version(self, connection: Connection) -> None:
        self._insert_new(connection, _meta, {"key": "schema", "value": SCHEMA_VERSION})
        found = connection.scalar(select(_meta.c.value).where(_meta.c.key == "schema"))
        if found != SCHEMA_VERSION:
            raise StorageError(
                f"ledger {shown_url(self.url)}: schema version {found}, this harness reads "
                f"{SCHEMA_VERSION}; use the version that wrote it, or another --out"
            )

    def _insert_new(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert unless the primary key is taken; returns whether it was inserted."""
        insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        statement = insert(table).values(**row).on_conflict_do_nothing()
        # Without the option PostgreSQL's count of an INSERT is lost: -1, whatever it did.
        options = {"preserve_rowcount": True}
        return connection.execute(statement, execution_options=options).rowcount == 1

    def _put(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
        """Insert, or replace the row with the same primary key."""
        if not self._insert_new(connection, table, row):
            keys = [column == row[column.name] for column in table.primary_key]
            connection.execute(table.update().where(*keys).values(**row))

    def write_ablation(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Record what a command compares; the same name takes the new counts."""
        with self._write() as connection:
            row = {"name": name, "manifest": dict(manifest), "created": time.time()}
            self._put(connection, _ablations, row)

    def write_study(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Record a study once; its manifest never changes."""
        with self._write() as connection:
            row = {"name": name, "manifest": dict(manifest), "created": time.time()}
            self._insert_new(connection, _studies, row)

    def write_run(
        self,
        record: Record,
        predictions: Mapping[str, Predictions],
        inspections: Mapping[str, Any],
    ) -> bool:
        """Write a run with all that belongs to it; returns False if it was there already.

        A failed run's record is replaced: it was tried again. It has nothing else that belongs to it.
        """
        with self._write() as connection:
            connection.execute(
                _runs.delete().where(
                    _runs.c.fingerprint == record.fingerprint, _runs.c.status == "failed"
                )
            )
            row = {**vars(record), "created": time.time()}
            if not self._insert_new(connection, _runs, row):
                return False
            for split, predicted in predictions.items():
                connection.execute(
                    _predictions.insert().values(
                        fingerprint=record.fingerprint,
                        split=split,
                        outputs=predicted.logits.shape[1],
                        logits=predicted.logits.astype("<f4").tobytes(),
                        labels=predicted.labels.astype("<f8").tobytes(),
                        ids=predicted.ids.astype("<i8").tobytes(),
                    )
                )
            for name, value in inspections.items():
                connection.execute(
                    _inspections.insert().values(
                        fingerprint=record.fingerprint, name=name, value=value
                    )
                )
            return True

    def use_run(self, study: str, role: Role, trial: int, seed: int, fingerprint: str) -> None:
        """Say which run a study uses for a trial and seed."""
        with self._write() as connection:
            row = {"study": study, "role": role, "trial": trial, "seed": seed}
            self._put(connection, _uses, {**row, "fingerprint": fingerprint})

    def manifest(self, ablation: str) -> dict[str, Any]:
        """An ablation's manifest. Raises `StorageError` when there is none of that name."""
        with self._write() as connection:
            found = connection.scalar(
                select(_ablations.c.manifest).where(_ablations.c.name == ablation)
            )
        if found is None:
            raise StorageError(f"ledger {shown_url(self.url)}: no ablation '{ablation}'")
        return dict(found)

    def ablations(self) -> list[str]:
        """Names of all ablations, oldest first."""
        with self._write() as connection:
            return list(
                connection.scalars(select(_ablations.c.name).order_by(_ablations.c.created))
            )

    def study_manifest(self, name: str) -> dict[str, Any] | None:
        """A study's manifest, or None when it has not begun."""
        with self._write() as connection:
            found = connection.scalar(select(_studies.c.manifest).where(_studies.c.name == name))
        return None if found is None else dict(found)

    def records(self, fingerprints: Iterable[str]) -> dict[str, Record]:
        """The records among those fingerprints that exist."""
        with self._write() as connection:
            rows = connection.execute(
                select(_runs).where(_runs.c.fingerprint.in_(list(fingerprints)))
            )
            return {row.fingerprint: _record(row) for row in rows}

    def find_run(self, prefix: str) -> tuple[Record, str]:
        """The only run whose fingerprint begins with `prefix`, and a study that uses it.

        Raises:
            StorageError: there is none, or there are several.
        """
        with self._write() as connection:
            query = select(_runs).where(_runs.c.fingerprint.startswith(prefix, autoescape=True))
            rows = connection.execute(query.limit(2)).all()
            if len(rows) != 1:
                raise StorageError(
                    f"ledger {shown_url(self.url)}: {'several runs' if rows else 'no run'} whose "
                    f"fingerprint begins with '{prefix}'"
                )
            record = _record(rows[0])
            study = connection.scalar(
                select(_uses.c.study)
                .where(_uses.c.fingerprint == record.fingerprint)
                .order_by(_uses.c.study)
            )
        if study is None:
            raise StorageError(f"ledger {shown_url(self.url)}: no study uses run '{prefix}'")
        return record, study

    def study_runs(self, study: str) -> list[StudyRun]:
        """All finished runs of a study, by role, trial and seed."""
        with self._write() as connection:
            rows = connection.execute(
                select(_uses, _runs)
                .join(_runs, _runs.c.fingerprint == _uses.c.fingerprint)
                .where(_uses.c.study == study)
                .order_by(_uses.c.role, _uses.c.trial, _uses.c.seed)
            ).mappings()
            return [StudyRun(row["role"], row["trial"], row["seed"], _record(row)) for row in rows]

    def predictions(self, fingerprint: str, split: str) -> Predictions | None:
        """A run's stored predictions on a split, or None."""
        with self._write() as connection:
            row = connection.execute(
                select(_predictions).where(
                    _predictions.c.fingerprint == fingerprint, _predictions.c.split == split
                )
            ).first()
        if row is None:
            return None
        logits = np.frombuffer(row.logits, dtype="<f4").reshape(-1, row.outputs)
        labels = np.frombuffer(row.labels, dtype="<f8")
        return Predictions(logits, labels, np.frombuffer(row.ids, dtype="<i8"))

    def inspections(self, fingerprint: str) -> dict[str, Any]:
        """What was looked at inside a run, by name."""
        with self._write() as connection:
            rows = connection.execute(
                select(_inspections).where(_inspections.c.fingerprint == fingerprint)
            )
            return {row.name: row.value for row in rows}

    def take_claim(self, key: str, owner: str, gone: Mapping[str, float]) -> bool:
        """Claim a key; one is taken over whose owner is in `gone` and gave no sign since then."""
        with self._write() as connection:
            row = {"key": key, "owner": owner, "heartbeat": time.time()}
            if self._insert_new(connection, _claims, row):
                return True
            free = or_(_claims.c.owner == owner, _silent(gone))
            update = _claims.update().where(_claims.c.key == key, free)
            return connection.execute(update.values(row)).rowcount == 1

    def drop_claims(self, gone: Mapping[str, float]) -> None:
        """Remove the claims of owners in `gone` who gave no sign since then."""
        with self._write() as connection:
            connection.execute(_claims.delete().where(_silent(gone)))

    def claimed_keys(self) -> set[str]:
        """Every key that is claimed."""
        with self._write() as connection:
            return set(connection.scalars(select(_claims.c.key)))

    def claim_owners(self) -> dict[str, float]:
        """Everyone who holds a claim, and the last sign of life by the owner's own clock."""
        with self._write() as connection:
            query = select(_claims.c.owner, func.max(_claims.c.heartbeat))
            return dict(connection.execute(query.group_by(_claims.c.owner)).all())

    def refresh_claims(self, owner: str) -> None:
        """Show that an owner is alive."""
        with self._write() as connection:
            statement = _claims.update().where(_claims.c.owner == owner)
            connection.execute(statement.values(heartbeat=time.time()))

    def release_claim(self, key: str, owner: str) -> None:
        """Give a claim back."""
        with self._write() as connection:
            connection.execute(
                _claims.delete().where(_claims.c.key == key, _claims.c.owner == owner)
            )


def _silent(gone: Mapping[str, float]) -> ColumnElement[bool]:
    """Claims of those owners that have had no sign of life since."""
    return or_(
        false(),
        *((_claims.c.owner == o) & (_claims.c.heartbeat <= beat) for o, beat in gone.items()),
    )


def _record(row: Any) -> Record:
    values = row if isinstance(row, Mapping) else row._mapping
    return Record(**{name: values[name] for name in Record.__dataclass_fields__})
