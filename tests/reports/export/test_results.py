"""`results.csv`: the runs of a ledger made by hand, as pandas reads them."""

import dataclasses
import io
from pathlib import Path

import pandas as pd
import pytest

from harness.api.ablation import Ablation
from harness.storage.record import Result
from reports import build
from reports.evidence import read_evidence
from reports.export.results import LEADING_COLUMNS, TRAILING_COLUMNS, results_csv, results_table
from reports.report import build_report, companion_path
from tests.records import record

DOCUMENT = Path(__file__).parents[3] / "docs" / "files.md"
HOSTILE = 'x","y\n=1+1</td>😀,'


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def table(scribe) -> pd.DataFrame:
    return results_table(read_evidence(scribe.ledger, scribe.manifest["name"]))


def test_one_row_a_run_in_the_reports_order(scribe):
    scribe.finished()
    found = read(results_csv(read_evidence(scribe.ledger, "alp-rte")))
    assert list(found.columns) == [
        *LEADING_COLUMNS, "select.accuracy", "select.f1", "selection.accuracy", "selection.f1",
        "selection.label_loss", "validation.accuracy", "validation.f1",
        "setting.learning_rate", *TRAILING_COLUMNS,
    ]  # fmt: skip
    keys = found[["method", "role", "trial", "seed"]].itertuples(index=False, name=None)
    assert list(keys) == [
        ("alp", "search", 0, 0),
        ("alp", "search", 1, 0),
        ("alp", "report", 1, 100),
        ("alp", "report", 1, 101),
        ("alp", "report", 1, 102),
        ("finetune", "search", 0, 0),
        ("finetune", "search", 1, 0),
        ("finetune", "report", 0, 100),
        ("finetune", "report", 0, 101),
        ("finetune", "report", 0, 102),
    ]
    assert list(found.score) == [0.6, 0.8, 0.9, 0.8, 0.9, 0.8, 0.6, 0.8, 0.7, 0.6]
    assert set(found.metric) == {"accuracy"}
    assert list(found.is_best_trial) == [False, True, True, True, True, True, False] + [True] * 3
    assert list(found.is_baseline) == [False] * 5 + [True] * 5
    assert list(found["setting.learning_rate"][:3]) == [1e-4, 2e-4, 1e-4 * 2]
    assert set(found.fingerprint[:2]) == {"alp-search-0-0", "alp-search-1-0"}


def test_metrics_stand_under_their_split_and_nowhere_else(scribe):
    scribe.finished()
    found = read(results_csv(read_evidence(scribe.ledger, "alp-rte")))
    search, report = found[found.role == "search"], found[found.role == "report"]
    assert (search["select.f1"] == search.score / 2).all()
    assert (report["validation.f1"] == report.score / 2).all()
    assert search["validation.accuracy"].isna().all()
    assert report["select.accuracy"].isna().all()
    assert search["selection.label_loss"].tolist() == pytest.approx((1 - search.score).tolist())
    assert report["selection.label_loss"].isna().all()
    assert (set(search.split), set(report.split)) == ({"select"}, {"validation"})
    assert list(report.seconds) == [3.0] * 3 + [2.0] * 3
    assert set(found.examples_per_second) == {50.0}
    assert set(found.peak_memory_bytes) == {3 * 2**20}


def test_the_mean_of_a_method_is_the_reports(scribe):
    scribe.finished()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    found = read(results_csv(evidence)).query("role == 'report' and status == 'complete'")
    means = found.groupby(["task", "method"]).score.mean()
    for own in evidence.result.results:
        assert means[own.task, own.method] == pytest.approx(own.mean)


def test_a_failed_run_has_its_reason_and_no_scores(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "search", 1, 0, 0.0, status="failed", reason=HOSTILE)
    found = read(results_csv(read_evidence(scribe.ledger, "alp-rte")))
    assert list(found.status) == ["complete", "failed"]
    assert list(found.reason)[1] == HOSTILE
    assert found.iloc[1][["score", "select.accuracy", "select.f1"]].isna().all()
    assert pd.isna(found.reason[0])


