"""Seeds and trials that are added until the decision: their numbers, and the comparisons."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.compare import AblationResult, summarise
from harness.analysis.interim import (
    InterimPlan,
    PoolPlan,
    Scores,
    Trials,
    ended_trials,
    interim_plan,
    interim_result,
    planned_seeds,
    planned_trials,
    pool_interims,
    pool_plan,
)
from harness.analysis.pools import TrialScores, pool_of
from harness.stats import first_look, repeated_interval
from harness.stats.pool_stopping import look_patterns, pool_interval, read_looks
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


POOL_PLAN = PoolPlan(max_trials=40, budget=4, alpha=0.05, margin=0.01)
POOL_FAMILY = [("clear", "kd"), ("unclear", "kd")]


def trials(level: float, count: int, seed: int = 0) -> Trials:
    """The scores of a method's first trials; those of longer pools begin alike."""
    draws = np.random.default_rng(seed).normal(size=(40, 2))
    quality = draws[:, 0]
    return {
        number: TrialScores((float(quality[number]),), level + 0.02 * float(draws[number].mean()))
        for number in range(count)
    }


def planned(counts: Mapping[str, int]) -> dict[str, int]:
    ended = {
        "clear": trials(0.9, counts["clear"], 1),
        "unclear": trials(0.504, counts["unclear"], 2),
        "kd": trials(0.5, counts["kd"], 3),
    }
    return planned_trials(ended, pool_interims(ended, POOL_FAMILY, POOL_PLAN), POOL_PLAN)


def test_an_equivalence_is_shown_with_the_interval_of_its_tests(ledger: Ledger) -> None:
    scores = {seed: 0.5 + 0.002 * (-1) ** seed for seed in SEEDS}
    (comparison,) = compared(ledger, {"alp": scores, "kd": steady(0.5, MOST)}).comparisons
    assert comparison.verdict.outcome == "equivalent"
    assert comparison.decided_by == comparison.deciding_equivalence
    low, high = comparison.decided_by.interval
    assert -0.01 <= low < 0 < high <= 0.01
    assert comparison.decided_by.confidence == pytest.approx(0.9)
    assert comparison.deciding.interval.low < low


def test_the_rule_for_pools_is_in_the_manifest() -> None:
    config = {
        "protocol": {"unit": "methods", "budget": 3, "stopping": "sequential"},
        "search": {"sampler": "random", "trials": 40},
    }
    values = {"family": [["rte", "alp", "kd"]] * 5, "margins": {"accuracy": 0.02}}
    made = manifest(**values, config=config)
    assert pool_plan(made, "rte") == PoolPlan(40, 3, 0.01, 0.02)
    assert interim_plan(made, "accuracy") is None
    config["protocol"]["stopping"] = "fixed"
    assert pool_plan(manifest(**values, config=config), "rte") is None
    assert pool_plan(manifest(**values, stopping="sequential"), "rte") is None


def test_trials_are_added_look_by_look_until_the_last_comparison_is_decided() -> None:
    steps = [{"clear": 0, "unclear": 0, "kd": 0}]
    while (counts := planned(steps[-1])) != steps[-1]:
        steps.append(counts)
    assert [step["unclear"] for step in steps[1:]] == [20, 30, 40]
    assert [step["kd"] for step in steps[1:]] == [20, 30, 40]
    assert [step["clear"] for step in steps[1:]] == [20, 20, 20]
    # Trials of an earlier command, behind the decision, ask for no more.
    assert planned({"clear": 40, "unclear": 40, "kd": 40}) == steps[-1]


def test_trials_count_up_to_the_first_that_has_not_ended() -> None:
    holed = {n: scores for n, scores in trials(0.9, 40, 1).items() if n != 33}
    assert ended_trials(holed) == 33
    interims = pool_interims({"a": holed, "b": trials(0.9, 40, 2)}, [("a", "b")], POOL_PLAN)
    state = interims["a", "b"]
    assert state.stopping.decision is None
    assert (state.stopping.pairs, state.stopping.next_look, state.planned_trials) == (30, 40, 40)


def test_a_failed_trial_is_lost_by_no_look() -> None:
    failed = TrialScores(None, 0.3)
    method = dict(trials(0.9, 20, 1)) | dict.fromkeys(range(0, 20, 3), failed)
    state = pool_interims({"a": method, "b": trials(0.3, 20, 2)}, [("a", "b")], POOL_PLAN)["a", "b"]
    assert (state.stopping.decision, state.stopping.pairs) == ("better", 20)


