"""The run ledger: one database with a record for each run that was trained, unique by fingerprint.

Never imports torch: reports read it on machines without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from json import JSONDecodeError
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Engine,
    Row,
    RowMapping,
    Select,
    Table,
    case,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from harness.config import Criterion
from harness.errors import DamagedManifestError, StorageError
from harness.storage.checksums import Damage, sealed
from harness.storage.database import insert_new, is_read_only, masked_url, open_engine, put, put_all
from harness.storage.json_values import storable
from harness.storage.manifest import MANIFEST, STUDY_MANIFEST, Manifest, StudyManifest
from harness.storage.outages import Outages
from harness.storage.packed_texts import UnreadableTexts, are_readable, pack_texts, unpack_texts
from harness.storage.record import Predictions, Record, Result, Role, StudyRun, Use
from harness.storage.rows import (
    INSPECTION_ROWS,
    PREDICTION_ROWS,
    RUN_ROWS,
    read_inspection,
    read_manifest,
    read_predictions,
    read_record,
    write_run,
)
from harness.storage.schema import (
    ABLATIONS,
    INSPECTIONS,
    META,
    PREDICTIONS,
    RUNS,
    SCHEMA_VERSION,
    STUDIES,
    TABLES,
    TEXTS,
    USES,
)

MOST_KEYS = 10_000
"""Fingerprints, or studies, in one statement. SQLite takes 32,766 parameters, PostgreSQL 65,535."""

T = TypeVar("T")


class Ledger:
    """All access to the harness's tables. Every write is one transaction, which outlives an outage."""

    def __init__(self, url: str) -> None:
        """Open the database of that URL and make its tables. Raises `StorageError`."""
        self.engine: Engine = open_engine(url)
        self.url = url
        self.damages: dict[str, Damage] = {}
        """The damages of rows that reads of several runs have left out so far, by fingerprint."""
        self.outages = Outages()
        if not is_read_only(self.engine.url):
            self._make_tables()
        self.transact(self._check_version)
        self.outages.has_answered = True

    def close(self) -> None:
        """Release the database's connections."""
        self.engine.dispose()

    def transact(self, operation: Callable[[Connection], T], is_patient: bool = True) -> T:
        """The result of an operation in one transaction, which is committed if nothing is raised.

        During an outage a patient transaction waits and runs the operation again, perhaps after a commit
        whose answer was lost. So the operation must leave the same rows when it runs twice.

        Raises:
            StorageError: the database refuses, or an outage lasts.
        """

        def once() -> T:
            with self.engine.begin() as connection:
                return operation(connection)

        try:
            return self.outages.survive(once, is_patient)
        except (SQLAlchemyError, JSONDecodeError, UnicodeDecodeError) as error:
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"ledger {masked_url(self.url)}: {cause}") from error

    def _make_tables(self) -> None:
        try:
            self.transact(TABLES.create_all)
        except StorageError as error:
            # PostgreSQL fails if another worker has just made the tables.
            if not isinstance(error.__cause__, IntegrityError | ProgrammingError):
                raise
            self.transact(TABLES.create_all)

    def _check_version(self, connection: Connection) -> None:
        if not is_read_only(self.engine.url):
            insert_new(connection, META, {"key": "schema", "value": SCHEMA_VERSION})
        version = connection.scalar(select(META.c.value).where(META.c.key == "schema"))
        if version != SCHEMA_VERSION:
            raise StorageError(
                f"ledger {masked_url(self.url)}: schema version {version}, this harness reads "
                f"{SCHEMA_VERSION} only; give another folder with --out"
            )

    def write_ablation(self, manifest: Manifest) -> None:
        """Record an ablation's manifest, which replaces an earlier manifest of the same name."""
        values = sealed(storable(MANIFEST.dump_python(manifest, mode="json")))
        row = {"name": manifest.name, "manifest": values, "created": time.time()}
        self.transact(lambda connection: put(connection, ABLATIONS, row))

    def write_study(self, name: str, manifest: StudyManifest) -> bool:
        """Record a study once; its manifest never changes, but a damaged one is replaced.

        Returns:
            Whether a damaged manifest was replaced.
        """
        values = sealed(storable(STUDY_MANIFEST.dump_python(manifest, mode="json")))
        row = {"name": name, "manifest": values, "created": time.time()}
        try:
            self.study_manifest(name)
        except DamagedManifestError:
            self.transact(lambda connection: put(connection, STUDIES, row))
            return True
        self.transact(lambda connection: insert_new(connection, STUDIES, row))
        return False

    def write_texts(
        self, sha256: str, ids: npt.NDArray[np.int64], texts: Sequence[tuple[str, ...]]
    ) -> None:
        """Record once the texts (examples,) of a split by the ids (examples,) and the split's hash.

        Damaged texts are replaced.
        """

        def operation(connection: Connection) -> None:
            stored = connection.scalar(select(TEXTS.c.texts).where(TEXTS.c.sha256 == sha256))
            if stored is None or not are_readable(stored):
                put(connection, TEXTS, {"sha256": sha256, "texts": pack_texts(ids, texts)})

        self.transact(operation)

    def write_runs(self, results: Sequence[Result]) -> list[bool]:
        """Write all runs or none, with predictions and inspections; returns which runs are new.

        A run that failed and was tried again replaces the record of the failure, which has neither
        predictions nor inspections.
        """
        moment = time.time()
        return self.transact(
            lambda connection: [write_run(connection, result, moment) for result in results]
        )

    def use_run(self, study: str, role: Role, trial: int, seed: int, fingerprint: str) -> None:
        """Record which run a study uses for a trial and seed."""
        self.use_runs([Use(study, role, trial, seed, fingerprint)])

    def use_runs(self, uses: Iterable[Use]) -> None:
        """Record which runs studies use. The last of several uses for one trial and seed stays."""
        last_uses = {use[:-1]: use for use in uses}
        rows = [last_uses[key]._asdict() for key in sorted(last_uses)]
        if rows:
            self.transact(lambda connection: put_all(connection, USES, rows))

    def manifest(self, ablation: str) -> Manifest:
        """An ablation's manifest. Raises `StorageError` if the manifest is missing or damaged."""
        rows = self._rows(select(ABLATIONS.c.manifest).where(ABLATIONS.c.name == ablation))
        if not rows:
            raise StorageError(f"ledger {masked_url(self.url)}: no ablation '{ablation}'")
        subject = f"ledger {masked_url(self.url)}: the manifest of the ablation '{ablation}'"
        way_out = "--repair sets it aside, and its command writes it again"
        return read_manifest(MANIFEST, rows[0].manifest, subject, way_out)

    def ablations_unlike(self, budget: int, criterion: Criterion) -> list[str]:
        """Names of the ablations with another budget or another criterion, oldest first.

        In SQLite, ablations whose manifest is no JSON are not among them.
        """
        manifest = type_coerce(ABLATIONS.c.manifest, JSON)
        budgets = manifest["config", "protocol", "budget"].as_integer()
        criteria = manifest["config", "search", "criterion"].as_string()
        differs = or_(budgets.is_distinct_from(budget), criteria.is_distinct_from(criterion))
        if self.engine.dialect.name == "sqlite":  # its functions fail where a text is no JSON
            differs = case((func.json_valid(ABLATIONS.c.manifest) == 1, differs), else_=False)
        query = select(ABLATIONS.c.name).where(differs).order_by(ABLATIONS.c.created)
        return self.transact(lambda connection: list(connection.scalars(query)))

    def ablations(self) -> list[str]:
        """Names of all ablations, oldest first."""
        query = select(ABLATIONS.c.name).order_by(ABLATIONS.c.created)
        return self.transact(lambda connection: list(connection.scalars(query)))

    def study_names(self) -> list[str]:
        """Names of all studies, oldest first."""
        query = select(STUDIES.c.name).order_by(STUDIES.c.created)
        return self.transact(lambda connection: list(connection.scalars(query)))

    def study_manifest(self, name: str) -> StudyManifest | None:
        """A study's manifest, or None for an unknown name. Raises `StorageError` if it is damaged."""
        rows = self._rows(select(STUDIES.c.manifest).where(STUDIES.c.name == name))
        if not rows:
            return None
        subject = f"ledger {masked_url(self.url)}: the manifest of the study '{name}'"
        way_out = "its command writes it again"
        return read_manifest(STUDY_MANIFEST, rows[0].manifest, subject, way_out)

    def _record(self, row: RowMapping) -> Record:
        """The record in a row of `RUN_ROWS`. Raises `StorageError` for a damaged one."""
        record = read_record(row)
        if isinstance(record, Damage):
            raise StorageError(
                f"ledger {masked_url(self.url)}: {record.sentence}; --repair trains it again"
            )
        return record

    def records(self, fingerprints: Iterable[str]) -> dict[str, Record]:
        """The existing records of these runs, by fingerprint.

        Raises `StorageError` for a damaged record.
        """
        rows = self._rows_of(RUN_ROWS, RUNS, fingerprints)
        return {row.fingerprint: self._record(row._mapping) for row in rows}

    def find_run(self, prefix: str) -> tuple[Record, str]:
        """The only run whose fingerprint begins with `prefix`, and a study that uses it.

        Raises:
            StorageError: no run or several runs begin so, the run is damaged, or no study uses it.
        """
        query = RUN_ROWS.where(RUNS.c.fingerprint.startswith(prefix, autoescape=True))
        rows = self._rows(query.limit(2))
        if len(rows) != 1:
            raise StorageError(
                f"ledger {masked_url(self.url)}: {'several runs' if rows else 'no run'} whose "
                f"fingerprint begins with '{prefix}'"
            )
        record = self._record(rows[0]._mapping)
        uses = select(USES.c.study).where(USES.c.fingerprint == record.fingerprint)
        study = self.transact(lambda connection: connection.scalar(uses.order_by(USES.c.study)))
        if study is None:
            raise StorageError(f"ledger {masked_url(self.url)}: no study uses run '{prefix}'")
        return record, study

    def has_report_runs(self, studies: Iterable[str]) -> bool:
        """Whether any of these studies uses a finished report run."""
        query = (
            select(USES.c.fingerprint)
            .join(RUNS, RUNS.c.fingerprint == USES.c.fingerprint)
            .where(USES.c.role == "report")
            .limit(1)
        )
        return any(self._rows(query.where(USES.c.study.in_(part))) for part in _parts(studies))

    def study_runs(self, study: str) -> list[StudyRun]:
        """All finished runs of a study, by role, trial and seed.

        Damaged runs are left out, and `damages` has them.
        """
        query = (
            RUN_ROWS.add_columns(USES.c.role, USES.c.trial, USES.c.seed)
            .join(USES, RUNS.c.fingerprint == USES.c.fingerprint)
            .where(USES.c.study == study)
            .order_by(USES.c.role, USES.c.trial, USES.c.seed)
        )
        runs = []
        for row in (row._mapping for row in self._rows(query)):
            record = read_record(row)
            if isinstance(record, Damage):
                self.damages[record.run] = record
            else:
                has_checksum = row["sums"] is not None
                runs.append(StudyRun(row["role"], row["trial"], row["seed"], record, has_checksum))
        return runs

    def predictions(self, fingerprint: str, split: str) -> Predictions | None:
        """A run's stored predictions on a split, or None."""
        return self.predictions_of((fingerprint,), split).get(fingerprint)

    def predictions_of(self, fingerprints: Iterable[str], split: str) -> dict[str, Predictions]:
        """The stored predictions of these runs on a split, by fingerprint.

        Damaged ones are left out, and `damages` has their runs.
        """
        rows = self._rows_of(
            PREDICTION_ROWS, PREDICTIONS, fingerprints, PREDICTIONS.c.split == split
        )
        return self._intact(rows, read_predictions)

    def damages_in(self, studies: Iterable[str]) -> list[Damage]:
        """The damages in these studies that reads have found so far, by table and run."""
        if not self.damages:
            return []
        uses = [USES.c.study.in_(part) for part in _parts(studies)]
        query = select(USES.c.fingerprint)
        runs = {
            row.fingerprint for use in uses for row in self._rows_of(query, USES, self.damages, use)
        }
        damages = [self.damages[run] for run in runs]
        return sorted(damages, key=lambda damage: (damage.table, damage.run))

    def texts(self, sha256: str) -> dict[int, tuple[str, ...]]:
        """The texts of a split's examples by id. Raises `StorageError` if missing or damaged."""
        query = select(TEXTS.c.texts).where(TEXTS.c.sha256 == sha256)
        data = self.transact(lambda connection: connection.scalar(query))
        if data is None:
            raise StorageError(
                f"ledger {masked_url(self.url)}: no texts of the split {sha256[:16]}"
            )
        try:
            return unpack_texts(data)
        except UnreadableTexts as error:
            raise StorageError(
                f"ledger {masked_url(self.url)}: damaged texts ({error}) of the split {sha256[:16]} in "
                f"{TEXTS.name}; the study's own command writes them again"
            ) from error

    def inspections_of(self, fingerprints: Iterable[str], name: str) -> dict[str, Any]:
        """One inspection of these runs, by fingerprint; runs without this inspection are left out.

        Damaged ones are left out, and `damages` has their runs.
        """
        rows = self._rows_of(INSPECTION_ROWS, INSPECTIONS, fingerprints, INSPECTIONS.c.name == name)
        return self._intact(rows, read_inspection)

    def _intact(
        self, rows: Iterable[Row[Any]], read: Callable[[RowMapping], T | Damage]
    ) -> dict[str, T]:
        """What is read from the rows by fingerprint. `damages` gets the damages instead."""
        intact: dict[str, T] = {}
        for row in rows:
            stored = read(row._mapping)
            if isinstance(stored, Damage):
                self.damages[stored.run] = stored
            else:
                intact[row.fingerprint] = stored
        return intact

    def _rows_of(
        self,
        query: Select[Any],
        table: Table,
        fingerprints: Iterable[str],
        *conditions: ColumnElement[bool],
    ) -> Iterator[Row[Any]]:
        """The rows of a query of a table with these fingerprints."""
        for keys in _parts(fingerprints):
            yield from self._rows(query.where(table.c.fingerprint.in_(keys), *conditions))

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return self.transact(lambda connection: connection.execute(query).all())


def _parts(keys: Iterable[str]) -> list[list[str]]:
    """The keys in lists of `MOST_KEYS` at most."""
    entries = list(keys)
    return [entries[start : start + MOST_KEYS] for start in range(0, len(entries), MOST_KEYS)]
