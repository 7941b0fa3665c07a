"""Several methods and tasks: what is complete, ranks, aggregates and effects, worked out by hand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.analysis.aggregation import complete_runs, false_discovery, synthesise
from harness.analysis.compare import AblationResult, summarise
from harness.analysis.scales import Scale, task_scales
from harness.stats.meta_analysis import mixed_effect
from harness.storage.ledger import Ledger
from harness.storage.record import Result, Role
from tests.manifests import STUDY, manifest
from tests.records import record

Scores = Mapping[str, Mapping[str, Mapping[int, float | None]]]
"""By task, method and seed; None where the run failed."""

SPREAD = (0.0, 0.02, 0.01, 0.03)


def ablation(
    ledger: Ledger,
    scores: Scores,
    *,
    baseline: str | None = "kd",
    ends: Mapping[str, tuple[float, float | None]] | None = None,
    family: list[list[str]] | None = None,
    **changes: Any,
) -> AblationResult:
    """The result for those report scores; `ends` are each task's constant and teacher's score."""
    ends = ends or dict.fromkeys(scores, (0.5, 0.9))
    seeds = {seed for task in scores.values() for method in task.values() for seed in method}
    if baseline is None:
        family = []
    elif family is None:
        family = [[t, m, baseline] for t, own in scores.items() for m in own if m != baseline]
    ledger.write_ablation(
        manifest(
            tasks={t: {"constant": ends[t][0]} for t in scores},
            teachers={t: {"metrics": teacher_scores(ends[t][1])} for t in scores},
            studies={t: {m: f"s-{t}-{m}" for m in methods} for t, methods in scores.items()},
            report_seeds=sorted(seeds),
            baseline=baseline,
            family=family,
            **{"trials": 1} | changes,
        )
    )
    for task, methods in scores.items():
        for method, report in methods.items():
            study = f"s-{task}-{method}"
            ledger.write_study(study, STUDY)
            runs: list[tuple[Role, int, float | None]] = [("search", 0, 0.5)]
            runs += [("report", seed, score) for seed, score in report.items()]
            for role, seed, score in runs:
                name = f"{study}-{role}-{seed}"
                ledger.write_runs([Result(record(name, score), {}, {})])
                ledger.use_run(study, role, 0, seed, name)
    return summarise(ledger, "ablation")


def teacher_scores(score: float | None) -> dict[str, dict[str, float]]:
    return {} if score is None else {"validation": {"accuracy": score}}


def at(low: float, seeds: int = 4) -> dict[int, float | None]:
    return {100 + seed: low + SPREAD[seed % 4] for seed in range(seeds)}


ORDERED = {"kd": at(0.6), "alp": at(0.8), "pkd": at(0.7)}
"""In every block alp is first, pkd second and kd last."""


def test_tasks_are_the_blocks_where_there_are_several(ledger: Ledger) -> None:
    ranking = synthesise(ablation(ledger, dict.fromkeys("abc", ORDERED))).ranking.result
    assert ranking is not None
    assert (ranking.methods, ranking.unit) == (("kd", "alp", "pkd"), "task")
    assert ranking.blocks == ("a", "b", "c")
    assert ranking.friedman.average_ranks == (3, 1, 2)
    assert ranking.friedman.chi2 == pytest.approx(6)
    assert ranking.least_p == pytest.approx(1 / 36)
    assert ranking.friedman.permutation_p_value == pytest.approx(1 / 36, abs=0.006)
    # Demsar's q of three methods is 2.343; the standard error is sqrt(3 * 4 / (6 * 3)).
    assert ranking.nemenyi.critical_difference == pytest.approx(2.343 * math.sqrt(2 / 3), abs=1e-3)
    assert ranking.nemenyi.groups == ((1, 2), (2, 0))
    assert [(c.first, c.second) for c in ranking.against_baseline] == [(1, 0), (2, 0)]
    assert [c.difference for c in ranking.against_baseline] == [-2, -1]


def test_a_tasks_block_is_the_mean_over_the_seeds_in_common(ledger: Ledger) -> None:
    """On task b kd has the best seed, and with its third one it would reach alp's mean."""
    kd = {100: 0.9, 101: 0.5, 102: 1.0}
    alp, pkd = {100: 0.8, 101: 0.8, 102: None}, {100: 0.5, 101: 0.5, 102: 0.5}
    found = synthesise(ablation(ledger, {"a": ORDERED, "b": {"kd": kd, "alp": alp, "pkd": pkd}}))
    assert found.ranking.result is not None
    assert found.ranking.result.friedman.average_ranks == (2.5, 1, 2.5)
    assert found.runs.left_out == ("seeds 102 of b (not finished by every method)",)
    assert found.runs.seeds == {"a": (100, 101, 102, 103), "b": (100, 101)}


