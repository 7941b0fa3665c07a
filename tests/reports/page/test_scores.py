import math
import re
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from reports.evidence import read_evidence
from reports.kit import bars
from reports.kit.display import DASH, MINUS_SIGN
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


def test_the_table_holds_the_numbers_worked_out_by_hand(evidence):
    rows = verdict_table(evidence, "rte").to_dict("records")
    assert [row["method"] for row in rows] == [
        "teacher",
        "alp",
        "finetune",
        "constant prediction",
    ]
    teacher, alp, finetune, constant = rows
    assert teacher["mean"] == pytest.approx(95)
    assert constant["mean"] == pytest.approx(50)
    assert finetune["mean"] == pytest.approx(70)
    assert finetune["sd"] == pytest.approx(10)
    assert alp["mean"] == pytest.approx(260 / 3)
    assert alp["sd"] == pytest.approx(10 / math.sqrt(3))
    assert alp["runs"] == 3
    assert alp["baseline"] == "finetune"
    assert alp["difference"] == pytest.approx(50 / 3)
    assert alp["margin"] == pytest.approx(1)
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


def flipped_interval(differences: tuple[int, ...], alpha: Fraction) -> tuple[Fraction, Fraction]:
    """The centres with p >= alpha: it changes at the means of subsets only."""
    centres = {
        Fraction(sum(own), size)
        for size in range(1, len(differences) + 1)
        for own in combinations(differences, size)
    }
    kept = [at for at in centres if flipped(differences, at) >= alpha]
    return min(kept), max(kept)


def test_eight_paired_seeds_decide_as_worked_out_by_hand(scribe):
    evidence = paired_with_the_baseline(scribe)
    frame = verdict_table(evidence, "rte")
    shown = verdict_display(frame, method_styles(evidence.methods), "finetune")
    assert shown.label == "Scores on rte, accuracy in points, against finetune"
    assert [cell.text for cell in shown.headings] == [
        "method", "score ± sd", "verdict", "Δ", "interval",
    ]  # fmt: skip
    texts = [[cell.text for cell in row] for row in shown.rows]
    assert texts == [
        ["teacher", "95.00", "", "", ""],
        ["alp", "67.50 ± 4.17", "▲ better", "+4.50", "+2.00 to +7.00"],
        ["rail", "64.00 ± 3.85", "○ not decided", "+1.00", f"{MINUS_SIGN}1.00 to +3.00"],
        ["finetune", "63.00 ± 2.39", "baseline", "", ""],
        ["constant prediction", "50.00", "", "", ""],
    ]
    assert [row[0].reference for row in shown.rows] == [True, False, False, False, True]
    rows = {row["method"]: row for row in frame.to_dict("records")}
    comparisons = {c.method: c for c in evidence.result.comparisons}
    for method, differences, level, p in (
        ("alp", RISES, Fraction(1, 40), 2 * flipped(RISES, Fraction(0))),
        ("rail", MIXED, Fraction(1, 20), flipped(MIXED, Fraction(0))),
    ):
        low, high = flipped_interval(differences, level)
        assert rows[method]["low"] == pytest.approx(float(low), rel=1e-12)
        assert rows[method]["high"] == pytest.approx(float(high), rel=1e-12)
        assert rows[method]["confidence"] == pytest.approx(1 - float(level))
        assert comparisons[method].adjusted_p == float(p)
    assert flipped_interval(RISES, Fraction(1, 20)) == (Fraction(7, 3), Fraction(20, 3))
    assert flipped_interval(RISES, Fraction(1, 40)) == (2, 7)
    assert flipped_interval(MIXED, Fraction(1, 20)) == (-1, 3)


