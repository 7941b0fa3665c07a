from typing import Any

import pandas as pd
import pytest

from reports import figures, numbers
from reports.evidence import read_evidence
from reports.kit.palette import method_styles

STYLES = method_styles(["finetune", "alp"])


@pytest.fixture
def evidence(scribe: Any) -> Any:
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")


def test_pairs_join_runs_of_the_same_seed(evidence):
    pairs = numbers.seed_pairs(evidence.result, "rte")
    assert pairs["seed"].tolist() == [100, 101, 102]
    assert pairs["method_points"].tolist() == pytest.approx([90, 80, 90])
    assert pairs["baseline_points"].tolist() == pytest.approx([80, 70, 60])
    assert pairs["difference"].tolist() == pytest.approx([10, 10, 30])
    lines = figures.pairs_figure(pairs, STYLES, "accuracy").checked().data[0]
    assert lines.x == (0.0, 1.0, None) * 3
    assert [y for y in lines.y if y is not None] == pytest.approx([80, 90, 70, 80, 60, 90])


def test_differences_carry_both_intervals(evidence):
    (row,) = numbers.differences(evidence.result, "rte").to_dict("records")
    (comparison,) = evidence.result.comparisons
    assert row["mean"] == pytest.approx(50 / 3)
    assert row["crossed_low"] == pytest.approx(100 * comparison.crossed.low)
    assert row["crossed_high"] == pytest.approx(100 * comparison.crossed.high)
    assert row["seeds"] == 3


def test_forest_draws_only_bounded_intervals(evidence):
    frame = numbers.differences(evidence.result, "rte")
    dashes = [trace.line.dash for trace in figures.forest_figure(frame, STYLES).checked().data]
    assert dashes == ["dot", None]


def test_search_history_marks_the_best_trial_and_drops_failed_scores(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.75)
    scribe.run("alp", "search", 1, 0, 0.0, status="failed", reason="loss is NaN")
    evidence = read_evidence(scribe.ledger, "alp-rte")
    rows = numbers.search_history(evidence.results("rte")).to_dict("records")
    assert [(row["trial"], row["status"], row["best"]) for row in rows] == [
        (0, "complete", True),
        (1, "failed", False),
    ]
    assert rows[0]["points"] == pytest.approx(75)
    assert rows[1]["points"] != rows[1]["points"]


@pytest.mark.parametrize(("last", "kind"), [(9.0, None), (11.0, "log")])
def test_terms_that_lie_far_apart_have_a_logarithmic_scale(last, kind):
    names = ["method", "epoch", "mean", "low", "high", "seeds"]
    rows = [("kd", 1, 1.0, 0.5, 2.0, 2), ("alp", 1, 1.0, 0.5, 2.0, 2), ("pkd", 1, last, 8, 12, 2)]
    styles = method_styles(["kd", "alp", "pkd"])
    frame = pd.DataFrame(rows, columns=names)
    assert figures.loss_figure(frame, styles).checked().layout.yaxis.type == kind
    with_zero = frame.assign(low=[0.0, 0.5, 8.0])
    assert figures.loss_figure(with_zero, styles).checked().layout.yaxis.type is None


def test_loss_terms_are_mean_least_and_greatest_over_seeds(evidence):
    frame = numbers.loss_terms(evidence.results("rte"))
    chosen = frame[(frame["method"] == "alp") & (frame["term"] == "label")]
    assert chosen[["epoch", "mean", "low", "high", "seeds"]].to_numpy().tolist() == [
        [1, 2, 1, 3, 3],
        [2, 0.5, 0.5, 0.5, 3],
    ]


def test_variance_shares_are_percent_of_layers_from_one(evidence):
    shares = numbers.variance_shares(evidence.teachers["rte"])
    assert shares["layer"].tolist() == [1, 2, 3]
    assert shares["percent"].tolist() == pytest.approx([0.5, 30, 40])


def test_every_method_has_its_own_look():
    styles = method_styles([str(index) for index in range(42)])
    looks = {(style.colour, style.symbol) for style in styles.values()}
    assert len(looks) == 42
