import pytest

from reports.kit.palette import method_styles
from reports.sections.differences import differences, forest_figure

STYLES = method_styles(["finetune", "alp"])


def test_differences_carry_both_intervals(evidence):
    (row,) = differences(evidence, "rte").to_dict("records")
    (comparison,) = evidence.result.comparisons
    assert row["mean"] == pytest.approx(50 / 3)
    assert row["crossed_low"] == pytest.approx(100 * comparison.over_examples.low)
    assert row["crossed_high"] == pytest.approx(100 * comparison.over_examples.high)
    assert row["seeds"] == 3


def test_forest_draws_only_bounded_intervals(evidence):
    frame = differences(evidence, "rte")
    dashes = [trace.line.dash for trace in forest_figure(frame, STYLES).to_figure().data]
    assert dashes == ["dot", None]
