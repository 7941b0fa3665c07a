"""The ledger: records unique by fingerprint, versions that are checked."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import StorageError
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import MANIFEST
from harness.storage.record import Predictions, Record, Result
from harness.storage.schema import ABLATIONS, STUDIES
from tests import records
from tests.manifests import STUDY, manifest
from tests.records import inspections


def record(fingerprint: str = "a" * 64, seed: int = 1) -> Record:
    inputs = {"seed": seed, "setting": {"temperature": 2.0, "layers": 2, "scaled": True}}
    return records.record(
        fingerprint, 0.75, inputs=inputs, curves=[{"label": 0.5, "total": 0.5}], seconds=1.5
    )


def test_a_record_comes_back_as_it_was_written(ledger: Ledger) -> None:
    logits = np.array([[0.1, 0.9], [0.8, 0.2]], dtype=np.float32)
    predictions = Predictions(logits, np.array([1.0, 0.0]), np.array([5, 7]))
    result = Result(record(), {"validation": predictions}, {"targets": {"map": [[1.0]]}})
    assert ledger.write_runs([result]) == [True]
    assert ledger.records(["a" * 64, "b" * 64]) == {"a" * 64: record()}
    found = ledger.predictions("a" * 64, "validation")
    assert found is not None
    for name in ("logits", "labels", "ids"):
        assert np.array_equal(getattr(found, name), getattr(predictions, name))
    assert inspections(ledger, "a" * 64) == {"targets": {"map": [[1.0]]}}


def test_a_fingerprint_is_written_once(ledger: Ledger) -> None:
    assert ledger.write_runs([Result(record(), {}, {})]) == [True]
    again = Result(record(seed=2), {}, {"targets": {}})
    assert ledger.write_runs([again, Result(record("b" * 64), {}, {})]) == [False, True]
    assert ledger.records(["a" * 64])["a" * 64].inputs.seed == 1
    assert inspections(ledger, "a" * 64) == {}


def test_texts_are_written_once_and_come_back(ledger: Ledger) -> None:
    rows = [("</script>\r\n\x00", "\u202eאב 😀"), ("", "x" * 10_000)]
    ledger.write_texts("a" * 64, np.array([7, 3]), rows)
    ledger.write_texts("a" * 64, np.array([7, 3]), rows)
    ledger.write_texts("b" * 64, np.array([7]), [("alone",)])
    assert ledger.texts("a" * 64) == {7: rows[0], 3: rows[1]}
    assert ledger.texts("b" * 64) == {7: ("alone",)}
    with pytest.raises(StorageError, match="no texts of the split cccccccccccccccc"):
        ledger.texts("c" * 64)


def test_a_study_lists_the_runs_it_uses(ledger: Ledger) -> None:
    ledger.write_study("s", STUDY)
    ledger.write_runs([Result(record("a" * 64, 1), {}, {})])
    ledger.write_runs([Result(record("b" * 64, 2), {}, {})])
    for trial, seed, fingerprint in ((3, 2, "b"), (3, 1, "a"), (3, 1, "a")):
        ledger.use_run("s", "report", trial, seed, fingerprint * 64)
    assert [(run.trial, run.seed, run.record.fingerprint[0]) for run in ledger.study_runs("s")] == [
        (3, 1, "a"),
        (3, 2, "b"),
    ]


def test_a_study_manifest_never_changes_and_an_ablations_does(ledger: Ledger) -> None:
    for value in (1, 2):
        ledger.write_study("s", replace(STUDY, shapes={"outputs": value}))
        ledger.write_ablation(manifest(name="x", trials=value))
    assert ledger.study_manifest("s") == replace(STUDY, shapes={"outputs": 1})
    assert ledger.manifest("x") == manifest(name="x", trials=2)
    with pytest.raises(StorageError, match="no ablation 'y'"):
        ledger.manifest("y")


@pytest.mark.parametrize("version", [3, 99])
def test_another_schema_is_refused(version: int, tmp_path: Path) -> None:
    Ledger(storage_url(tmp_path, None)).close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute(f"UPDATE harness_meta SET value = {version}")
    database.close()
    message = (
        rf"schema version {version}, this harness reads 6 only; give another folder with --out$"
    )
    with pytest.raises(StorageError, match=message):
        Ledger(storage_url(tmp_path, None))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("not a database, but long enough to be looked at" * 20)
    with pytest.raises(StorageError, match="not a database"):
        Ledger(storage_url(tmp_path, None))


ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from tests.records import record
ledger = Ledger(sys.argv[1])
for number in range(20):
    made = record(f"{number:064d}", inputs={"source": sys.argv[2]})
    ledger.write_runs([Result(made, {}, {})])
"""


