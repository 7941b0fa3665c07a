"""Tuned scores in the report: numbers by hand, and the sentence on crossing curves."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.stats.tuned_score import Pool, tuned_score
from harness.storage.ledger import Ledger
from reports.evidence import Evidence, read_evidence
from reports.export.results import results_table
from reports.kit.palette import method_styles
from reports.sections.tuned import SECTION, crossings, tuned_block, tuned_table
from tests.harness.analysis.test_pools import BASELINE, METHOD, compared, pool_of


@pytest.fixture
def evidence(ledger: Ledger) -> Evidence:
    compared(ledger, {"alp": METHOD, "kd": BASELINE})
    ledger.write_texts("sha", np.arange(1), [("premise", "guess")])
    return read_evidence(ledger, "ablation")


def test_the_curve_has_the_tuned_scores_of_all_budgets_up_to_half(evidence: Evidence) -> None:
    block = tuned_block(evidence, "rte", method_styles(evidence.methods))
    frame = block.panels[0].numbers.frame
    for method, trials in (("alp", METHOD), ("kd", BASELINE)):
        rows = frame[frame["method"] == method]
        pool: Pool = pool_of(trials)
        expected = [100 * tuned_score(pool, budget) for budget in (1, 2, 3)]
        assert rows["points"].tolist() == pytest.approx(expected)
        assert (rows["low"] < rows["points"]).all()
        assert (rows["points"] < rows["high"]).all()
    assert "budget, trials" in str(block.panels[0].figure.to_figure().layout.xaxis.title.text)


def test_the_table_has_the_best_trials_own_score(evidence: Evidence) -> None:
    table = tuned_table(evidence, "rte").set_index("method")
    assert table.loc["alp", "points"] == pytest.approx(100 * tuned_score(pool_of(METHOD), 2))
    # The second trial has the best selection score, .8; the last one ties and has a later number.
    assert table.loc["alp", "best_points"] == pytest.approx(90)
    assert table["failed"].to_dict() == {"kd": 0, "alp": 1}
    assert table["trials"].to_dict() == {"kd": 6, "alp": 6}


def test_the_exported_runs_have_both_scores_once(evidence: Evidence) -> None:
    table = results_table(evidence)
    rows = table[table["method"] == "alp"].reset_index()
    assert len(table) == 12
    assert rows.loc[1, ["score", "selection.accuracy", "selection.label_loss"]].tolist() == [
        0.9,
        0.8,
        0.5,
    ]
    assert np.isnan(float(rows.loc[3, "selection.accuracy"]))


def test_the_budget_at_which_curves_cross_is_said() -> None:
    points = {"alp": (70.0, 75.0, 81.0, 82.0), "kd": (72.0, 76.0, 80.0, 80.0)}
    frame = pd.DataFrame(
        [
            (method, budget, value, value - 1, value + 1)
            for method, values in points.items()
            for budget, value in enumerate(values, start=1)
        ],
        columns=["method", "budget", "points", "low", "high"],
    )
    assert crossings(frame) == [
        "With a budget of one trial, kd has the highest tuned score; from 3 trials on, alp. No test "
        "confirms this order."
    ]
    assert crossings(frame[frame["method"] == "kd"]) == [
        "At every budget drawn, kd has the highest tuned score."
    ]


def test_a_page_on_settings_has_no_such_section(evidence: Evidence) -> None:
    results = tuple(replace(result, tuned=None) for result in evidence.result.results)
    settings = replace(evidence, result=replace(evidence.result, results=results))
    assert SECTION.blocks(settings, method_styles(evidence.methods)) == ()
    assert SECTION.hide_empty
    assert np.isfinite(settings.result.results[0].mean)
