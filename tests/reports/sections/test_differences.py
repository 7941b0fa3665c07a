import math

import pytest

from reports.evidence import read_evidence
from reports.export.comparisons import COLUMNS, comparisons_csv, effects_table
from reports.kit.palette import method_styles
from reports.sections.differences import differences, differences_display, forest_figure
from tests.reports.page.test_scores import paired_with_the_baseline

STYLES = method_styles(["finetune", "alp", "rail"])


def test_differences_carry_the_intervals_of_the_verdicts(scribe):
    evidence = paired_with_the_baseline(scribe)
    rows = differences(evidence, "rte").to_dict("records")
    assert [row["method"] for row in rows] == ["alp", "rail"]
    for row, comparison in zip(rows, evidence.result.comparisons, strict=True):
        assert (row["low"], row["high"]) == tuple(100 * end for end in comparison.deciding.interval)
        assert row["adjusted_p"] == comparison.adjusted_p
    assert (rows[0]["low"], rows[0]["single_low"]) == (pytest.approx(2), pytest.approx(7 / 3))


def test_the_interval_over_new_examples_is_the_bootstraps(evidence):
    (row,) = differences(evidence, "rte").to_dict("records")
    (comparison,) = evidence.result.comparisons
    assert row["mean"] == pytest.approx(50 / 3)
    assert row["crossed_low"] == pytest.approx(100 * comparison.over_examples.low)
    assert row["crossed_high"] == pytest.approx(100 * comparison.over_examples.high)
    assert row["runs"] == 3


def test_the_forest_draws_what_decides_and_the_others_on_request(scribe):
    figure = forest_figure(differences(paired_with_the_baseline(scribe), "rte"), STYLES)
    drawn = figure.to_figure()
    assert list(drawn.data[0].x) == [pytest.approx(2), pytest.approx(7)]
    assert [list(trace.x) for trace in drawn.data if trace.mode == "markers"] == [
        [pytest.approx(4.5)], [pytest.approx(1)],
    ]  # fmt: skip
    outlines = {trace.marker.line.color for trace in drawn.data if trace.mode == "markers"}
    assert outlines.isdisjoint(trace.line.color for trace in drawn.data if trace.mode == "lines")
    assert list(drawn.data[1].x) == [None, None]
    assert list(drawn.frames[1].data[1].x) == [pytest.approx(7 / 3), pytest.approx(20 / 3)]
    (band,) = (shape for shape in drawn.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-1, 1)
    assert list(drawn.layout.yaxis.ticktext) == ["▲ alp", "○ rail"]


def test_an_unbounded_interval_reaches_both_edges(evidence):
    drawn = forest_figure(differences(evidence, "rte"), STYLES).to_figure()
    decided, single, crossed, mean = drawn.data
    assert list(decided.x) == list(drawn.frames[1].data[1].x) == list(drawn.layout.xaxis.range)
    assert list(single.x) == list(crossed.x) == [None, None]
    low, high = drawn.layout.xaxis.range
    assert low < -1 < mean.x[0] < high


def test_columns_without_a_number_are_left_out(scribe):
    frame = differences(paired_with_the_baseline(scribe), "rte")
    shown = differences_display(frame, STYLES, "seed")
    assert [cell.text for cell in shown.headings] == [
        "method", "against", "p, adjusted", "p of equivalence, adjusted",
        "found in 4 of 5 cases, points", "seeds",
    ]  # fmt: skip


def test_the_csv_has_the_statistics_that_decide_nothing(scribe):
    evidence = paired_with_the_baseline(scribe)
    table = effects_table(evidence.result.comparisons, evidence.discovery_p)
    alp = table.to_dict("records")[0]
    assert tuple(alp) == COLUMNS
    assert alp["d_z"] == pytest.approx(4.5 / math.sqrt(6))
    assert alp["outcome"] == "better"
    assert (alp["low"], alp["high"]) == (pytest.approx(2), pytest.approx(7))
    assert {"t_low", "bca_low", "normality_p", "wilcoxon_p", "discovery_p"} <= set(table.columns)


def test_the_csv_without_comparisons_has_its_headings(scribe):
    scribe.begin()
    text = comparisons_csv(read_evidence(scribe.ledger, "alp-rte"))
    assert text == ",".join(f'"{name}"' for name in COLUMNS) + "\n"
