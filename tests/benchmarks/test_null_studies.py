"""Studies of a method against itself: fair draws pass, unfair ones do not."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import null_studies
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import Result, StudyRun
from tests.conftest import small_study
from tests.harness.analysis.test_compare import predictions
from tests.manifests import STUDY, manifest
from tests.records import record

POOL = 30


@pytest.fixture
def pool(tmp_path: Path) -> Ledger:
    """A ledger with a method's runs, whose accuracies are spread over two dozen values."""
    ledger = Ledger(storage_url(tmp_path, None))
    ledger.write_study("s-kd", STUDY)
    scores = 0.7 + np.random.default_rng(0).integers(-12, 13, size=POOL) / 40
    for role, seed, score in (
        ("search", 0, 0.5),
        *(("report", n, s) for n, s in enumerate(scores)),
    ):
        name = f"{role}-{seed}"
        kept = {"validation": predictions(score)} if role == "report" else {}
        ledger.write_runs([Result(record(name, float(score)), kept, {})])
        ledger.use_run("s-kd", role, 0, seed, name)
    ledger.write_ablation(
        manifest(
            name="pool",
            studies={"rte": {"kd": "s-kd"}},
            trials=1,
            report_seeds=list(range(POOL)),
        )
    )
    return ledger


def run(
    pool: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> list[dict[str, object]]:
    monkeypatch.setattr(null_studies, "_pool", lambda asked, out: (pool, "pool"))
    words = f"--pool {POOL} --seeds 8 --max-seeds 10 --studies 20 --json"
    assert null_studies.main(words.split()) == code
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert isinstance(rows, list)
    return rows


def test_fair_draws_are_rarely_called_better(
    pool: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run(pool, monkeypatch, capsys, 0)
    assert [row["stopping"] for row in rows] == ["fixed", "sequential"]
    for row in rows:
        assert row["tolerated"] == 5  # the upper .1 % point of 20 draws at .05
        outcomes = row["outcomes"]
        assert isinstance(outcomes, dict)
        assert sum(outcomes.values()) == 20


def test_no_run_is_drawn_twice() -> None:
    runs = [StudyRun("report", 0, n, record(f"r{n}", 0.5)) for n in range(POOL)]
    sides = null_studies._draw(runs, 15, np.random.default_rng(0))
    assert [len(side) for side in sides] == [15, 15]
    assert {run.seed for side in sides for run in side} == set(range(POOL))


def test_unfair_draws_are_found(
    pool: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unfair(
        runs: Sequence[StudyRun], seeds: int, generator: np.random.Generator
    ) -> tuple[list[StudyRun], list[StudyRun]]:
        ordered = sorted(runs, key=lambda run: run.record.metrics["accuracy"])
        return ordered[:seeds], ordered[-seeds:]

    monkeypatch.setattr(null_studies, "_draw", unfair)
    assert all(row["errors"] == 20 for row in run(pool, monkeypatch, capsys, 1))


def test_a_pool_that_is_too_small_is_refused() -> None:
    assert null_studies.main(["--pool", "30"]) == 2


@pytest.mark.slow
def test_the_pool_is_trained_by_the_command(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for word in small_study(tmp_path, tiny_encoder) if "=" in word]
    words = ["--pool", "12", "--seeds", "6", "--max-seeds", "6", "--studies", "2", "--json"]
    given.append("teacher.allow_weak=true")
    assert null_studies.main([*words, "--out", str(tmp_path / "runs"), *given]) == 0
    assert json.loads(capsys.readouterr().out)["pool"] == 12
