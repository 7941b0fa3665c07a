"""Ranks, aggregates and effects across tasks: the numbers, the figures, and what the page says."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from harness.analysis.aggregation import Aggregates, CrossTaskEffect, MethodAggregate, Ranking
from harness.stats.aggregate import Aggregate, PerformanceProfile
from harness.stats.meta_analysis import Attempt, meta_analysis, mixed_effect
from harness.stats.paired import Interval
from harness.stats.ranks import friedman, nemenyi, rank_comparisons
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.report import build_report
from reports.sections.across import figures, numbers
from tests.manifests import manifest
from tests.reports.conftest import section_blocks

STYLES = method_styles(["kd", "alp", "pkd"])


@pytest.fixture
def ranking() -> Ranking:
    """Over three tasks alp is always first, pkd second and kd last."""
    scores = np.array([[1, 3, 2], [4, 6, 5], [0, 9, 2]])
    return Ranking(
        methods=("kd", "alp", "pkd"),
        unit="task",
        blocks=("a", "b", "c"),
        friedman=friedman(scores, np.random.default_rng(0)),
        least_p=1 / 36,
        nemenyi=nemenyi(scores),
        against_baseline=rank_comparisons(scores, 0),
    )


def test_ranks_are_told_from_the_best(ranking):
    table = numbers.rank_table(ranking)
    assert table["method"].tolist() == ["alp", "pkd", "kd"]
    assert table["average_rank"].tolist() == [1, 2, 3]
    assert table["difference"].tolist()[:2] == [-2, -1]
    # z = difference / sqrt(3 * 4 / (6 * 3)), Holm doubles the smaller p.
    p = [2 * scipy.stats.norm.sf(z / math.sqrt(2 / 3)) for z in (2, 1)]
    assert table["holm_p"].tolist()[:2] == pytest.approx([2 * p[0], p[1]])
    exact = [scipy.stats.studentized_range.sf(z / math.sqrt(1 / 3), 3, np.inf) for z in (2, 1)]
    assert table["nemenyi_p"].tolist()[:2] == pytest.approx(exact)
    assert table.loc[2, ["difference", "holm_p", "nemenyi_p"]].isna().all()


def test_ranks_without_a_baseline_are_compared_with_none(ranking):
    alone = Ranking(**(vars(ranking) | {"against_baseline": ()}))
    assert numbers.rank_table(alone)[["difference", "holm_p", "nemenyi_p"]].isna().all(axis=None)


def test_the_diagram_has_the_bar_the_groups_and_the_methods(ranking):
    groups = numbers.rank_groups(ranking)
    assert groups.to_numpy().tolist() == [["alp, pkd", 1, 2], ["pkd, kd", 2, 3]]
    figure = figures.ranks_figure(numbers.rank_table(ranking), groups, 1.9, STYLES).to_figure()
    assert [trace.x for trace in figure.data] == [(1, 2.9), (1, 2), (2, 3), (1,), (2,), (3,)]
    assert [trace.y[0] for trace in figure.data] == list(range(6))
    assert list(figure.layout.yaxis.ticktext) == [
        "critical difference",
        "not told apart",
        "not told apart",
        "alp",
        "pkd",
        "kd",
    ]
    low, high = figure.layout.xaxis.range
    assert low < 1
    assert high > 3


def test_methods_that_are_all_told_apart_have_no_bar(ranking):
    apart = nemenyi(np.tile([1, 3, 2], (40, 1)))
    groups = numbers.rank_groups(Ranking(**(vars(ranking) | {"nemenyi": apart})))
    assert groups.empty
    figure = figures.ranks_figure(numbers.rank_table(ranking), groups, 0.5, STYLES).to_figure()
    assert list(figure.layout.yaxis.ticktext) == ["critical difference", "alp", "pkd", "kd"]


def aggregates() -> Aggregates:
    def value(of: float, low: float, high: float) -> Aggregate:
        return Aggregate(of, Interval(low, high), 0.95, 2000)

    def profile(*shares: float) -> PerformanceProfile:
        ends = tuple(Interval(share / 2, share) for share in shares)
        return PerformanceProfile((0.25, 0.5), shares, ends, 0.95, 2000)

    kd = MethodAggregate("kd", value(0.4, 0.3, 0.5), profile(1.0, 0.25), None)
    improved = value(0.75, 0.625, 1.0)
    alp = MethodAggregate("alp", value(0.6, 0.5, 0.7), profile(1.0, 0.5), improved)
    return Aggregates((kd, alp), "seed", "kd", (1, 2), ("a", "b"), ("a", "b"), True, ())


def test_aggregates_are_percent():
    kd, alp = numbers.aggregate_table(aggregates()).to_dict("records")
    assert [kd[name] for name in ("method", "mean", "low", "high")] == ["kd", 40, 30, 50]
    assert math.isnan(kd["improvement"])
    ends = [alp[name] for name in ("improvement", "improvement_low", "improvement_high")]
    assert ends == [75, 62.5, 100]


def test_profiles_have_a_row_per_threshold_and_a_band():
    frame = numbers.profile_frame(aggregates())
    assert frame.to_numpy().tolist() == [
        ["kd", 25, 100, 50, 100],
        ["kd", 50, 25, 12.5, 25],
        ["alp", 25, 100, 50, 100],
        ["alp", 50, 50, 25, 50],
    ]
    band, line = figures.profile_figure(frame, STYLES, "points").to_figure().data[:2]
    assert band.x == (25, 50, 50, 25)
    assert band.y == (100, 25, 12.5, 50)
    assert (line.x, line.y) == ((25, 50), (100, 25))


def test_improvement_leaves_out_the_baseline():
    figure = figures.improvement_figure(
        numbers.aggregate_table(aggregates()), "kd", STYLES
    ).to_figure()
    bar, mark = figure.data
    assert (bar.x, mark.x) == ((62.5, 100), (75,))
    assert list(figure.layout.yaxis.ticktext) == ["alp"]


def effect(method: str, shift: float) -> CrossTaskEffect:
    """Differences of .1, .2, .3 and 0, .1, .2, each plus the shift."""
    differences = np.array([0.1, 0.2, 0.3, 0.0, 0.1, 0.2]) + shift
    tasks, seeds = list("aaabbb"), [1, 2, 3] * 2
    zero = np.zeros(6)
    return CrossTaskEffect(
        method,
        "kd",
        meta_analysis(differences, zero, tasks),
        mixed_effect(differences, zero, tasks, seeds),
        (),
    )


def test_effects_have_a_row_per_task_and_one_for_all():
    frame = numbers.effect_frame([effect("alp", 0.0)])
    tasks = frame[frame["kind"] == "task"]
    assert tasks["task"].tolist() == ["a", "b"]
    assert tasks["mean"].tolist() == pytest.approx([20, 10])
    # Student's t with 2 degrees of freedom: 4.303 times 10 / sqrt(3).
    assert (tasks["high"] - tasks["mean"]).tolist() == pytest.approx([24.84] * 2, abs=0.01)
    assert (tasks["mean"] - tasks["low"]).tolist() == pytest.approx([24.84] * 2, abs=0.01)
    combined = frame[frame["kind"].isin(["fixed", "random"])]
    assert combined["mean"].tolist() == pytest.approx([15, 15])
    assert combined["pairs"].tolist() == [6, 6]


def test_tasks_differ_by_what_the_effects_say():
    (row,) = numbers.spread_table([effect("alp", 0.0)]).to_dict("records")
    # Q = 1.5 with one degree of freedom; tau² = .005 - .01 / 3, where Q would be 1.
    assert row["i_squared"] == pytest.approx(100 / 3)
    assert row["between"] == pytest.approx(100 * math.sqrt(0.005 - 0.01 / 3))
    assert row["q_p"] == pytest.approx(scipy.stats.chi2.sf(1.5, 1))


def test_the_forest_has_a_row_per_method_with_its_tasks():
    missing = CrossTaskEffect("pkd", "kd", Attempt(None, "why"), Attempt(None, "why"), ())
    frame = numbers.effect_frame([effect("alp", 0.0), missing, effect("pkd", 0.5)])
    figure = figures.effects_figure(frame, STYLES).to_figure()
    marks = [(trace.x[0], trace.y[0]) for trace in figure.data if trace.mode == "markers"]
    assert [x for x, _ in marks] == pytest.approx([20, 10, 15, 70, 60, 65])
    assert [y for _, y in marks] == [0.3, 0.3, 0, 1.3, 1.3, 1]
    assert list(figure.layout.yaxis.ticktext) == ["alp<br>vs kd", "pkd<br>vs kd"]
    low, high = figure.layout.xaxis.range
    assert low < frame[frame["kind"] == "random"]["low"].min() < 0
    assert high > frame[frame["kind"] == "random"]["high"].max()


def section(scribe: Any, anchor: str) -> Any:
    evidence = read_evidence(scribe.ledger, scribe.manifest["name"])
    return section_blocks(evidence, anchor)


def write_two_tasks(scribe: Any) -> None:
    """Three methods on rte and mrpc; on mrpc the study of a method is another one."""
    draft, methods = scribe.manifest, ("alp", "finetune", "pkd")
    draft |= {"trials": 1, "random_trials": 1}
    for part in ("tasks", "teachers"):
        draft[part]["mrpc"] = draft[part]["rte"]
    draft["studies"] = {
        "rte": {method: f"s-{method}" for method in methods},
        "mrpc": {method: f"s-{method}2" for method in methods},
    }
    draft["family"] = [[t, m, "finetune"] for t in ("rte", "mrpc") for m in ("alp", "pkd")]
    scribe.begin()
    scores = {"alp": (0.9, 0.8, 0.9), "finetune": (0.6, 0.7, 0.5), "pkd": (0.8, 0.8, 0.6)}
    for method, own in scores.items():
        for name in (method, f"{method}2"):
            scribe.run(name, "search", 0, 0, 0.7)
            for seed, score in zip((100, 101, 102), own, strict=True):
                scribe.run(name, "report", 0, seed, score)


def test_several_tasks_have_all_three_blocks(scribe, tmp_path: Path):
    write_two_tasks(scribe)
    found = section(scribe, "across")
    assert [block.title for block in found] == [
        "Ranks",
        "Aggregates over runs",
        "Effects across tasks",
    ]
    ranks, aggregated, effects = found
    assert ranks.notes[0].startswith("Ranked on 2 tasks, by the mean of each: rte, mrpc.")
    assert ranks.warnings == (
        "2 tasks with 3 methods cannot give a p value below 0.17, whatever the ranks are.",
    )
    assert "100 % the task's teacher" in aggregated.notes[1]
    assert [panel.caption for panel in aggregated.panels] == [
        "Performance profiles",
        "Probability of improvement over finetune",
    ]
    assert [cell.text for row in effects.tables[0].rows for cell in row[:3]][:3] == [
        "alp",
        "finetune",
        "fixed",
    ]
    build_report(scribe.ledger, scribe.manifest["name"], tmp_path / "report.html")


def test_one_task_and_two_methods_say_what_is_left_out(scribe):
    scribe.finished()
    found = section(scribe, "across")
    aggregated, gaps = found
    assert aggregated.title == "Aggregates over runs"
    assert aggregated.notes == ("3 seeds, finished by every method on rte.",)
    # Of one task nobody expects an effect across tasks.
    assert gaps.notes == ("No ranks: ranks take 3 methods or more, not 2.",)


def test_without_any_result_the_section_is_left_out(scribe):
    scribe.begin()
    assert section(scribe, "across") == ()


def test_added_seeds_are_told_beside_the_ranks(scribe):
    write_two_tasks(scribe)
    evidence = read_evidence(scribe.ledger, scribe.manifest["name"])
    added = manifest(**scribe.manifest | {"stopping": "sequential"})
    evidence = replace(evidence, result=replace(evidence.result, manifest=added))
    blocks = section_blocks(evidence, "across")
    assert "Seeds were added until comparisons were decided" in blocks[0].warnings[-1]
