"""`--replay`: a recorded run trained again is the same, and what is not the same is said."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from harness.workers import prepared_task
from tests.conftest import small_study


@pytest.fixture(scope="module")
def study(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    assert main(small_study(out, tiny_encoder)) == 0
    return out


@pytest.fixture
def runs(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "runs"))


def fingerprints(runs: Path, role: str) -> list[str]:
    with sqlite3.connect(runs / "ledger.db") as database:
        found = database.execute(
            "SELECT fingerprint FROM harness_study_runs WHERE role = ? ORDER BY 1", (role,)
        ).fetchall()
    database.close()
    return [fingerprint for (fingerprint,) in found]


def change(runs: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(runs / "ledger.db") as database:
        assert database.execute(statement, values).rowcount == 1
        database.execute("DELETE FROM harness_checksums")  # the changes stand for other results
    database.close()


def answer(
    capsys: pytest.CaptureFixture[str], runs: Path, fingerprint: str, code: int
) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["--replay", fingerprint, "--out", str(runs), "--json"]) == code
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("role", ["search", "report"])
def test_a_run_repeats_to_the_last_digit_and_nothing_is_written(
    runs: Path, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    before = (runs / "ledger.db").stat().st_size, len(list(runs.rglob("*.safetensors")))
    found = answer(capsys, runs, fingerprints(runs, role)[0][:12], 0)
    assert found["same"] is True
    assert ("predictions" in found["compared"]) == (role == "report")
    assert found["differences"] == found["surroundings"] == []
    assert ((runs / "ledger.db").stat().st_size, len(list(runs.rglob("*.safetensors")))) == before


def test_other_predictions_metrics_and_curves_are_told(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = fingerprints(runs, "report")[0]
    ledger = Ledger(storage_url(runs, None))
    stored = ledger.predictions(chosen, "validation")
    ledger.close()
    assert stored is not None
    logits = stored.logits.copy()
    logits[0] = np.where(logits[0] == logits[0].max(), -9.0, 9.0)
    change(
        runs,
        "UPDATE harness_predictions SET logits = ? WHERE fingerprint = ?",
        logits.tobytes(),
        chosen,
    )
    change(runs, "UPDATE harness_runs SET metrics = ? WHERE fingerprint = ?", '{"f": 1.5}', chosen)
    change(runs, "UPDATE harness_runs SET curves = '[]' WHERE fingerprint = ?", chosen)
    found = answer(capsys, runs, chosen, 1)
    text = "; ".join(found["differences"])
    assert "accuracy None then, 0." in text
    assert "f 1.5 then, None now" in text
    assert f"1 of {len(logits)} predictions differ" in text
    assert "the losses by epoch differ" in text


def test_predictions_that_are_not_there_are_a_difference(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = fingerprints(runs, "report")[0]
    change(runs, "DELETE FROM harness_predictions WHERE fingerprint = ?", chosen)
    found = answer(capsys, runs, chosen, 1)
    assert found["differences"] == ["validation: the ledger has no predictions of the run"]


def test_the_threads_are_the_records(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sums over other numbers of threads round otherwise."""
    chosen = fingerprints(runs, "report")[0]
    with sqlite3.connect(runs / "ledger.db") as database:
        (text,) = database.execute(
            "SELECT provenance FROM harness_runs WHERE fingerprint = ?", (chosen,)
        ).fetchone()
    database.close()
    made = json.dumps({**json.loads(text), "threads": 3})
    change(runs, "UPDATE harness_runs SET provenance = ? WHERE fingerprint = ?", made, chosen)
    main(["--replay", chosen, "--out", str(runs)])
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("reason", "code", "expected"),
    [
        (
            "the loss is not finite in epoch 1",
            1,
            "the loss is not finite in epoch 1 then, complete",
        ),
        (None, 0, "equal to the last digit"),
    ],
)
def test_a_failure_then_is_compared_too(
    runs: Path, capsys: pytest.CaptureFixture[str], reason: str | None, code: int, expected: str
) -> None:
    chosen = fingerprints(runs, "search")[0]
    status = "complete" if reason is None else "failed"
    change(
        runs,
        "UPDATE harness_runs SET status = ?, reason = ? WHERE fingerprint = ?",
        status,
        reason,
        chosen,
    )
    assert main(["--replay", chosen, "--out", str(runs)]) == code
    assert expected in capsys.readouterr().out


def test_another_machine_is_named_beside_the_difference(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = fingerprints(runs, "search")[0]
    values = (
        "'$.python', '3.1', '$.libraries.torch', '0.1', '$.population', json_array(fingerprint)"
    )
    change(
        runs,
        f"UPDATE harness_runs SET provenance = json_set(provenance, {values}) WHERE fingerprint = ?",
        chosen,
    )
    change(runs, "UPDATE harness_runs SET curves = '[]' WHERE fingerprint = ?", chosen)
    found = answer(capsys, runs, chosen, 1)
    assert any(text.startswith("python 3.1 and 3.") for text in found["surroundings"])
    assert any(text.startswith("torch 0.1 and 2.") for text in found["surroundings"])


@pytest.mark.parametrize("gone", ["missing", "changed"])
def test_a_run_whose_company_is_gone_is_trained_alone(
    runs: Path, capsys: pytest.CaptureFixture[str], gone: str
) -> None:
    chosen, other = fingerprints(runs, "report")[:2]
    if gone == "missing":
        change(runs, "DELETE FROM harness_runs WHERE fingerprint = ?", other)
    else:
        changed = "UPDATE harness_runs SET inputs = replace(inputs, '\"start\"', '\"begin\"')"
        change(runs, f"{changed} WHERE fingerprint = ?", other)
        change(
            runs, "UPDATE harness_runs SET fingerprint = ? WHERE fingerprint = ?", "f" * 64, other
        )
    main(["--replay", chosen, "--out", str(runs)])
    assert f"warning: run {other[:16]} of the same population is gone" in (capsys.readouterr().err)


def test_changed_code_is_refused_by_name(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_task, "method_source", lambda method: "changed")
    assert main(["--replay", fingerprints(runs, "report")[0], "--out", str(runs)]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert "its inputs have changed: method_source (" in line
    assert "then, changed now)" in line


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--replay", "0" * 64], "no run whose fingerprint begins with '000"),
        (["--replay", ""], "several runs whose fingerprint begins with ''"),
        (["--replay", "%"], "no run whose fingerprint begins with '%'"),
        (["--replay", "a", "--task", "rte"], "leave --task out"),
        (["--replay", "a", "--out", ""], "--out: is empty"),
        (["--replay", "a", "--dry-run"], "leave --dry-run out"),
        (["--replay", "a", "training.epochs=2"], "leave training.epochs out"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    runs: Path, capsys: pytest.CaptureFixture[str], more: list[str], expected: str
) -> None:
    given = more if "--out" in more else [*more, "--out", str(runs)]
    assert main(given) == 2
    assert expected in capsys.readouterr().err


def test_a_folder_without_a_ledger_is_not_given_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--replay", "a", "--out", str(tmp_path)]) == 2
    assert "has no ledger.db" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
