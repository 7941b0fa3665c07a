"""Ledgers that are filled for the benchmark are those of trained studies. Nothing is timed here."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from benchmarks import growth
from harness.analysis.compare import summarise
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.schema import USES
from harness.study import main as study


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growth") / "ledger"
    assert growth.fill(growth.ablations(100, 1, 2), folder) == 100
    return folder


def test_the_ablations_are_complete(filled: Path) -> None:
    ledger = Ledger(storage_url(filled / "runs", None))
    names = ledger.ablations()
    assert len(names) == 2
    for name in names:
        result = summarise(ledger, name)
        assert not result.gaps
        assert [len(method.report) for method in result.results] == [25, 25]
        assert all(comparison.over_examples is not None for comparison in result.comparisons)
    ledger.close()


def test_the_command_finds_all_runs(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = growth._command("study", growth.ablations(100, 1, 2), filled)
    ledger = Ledger(storage_url(filled / "runs", None))

    def rows() -> set[tuple[object, ...]]:
        return ledger.transact(lambda c: {tuple(row) for row in c.execute(select(USES))})

    uses, names = rows(), ledger.ablations()
    assert study([*command[3:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ablation"] == names[-1]
    assert growth.count_runs(filled) == 100
    assert rows() == uses
    assert ledger.ablations() == names
    ledger.close()


@pytest.mark.parametrize(
    ("shape", "runs", "trials"), [("pools", 1000, "13"), ("searches", 10_000, "115")]
)
def test_large_ablations_have_about_the_runs_that_are_asked_for(
    shape: str, runs: int, trials: str
) -> None:
    (words,) = growth.SHAPES[shape](runs, growth.TASKS, growth.METHODS).commands
    assert words[words.index("--trials") + 1] == trials
    assert len(words[words.index("--task") + 1].split(",")) == growth.TASKS
    assert len(words[words.index("--method") + 1].split(",")) == growth.METHODS


def test_the_cost_of_a_run_is_that_of_the_runs_more() -> None:
    smaller = {"processor_seconds": 10.0, "runs": 1000}
    larger = {"processor_seconds": 19.0, "runs": 10_000}
    assert growth._slope(smaller, larger) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shapes pools,round", "round: none of pools, searches, ablations"),
        ("--runs 10", "--repeats must be at least 1, and --runs at least 50"),
    ],
)
def test_unknown_shapes_and_small_ledgers_are_refused(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert growth.main(words.split()) == 2
    assert capsys.readouterr().err.strip() == message