def test_seeds_are_the_blocks_of_a_single_task(ledger: Ledger) -> None:
    scores = {"kd": {1: 0.5, 2: 0.5}, "alp": {1: 0.6, 2: 0.4}, "pkd": {1: 0.4, 2: 0.6}}
    found = synthesise(ablation(ledger, {"a": scores}))
    assert found.ranking.result is not None
    assert (found.ranking.result.unit, found.ranking.result.blocks) == ("seed", ("1", "2"))
    assert found.ranking.result.friedman.average_ranks == (2, 2, 2)
    assert found.ranking.result.nemenyi.groups == ((0, 1, 2),)
    assert found.effects.result is None
    assert (
        found.effects.reason == "an effect across tasks takes comparisons on two or more, not on 1"
    )


def test_incomplete_methods_and_tasks_are_left_out_and_told(ledger: Ledger) -> None:
    never: dict[int, float | None] = {100: None}
    scores = {
        "a": ORDERED | {"ckd": never},
        "b": {"kd": at(0.6), "alp": at(0.8)},
        "c": ORDERED | {"pkd": never},
        "d": {"kd": {1: 0.5}, "alp": {2: 0.5}, "pkd": {1: 0.5}},
        "e": ORDERED,
    }
    runs = complete_runs(ablation(ledger, scores))
    assert runs.methods == ("kd", "alp", "pkd")
    assert tuple(runs.seeds) == ("a", "e")
    assert runs.left_out == (
        "ckd (not finished on any task)",
        "b (not finished by pkd)",
        "c (not finished by pkd)",
        "d (no seed that every method finished)",
    )


@pytest.mark.parametrize(
    ("scores", "ranks", "aggregates"),
    [
        ({"a": {"kd": at(0.5), "alp": at(0.6)}}, "ranks take 3 methods or more, not 2", ""),
        ({"a": {"kd": at(0.5)}}, "ranks take 3 methods or more, not 1", ""),
        (
            {"a": {name: {1: 0.5} for name in ("kd", "alp", "pkd")}},
            "every method finished one seed only, 1",
            "seeds that every method finished on every task: 1, not 2",
        ),
        (
            {"a": {"kd": {1: 0.5}, "alp": {2: 0.5}, "pkd": {3: 0.5}}},
            "there is no task on which every method finished the same seed",
            "there is no task on which every method finished the same seed",
        ),
        (
            {"a": {"kd": {1: None}}},
            "ranks take 3 methods or more, not 0",
            "there is no task on which every method finished the same seed",
        ),
        ({}, "ranks take 3 methods or more, not 0", "there is no task on which every method"),
    ],
)
def test_what_cannot_be_said_has_a_reason(
    ledger: Ledger, scores: Scores, ranks: str, aggregates: str
) -> None:
    found = synthesise(ablation(ledger, scores))
    assert found.ranking.reason == ranks
    assert found.aggregates.reason.startswith(aggregates)
    assert (found.aggregates.result is None) == bool(aggregates)
    assert found.effects.result is None


def test_a_search_that_goes_on_is_not_ranked(ledger: Ledger) -> None:
    """One trial of two has ended."""
    found = synthesise(ablation(ledger, dict.fromkeys("ab", ORDERED), trials=2))
    assert found.runs.methods == ()
    assert found.runs.left_out[0] == "kd (not finished on any task)"
    assert found.ranking.result is None
    assert found.aggregates.result is None


def test_a_share_of_the_gap_is_0_for_a_constant_and_1_for_the_teacher() -> None:
    scale = Scale(constant=0.5, teacher=0.9)
    assert scale.shares([[0.5, 0.9], [0.7, 0.4]]) == pytest.approx(np.array([[0, 1], [0.5, -0.25]]))