def test_a_pool_of_failures_gets_no_further_trials() -> None:
    failed = dict.fromkeys(range(40), TrialScores(None, 0.3))
    ended = {"a": failed, "b": failed, "c": trials(0.9, 40, 2)}
    interims = pool_interims(ended, [("a", "b"), ("c", "b")], POOL_PLAN)
    assert interims == {}
    assert planned_trials(ended, interims, POOL_PLAN) == {"a": 20, "b": 20, "c": 20}


def compared_pools(ledger: Ledger, ended: Mapping[str, Trials]) -> AblationResult:
    ledger.write_ablation(
        manifest(
            studies={"rte": {method: f"s-{method}" for method in ended}},
            report_seeds=list(range(1, 41)),
            family=[["rte", method, "kd"] for method in ended if method != "kd"],
            config={
                "protocol": {"unit": "methods", "budget": 4, "stopping": "sequential"},
                "search": {"sampler": "random", "trials": 40},
            },
        )
    )
    for method, method_trials in ended.items():
        ledger.write_study(f"s-{method}", STUDY)
        for number, (selection, reported) in method_trials.items():
            name = f"{method}-{number}"
            score = None if selection is None else reported
            run = record(name, score, inputs={"selection": "sha of selection"})
            if selection is not None:
                run = replace(run, selection={"accuracy": selection[0], "label_loss": 0.0})
            ledger.write_runs([Result(run, {}, {})])
            ledger.use_run(f"s-{method}", "report", number, number + 1, name)
    return summarise(ledger, "ablation")


def test_the_verdict_on_pools_rests_on_the_trials_up_to_the_decision(ledger: Ledger) -> None:
    """All forty trials are in the ledger; a comparison uses those of its own last look."""
    ended = {
        "clear": dict(trials(0.9, 40, 1)) | {n: TrialScores((9.0,), 0.1) for n in range(20, 40)},
        "unclear": trials(0.504, 40, 2),
        "kd": trials(0.5, 40, 3),
    }
    result = compared_pools(ledger, ended)
    clear, unclear = result.comparisons
    pools = [pool_of([ended[name][n] for n in range(20)]) for name in ("clear", "kd")]
    looks = read_looks(pools[0], pools[1], 4, (20,), look_patterns(40))
    assert (clear.verdict.outcome, clear.difference.n) == ("better", 20)
    assert clear.difference.mean == pytest.approx(looks[0].difference)
    assert clear.interval == pool_interval(looks, 40, 0.025)
    assert clear.seeds == tuple(range(1, 21))
    assert clear.stopping is not None
    assert (clear.adjusted_p, clear.equivalence, clear.effects) == (None, None, None)
    assert clear.margin == 0.01
    assert clear.detectable_difference is None
    assert clear.verdict.sentence.endswith(
        "after 20 of at most 40 trials of each method): tuned with 4 trials, clear is better than kd on "
        "rte, on these examples, over new searches with this teacher."
    )
    assert unclear.difference.n == 40
    assert (
        "after 40 of at most 40 trials of each method): whether unclear, tuned with 4 trials, is better "
        "or worse than kd on rte is not decided, on these examples" in unclear.verdict.sentence
    )
    assert [len(method.report) for method in result.results] == [20, 40, 40]
    assert [method.tuned.pools[0].trials for method in result.results if method.tuned] == [
        20,
        40,
        40,
    ]
    assert result.gaps == ()


def test_pools_cut_off_between_looks_are_not_decided_yet(ledger: Ledger) -> None:
    result = compared_pools(ledger, {"a": trials(0.504, 27, 2), "kd": trials(0.5, 30, 3)})
    (comparison,) = result.comparisons
    assert comparison.difference.n == 20
    assert "not decided yet" in comparison.verdict.sentence
    assert "after 20 of at most 40" in comparison.verdict.sentence


def test_pools_before_the_first_look_have_no_verdict(ledger: Ledger) -> None:
    result = compared_pools(ledger, {"a": trials(0.9, 12, 1), "kd": trials(0.5, 40, 3)})
    assert result.comparisons == ()
    assert result.gaps == ("a against kd on rte: 12 of the first 20 trials of a have ended",)


def test_a_pool_of_failures_is_equivalent_to_nothing(ledger: Ledger) -> None:
    failed = dict.fromkeys(range(20), TrialScores(None, 0.5))
    result = compared_pools(ledger, {"a": failed, "kd": failed})
    assert result.comparisons == ()
    assert result.gaps == ("a against kd on rte: all trials of a failed",)
