"""The run ledger: one database with a record for each run that was trained, unique by fingerprint.

Never imports torch: reports read it on machines without one.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import StorageError
from harness.storage.database import insert_new, open_engine, put, shown_url
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

Role = Literal["search", "report"]
Status = Literal["complete", "pruned", "failed"]


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
    created: float | None = field(default=None, compare=False)
    """When the ledger wrote it, in seconds since 1970; None before."""

    @property
    def split_metrics(self) -> dict[str, dict[str, float]]:
        """The metrics by split, in the order of evaluation, and by name; empty for a failed run.

        In `metrics` those of the first split have plain names, a further one's are `METRIC (SPLIT)`.
        """
        first, *further = (split for split, _ in self.inputs["evaluation"])
        found: dict[str, dict[str, float]] = {split: {} for split in (first, *further)}
        for name, value in self.metrics.items():
            split = next((split for split in further if name.endswith(f" ({split})")), first)
            found[split][name.removesuffix(f" ({split})")] = value
        return found


@dataclass(frozen=True)
class Result:
    """A run's record with its predictions, by split, and what was looked at inside."""

    record: Record
    predictions: Mapping[str, Predictions]
    inspections: Mapping[str, object]


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
        with self.transaction() as connection:
            self._check_version(connection)

    def close(self) -> None:
        """Release the database's connections."""
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction, committed when the block ends without error. Raises `StorageError`."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, JSONDecodeError, UnicodeDecodeError) as error:
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"ledger {shown_url(self.url)}: {cause}") from error

    def _make_tables(self) -> None:
        try:
            with self.transaction() as connection:
                TABLES.create_all(connection)
        except StorageError:
            # PostgreSQL fails when another worker has just made them: then they are there.
            with self.transaction() as connection:
                TABLES.create_all(connection)

    def _check_version(self, connection: Connection) -> None:
        insert_new(connection, META, {"key": "schema", "value": SCHEMA_VERSION})
        found = connection.scalar(select(META.c.value).where(META.c.key == "schema"))
        if found != SCHEMA_VERSION:
            raise StorageError(
                f"ledger {shown_url(self.url)}: schema version {found}, this harness reads "
                f"{SCHEMA_VERSION}; use the version that wrote it, or another --out"
            )

    def write_ablation(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Record what a command compares; the same name takes the new counts."""
        with self.transaction() as connection:
            row = {"name": name, "manifest": dict(manifest), "created": time.time()}
            put(connection, ABLATIONS, row)

    def write_study(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Record a study once; its manifest never changes."""
        with self.transaction() as connection:
            row = {"name": name, "manifest": dict(manifest), "created": time.time()}
            insert_new(connection, STUDIES, row)

    def write_texts(
        self, sha256: str, ids: npt.NDArray[np.int64], texts: Sequence[tuple[str, ...]]
    ) -> None:
        """Record once what the examples (examples,) of the split with that hash say, by their ids."""
        with self.transaction() as connection:
            there = select(TEXTS.c.sha256).where(TEXTS.c.sha256 == sha256)
            if connection.scalar(there) is None:
                row = {"sha256": sha256, "texts": _packed(ids, texts)}
                insert_new(connection, TEXTS, row)

    def write_runs(self, results: Sequence[Result]) -> list[bool]:
        """Write runs, each with all that belongs to it; tells which were not there already.

        All are written or none is. A failed run's record is replaced: it was tried again. It has nothing
        else that belongs to it.
        """
        with self.transaction() as connection:
            return [self._write_run(connection, result) for result in results]

    def _write_run(self, connection: Connection, result: Result) -> bool:
        record = result.record
        connection.execute(
            RUNS.delete().where(RUNS.c.fingerprint == record.fingerprint, RUNS.c.status == "failed")
        )
        row = {**vars(record), "created": time.time()}
        if not insert_new(connection, RUNS, row):
            return False
        for split, predicted in result.predictions.items():
            connection.execute(
                PREDICTIONS.insert().values(
                    fingerprint=record.fingerprint,
                    split=split,
                    outputs=predicted.logits.shape[1],
                    logits=predicted.logits.astype("<f4").tobytes(),
                    labels=predicted.labels.astype("<f8").tobytes(),
                    ids=predicted.ids.astype("<i8").tobytes(),
                )
            )
        for name, value in result.inspections.items():
            row = {"fingerprint": record.fingerprint, "name": name, "value": value}
            connection.execute(INSPECTIONS.insert().values(**row))
        return True

    def use_run(self, study: str, role: Role, trial: int, seed: int, fingerprint: str) -> None:
        """Say which run a study uses for a trial and seed."""
        with self.transaction() as connection:
            row = {"study": study, "role": role, "trial": trial, "seed": seed}
            put(connection, USES, {**row, "fingerprint": fingerprint})

    def manifest(self, ablation: str) -> dict[str, Any]:
        """An ablation's manifest. Raises `StorageError` when there is none of that name."""
        with self.transaction() as connection:
            found = connection.scalar(
                select(ABLATIONS.c.manifest).where(ABLATIONS.c.name == ablation)
            )
        if found is None:
            raise StorageError(f"ledger {shown_url(self.url)}: no ablation '{ablation}'")
        return dict(found)

    def ablations(self) -> list[str]:
        """Names of all ablations, oldest first."""
        with self.transaction() as connection:
            return list(connection.scalars(select(ABLATIONS.c.name).order_by(ABLATIONS.c.created)))

    def study_manifest(self, name: str) -> dict[str, Any] | None:
        """A study's manifest, or None when it has not begun."""
        with self.transaction() as connection:
            found = connection.scalar(select(STUDIES.c.manifest).where(STUDIES.c.name == name))
        return None if found is None else dict(found)

    def records(self, fingerprints: Iterable[str]) -> dict[str, Record]:
        """The records among those fingerprints that exist."""
        with self.transaction() as connection:
            rows = connection.execute(
                select(RUNS).where(RUNS.c.fingerprint.in_(list(fingerprints)))
            )
            return {row.fingerprint: _record(row) for row in rows}

    def find_run(self, prefix: str) -> tuple[Record, str]:
        """The only run whose fingerprint begins with `prefix`, and a study that uses it.

        Raises:
            StorageError: there is none, or there are several.
        """
        with self.transaction() as connection:
            query = select(RUNS).where(RUNS.c.fingerprint.startswith(prefix, autoescape=True))
            rows = connection.execute(query.limit(2)).all()
            if len(rows) != 1:
                raise StorageError(
                    f"ledger {shown_url(self.url)}: {'several runs' if rows else 'no run'} whose "
                    f"fingerprint begins with '{prefix}'"
                )
            record = _record(rows[0])
            study = connection.scalar(
                select(USES.c.study)
                .where(USES.c.fingerprint == record.fingerprint)
                .order_by(USES.c.study)
            )
        if study is None:
            raise StorageError(f"ledger {shown_url(self.url)}: no study uses run '{prefix}'")
        return record, study

    def study_runs(self, study: str) -> list[StudyRun]:
        """All finished runs of a study, by role, trial and seed."""
        with self.transaction() as connection:
            rows = connection.execute(
                select(USES, RUNS)
                .join(RUNS, RUNS.c.fingerprint == USES.c.fingerprint)
                .where(USES.c.study == study)
                .order_by(USES.c.role, USES.c.trial, USES.c.seed)
            ).mappings()
            return [StudyRun(row["role"], row["trial"], row["seed"], _record(row)) for row in rows]

    def predictions(self, fingerprint: str, split: str) -> Predictions | None:
        """A run's stored predictions on a split, or None."""
        return self.predictions_of((fingerprint,), split).get(fingerprint)

    def predictions_of(self, fingerprints: Iterable[str], split: str) -> dict[str, Predictions]:
        """The stored predictions of those runs on a split, by fingerprint, where there are any."""
        with self.transaction() as connection:
            rows = connection.execute(
                select(PREDICTIONS).where(
                    PREDICTIONS.c.fingerprint.in_(list(fingerprints)), PREDICTIONS.c.split == split
                )
            )
            return {row.fingerprint: _predictions(row) for row in rows}

    def texts(self, sha256: str) -> dict[int, tuple[str, ...]] | None:
        """The texts of a split's examples by their ids; None where no study stored them."""
        with self.transaction() as connection:
            found = connection.scalar(select(TEXTS.c.texts).where(TEXTS.c.sha256 == sha256))
        try:
            return None if found is None else _unpacked(found)
        except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
            reason = f"damaged texts ({error})"
            raise StorageError(f"ledger {shown_url(self.url)}: {reason}") from error

    def inspections(self, fingerprint: str) -> dict[str, Any]:
        """What was looked at inside a run, by name."""
        with self.transaction() as connection:
            rows = connection.execute(
                select(INSPECTIONS).where(INSPECTIONS.c.fingerprint == fingerprint)
            )
            return {row.name: row.value for row in rows}

    def inspections_of(self, fingerprints: Iterable[str], name: str) -> dict[str, Any]:
        """One thing that was looked at inside those runs, by fingerprint, where it was."""
        with self.transaction() as connection:
            rows = connection.execute(
                select(INSPECTIONS).where(
                    INSPECTIONS.c.fingerprint.in_(list(fingerprints)), INSPECTIONS.c.name == name
                )
            )
            return {row.fingerprint: row.value for row in rows}


def _packed(ids: npt.NDArray[np.int64], texts: Sequence[tuple[str, ...]]) -> bytes:
    """One gzipped JSON text of ids (examples,) and texts (examples,); equal input, equal bytes."""
    values = {"ids": ids.tolist(), "texts": texts}
    return gzip.compress(json.dumps(values, ensure_ascii=False).encode(), mtime=0)


def _unpacked(data: bytes) -> dict[int, tuple[str, ...]]:
    """The texts of each example, by its id."""
    values = json.loads(gzip.decompress(data))
    return {id: tuple(texts) for id, texts in zip(values["ids"], values["texts"], strict=True)}


def _predictions(row: Any) -> Predictions:
    logits = np.frombuffer(row.logits, dtype="<f4").reshape(-1, row.outputs)
    labels = np.frombuffer(row.labels, dtype="<f8")
    return Predictions(logits, labels, np.frombuffer(row.ids, dtype="<i8"))


def _record(row: Any) -> Record:
    values = row if isinstance(row, Mapping) else row._mapping
    return Record(**{name: values[name] for name in Record.__dataclass_fields__})