def test_tasks_without_a_gap_have_no_scale(ledger: Ledger) -> None:
    methods = {"kd": at(0.5), "alp": at(0.6)}
    ends = {"a": (0.5, 0.9), "b": (0.5, 0.54), "c": (0.6, 0.4), "d": (0.5, None), "e": (0.0, 0.05)}
    found = task_scales(ablation(ledger, dict.fromkeys("abcde", methods), ends=ends))
    assert found.by_task == {"a": Scale(0.5, 0.9), "e": Scale(0.0, 0.05)}
    assert found.reasons == {
        "b": "teacher 54.0 and constant prediction 50.0 points are less than 5 apart",
        "c": "teacher 40.0 and constant prediction 60.0 points are less than 5 apart",
        "d": "no recorded score of the teacher",
    }


def test_aggregates_of_several_tasks_are_shares_of_the_gap(ledger: Ledger) -> None:
    """Shares: kd (.25, .5) on a and (.5, .75) on b, alp all higher by .25; c has no scale."""
    scores: Scores = {
        "a": {"kd": {1: 0.6, 2: 0.7}, "alp": {1: 0.7, 2: 0.8}},
        "b": {"kd": {1: 0.4, 2: 0.6}, "alp": {1: 0.6, 2: 0.8}},
        "c": {"kd": {1: 0.9, 2: 0.9}, "alp": {1: 0.1, 2: 0.9}},
    }
    ends = {"a": (0.5, 0.9), "b": (0.0, 0.8), "c": (0.5, 0.51)}
    found = synthesise(ablation(ledger, scores, ends=ends)).aggregates.result
    assert found is not None
    assert (found.shares, found.seeds, found.scaled_tasks) == (True, (1, 2), ("a", "b"))
    assert (found.baseline, found.tasks) == ("kd", ("a", "b", "c"))
    assert [text.partition(" ")[0] for text in found.left_out] == ["c"]
    kd, alp = found.methods
    assert (kd.method, kd.improvement) == ("kd", None)
    assert kd.interquartile_mean.value == pytest.approx(0.5)
    assert alp.interquartile_mean.value == pytest.approx(0.75)
    assert kd.profile.thresholds == alp.profile.thresholds
    assert kd.profile.thresholds[-1] == pytest.approx(1)
    assert kd.profile.shares[0] == alp.profile.shares[0] == 1
    assert kd.profile.shares[-1] == alp.profile.shares[-1] == 0
    middle = int(abs(np.array(kd.profile.thresholds) - 0.6).argmin())
    assert (kd.profile.shares[middle], alp.profile.shares[middle]) == (0.25, 0.75)
    # Of 4 meetings alp wins 3 and ties 1 on a and on b; on c it loses 2 and ties 2.
    assert alp.improvement is not None
    assert alp.improvement.value == pytest.approx((3.5 / 4 + 3.5 / 4 + 1 / 4) / 3)


def test_aggregates_of_one_task_are_raw_scores(ledger: Ledger) -> None:
    scores = {"a": {"kd": {1: 0.6, 2: 0.7}, "alp": {1: 0.8, 2: 0.9}}}
    result = ablation(ledger, scores, ends={"a": (0.5, 0.4)})
    found = synthesise(result).aggregates.result
    assert found is not None
    assert (found.shares, found.scaled_tasks, found.left_out) == (False, ("a",), ())
    assert [own.interquartile_mean.value for own in found.methods] == pytest.approx([0.65, 0.85])


def test_without_any_scale_there_are_no_aggregates_and_effects(ledger: Ledger) -> None:
    methods = {"kd": at(0.5), "alp": at(0.6)}
    result = ablation(ledger, dict.fromkeys("ab", methods), ends=dict.fromkeys("ab", (0.5, 0.5)))
    found = synthesise(result)
    assert found.aggregates.reason.startswith("no task has a scale: a: teacher 50.0 and constant")
    assert found.effects.result is not None
    (effect,) = found.effects.result
    assert effect.meta.reason == effect.mixed.reason == found.aggregates.reason


def test_methods_without_a_baseline_are_ranked_and_not_compared(ledger: Ledger) -> None:
    found = synthesise(ablation(ledger, dict.fromkeys("ab", ORDERED), baseline=None))
    assert found.ranking.result is not None
    assert found.ranking.result.against_baseline == ()
    assert found.aggregates.result is not None
    assert all(own.improvement is None for own in found.aggregates.result.methods)
    assert found.effects.result is None


