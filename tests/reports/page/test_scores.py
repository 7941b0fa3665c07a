import math
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from reports.evidence import read_evidence
from reports.kit import display
from reports.kit.display import DASH
from reports.kit.palette import method_styles
from reports.page.scores import overview_display, verdict_display, verdict_table

SEEDS = range(100, 108)
BASELINE = (60, 62, 64, 66, 60, 62, 64, 66)
"""Points by seed: mean 63; squared distances 2 * (9 + 1 + 1 + 9) = 40, so sd = sqrt(40 / 7) = 2.39."""
RISES = (1, 2, 3, 4, 5, 6, 7, 8)
"""alp above the baseline: mean 4.5. Its points are 61, 64, 67, 70, 65, 68, 71, 74: mean 67.5, squared
distances 2 * (42.25 + 12.25 + 0.25 + 6.25) = 122, so sd = sqrt(122 / 7) = 4.17.

All are positive, so of 2^8 patterns of signs only the observed one and its mirror image reach the sum:
p = 2 / 256, and Holm doubles the lower of two: 1 / 64 = 0.0156.

At a centre below the mean, flipping a subset reaches the sum where the subset's mean is no greater than
the centre, and so does its mirror image. The least p of at least 0.05 is 14 / 256: the observed pattern
and six subsets. Their means, sorted: 1 of {1}, 3/2 of {1, 2}, 2 of {2}, {1, 3} and {1, 2, 3}, and 7/3 of
{1, 2, 4}. By symmetry about 4.5 the interval is 7/3 to 9 - 7/3."""
MIXED = (-1, 3, -1, 3, -1, 3, -1, 3)
"""rail above the baseline: mean 1. Its points are 59, 65, 63, 69 twice: mean 64, squared distances
2 * (25 + 1 + 1 + 25) = 104, so sd = sqrt(104 / 7) = 3.85.

Flipping a of the -1 and b of the 3 gives 8 + 2a - 6b, which is 8 or more for b = 0 with any a (16
patterns) and for b = 1 with a of 3 or 4 (4 * 5): 36, with their mirror images 72 of 256. Holm leaves the
greater of two as it is: 0.281. Of the subsets 15 have a mean of -1 and 15 one of 3, more than the six
that it takes: the interval's ends.

alp is above it by 2, -1, 4, 1, 6, 3, 8, 5. Flipping nothing, the -1, or the -1 and the 1 reaches the
sum: 3 / 256, times two others, is below 0.025, so rail is lower than the best."""


def test_verdict_table_holds_the_numbers_worked_out_by_hand(evidence):
    rows = verdict_table(evidence).to_dict("records")
    assert [row["method"] for row in rows] == [
        "teacher",
        "constant prediction",
        "finetune",
        "alp",
    ]
    teacher, constant, finetune, alp = rows
    assert teacher["mean"] == pytest.approx(95)
    assert constant["mean"] == pytest.approx(50)
    assert finetune["mean"] == pytest.approx(70)
    assert finetune["sd"] == pytest.approx(10)
    assert not finetune["best"]
    assert alp["best"] is True
    assert (alp["rank"], alp["standing"]) == (1, "highest")
    assert (finetune["rank"], finetune["standing"]) == (2, "too few seeds")
    assert alp["mean"] == pytest.approx(260 / 3)
    assert alp["sd"] == pytest.approx(10 / math.sqrt(3))
    assert alp["seeds"] == 3
    assert alp["baseline"] == "finetune"
    assert alp["difference"] == pytest.approx(50 / 3)
    assert alp["adjusted_p"] == pytest.approx(0.25)
    assert alp["outcome"] == "not decided"
    assert np.isinf([alp["low"], alp["high"]]).all()


def paired_with_the_baseline(scribe: Any) -> Any:
    """Eight report seeds of three methods, with those differences."""
    scribe.manifest["studies"]["rte"]["rail"] = "s-rail"
    scribe.manifest["family"] = [["rte", name, "finetune"] for name in ("alp", "rail")]
    scribe.manifest["report_seeds"] = list(SEEDS)
    scribe.begin()
    for method, differences in (("finetune", [0] * 8), ("alp", RISES), ("rail", MIXED)):
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.7 - trial / 10)
        for seed, own, difference in zip(SEEDS, BASELINE, differences, strict=True):
            score = (own + difference) / 100
            scribe.run(method, "report", 0, seed, score, predicted=False)
    return read_evidence(scribe.ledger, "alp-rte")


