import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from harness.stats.power import power_of
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import detectable_tuned_difference, effective_trials
from harness.storage.ledger import Ledger
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections import power
from tests.harness.analysis.test_pools import BASELINE, METHOD
from tests.harness.analysis.test_pools import compared as compared_pools

STYLES = method_styles(["finetune", "alp"])
SEEDS = range(100, 106)


def compared(scribe: Any, ours: list[float], theirs: list[float], **manifest: Any) -> Any:
    """Evidence of one comparison with those scores, in the order of the seeds."""
    scribe.manifest |= {"report_seeds": [*SEEDS], "margins": {"accuracy": 0.02}, **manifest}
    scribe.begin()
    for method, scores in (("alp", ours), ("finetune", theirs)):
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.8 - trial / 10)
        for seed, score in zip(SEEDS, scores, strict=False):
            scribe.run(method, "report", 0, seed, score, predicted=False)
    return read_evidence(scribe.ledger, "alp-rte")


DIFFERENCES = [0.1, -0.1, 0.1, -0.1, 0.1, -0.1]
"""Their standard deviation is 0.1 times the square root of 6/5."""
OURS, THEIRS = [0.5 + difference for difference in DIFFERENCES], [0.5] * 6


def test_spreads_and_what_they_let_be_found(scribe: Any) -> None:
    found = power.read_power(compared(scribe, OURS, THEIRS), "rte")
    assert found is not None
    assert (found.level, found.seeds, found.no_spread) == (0.05, (5, 6, 10, 20, 50), ())
    assert found.sd == pytest.approx(10 * math.sqrt(6 / 5))
    (row,) = found.comparisons.to_dict("records")
    assert (row["method"], row["baseline"], row["pairs"]) == ("alp", "finetune", 6)
    # Chi-square with five degrees of freedom: 2.5 % below 0.8312, 97.5 % below 12.8325.
    assert row["sd_low"] == pytest.approx(10 * math.sqrt(6 / 12.8325), rel=1e-4)
    assert row["sd_high"] == pytest.approx(10 * math.sqrt(6 / 0.8312), rel=1e-4)
    # Five pairs decide nothing at .05; six only if none disagrees, which has the chance cdf(effect)^6.
    assert row["detectable_5"] == math.inf
    effect = float(norm.ppf(0.8 ** (1 / 6)))
    assert row["detectable_6"] == pytest.approx(found.sd * effect, rel=0.02)
    assert row["detectable"] == row["detectable_6"]
    assert row["detectable_50"] < row["detectable_20"] < row["detectable_10"]


def test_curves_are_the_power_of_the_test(scribe: Any) -> None:
    found = power.read_power(compared(scribe, OURS, THEIRS), "rte")
    assert found is not None
    assert found.curves["seeds"].unique().tolist() == [6, 10, 20, 50]
    for n, rows in found.curves.groupby("seeds"):
        assert rows["power"].is_monotonic_increasing
        assert rows["difference"].is_monotonic_increasing
        assert rows["power"].iloc[-1] > 0.8
        at = rows.iloc[5]
        assert at["power"] == power_of(found.sd, at["difference"], int(str(n)), 0.05)
    ends = found.curves.groupby("seeds")["difference"].max()
    assert ends.nunique() == 1


def test_the_level_is_the_share_of_the_family(scribe: Any) -> None:
    family = [["rte", "alp", "finetune"]] + [["sst2", f"m{at}", "finetune"] for at in range(9)]
    found = power.read_power(compared(scribe, OURS, THEIRS, family=family), "rte")
    assert found is not None
    assert found.level == pytest.approx(0.005)
    # 2 / 2^n is below .005 from nine pairs on.
    assert found.curves["seeds"].unique().tolist() == [10, 20, 50]
    assert power._notes(found) == (
        "The curves are at the median spread of 1 comparison. Each comparison is tested at level 0.005: "
        "its share of the family's level, the worst case of Holm's method.",
        "With 5 or 6 pairs no difference can be found at that level, however large it is: 9 pairs are "
        "the least.",
    )


