"""What a method or a user may write anywhere is stored, on both databases, and comes back."""

import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete

from harness.errors import StorageError
from harness.storage.database import existing_url, storage_url
from harness.storage.json_values import from_json, storable, to_json
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Result
from harness.storage.schema import RUNS
from tests.harness.storage.test_full_disk import can_mount
from tests.manifests import manifest
from tests.postgres import running_server
from tests.records import inspections, record

ROOT = Path(__file__).parents[3]
PREDICTIONS = Predictions(np.ones((3, 2), np.float32), np.zeros(3), np.arange(3))


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with running_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on each database."""
    url = storage_url(tmp_path, None)
    if request.param == "postgresql":
        url = request.getfixturevalue("server").new_database(f"d{abs(hash(tmp_path)) % 10**8}")
    opened = Ledger(url)
    yield opened
    opened.close()


def test_texts_that_no_database_takes_are_escaped() -> None:
    value = {"a\0": ["\ud800 ±", ("b\0",), 1, 0.5, None, True]}
    assert storable(value) == {"a\\x00": ["\\ud800 ±", ["b\\x00"], 1, 0.5, None, True]}
    assert storable("plain ± text") == "plain ± text"


def test_numbers_that_json_lacks_come_back() -> None:
    value = {"a": [1.5, math.inf, -math.inf, {"b": math.nan}], "c": "$float"}
    read = from_json(to_json(value))
    assert math.isnan(read["a"][3].pop("b"))
    assert read == {"a": [1.5, math.inf, -math.inf, {}], "c": "$float"}
    assert "NaN" not in to_json(value)
    assert from_json(b'{"x": [1, null]}') == {"x": [1, None]}


def test_a_failures_reason_may_hold_anything(both: Ledger) -> None:
    both.write_runs([Result(record("a" * 64, None, reason="broken \0 \udcff ±"), {}, {})])
    found = both.records(["a" * 64])["a" * 64]
    assert found.reason == "broken \\x00 \\udcff ±"
    assert both.damages == {}


def test_scores_and_curves_may_be_no_numbers(both: Ledger) -> None:
    curves = [{"loss": math.nan}, {"loss": math.inf}]
    written = record("b" * 64, math.nan, curves=curves)
    both.write_runs([Result(written, {}, {"cka": {"value": [math.nan, 1.0]}})])
    found = both.records(["b" * 64])["b" * 64]
    assert both.damages == {}
    assert math.isnan(found.metrics["accuracy"])
    assert math.isnan(found.curves[0]["loss"])
    assert found.curves[1]["loss"] == math.inf
    (value, one) = inspections(both, "b" * 64)["cka"]["value"]
    assert math.isnan(value)
    assert one == 1.0


def test_a_manifest_may_hold_any_text(both: Ledger) -> None:
    given = replace(manifest(name="x"), banners=("a folder \udcff\0",))
    both.write_ablation(given)
    assert both.manifest("x").banners == ("a folder \\udcff\\x00",)
    assert both.ablations_unlike(given.config.protocol.budget, given.config.search.criterion) == []


def test_any_number_of_fingerprints_is_one_question(both: Ledger) -> None:
    both.write_runs([Result(record("c" * 64), {}, {})])
    keys = [f"{number:064x}" for number in range(70_000)]
    assert list(both.records([*keys, "c" * 64])) == ["c" * 64]
    assert not both.has_report_runs([f"study {number}" for number in range(70_000)])


def test_a_run_that_was_deleted_is_written_again(ledger: Ledger) -> None:
    result = Result(record("d" * 64), {"validation": PREDICTIONS}, {"cka": [1.0]})
    assert ledger.write_runs([result]) == [True]
    with ledger.engine.begin() as connection:
        connection.execute(delete(RUNS))
    other = Predictions(2 * PREDICTIONS.logits, PREDICTIONS.labels, PREDICTIONS.ids)
    assert ledger.write_runs([replace(result, predictions={"validation": other})]) == [True]
    found = ledger.predictions("d" * 64, "validation")
    assert found is not None
    assert found.logits[0, 0] == 2
    assert ledger.damages == {}


def test_a_ledger_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Ledger(storage_url(tmp_path, None))
    writer.write_runs([Result(record("e" * 64), {}, {})])
    log = tmp_path / "ledger.db-wal"
    monkeypatch.setattr("harness.storage.places.os.access", lambda *given: False)
    assert log.stat().st_size > 0
    reader = Ledger(existing_url(tmp_path, None))
    assert list(reader.records(["e" * 64])) == ["e" * 64]
    reader.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(tmp_path / name, copy)
    with pytest.raises(StorageError, match=r"cannot be written, and ledger\.db-wal is still"):
        existing_url(copy, None)
    shutil.rmtree(copy)
    writer.close()
    for storage in (None, f"sqlite:///{tmp_path}/ledger.db"):
        reader = Ledger(existing_url(tmp_path, storage))
        assert list(reader.records(["e" * 64])) == ["e" * 64]
        with pytest.raises(StorageError, match="readonly"):
            reader.write_runs([Result(record("f" * 64), {}, {})])
        reader.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
    with pytest.raises(StorageError, match="cannot be written"):
        storage_url(tmp_path, None)


@pytest.mark.slow
def test_reports_of_a_folder_on_a_read_only_disk(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("a read-only disk needs the right to mount one in a namespace (unshare -rm)")
    runs = tmp_path / "a %20 ? # folder"
    runs.mkdir()
    opened = Ledger(storage_url(runs, None))
    opened.write_ablation(manifest(name="x"))
    opened.close()
    out = tmp_path / "elsewhere.html"
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && '
        '! touch "$1/file" 2>/dev/null && "$2" -m reports.build "$1" --out "$3"'
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", runs, sys.executable, out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert "x" in out.read_text(encoding="utf-8")
