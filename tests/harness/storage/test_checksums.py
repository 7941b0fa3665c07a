"""Changed rows: found field by field, left out with a banner, and never reported as they stand."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.compare import summarise
from harness.analysis.damages import intact_runs
from harness.errors import OtherVersionError, StorageError
from harness.storage.checksums import changed_fields, checksums, sealed, unsealed
from harness.storage.database import storage_url
from harness.storage.json_values import from_json, to_json
from harness.storage.ledger import Ledger
from harness.storage.manifest import MANIFEST, STUDY_MANIFEST
from harness.storage.record import Predictions, Result
from harness.storage.repair import set_aside_damaged, set_aside_manifests
from harness.storage.schema import ABLATIONS, STUDIES
from harness.study import main
from reports import build
from reports.report import build_report
from tests import records
from tests.conftest import small_pools, small_study
from tests.manifests import STUDY, manifest

RUN = "a" * 64


def test_checksums_name_the_changed_fields() -> None:
    row = {"metrics": {"f1": 0.846, "accuracy": 1.0}, "reason": None, "logits": b"\x00\x01"}
    sums = checksums(row)
    assert changed_fields(dict(reversed(row.items())), sums) == []
    assert changed_fields({**row, "metrics": {"accuracy": 1.0, "f1": 0.846}}, sums) == []
    assert changed_fields({**row, "metrics": {"f1": 0.96, "accuracy": 1.0}}, sums) == ["metrics"]
    assert changed_fields({**row, "logits": memoryview(b"\x00\x02")}, sums) == ["logits"]
    assert changed_fields({**row, "new": 1}, sums) == ["new"]


def test_a_sealed_object_cannot_change_unseen() -> None:
    values = {"alpha": 0.05, "tasks": {"rte": {"margins": [0.01, float("nan")]}}, "name": "\\ud800"}
    stored = from_json(to_json(sealed(values)))
    assert repr(unsealed(stored)) == repr(values)
    for key, value in (("alpha", 0.5), ("more", 1), ("checksum", "0"), ("tasks", {})):
        with pytest.raises(ValueError, match="has changed since it was written"):
            unsealed({**stored, key: value})
    with pytest.raises(ValueError, match="has changed"):
        unsealed({key: value for key, value in stored.items() if key != "name"})
    for earlier in (values, {}, [1], "text", None):
        assert unsealed(earlier) is earlier


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with one run of three examples, two of them right, in a study."""
    logits = np.array([[2, 1], [1, 2], [2, 1]], np.float32)
    predictions = Predictions(logits, np.array([0.0, 1, 1]), np.arange(3))
    record = replace(records.record(RUN, 2 / 3), selection={})
    inspections = {"targets": {"target_length": [1.5, float("nan")]}, "layers": {"pooling": "cls"}}
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        ledger.write_study("s", STUDY)
        ledger.write_runs([Result(record, {"validation": predictions}, inspections)])
        ledger.use_run("s", "report", 0, 1, RUN)
    return tmp_path


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as database, database:
        assert database.execute(statement, values).rowcount > 0


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("""UPDATE harness_runs SET metrics = '{"accuracy": 0.96}'""", "metrics changed since"),
        ("UPDATE harness_runs SET seconds = 2.0", "seconds changed since"),
        ("UPDATE harness_runs SET reason = 'x', seconds = 2.0", "reason and seconds changed"),
        ("UPDATE harness_runs SET metrics = substr(metrics, 2)", "metrics is not JSON (Extra data"),
        ("""UPDATE harness_runs SET inputs = '[]'""", "inputs changed since"),
    ],
)
def test_a_changed_record_is_left_out_and_named(filled: Path, statement: str, message: str) -> None:
    change(filled, statement)
    with closing(Ledger(storage_url(filled, None))) as ledger:
        assert ledger.study_runs("s") == []
        (damage,) = ledger.damages_in(["s"])
        assert ledger.damages_in(["another"]) == []
        assert damage.sentence.startswith(f"harness_runs, run {RUN[:16]}: {message}")
        for read in (lambda: ledger.records([RUN]), lambda: ledger.find_run("a")):
            with pytest.raises(
                StorageError, match=f"harness_runs, run a{{16}}: {re.escape(message)}"
            ):
                read()