def test_four_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    url = storage_url(tmp_path, None)
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(w)], cwd=ROOT) for w in range(4)
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    ledger = Ledger(url)
    assert len(ledger.records([f"{number:064d}" for number in range(20)])) == 20
    ledger.close()


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        storage_url(tmp_path / "file", None)
    with pytest.raises(StorageError, match="not a database URL"):
        storage_url(tmp_path, "nonsense")


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.storage.places._file_system", lambda file: "nfs4")
    with pytest.raises(StorageError, match="unsafe on nfs4"):
        storage_url(tmp_path, None)


def test_damaged_texts_and_values_are_named(tmp_path: Path) -> None:
    url = storage_url(tmp_path, None)
    with closing(Ledger(url)) as ledger:
        ledger.write_texts("s", np.array([0]), [("a", "b")])
        assert ledger.texts("s") == {0: ("a", "b")}
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE harness_texts SET texts = x'1f8b00'")
        with pytest.raises(
            StorageError, match=r"damaged texts \(.*\) of the split s in harness_texts"
        ):
            ledger.texts("s")
        ledger.write_texts("s", np.array([0]), [("a", "b")])
        assert ledger.texts("s") == {0: ("a", "b")}
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO harness_ablations VALUES ('a', '{\"b\": ', 0)")
        with pytest.raises(
            StorageError, match=r"manifest of the ablation 'a' is not JSON .Expecting"
        ):
            ledger.manifest("a")
        assert ledger.ablations_unlike(4, "metric") == []
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO harness_studies VALUES ('a', '{', 0)")
        with pytest.raises(StorageError, match="manifest of the study 'a' is not JSON"):
            ledger.study_manifest("a")


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("trials", 0, "unknown key 'trials'"),
        ("family", [["rte", "alp"]], "'family.0.2' is missing"),
        ("report_seeds", ["one"], "report_seeds.0: input should be a valid integer"),
        ("teachers", {}, "teachers.rte is missing"),
        ("methods", {}, "methods.alp is missing"),
        ("config", {}, "'config.preset' is missing (and 2 more)"),
    ],
)
def test_a_damaged_manifest_is_named_in_one_line(
    key: str, value: object, fault: str, ledger: Ledger
) -> None:
    values = MANIFEST.dump_python(manifest(name="one"), mode="json") | {key: value}
    with ledger.engine.begin() as connection:
        row = {"name": "one", "manifest": values, "created": 0.0}
        connection.execute(ABLATIONS.insert().values(**row))
    with pytest.raises(StorageError) as raised:
        ledger.manifest("one")
    text = str(raised.value)
    assert "the manifest of the ablation 'one' cannot be read: " in text
    assert text.partition("cannot be read: ")[2].startswith(fault)
    assert "\n" not in text


def test_a_damaged_study_is_named(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        row = {"name": "s", "manifest": {"space": {}}, "created": 0.0}
        connection.execute(STUDIES.insert().values(**row))
    with pytest.raises(
        StorageError, match=r"of the study 's' cannot be read: 'identity' is missing"
    ):
        ledger.study_manifest("s")
