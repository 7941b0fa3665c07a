"""Runs over the examples: the numbers, the figure, and what the page says."""

import math
from typing import Any

import pytest

from harness.analysis.examples import MethodTests, PairTests
from harness.stats.bootstrap import ExamplesBootstrap
from harness.stats.examples import CochranQ, McNemar
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections import examples
from tests.reports.conftest import section_blocks


def pair(*, regression: bool = False) -> PairTests:
    """Three seeds: one for the method, one for the baseline, one that tells nothing."""
    tests = (
        McNemar(4, 9, 1, 6, 0.04, 0.02),
        McNemar(4, 1, 9, 6, 0.06, 0.03),
        McNemar(4, 2, 2, 12, 1.0, 1.0),
    )
    drawn = (
        ExamplesBootstrap(0.4, 0.1, 0.7, 0.95, 2000, 0),
        ExamplesBootstrap(-0.4, -0.8, 0.0, 0.95, 2000, 0),
        ExamplesBootstrap(0.0, -0.1, 0.1, 0.95, 2000, 0),
    )
    tested = () if regression else tests
    return PairTests("rte", "alp", "kd", "accuracy", 20, (1, 2, 3), tested, drawn)


def test_every_seed_has_its_own_row():
    frame = examples.seed_frame([pair()])
    assert frame["seed"].tolist() == [1, 2, 3]
    assert frame["points"].tolist() == [40, -40, 0]
    assert frame["low"].tolist() == pytest.approx([10, -80, -10])
    assert frame["method_only"].tolist() == [9, 1, 2]
    assert frame["mid_p"].tolist() == [0.02, 0.03, 1]


def test_seeds_are_counted_and_never_pooled():
    (row,) = examples.pair_table(examples.seed_frame([pair()]), 0.05).to_dict("records")
    assert (row["seeds"], row["discordant"]) == (3, 10)
    assert (row["exact_p"], row["mid_p"]) == (0.06, 0.03)
    assert (row["better"], row["worse"]) == (1, 1)
    assert (row["above"], row["below"]) == (1, 0)
    assert row["half_width"] == pytest.approx(30)


def test_regression_has_intervals_alone():
    (row,) = examples.pair_table(examples.seed_frame([pair(regression=True)]), 0.05).to_dict(
        "records"
    )
    assert all(math.isnan(row[name]) for name in ("mid_p", "exact_p", "better", "worse"))
    assert (row["above"], row["below"]) == (1, 0)


def test_the_figure_has_a_column_of_seeds_per_comparison():
    frame = examples.seed_frame([pair()])
    (trace,) = examples.seeds_figure(frame, method_styles(["kd", "alp"])).to_figure().data
    assert trace.x == pytest.approx((-0.35, 0, 0.35))
    assert trace.y == (40, -40, 0)
    assert trace.error_y.array == pytest.approx((30, 40, 10))
    assert trace.error_y.arrayminus == pytest.approx((30, 40, 10))


def test_q_has_a_row_per_seed():
    tests = (CochranQ((5, 6, 9), 10, 4, 7.5, 2, 0.02), CochranQ((5, 5, 5), 10, 0, 0.0, 2, 1.0))
    found = MethodTests("rte", ("kd", "alp", "pkd"), 10, (1, 2), tests)
    assert examples.methods_table([found]).to_numpy().tolist() == [
        [1, 3, 4, 7.5, 2, 0.02],
        [2, 3, 0, 0, 2, 1],
    ]


def block(scribe: Any) -> Any:
    evidence = read_evidence(scribe.ledger, scribe.manifest["name"])
    return section_blocks(evidence, "examples")


def test_the_page_shows_each_comparison(scribe):
    """alp's runs have 9, 8 and 9 of ten examples right, and the baseline's runs 8, 7 and 6."""
    scribe.finished()
    (found,) = block(scribe)
    assert found.notes == ("Compared on 10 examples.",)
    (table,) = found.tables
    texts = dict(
        zip([c.text for c in table.headings], [c.text for c in table.rows[0]], strict=True)
    )
    assert texts["discordant examples, median"] == "1"
    assert texts["McNemar's exact p, median"] == "1"
    assert texts["McNemar's mid-p, median"] == "0.5"
    assert texts["seeds with mid-p < 0.05 for the method"] == "0"
    assert found.panels[0].caption == "Difference in accuracy of each seed's two models"


def test_missing_predictions_are_told(scribe):
    scribe.begin()
    for method in ("alp", "finetune"):
        scribe.run(method, "search", 0, 0, 0.7)
        scribe.run(method, "report", 0, 100, 0.8, predicted=method == "alp")
    (found,) = block(scribe)
    assert found.notes == ("finetune: not all runs have stored predictions.",)
    assert not found.panels


def test_nothing_finished_has_no_block(scribe):
    scribe.begin()
    assert block(scribe) == ()