@pytest.mark.parametrize("field", ["logits", "labels", "ids"])
def test_changed_predictions_are_left_out_and_named(filled: Path, field: str) -> None:
    change(filled, f"UPDATE harness_predictions SET {field} = zeroblob(length({field}))")
    with closing(Ledger(storage_url(filled, None))) as ledger:
        assert ledger.predictions_of([RUN], "validation") == {}
        (damage,) = ledger.damages_in(["s"])
        assert damage.sentence.startswith(f"harness_predictions, run {RUN[:16]}: {field} changed")
        assert [run.record.fingerprint for run in intact_runs(ledger, "s")] == [RUN]


@pytest.mark.parametrize("value", ["replace(value, '1.5', '1.6')", "substr(value, 2)"])
def test_a_changed_inspection_is_left_out_and_named(filled: Path, value: str) -> None:
    change(filled, f"UPDATE harness_inspections SET value = {value} WHERE name = 'targets'")
    with closing(Ledger(storage_url(filled, None))) as ledger:
        assert ledger.inspections_of([RUN], "layers") == {RUN: {"pooling": "cls"}}
        assert ledger.damages == {}
        assert ledger.inspections_of([RUN], "targets") == {}
        (damage,) = ledger.damages_in(["s"])
        reason = "changed since" if "replace" in value else "is not JSON"
        assert damage.sentence.startswith(f"harness_inspections, run {RUN[:16]}: targets {reason}")
        assert [run.record.fingerprint for run in intact_runs(ledger, "s")] == [RUN]


def test_a_run_that_replaces_a_failure_has_its_own_checksum(filled: Path) -> None:
    failed = records.record("b" * 64, None)
    with closing(Ledger(storage_url(filled, None))) as ledger:
        assert ledger.write_runs([Result(failed, {}, {})]) == [True]
        assert ledger.write_runs([Result(records.record("b" * 64, 0.5), {}, {})]) == [True]
        assert ledger.records(["b" * 64])["b" * 64].status == "complete"


def pools(out: Path, encoder: Path) -> tuple[str, str]:
    """A study of pools; the name of its ablation and a trial of alp with predictions."""
    assert main(small_pools(out, encoder)) == 0
    (name,) = (path.parent.name for path in out.glob("*/report.html"))
    with closing(Ledger(storage_url(out, None))) as ledger:
        result = summarise(ledger, name).result("rte", "alp")
        assert result is not None
        return name, result.report[1].record.fingerprint


@pytest.mark.parametrize("is_old", [False, True], ids=["with checksums", "of an earlier version"])
def test_a_changed_digit_is_not_reported(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str], is_old: bool
) -> None:
    name, run = pools(tmp_path, tiny_encoder)
    if is_old:
        change(tmp_path, "DELETE FROM harness_checksums")
        with closing(Ledger(storage_url(tmp_path, None))) as ledger:
            assert summarise(ledger, name).damages == ()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        query = "SELECT metrics FROM harness_runs WHERE fingerprint = ?"
        metrics = json.loads(database.execute(query, (run,)).fetchone()[0])
    assert metrics["accuracy"] < 0.9
    changed = json.dumps({**metrics, "accuracy": 0.9625})
    change(tmp_path, "UPDATE harness_runs SET metrics = ? WHERE fingerprint = ?", changed, run)
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        result = summarise(ledger, name)
        alp = result.result("rte", "alp")
        assert alp is not None
        assert run not in {found.record.fingerprint for found in alp.report}
        assert len(alp.report) == 3
        (banner,) = [text for text in result.banners if text.startswith("DAMAGED")]
        assert f"harness_runs, run {run[:16]}: metrics " in banner
        if is_old:
            other = next(found.record.fingerprint for found in alp.report)
            change(
                tmp_path,
                "UPDATE harness_inspections SET value = '3' WHERE name = 'layers' AND fingerprint = ?",
                other,
            )
            stored = f"{metrics['accuracy']:.6g}"
            assert f"say accuracy 0.9625 on validation, the stored predictions {stored}" in banner
        build_report(ledger, name, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"run {run[:16]}: metrics " in page
    if is_old:
        assert f"harness_inspections, run {other[:16]}: layers is no object" in page
    # The command does not go on with such a run: one line names it.
    if not is_old:
        capsys.readouterr()
        assert main(small_pools(tmp_path, tiny_encoder)) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert f"harness_runs, run {run[:16]}: metrics changed" in error
        assert main(small_pools(tmp_path, tiny_encoder, "--repair")) == 0
        assert f"trained again: harness_runs, run {run[:16]}: metrics" in capsys.readouterr().err
        kept = json.loads((tmp_path / "damaged" / f"{run}.json").read_text())
        (row,) = kept["rows"]["harness_runs"]
        assert json.loads(row["metrics"])["accuracy"] == 0.9625
        assert len(kept["rows"]["harness_predictions"]) == 1
        with closing(Ledger(storage_url(tmp_path, None))) as ledger:
            assert ledger.records([run])[run].metrics == metrics
            assert summarise(ledger, name).damages == ()
            assert set_aside_damaged(ledger, tmp_path / "damaged") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE harness_runs SET curves = substr(curves, 3)",
        "UPDATE harness_predictions SET ids = substr(ids, 2)",
        "UPDATE harness_inspections SET value = '{}' WHERE name = 'layers'",
        "UPDATE harness_checksums SET sums = replace(sums, 'metrics:', 'metrics:0')",
    ],
)
def test_every_damaged_run_can_be_set_aside(filled: Path, statement: str) -> None:
    change(filled, statement)
    with closing(Ledger(storage_url(filled, None))) as ledger:
        (damage,) = set_aside_damaged(ledger, filled / "damaged")
        assert damage.run == RUN
        assert ledger.study_runs("s") == []
        assert ledger.records([RUN]) == {}
        assert ledger.write_runs([Result(records.record(RUN, 0.5), {}, {})]) == [True]
        assert [run.record.metrics for run in ledger.study_runs("s")] == [{"accuracy": 0.5}]
    kept = json.loads((filled / "damaged" / f"{RUN}.json").read_text())
    assert {name: len(rows) for name, rows in kept["rows"].items()} == {
        "harness_checksums": 4,
        "harness_predictions": 1,
        "harness_inspections": 2,
        "harness_runs": 1,
    }


