"""The ledger's tables, in the database that holds Optuna's tables too.

A change after which this code cannot read earlier tables, or earlier JSON in their columns, raises
SCHEMA_VERSION. A ledger of another version is refused.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from harness.storage.checksums import StoredJson

SCHEMA_VERSION = 6

TABLES = MetaData()
META = Table(
    "harness_meta", TABLES, Column("key", String, primary_key=True), Column("value", Integer)
)
ABLATIONS = Table(
    "harness_ablations",
    TABLES,
    Column("name", String, primary_key=True),
    Column("manifest", StoredJson, nullable=False),
    Column("created", Float, nullable=False),
)
STUDIES = Table(
    "harness_studies",
    TABLES,
    Column("name", String, primary_key=True),
    Column("manifest", StoredJson, nullable=False),
    Column("created", Float, nullable=False),
)
RUNS = Table(
    "harness_runs",
    TABLES,
    Column("fingerprint", String(64), primary_key=True),
    Column("inputs", StoredJson, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String),
    Column("metrics", StoredJson, nullable=False),
    Column("selection", StoredJson, nullable=False),
    Column("curves", StoredJson, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("examples_per_second", Float, nullable=False),
    Column("peak_memory", Float, nullable=False),
    Column("provenance", StoredJson, nullable=False),
    Column("created", Float, nullable=False),
)
USES = Table(
    "harness_study_runs",
    TABLES,
    Column("study", ForeignKey("harness_studies.name"), primary_key=True),
    Column("role", String, primary_key=True),
    Column("trial", Integer, primary_key=True),
    Column("seed", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
)
PREDICTIONS = Table(
    "harness_predictions",
    TABLES,
    Column("fingerprint", ForeignKey("harness_runs.fingerprint"), primary_key=True),
    Column("split", String, primary_key=True),
    Column("outputs", Integer, nullable=False),
    Column("logits", LargeBinary, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("ids", LargeBinary, nullable=False),
)
INSPECTIONS = Table(
    "harness_inspections",
    TABLES,
    Column("fingerprint", ForeignKey("harness_runs.fingerprint"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", StoredJson, nullable=False),
)
TEXTS = Table(
    "harness_texts",
    TABLES,
    Column("sha256", String(64), primary_key=True),
    Column("texts", LargeBinary, nullable=False),
)
CHECKSUMS = Table(
    "harness_checksums",
    TABLES,
    Column("fingerprint", ForeignKey("harness_runs.fingerprint"), primary_key=True),
    Column("part", String, primary_key=True),
    Column("sums", String, nullable=False),
)
"""Checksums by field: of a run's record (part `record`), of its predictions on a split (the split's
name after `SPLIT_PART`), and of an inspection (its name after `INSPECTION_PART`). Runs of earlier
versions have none, or none of inspections."""
RECORD_PART, SPLIT_PART, INSPECTION_PART = "record", "split ", "inspection "
CLAIMS = Table(
    "harness_claims",
    TABLES,
    Column("key", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("heartbeat", Float, nullable=False),
)