def test_the_intervals_of_the_table_agree_with_the_verdicts(scribe):
    """Six sets of differences of which some decide, some are equivalent, and some do neither."""
    cases = {
        "up": [2, 3, 2, 3, 2, 3, 2, 3, 2, 3],
        "down": [-2, -3, -2, -3, -2, -3, -2, -3, -2, -3],
        "small": [0.3, -0.3, 0.2, -0.2, 0.3, -0.3, 0.1, -0.1, 0.2, -0.2],
        "both": [0.2, 0.3, 0.2, 0.3, 0.2, 0.3, 0.2, 0.3, 0.2, 0.3],
        "wide": [9, -9, 8, -8, 7, -7, 6, -6, 5, -3],
        "near": [1, 2, 0.5, 3, 1, -0.5, 2, 1, -1, 2],
    }
    seeds = list(range(100, 110))
    scribe.manifest["studies"]["rte"] = {name: f"s-{name}" for name in ("finetune", *cases)}
    scribe.manifest["family"] = [["rte", name, "finetune"] for name in cases]
    scribe.manifest["report_seeds"] = seeds
    scribe.begin()
    for method, differences in {"finetune": [0.0] * 10, **cases}.items():
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.7 - trial / 10)
        for place, (seed, difference) in enumerate(zip(seeds, differences, strict=True)):
            score = (60 + place + difference) / 100
            scribe.run(method, "report", 0, seed, score, predicted=False)
    found = read_evidence(scribe.ledger, "alp-rte")
    rows = {row["method"]: row for row in verdict_table(found, "rte").to_dict("records")}
    outcomes = {name: rows[name]["outcome"] for name in cases}
    assert outcomes == {
        "up": "better",
        "down": "worse",
        "small": "equivalent",
        "both": "better",
        "wide": "not decided",
        "near": "not decided",
    }
    for name, outcome in outcomes.items():
        low, high = rows[name]["low"], rows[name]["high"]
        assert (low > 0, high < 0) == (outcome == "better", outcome == "worse")
        if outcome == "equivalent":
            assert -rows[name]["margin"] < low < high < rows[name]["margin"]


def test_the_bars_lie_where_the_numbers_are(scribe):
    evidence = paired_with_the_baseline(scribe)
    frame = verdict_table(evidence, "rte")
    shown = verdict_display(frame, method_styles(evidence.methods), "finetune")
    scale = bars.scale_of([4.5, 2, 7, 1, -1, 3], 1.0)
    assert (scale.low, scale.high) == (-1.5, pytest.approx(7.35))
    drawing = str(shown.rows[1][-1].drawing)
    ends = [
        float(x) for x in re.findall(r'class="range" x1="([\d.]+)%" x2="([\d.]+)%"', drawing)[0]
    ]
    assert ends == [pytest.approx(100 * (at + 1.5) / 8.85, abs=0.01) for at in (2, 7)]
    assert shown.rows[0][-1].drawing is None
    assert "range" not in str(shown.rows[3][-1].drawing)


def test_a_bar_that_goes_on_has_an_arrow() -> None:
    scale = bars.scale_of([-40.0, *[0.5] * 20, math.inf], 1.0)
    assert (scale.low, scale.high) == (-10.0, 1.5)
    assert bars.scale_of([-18.0, -15.0, -12.0], 1.0).low == pytest.approx(-1.05 * 17.4)
    assert str(bars.interval_bar(scale, 0.5, -40.0, 0.6)).count('class="end"') == 1
    assert str(bars.interval_bar(scale, 0.5, -math.inf, math.inf)).count('class="end"') == 2
    assert 'class="end"' not in str(bars.interval_bar(scale, 0.5, -1.0, 0.6))


def test_of_several_tasks_an_overview_has_a_column_each(two_tasks):
    overview = overview_display(two_tasks, method_styles(two_tasks.methods))
    assert [cell.text for cell in overview.headings] == ["method", "rte", "qnli"]
    assert [[cell.text for cell in row] for row in overview.rows] == [
        ["finetune", "70.00", "70.00"],
        ["alp", "86.67 ○", "86.67 ○"],
    ]
    assert overview.rows[1][2].data == ("86.6667", "not decided")


def test_a_method_that_one_task_lacks_has_a_dash_there(two_tasks, scribe):
    del scribe.manifest["studies"]["qnli"]["alp"]
    scribe.begin()
    found = read_evidence(scribe.ledger, "alp-rte")
    shown = overview_display(found, method_styles(found.methods))
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert texts == {"alp": ["86.67 ○", DASH], "finetune": ["70.00", "70.00"]}


def test_without_a_baseline_the_table_has_scores_alone(scribe):
    scribe.manifest |= {"family": [], "baseline": None}
    scribe.finished()
    found = read_evidence(scribe.ledger, "alp-rte")
    shown = verdict_display(verdict_table(found, "rte"), method_styles(found.methods), None)
    assert [cell.text for cell in shown.headings] == ["method", "score ± sd"]
    assert [row[0].text for row in shown.rows] == [
        "teacher", "alp", "finetune", "constant prediction",
    ]  # fmt: skip
