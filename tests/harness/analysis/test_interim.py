"""Seeds that are added until the decision: the number for each method, and the comparisons."""

from collections.abc import Mapping

import numpy as np
import pytest

from harness.analysis.compare import AblationResult, summarise
from harness.analysis.interim import (
    InterimPlan,
    Scores,
    interim_plan,
    interim_result,
    planned_seeds,
)
from harness.stats import first_look, repeated_interval
from harness.storage.ledger import Ledger
from harness.storage.record import Result, Role
from tests.harness.analysis.test_compare import predictions
from tests.manifests import STUDY, manifest
from tests.records import record

MOST = 12
SEEDS = tuple(range(1, MOST + 1))
PLAN = InterimPlan(SEEDS, 0.05, 0.01)
FIRST = first_look(MOST, 0.05)


def scores(values: list[float | None]) -> Scores:
    return dict(zip(SEEDS, values, strict=False))


def steady(level: float, count: int) -> Scores:
    return scores([level + 0.001 * (n % 3) for n in range(count)])


def unclear(count: int) -> Scores:
    return scores([0.5 + (0.2 if n % 2 else -0.2) + 0.001 * (n % 3) for n in range(count)])


def test_the_manifest_fixes_the_plan() -> None:
    values = {"family": [["rte", "a", "b"]] * 5, "report_seeds": [1, 2, 3], "alpha": 0.05}
    assert interim_plan(manifest(**values), "accuracy") is None
    plan = interim_plan(manifest(**values, stopping="sequential"), "accuracy")
    assert plan == InterimPlan((1, 2, 3), 0.01, 0.01)


def test_seeds_are_added_look_by_look_until_the_last_comparison_is_decided() -> None:
    family = [("clear", "kd"), ("unclear", "kd")]
    counts: dict[str, int] = {"clear": 0, "unclear": 0, "kd": 0}
    steps = []
    while True:
        method_scores = {
            "clear": steady(0.9, counts["clear"]),
            "unclear": unclear(counts["unclear"]),
            "kd": steady(0.5, counts["kd"]),
        }
        new_counts = planned_seeds(method_scores, family, PLAN)
        if new_counts == counts:
            break
        steps.append(new_counts)
        counts = new_counts
    assert [step["unclear"] for step in steps] == [6, 8, 10, 12]
    assert [step["kd"] for step in steps] == [6, 8, 10, 12]
    # Two-sided, 2 / 2^n is at most .05 (n / 12)^1.5 from 7 on: at the look of 8.
    assert [step["clear"] for step in steps] == [6, 8, 8, 8]


def test_a_lost_pair_asks_for_one_more_seed() -> None:
    method_scores = scores([0.9, None, *[0.9 + 0.001 * n for n in range(6)]])
    analysis = interim_result(method_scores, steady(0.5, 8), PLAN)
    assert (analysis.stopping.pairs, analysis.stopping.next_look, analysis.planned_seeds) == (
        6,
        8,
        9,
    )
    assert analysis.seeds == (1, 3, 4, 5, 6, 7)  # of the last look
    assert interim_result(scores([None] * MOST), steady(0.5, MOST), PLAN).planned_seeds == MOST


def test_seeds_that_are_lost_to_the_end_leave_it_undecided() -> None:
    method_scores = dict(unclear(MOST)) | {3: None}
    analysis = interim_result(method_scores, steady(0.5, MOST), PLAN)
    assert (analysis.stopping.decision, analysis.stopping.next_look) == (None, None)
    assert (analysis.stopping.pairs, analysis.planned_seeds) == (11, MOST)


def test_where_the_last_seed_fails_there_is_a_last_look(ledger: Ledger) -> None:
    """The twelfth pair will never come: mean and interval rest on the eleven of the last look."""
    method_scores = dict(unclear(MOST)) | {MOST: None}
    analysis = interim_result(method_scores, steady(0.5, MOST), PLAN)
    assert analysis.stopping.looks == (6, 8, 10, 11)
    result = compared(ledger, {"alp": method_scores, "kd": steady(0.5, MOST)})
    (comparison,) = result.comparisons
    assert comparison.difference.n == 11
    assert comparison.interval.low <= comparison.difference.mean <= comparison.interval.high
    assert comparison.unpaired_seeds == (MOST,)
    assert "after 11 of at most 12 paired seeds" in comparison.verdict.sentence
    assert "1 seed left out as alp's run failed" in comparison.verdict.sentence