def test_the_splits_of_one_run_are_columns_of_their_own(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    made = record(
        "two",
        inputs={
            "setting": {"bucket": 3, "scaled": True, "map": "skip"},
            "evaluation": [["matched", "sha"], ["mismatched", "sha"]],
            "device": "cuda",
            "training": {"precision": "bf16", "epochs": 2},
            "teacher": "t" * 64,
        },
        metrics={"accuracy": 0.8, "f1": 0.7, "accuracy (mismatched)": 0.6, "f1 (mismatched)": 0.5},
        seconds=0.1 + 0.2,
        provenance={"revision": "abc+", "population": ["two", "three"]},
    )
    assert made.split_metrics == {
        "matched": {"accuracy": 0.8, "f1": 0.7},
        "mismatched": {"accuracy": 0.6, "f1": 0.5},
    }
    failed = dataclasses.replace(made, status="failed", metrics={})
    assert failed.split_metrics == {"matched": {}, "mismatched": {}}
    scribe.ledger.write_runs([Result(made, {}, {})])
    scribe.ledger.use_run("s-alp", "report", 0, 100, "two")
    text = results_csv(read_evidence(scribe.ledger, "alp-rte"))
    row = read(text).set_index("fingerprint").loc["two"]
    assert row["matched.accuracy"] == row.score == 0.8
    assert (row["matched.f1"], row["mismatched.accuracy"], row["mismatched.f1"]) == (0.7, 0.6, 0.5)
    assert (row.device, row.precision, row.revision) == ("cuda", "bf16", "abc+")
    assert (row.teacher, row.runs_trained_together) == ("t" * 64, 2)
    assert row.seconds == 0.1 + 0.2
    # Whole numbers stay whole beside the empty cells of other runs.
    assert ',3,"","skip",True,' in text


def test_the_runs_of_all_repeats_are_there(scribe, tmp_path):
    scribe.finished()
    scribe.write(name="again", studies={"rte": {"alp": "s-other"}})
    scribe.study("s-other")
    scribe.run("other", "search", 0, 1000, 0.55)
    scribe.write(name="both", repeats=["alp-rte", "again"])
    found = read(results_csv(read_evidence(scribe.ledger, "both")))
    assert list(found.repeat) == [0] * 10 + [1]
    assert set(found.ablation) == {"both"}
    assert (found.fingerprint[10], found.method[10], found.score[10]) == (
        "other-search-0-1000", "alp", 0.55,
    )  # fmt: skip
    scribe.write(name="lost", repeats=["alp-rte", None, "again"])
    lost = read(results_csv(read_evidence(scribe.ledger, "lost")))
    assert list(lost.repeat) == [0] * 10 + [2]
    assert set(Ablation(scribe.ledger, "lost", tmp_path).trials()["repeat"]) == {0, 2}
    alone = read(results_csv(read_evidence(scribe.ledger, "alp-rte")))
    assert alone.repeat.isna().all()
    assert alone.score.equals(found.score[:10])


def test_an_empty_ledger_gives_the_heading(scribe):
    scribe.begin()
    assert list(table(scribe).columns) == [*LEADING_COLUMNS, *TRAILING_COLUMNS]
    assert table(scribe).empty


def test_it_lies_beside_the_report(scribe, tmp_path):
    scribe.finished()
    expected = results_csv(read_evidence(scribe.ledger, "alp-rte"))
    assert build.main([str(tmp_path)]) == 0
    assert (tmp_path / "alp-rte" / "results.csv").read_text() == expected
    build_report(scribe.ledger, "alp-rte", tmp_path / "shown.html")
    assert (tmp_path / "shown-results.csv").read_text() == expected
    assert companion_path(Path("a/report.html"), "results.csv") == Path("a/results.csv")


def test_every_column_is_documented():
    text = DOCUMENT.read_text()
    for name in (*LEADING_COLUMNS, "SPLIT.METRIC", "setting.NAME", *TRAILING_COLUMNS):
        assert f"`{name}`" in text, name