def test_a_second_repair_keeps_what_the_first_set_aside(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair that ends between the file and the removal of the rows leaves one file."""
    folder = filled / "damaged"

    def fail(*given: object) -> None:
        raise KeyboardInterrupt

    with closing(Ledger(storage_url(filled, None))) as ledger:
        for _ in range(2):
            ledger.write_runs([Result(records.record(RUN, 0.5), {}, {})])  # where none is there
            change(filled, "UPDATE harness_runs SET curves = substr(curves, 2)")
            with monkeypatch.context() as patch:
                patch.setattr("harness.storage.repair.delete", fail)
                with pytest.raises(KeyboardInterrupt):
                    set_aside_damaged(ledger, folder)
            assert [damage.run for damage in set_aside_damaged(ledger, folder)] == [RUN]
    files = [folder / f"{RUN}.json", folder / f"{RUN}-2.json"]
    assert sorted(folder.iterdir()) == sorted(files)
    rows = [json.loads(file.read_text())["rows"]["harness_runs"][0] for file in files]
    assert [json.loads(row["metrics"])["accuracy"] for row in rows] == [2 / 3, 0.5]


@pytest.mark.parametrize("manifest", ["replace(manifest, '0.05', '0.2')", "'null'"])
def test_a_changed_manifest_is_no_report_and_is_written_again(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str], manifest: str
) -> None:
    """The command that writes it again trains nothing, and finds the same numbers."""
    name, _ = pools(tmp_path, tiny_encoder)
    before = trained(tmp_path, name)
    change(tmp_path, f"UPDATE harness_ablations SET manifest = {manifest}")
    change(tmp_path, f"UPDATE harness_studies SET manifest = {manifest.replace('0.05', '0.25')}")
    capsys.readouterr()
    fault = f"the manifest of the ablation '{name}' "
    fault += "cannot be read: input should be" if "null" in manifest else "has changed since it"
    assert build.main([str(tmp_path)]) == 2
    assert fault in capsys.readouterr().err
    assert main(small_pools(tmp_path, tiny_encoder)) == 2
    error = capsys.readouterr().err
    assert fault in error
    assert "; --repair sets it aside, and its command writes it again\n" in error
    assert main(small_pools(tmp_path, tiny_encoder, "--repair")) == 0
    said = f"set aside in {tmp_path / 'damaged'}: the manifest of the ablation '{name}'; its"
    assert said in capsys.readouterr().err
    assert trained(tmp_path, name) == before
    (file,) = (tmp_path / "damaged").iterdir()
    kept = json.loads(file.read_text())
    assert fault in kept["damage"]
    assert [row["name"] for row in kept["rows"]["harness_ablations"]] == [name]
    assert main(small_pools(tmp_path, tiny_encoder)) == 0


def test_a_study_with_a_damaged_manifest_goes_on(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning says so, and its ablation still knows how many trials earlier commands asked for."""
    name, _ = pools(tmp_path, tiny_encoder)
    change(tmp_path, "UPDATE harness_studies SET manifest = json_set(manifest, '$.budget', 3)")
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        for study in ledger.study_names():
            with pytest.raises(StorageError, match=r"the study '.*; its command writes it again$"):
                ledger.study_manifest(study)
    capsys.readouterr()
    assert main(small_pools(tmp_path, tiny_encoder, "--trials", "5")) == 0
    error = capsys.readouterr().err
    assert error.count("was damaged, and is written again") == 2
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        assert all(ledger.study_manifest(study) for study in ledger.study_names())
        requests = [request.seeds for request in ledger.manifest(name).seed_requests]
        assert requests == [4, 5]


def test_a_sound_manifest_of_another_version_is_not_damaged(filled: Path) -> None:
    """Neither its own command nor a repair replaces it."""
    with closing(Ledger(storage_url(filled, None))) as ledger:
        studies = STUDY_MANIFEST.dump_python(STUDY, mode="json")
        row = {"name": "later", "manifest": sealed({**studies, "new": 1}), "created": 0.0}
        ablations = MANIFEST.dump_python(manifest(name="one"), mode="json")
        one = {"name": "one", "manifest": sealed({**ablations, "new": 1}), "created": 0.0}
        with ledger.engine.begin() as connection:
            connection.execute(STUDIES.insert().values(**row))
            connection.execute(ABLATIONS.insert().values(**one))
        for use in (lambda: ledger.write_study("later", STUDY), lambda: ledger.manifest("one")):
            with pytest.raises(OtherVersionError, match=r"another version .*: unknown key 'new'$"):
                use()
        assert set_aside_manifests(ledger, filled / "damaged") == []
        assert ledger.ablations() == ["one"]


def test_a_changed_inspection_is_told_by_each_of_several_reports(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    """The reports of two ablations that share a study, from one ledger."""
    _, run = pools(tmp_path, tiny_encoder)
    assert main(small_pools(tmp_path, tiny_encoder, "--method", "alp", "--baseline", "none")) == 0
    change(
        tmp_path,
        "UPDATE harness_inspections SET value = replace(value, '0', '1') "
        "WHERE name = 'layers' AND fingerprint = ?",
        run,
    )
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        names = ledger.ablations()
        assert len(names) == 2
        for ablation in names:
            build_report(ledger, ablation, tmp_path / f"{ablation}.html")
            page = (tmp_path / f"{ablation}.html").read_text()
            assert f"harness_inspections, run {run[:16]}: layers changed since" in page
            result = summarise(ledger, ablation).result("rte", "alp")
            assert result is not None
            assert len(result.report) == 4


def test_repeats_go_on_after_the_manifest_of_one_is_set_aside(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    words = small_study(tmp_path, tiny_encoder, "--repeat-search", "3", "--seeds", "1")
    assert main(words) == 0
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        (joint,) = (name for name in ledger.ablations() if name.endswith("-x3"))
        before = ledger.manifest(joint).repeats
    runs = written_runs(tmp_path)
    change(
        tmp_path,
        "UPDATE harness_ablations SET manifest = replace(manifest, '0.05', '0.2') WHERE name = ?",
        before[1],
    )
    assert main([*words, "--repair"]) == 0
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        assert ledger.manifest(joint).repeats == before
        assert summarise(ledger, joint).damages == ()
    assert written_runs(tmp_path) == runs


def trained(folder: Path, name: str) -> tuple[object, ...]:
    """What an ablation's manifest and runs say, with the times at which the runs were written."""
    with closing(Ledger(storage_url(folder, None))) as ledger:
        result = summarise(ledger, name)
        assert result.damages == ()
        uses = [
            (found.method, run.trial, run.record.fingerprint)
            for found in result.results
            for run in found.report
        ]
        return replace(result.manifest, command=""), uses, written_runs(folder)


def written_runs(folder: Path) -> list[tuple[str, float]]:
    """The fingerprints of all runs, and when they were written."""
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        return sorted(database.execute("SELECT fingerprint, created FROM harness_runs"))
