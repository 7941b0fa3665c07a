from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.storage.ledger import Ledger
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections.cost.blocks import _costs, cost_block, cost_table
from reports.sections.cost.quality import quality_frame
from tests.harness.analysis.test_pools import BASELINE, METHOD, compared
from tests.reports.conftest import measured

STYLES = method_styles(["finetune", "alp"])


def test_cost_table_is_per_role(evidence):
    rows = cost_table(evidence.results("rte")).to_dict("records")
    alp = {row["role"]: row for row in rows if row["method"] == "alp"}
    assert (alp["search"]["runs"], alp["search"]["seconds"], alp["search"]["total"]) == (2, 2.5, 5)
    assert (alp["report"]["runs"], alp["report"]["seconds"], alp["report"]["total"]) == (3, 3, 9)
    assert (alp["report"]["examples_per_second"], alp["report"]["memory"]) == (50, 3)


def test_the_blocks_of_a_finished_ablation(scribe: Any) -> None:
    scribe.finished()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    task = cost_block(evidence, "rte", STYLES)
    assert [panel.caption for panel in task.panels] == ["Mean accuracy against seconds per run"]
    # alp's best trial is the second one, whose runs train three seconds, not two.
    assert (
        "Not surpassed: finetune, 70.00 points at 2; alp, 86.67 points at 3" in task.panels[0].alt
    )
    (table,) = task.tables
    assert [[cell.text for cell in row] for row in table.rows][:2] == [
        ["finetune", "search", "2", "2.5", "5.0", "50", "3"],
        ["finetune", "report", "3", "2.0", "6.0", "50", "3"],
    ]


def test_memory_is_a_methods_own_on_a_gpu_only(scribe: Any) -> None:
    result = measured(scribe, "alp", 80, 20, 200)
    assert _costs([result]) == ["seconds"]
    on_gpu = tuple(
        replace(run, record=replace(run.record, inputs=replace(run.record.inputs, device="cuda")))
        for run in result.report
    )
    assert _costs([replace(result, report=on_gpu)]) == ["seconds", "memory"]


def test_what_was_trained_together_is_said(scribe: Any) -> None:
    names = [f"{method}-report-0-100" for method in ("alp", "finetune")]
    scribe.begin()
    for method in ("alp", "finetune"):
        scribe.run(method, "search", 0, 0, 0.8)
        scribe.run(method, "report", 0, 100, 0.8, provenance={"population": names}, predicted=False)
    task = cost_block(read_evidence(scribe.ledger, "alp-rte"), "rte", STYLES)
    assert task.notes == (
        "Trained together with other methods, so each has an equal share of the common cost and no cost "
        "of its own: all methods.",
    )


def test_one_method_is_compared_with_none(scribe: Any) -> None:
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.8)
    scribe.run("alp", "report", 0, 100, 0.8, predicted=False)
    task = cost_block(read_evidence(scribe.ledger, "alp-rte"), "rte", STYLES)
    assert task.panels == ()
    assert len(task.tables[0].rows) == 2


def test_failed_runs_have_no_cost(scribe: Any) -> None:
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.0, status="failed", reason="loss is NaN")
    task = cost_block(read_evidence(scribe.ledger, "alp-rte"), "rte", STYLES)
    assert task.is_empty


def test_an_empty_ledger_has_no_block(scribe: Any) -> None:
    scribe.begin()
    assert cost_block(read_evidence(scribe.ledger, "alp-rte"), "rte", STYLES).is_empty


def test_a_pools_trials_cost_once(ledger: Ledger) -> None:
    """Of six trials one has failed. The score is the tuned score, its spread that of searches."""
    compared(ledger, {"alp": METHOD, "kd": BASELINE})
    ledger.write_texts("sha", np.arange(1), [("premise", "guess")])
    evidence = read_evidence(ledger, "ablation")
    kd, alp = evidence.results("rte")
    rows = cost_table(evidence.results("rte"))
    assert rows[["method", "role", "runs"]].to_numpy().tolist() == [
        ["kd", "trial", 6],
        ["alp", "trial", 5],
    ]
    task = cost_block(evidence, "rte", method_styles(evidence.methods))
    assert [panel.caption for panel in task.panels] == ["Tuned accuracy against seconds per run"]
    assert task.panels[0].numbers.frame["points"].tolist() == pytest.approx(
        [100 * kd.mean, 100 * alp.mean]
    )
    assert task.notes == (
        "Scores are tuned scores at a budget of 2 trials, and the seconds are those of one trial: a "
        "search takes 2 times as long. Standard deviation of one search's score, in points: "
        f"kd {100 * kd.sd:.2f}, alp {100 * alp.sd:.2f}.",
    )


def test_a_pool_without_all_trials_has_no_score(ledger: Ledger) -> None:
    results = compared(ledger, {"alp": METHOD[:5], "kd": BASELINE}).results
    assert quality_frame(results)["method"].tolist() == ["kd"]
    assert cost_table(results)["runs"].tolist() == [4, 6]