def test_the_figure_has_a_line_per_number_and_a_point_per_comparison(scribe: Any) -> None:
    evidence = compared(scribe, OURS, THEIRS)
    (block,) = power.power_blocks(evidence, STYLES)
    (panel,) = block.panels
    lines = [trace for trace in panel.figure.to_figure().data if trace.mode == "lines"]
    assert [line.line.width for line in lines] == [3, 1.5, 1.5, 1.5]
    names = [note.text for note in panel.figure.to_figure().layout.annotations]
    assert names == ["6 pairs", "10 pairs", "20 pairs", "50 pairs", "margin"]
    (point,) = [trace for trace in panel.figure.to_figure().data if trace.mode == "markers"]
    found = power.read_power(evidence, "rte")
    assert found is not None
    assert (point.x[0], point.y[0]) == (found.comparisons["detectable"][0], 80)
    assert panel.figure.to_figure().layout.shapes[1].x0 == 2
    assert [name for name, _ in panel.key] == ["alp"]
    assert "nothing with 5 pairs" in panel.alt
    (table,) = block.tables
    assert [cell.text for cell in table.rows[0]][3] == "10.95 (6.84 to 26.87)"
    assert [cell.text for cell in table.rows[0]][4] == "–"


def test_equal_differences_have_no_spread(scribe: Any) -> None:
    evidence = compared(scribe, [0.75] * 6, THEIRS)
    assert power.read_power(evidence, "rte") is None
    assert all(block.is_empty for block in power.power_blocks(evidence, STYLES))


def test_comparisons_without_a_spread_are_named(scribe: Any) -> None:
    scribe.manifest["studies"]["rte"]["kd"] = "s-kd"
    scribe.manifest["family"].append(["rte", "kd", "finetune"])
    compared(scribe, OURS, THEIRS)
    for trial in (0, 1):
        scribe.run("kd", "search", trial, 0, 0.8 - trial / 10)
    for seed in SEEDS:
        scribe.run("kd", "report", 0, seed, 0.75, predicted=False)
    found = power.read_power(read_evidence(scribe.ledger, "alp-rte"), "rte")
    assert found is not None
    assert found.no_spread == ("kd against finetune (all differences are equal)",)
    assert found.comparisons["method"].tolist() == ["alp"]
    assert power._notes(found)[-1].endswith(
        "spread: kd against finetune (all differences are equal)."
    )


def test_one_pair_has_no_spread(scribe: Any) -> None:
    assert power.read_power(compared(scribe, [0.8], [0.5]), "rte") is None


def test_seeds_that_were_added_have_no_curve(scribe: Any) -> None:
    evidence = compared(scribe, OURS, THEIRS, stopping="sequential")
    (block,) = power.power_blocks(evidence, STYLES)
    assert not block.panels
    assert "no curve for a fixed number of seeds describes it" in block.notes[0]


def test_an_empty_ledger_has_no_block(scribe: Any) -> None:
    scribe.begin()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    assert all(block.is_empty for block in power.power_blocks(evidence, STYLES))


def test_pools_are_planned_in_trials(ledger: Ledger) -> None:
    (comparison,) = compared_pools(ledger, {"alp": METHOD, "kd": BASELINE}).comparisons
    ledger.write_texts("sha", np.arange(1), [("premise", "guess")])
    evidence = read_evidence(ledger, "ablation")
    found = power.read_power(evidence, "rte")
    assert found is not None
    assert (found.budget, found.seeds) == (2, (6, 10, 20, 40, 80))
    sd, (row,) = comparison.difference.sd, found.comparisons.to_dict("records")
    ends = sd_interval(sd, effective_trials(6, 2))
    assert (row["sd_low"], row["sd_high"]) == pytest.approx([100 * end for end in ends])
    assert (row["detectable"], row["detectable_6"]) == (math.inf, math.inf)
    assert row["detectable_20"] == 100 * detectable_tuned_difference(sd, 20, 2)
    assert found.curves["seeds"].unique().tolist() == [10, 20, 40, 80]
    (block,) = power.power_blocks(evidence, method_styles(evidence.methods))
    assert block.notes[1].startswith("With 6 pairs no difference is sure to be found at that level")
    assert block.notes[2].startswith("The spread is that of tuned scores at a budget of 2 trials")