def test_a_seed_behind_one_that_has_not_ended_does_not_count() -> None:
    method_scores = {seed: score for seed, score in steady(0.9, MOST).items() if seed != 4}
    analysis = interim_result(method_scores, steady(0.5, MOST), PLAN)
    assert (analysis.seeds, analysis.planned_seeds) == ((1, 2, 3), FIRST)


def test_a_method_without_a_partner_gets_the_first_look() -> None:
    assert planned_seeds({"alp": {}}, [("alp", "kd")], PLAN) == {"alp": FIRST}


def compared(ledger: Ledger, report: Mapping[str, Scores]) -> AblationResult:
    ledger.write_ablation(
        manifest(
            studies={"rte": {method: f"s-{method}" for method in report}},
            trials=1,
            report_seeds=list(SEEDS),
            stopping="sequential",
            margins={"accuracy": 0.01},
            family=[["rte", method, "kd"] for method in report if method != "kd"],
        )
    )
    for method, found in report.items():
        ledger.write_study(f"s-{method}", STUDY)
        runs: list[tuple[Role, int, float | None]] = [("search", 0, 0.5)]
        runs += [("report", seed, score) for seed, score in found.items()]
        for role, seed, score in runs:
            name = f"{method}-{role}-{seed}"
            kept = {} if role == "search" or score is None else {"validation": predictions(score)}
            ledger.write_runs([Result(record(name, score), kept, {})])
            ledger.use_run(f"s-{method}", role, 0, seed, name)
    return summarise(ledger, "ablation")


def test_the_verdict_rests_on_the_pairs_up_to_the_decision(ledger: Ledger) -> None:
    """More seeds, of an earlier command, are in the ledger: they are neither used nor shown."""
    method_scores, kd = dict(steady(0.9, MOST)) | {11: 0.1, 12: 0.1}, steady(0.5, MOST)
    (comparison,) = compared(ledger, {"alp": method_scores, "kd": kd}).comparisons
    used = [method_scores[seed] - kd[seed] for seed in SEEDS[:8]]
    assert comparison.seeds == SEEDS[:8]
    assert comparison.difference.differences == pytest.approx(used)
    assert comparison.interval == repeated_interval(used, MOST, 0.05)
    assert (comparison.adjusted_p, comparison.equivalence, comparison.margin) == (None, None, 0.01)
    assert comparison.stopping is not None
    assert comparison.verdict.outcome == "better"
    assert (
        "after 8 of at most 12 paired seeds): the setting of alp is better than"
        in comparison.verdict.sentence
    )
    assert "p =" not in comparison.verdict.sentence


def test_a_baseline_that_goes_on_for_others_loses_nothing_to_the_decided(ledger: Ledger) -> None:
    kd = dict(steady(0.5, MOST)) | {10: None}
    # At half of alpha the looks are at 7, 9, 11 and 12.
    report = {"clear": steady(0.9, 9), "unclear": unclear(MOST), "kd": kd}
    result = compared(ledger, report)
    clear, other = result.comparisons
    assert (clear.verdict.outcome, clear.unpaired_seeds, len(clear.seeds)) == ("better", (), 9)
    assert (other.verdict.outcome, other.unpaired_seeds) == ("not decided", (10,))
    assert "not decided, on these examples" in other.verdict.sentence
    assert "1 seed left out as kd's run failed" in other.verdict.sentence
    assert [len(found.seeds) for found in result.results] == [9, 12, 11]


def test_a_study_cut_off_between_looks_is_not_decided_yet(ledger: Ledger) -> None:
    (comparison,) = compared(ledger, {"alp": unclear(6), "kd": steady(0.5, 7)}).comparisons
    assert "not decided yet" in comparison.verdict.sentence
    assert np.isinf(comparison.interval.low)


def test_no_pair_is_said(ledger: Ledger) -> None:
    result = compared(ledger, {"alp": {}, "kd": steady(0.5, 6)})
    assert result.comparisons == ()
    assert result.gaps == ("alp against kd on rte: no pair of finished report runs",)