def flipped(differences: tuple[int, ...], centre: Fraction) -> Fraction:
    """The share of all sign patterns that reach the sum of the differences from a centre."""
    # In whole numbers, which tie where they should.
    rest = [d * centre.denominator - centre.numerator for d in differences]
    sums = [
        sum(s * d for s, d in zip(signs, rest, strict=True))
        for signs in product((1, -1), repeat=len(rest))
    ]
    return Fraction(sum(abs(own) >= abs(sum(rest)) for own in sums), len(sums))


def flipped_interval(differences: tuple[int, ...]) -> tuple[Fraction, Fraction]:
    """The centres with p >= 0.05: it changes at the means of subsets only."""
    centres = {
        Fraction(sum(own), size)
        for size in range(1, len(differences) + 1)
        for own in combinations(differences, size)
    }
    kept = [at for at in centres if flipped(differences, at) >= Fraction(1, 20)]
    return min(kept), max(kept)


def test_eight_paired_seeds_decide_as_worked_out_by_hand(scribe):
    evidence = paired_with_the_baseline(scribe)
    frame = verdict_table(evidence)
    shown = verdict_display(frame, method_styles(evidence.methods))
    assert shown.headings[-1].text == "seeds"
    of_pools = verdict_display(frame, method_styles(evidence.methods), "trial")
    assert of_pools.headings[-1].text == "trials"
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    nothing = display.DASH
    assert texts == {
        "teacher": ["95.00", *[nothing] * 9],
        "constant prediction": ["50.00", *[nothing] * 9],
        "finetune": ["63.00", "2.39", "3", "lower", *[nothing] * 5, "8"],
        "alp": [
            "67.50", "4.17", "1", "highest", "▲ better", "finetune", "+4.50", "+2.33 to +6.67",
            "0.0156", "8",
        ],
        "rail": [
            "64.00", "3.85", "2", "lower", "○ not decided", "finetune", "+1.00",
            f"{display.MINUS_SIGN}1.00 to +3.00", "0.281", "8",
        ],
    }  # fmt: skip
    rows = {row["method"]: row for row in frame.to_dict("records")}
    for method, differences, p in (
        ("alp", RISES, 2 * flipped(RISES, Fraction(0))),
        ("rail", MIXED, flipped(MIXED, Fraction(0))),
    ):
        low, high = flipped_interval(differences)
        assert rows[method]["low"] == pytest.approx(float(low), rel=1e-12)
        assert rows[method]["high"] == pytest.approx(float(high), rel=1e-12)
        assert rows[method]["adjusted_p"] == float(p)
    assert flipped_interval(RISES) == (Fraction(7, 3), Fraction(20, 3))
    assert flipped_interval(MIXED) == (-1, 3)


def test_the_verdict_table_prints_words_where_there_is_no_number(evidence):
    frame = verdict_table(evidence)
    shown = verdict_display(frame, method_styles(evidence.methods))
    assert shown.label == "Scores and differences on rte, by accuracy"
    assert [cell.text for cell in shown.headings] == [
        "method", "mean, points", "sd", "rank", "vs the best", "verdict", "against",
        "difference, points", "interval", "adjusted p", "seeds",
    ]  # fmt: skip
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert texts["teacher"] == ["95.00", *[DASH] * 9]
    assert texts["finetune"] == [
        "70.00", "10.00", "2", "too few seeds", *[DASH] * 5, "3",
    ]  # fmt: skip
    assert texts["alp"] == [
        "86.67", "5.77", "1", "highest", "○ not decided", "finetune", "+16.67", "unbounded", "0.25",
        "3",
    ]  # fmt: skip
    assert [row[1].emphasis for row in shown.rows] == [False, False, False, True]


def test_of_several_tasks_the_table_names_each_and_an_overview_leads(two_tasks):
    frame = verdict_table(two_tasks)
    styles = method_styles(two_tasks.methods)
    shown = verdict_display(frame, styles)
    assert [cell.text for cell in shown.headings[:3]] == ["method", "task", "metric"]
    overview = overview_display(frame, styles)
    assert [cell.text for cell in overview.headings] == ["method", "mean rank", "rte", "qnli"]
    assert [[cell.text for cell in row] for row in overview.rows] == [
        ["alp", "1.0", "86.67 ○", "86.67 ○"],
        ["finetune", "2.0", "70.00", "70.00"],
    ]
    assert overview.rows[0][2].data == ("86.6667", "not decided", "highest")


def test_a_method_that_one_task_lacks_has_a_dash_there(two_tasks, scribe):
    del scribe.manifest["studies"]["qnli"]["alp"]
    scribe.begin()
    found = read_evidence(scribe.ledger, "alp-rte")
    shown = overview_display(verdict_table(found), method_styles(found.methods))
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert texts == {"alp": ["1.0", "86.67 ○", DASH], "finetune": ["2.0", "70.00", "70.00"]}
