"""Tuned scores in the report: numbers by hand, and the sentence on crossing curves."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.analysis.pools import TunedPools
from harness.stats import Interval
from harness.stats.tuned_examples import TunedInterval
from harness.stats.tuned_score import Pool, trial_weights, tuned_score
from harness.storage.ledger import Ledger
from reports.evidence import Evidence, read_evidence
from reports.export.disagreements import disagreements_csv
from reports.export.results import results_table
from reports.kit.palette import method_styles
from reports.page.contents import sections
from reports.sections import disagreements
from reports.sections.tuned import (
    SECTION,
    crossings,
    tuned_block,
    tuned_table,
    variance_table,
)
from tests.harness.analysis.test_compare import LABELS
from tests.harness.analysis.test_pools import BASELINE, METHOD, compared, pool_of


@pytest.fixture
def evidence(ledger: Ledger) -> Evidence:
    compared(ledger, {"alp": METHOD, "kd": BASELINE})
    texts = [(f"premise {id}", f"guess {id}") for id in range(len(LABELS))]
    ledger.write_texts("sha", np.arange(len(LABELS)), texts)
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


def test_the_second_figure_has_the_scores_of_single_searches(evidence: Evidence) -> None:
    panel = tuned_block(evidence, "rte", method_styles(evidence.methods)).panels[1]
    assert panel.caption == "Scores of single searches with 2 trials"
    for method, trials in (("alp", METHOD), ("kd", BASELINE)):
        rows = panel.numbers.frame[panel.numbers.frame["method"] == method]
        scores, shares = TunedPools((pool_of(trials),), 2).distribution()
        assert rows["points"].tolist() == pytest.approx((100 * scores).tolist())
        assert rows["searches"].tolist() == pytest.approx((100 * shares).tolist())
        median = scores[shares >= 0.5][0]
        assert f"{method}: half of the searches up to {100 * median:.2f}" in panel.alt
    step, _ = panel.figure.to_figure().data
    assert (step.line.shape, step.y[0], step.y[-1]) == ("hv", 0, pytest.approx(100))
    assert len(step.x) == len(step.y) == len(step.hovertext)


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


def test_the_uncertainty_has_a_part_of_searches_and_a_part_of_examples(evidence: Evidence) -> None:
    """Six trials leave the exchange interval unbounded at a budget of two; then there is no share."""
    (comparison,) = evidence.result.comparisons
    (row,) = variance_table([comparison]).to_dict("records")
    assert (row["method"], row["baseline"], row["searches"]) == ("alp", "kd", np.inf)
    assert np.isnan([row["search_share"], row["example_share"]]).all()
    interval = comparison.over_examples
    assert isinstance(interval, TunedInterval)
    ends = {"low": interval.mean - 0.03, "high": interval.mean + 0.03}
    bounded = replace(
        interval, searches=Interval(0.10, 0.18), examples=replace(interval.examples, **ends)
    )
    (row,) = variance_table([replace(comparison, over_examples=bounded)]).to_dict("records")
    assert row["points"] == pytest.approx(100 * comparison.difference.mean)
    assert (row["searches"], row["examples"]) == pytest.approx((4, 3))
    assert (row["search_share"], row["example_share"]) == pytest.approx((64, 36))
    assert variance_table([replace(comparison, over_examples=None)]).empty


def test_the_page_has_the_sections_that_pools_can_fill(evidence: Evidence) -> None:
    blocks = {section.anchor: blocks for section, blocks in sections(evidence)}
    assert {"tuned", "differences", "disagreements"} <= {name for name, of in blocks.items() if of}
    assert "examples" not in blocks
    assert evidence.example_tests.pairs == ()
    titles = [table.label for table in blocks["tuned"][0].tables]
    assert titles == [
        "Pools of trials",
        "Searches and examples in the uncertainty of each difference",
    ]
    panel = blocks["differences"][0].panels[0]
    (mark,) = [trace for trace in panel.figure.to_figure().data if trace.mode == "markers"]
    assert "over new examples: " in mark.hovertext[0]
    (further,) = blocks["differences"][0].tables
    headings = [cell.text for cell in further.headings]
    assert headings[:3] == ["method", "against", "over new examples, points"]
    assert "trials" in headings
    assert "nan" not in " ".join(cell.text for row in further.rows for cell in row)


def test_disagreements_of_pools_are_shares_of_searches(evidence: Evidence) -> None:
    """Runs are right on the first examples: 32, 36, 34, 30 and 35 of 40; the baseline's on 20 to 29.

    So the baseline has example 30 wrong, and of alp's complete trials only the fifth. A search keeps the
    fifth trial in one pair of trials, of the fifteen pairs: the pair with the failed trial.
    """
    (block,) = disagreements.SECTION.blocks(evidence, method_styles(evidence.methods))
    counts, examples = block.tables
    headings = [cell.text for cell in examples.headings]
    assert "pairs of trials with method alone right, %" in headings
    assert "trials" in headings
    assert "method alone right in most pairs of trials" in [cell.text for cell in counts.headings]
    rows = [dict(zip(headings, [c.text for c in row], strict=True)) for row in examples.rows]
    (row,) = [row for row in rows if row["example"] == "30"]
    assert row["pairs of trials with method alone right, %"] == "93"
    assert row["pairs of trials with other method alone right, %"] == "0"
    assert row["method's answer"].endswith("(93 %)")
    frame = pd.read_csv(io.BytesIO(disagreements_csv(evidence))).set_index("example")
    pools = {"method": METHOD, "baseline": BASELINE}
    weights = {side: trial_weights(pool_of(trials).selection, 2) for side, trials in pools.items()}
    for example in (26, 28, 33, 35):
        share = {}
        for side, trials in pools.items():
            complete = [trial is not None for trial in trials]
            right = [t is not None and round(40 * t[2]) > example for t in trials]
            share[side] = weights[side] @ right / weights[side][complete].sum()
        alone = share["method"] * (1 - share["baseline"])
        assert frame.loc[example, "method_closer"] == pytest.approx(alone, abs=1e-4)
        assert frame.loc[example, "method_error"] == pytest.approx(1 - share["method"])
        votes = max(share["method"], 1 - share["method"])
        assert frame.loc[example, "method_votes"] == pytest.approx(votes, abs=1e-4)


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
        "At every budget that all curves have, kd has the highest tuned score."
    ]
    longer = pd.DataFrame([("random", 1, 60.0, 59.0, 61.0)], columns=frame.columns)
    assert crossings(pd.concat([frame, longer])) == [
        "At every budget that all curves have, kd has the highest tuned score."
    ]


def test_a_page_on_settings_has_no_such_section(evidence: Evidence) -> None:
    results = tuple(replace(result, tuned=None) for result in evidence.result.results)
    settings = replace(evidence, result=replace(evidence.result, results=results))
    assert SECTION.blocks(settings, method_styles(evidence.methods)) == ()
