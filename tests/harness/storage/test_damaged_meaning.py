"""Rows of earlier versions, without checksums, whose values are readable and mean nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.damages import find_contradictions, intact_runs
from harness.storage.database import storage_url
from harness.storage.inspected import inspection_damage
from harness.storage.ledger import Ledger
from harness.storage.record import LABEL_LOSS, Predictions, Result
from harness.storage.repair import set_aside_damaged
from tests import records
from tests.manifests import STUDY
from tests.records import inspections

INPUTS = {"selection": "sha of the selection split"}
RUN = records.run_inputs(**INPUTS).fingerprint
CHANGE = {"before": [[0.1, 0.2]], "after": [[0.3, None]]}
FACTS = {"split": "validation", "examples": 3}
INSPECTIONS: dict[str, dict[str, Any]] = {
    "targets": {**FACTS, "target_length": [1.0], "target_variance_share": [0.5]},
    "epochs": {**FACTS, "epochs": [0, 1], "map": [[[1.0]], [[1.0]]], "entropy": [[0.0], [0.0]]},
    "layers": {**FACTS, "pooling": "cls", "cka": CHANGE, "cosine": None, "angles": None},
    "projection": {
        **FACTS,
        "pooling": "cls",
        "joint": True,
        "labels": [0, 1, 1],
        "student": [[[0.0, 1.0]]],
        "teacher": [[[0.0, 1.0]]],
        "fused": None,
        "explained": {"teacher": [0.5, 0.2]},
    },
}


def test_a_score_of_no_metric_is_a_damage(tmp_path: Path) -> None:
    """A run without a selection split has no second list of its scores' names."""
    run = records.run_inputs().fingerprint
    predictions = Predictions(np.eye(2, dtype=np.float32), np.array([0.0, 1]), np.arange(2))
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        ledger.write_study("s", STUDY)
        ledger.write_runs([Result(records.record(run, 1.0), {"validation": predictions}, {})])
        ledger.use_run("s", "report", 0, 1, run)
        assert len(intact_runs(ledger, "s")) == 1
    change(tmp_path, "DELETE FROM harness_checksums")
    change(tmp_path, """UPDATE harness_runs SET metrics = '{"accurecy": 1.0}'""")
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        assert intact_runs(ledger, "s") == []
        (damage,) = ledger.damages_in(["s"])
        assert (
            "metrics have a score on validation that no metric has: 'accurecy'" in damage.sentence
        )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with one run of a study, two of three examples right, and no checksums."""
    logits = np.array([[2, 1], [1, 2], [2, 1]], np.float32)
    predictions = Predictions(logits, np.array([0.0, 1, 1]), np.arange(3))
    selection = {"accuracy": 0.5, LABEL_LOSS: 0.7}
    record = records.record(RUN, 2 / 3, inputs=INPUTS, selection=selection, curves=[{"total": 1.5}])
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        ledger.write_study("s", STUDY)
        ledger.write_runs([Result(record, {"validation": predictions}, INSPECTIONS)])
        ledger.use_run("s", "report", 0, 1, RUN)
    change(tmp_path, "DELETE FROM harness_checksums")
    return tmp_path


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as database, database:
        assert database.execute(statement).rowcount > 0


def test_a_sound_run_of_an_earlier_version_stays(old: Path) -> None:
    with closing(Ledger(storage_url(old, None))) as ledger:
        assert [run.record.fingerprint for run in intact_runs(ledger, "s")] == [RUN]
        assert set_aside_damaged(ledger, old / "damaged") == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("inputs = json_remove(inputs, '$.student')", "'inputs.student' is missing"),
        ("inputs = json_set(inputs, '$.student.layers', 3)", "inputs are not those of this finger"),
        (
            "inputs = json_set(inputs, '$.seed', '1')",
            "inputs.seed: input should be a valid integer",
        ),
        ("inputs = json_set(inputs, '$.more', 1)", "unknown key 'inputs.more'"),
        ("metrics = '[0.5]'", "metrics: input should be an object"),
        ("metrics = 'null'", "metrics: input should be an object"),
        ("metrics = '{}'", "metrics lack some of a complete run's scores"),
        (
            """metrics = '{"accuracy": "0.96"}'""",
            "metrics.accuracy: input should be a valid number",
        ),
        ("""metrics = '{"accuracy": NaN}'""", "metrics say accuracy nan on validation"),
        ("""metrics = '{"accuracy": 96}'""", "metrics say accuracy 96 on validation"),
        (f"metrics = '{'[' * 5000}{']' * 5000}'", "metrics is not JSON (maximum recursion depth"),
        ("""metrics = '{"f1": 0.5}'""", "selection lacks some of a trial's scores"),
        ("metrics = x'ff00'", "metrics is not JSON"),
        ("selection = '{}'", "selection lacks some of a trial's scores"),
        (
            "selection = json_set(selection, '$.accuracy', '1')",
            "selection.accuracy: input should be",
        ),
        ("curves = '3'", "curves: input should be a valid array"),
        ("""curves = '[{"total": "1.5"}]'""", "curves.0.total: input should be a valid number"),
        ("seconds = 'fast'", "seconds: input should be a valid number"),
        ("status = 'done'", "status: input should be 'complete', 'pruned' or 'failed'"),
        ("status = 'failed'", "reason is missing, and the status is failed"),
        ("reason = 'loss is NaN'", "status is complete, and there is a reason (loss is NaN)"),
        ("provenance = json_remove(provenance, '$.threads')", "'provenance.threads' is missing"),
    ],
)
def test_a_record_that_means_nothing_is_named_left_out_and_set_aside(
    old: Path, value: str, message: str
) -> None:
    change(old, f"UPDATE harness_runs SET {value}")
    found_in(old, f"harness_runs, run {RUN[:16]}: {message}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("outputs = 'two'", "logits have no such shape"),
        ("outputs = 0", "logits have no such shape"),
        ("outputs = 1", "labels are of 3 examples, the logits of 6"),
        ("logits = 'abc'", "logits have no such shape"),
        ("labels = substr(labels, 1, 8)", "labels are of 1 examples, the logits of 3"),
        ("ids = substr(ids, 1, 16)", "ids are of 2 examples, the logits of 3"),
    ],
)
def test_predictions_that_mean_nothing_are_named_left_out_and_set_aside(
    old: Path, value: str, message: str
) -> None:
    change(old, f"UPDATE harness_predictions SET {value}")
    found_in(old, f"harness_predictions, run {RUN[:16]}: {message}")


def found_in(old: Path, message: str) -> None:
    with closing(Ledger(storage_url(old, None))) as ledger:
        assert intact_runs(ledger, "s") == []
        (damage,) = ledger.damages_in(["s"])
        assert damage.sentence.startswith(message)
    with closing(Ledger(storage_url(old, None))) as ledger:
        find_contradictions(ledger)
        (damage,) = set_aside_damaged(ledger, old / "damaged")
        assert damage.sentence.startswith(message)
        assert ledger.damages == {}
        assert ledger.records([RUN]) == {}
    assert json.loads((old / "damaged" / f"{RUN}.json").read_text())["damage"] == damage.sentence


@pytest.mark.parametrize("name", sorted(INSPECTIONS))
def test_every_part_of_an_inspection_is_looked_at(name: str) -> None:
    sound = INSPECTIONS[name]
    assert inspection_damage(RUN, name, sound) is None
    for key in sound:
        if key in ("pooling",) and name == "epochs":
            continue
        missing = {k: v for k, v in sound.items() if k != key}
        damage = inspection_damage(RUN, name, missing)
        assert damage is not None
        assert damage.sentence == f"harness_inspections, run {RUN[:16]}: {name} lacks '{key}'"
        for wrong in ("text", {}, [[1.0], [1.0, 2.0]], ["1.0"], [True], [[[[1.0]]]]):
            if key == "explained" and wrong == {}:
                continue
            damage = inspection_damage(RUN, name, {**sound, key: wrong})
            is_text = wrong == "text" and isinstance(sound[key], str)
            assert (damage is None) == is_text, (key, wrong)
    for value in (3, None, [], "x"):
        damage = inspection_damage(RUN, name, value)
        assert damage is not None
        assert damage.sentence.endswith(f"{name} is no object")


@pytest.mark.parametrize(
    ("value", "message"),
    [("substr(value, 2)", "layers is not JSON ("), ("json_remove(value, '$.cka')", "lacks 'cka'")],
)
def test_a_damaged_inspection_is_set_aside_with_its_run(
    old: Path, value: str, message: str
) -> None:
    change(old, f"UPDATE harness_inspections SET value = {value} WHERE name = 'layers'")
    with closing(Ledger(storage_url(old, None))) as ledger:
        (damage,) = set_aside_damaged(ledger, old / "damaged")
        assert message in damage.sentence
        assert inspections(ledger, RUN) == {}
    kept = json.loads((old / "damaged" / f"{RUN}.json").read_text())
    assert len(kept["rows"]["harness_inspections"]) == 4