def test_effects_combine_the_differences_in_shares(ledger: Ledger) -> None:
    """Differences: .1, .2, .3 of the gap on a and 0, .1, .2 on b; variances of the means .01 / 3."""
    flat = {1: 0.5, 2: 0.5, 3: 0.5}
    scores: Scores = {
        "a": {"kd": flat, "alp": {1: 0.54, 2: 0.58, 3: 0.62}},
        "b": {"kd": flat, "alp": {1: 0.5, 2: 0.58, 3: 0.66}},
        "c": {"kd": flat, "alp": {1: 0.9, 2: 0.8, 3: 0.7}},
    }
    ends = {"a": (0.5, 0.9), "b": (0.0, 0.8), "c": (0.5, 0.5)}
    effects = synthesise(ablation(ledger, scores, ends=ends)).effects.result
    assert effects is not None
    (effect,) = effects
    assert (effect.method, effect.baseline) == ("alp", "kd")
    assert effect.left_out[0].startswith("c (teacher 50.0")
    meta = effect.meta.result
    assert meta is not None
    assert (meta.tasks, meta.seeds) == (("a", "b"), (3, 3))
    assert meta.effects == pytest.approx((0.2, 0.1))
    assert meta.variances == pytest.approx((0.01 / 3, 0.01 / 3))
    assert (meta.fixed_effect.mean, meta.random_effect.mean) == pytest.approx((0.15, 0.15))
    assert meta.q == pytest.approx(1.5)
    assert meta.i_squared == pytest.approx(1 / 3)
    differences = [0.1, 0.2, 0.3, 0.0, 0.1, 0.2]
    alone = mixed_effect(differences, [0.0] * 6, list("aaabbb"), [1, 2, 3] * 2)
    assert effect.mixed.reason == alone.reason
    assert (effect.mixed.result is None) == (alone.result is None)


def test_an_effect_uses_the_pairs_of_its_own_comparison(ledger: Ledger) -> None:
    """That pkd lost a seed does not take it from alp."""
    alp, pkd = {1: 0.6, 2: 0.7, 3: 0.9}, {1: 0.6, 2: None, 3: 0.8}
    methods = {"kd": {1: 0.5, 2: 0.5, 3: 0.5}, "alp": alp, "pkd": pkd}
    effects = synthesise(ablation(ledger, dict.fromkeys("ab", methods))).effects.result
    assert effects is not None
    assert [effect.meta.result and effect.meta.result.seeds for effect in effects] == [
        (3, 3),
        (2, 2),
    ]


def test_one_pair_on_a_task_has_no_variance(ledger: Ledger) -> None:
    methods = {"kd": {1: 0.5}, "alp": {1: 0.6}}
    effects = synthesise(ablation(ledger, dict.fromkeys("ab", methods))).effects.result
    assert effects is not None
    assert effects[0].meta.reason == "one pair on the task a: its variance is unknown"


def test_false_discovery_counts_what_has_no_data(ledger: Ledger) -> None:
    """Five seeds of one sign have p = 2 / 2^5; Benjamini and Hochberg give both 3 / 2 of that."""
    scores = {"a": {"kd": at(0.5, 5), "alp": at(0.6, 5), "pkd": at(0.7, 5)}}
    family = [["a", "alp", "kd"], ["a", "never", "kd"], ["a", "pkd", "kd"]]
    result = ablation(ledger, scores, family=family)
    assert false_discovery(result) == pytest.approx(
        {("a", "alp", "kd"): 0.09375, ("a", "pkd", "kd"): 0.09375}
    )
    assert [c.adjusted_p for c in result.comparisons] == pytest.approx([0.1875, 0.1875])


def test_added_seeds_have_no_false_discovery_rate(ledger: Ledger) -> None:
    result = ablation(ledger, {"a": {"kd": at(0.5), "alp": at(0.6)}})
    added = tuple(replace(comparison, adjusted_p=None) for comparison in result.comparisons)
    assert false_discovery(replace(result, comparisons=added)) == {}
    assert false_discovery(replace(result, comparisons=(), manifest=manifest())) == {}


def test_repeats_are_called_so(ledger: Ledger) -> None:
    result = ablation(ledger, {"a": ORDERED})
    found = synthesise(replace(result, manifest=replace(result.manifest, repeats=("x", "y"))))
    assert found.ranking.result is not None
    assert found.ranking.result.unit == "repeat"
    assert found.aggregates.result is not None
    assert found.aggregates.result.unit == "repeat"
