"""Verdicts: their words, and words that they never have."""

import math
from dataclasses import replace

import pytest

from harness.stats import (
    CrossedBootstrap,
    PairedDifference,
    Verdict,
    holm,
    paired_difference,
    paired_equivalence,
    verdict,
)
from harness.stats.paired import Interval
from harness.stats.power import seeds_needed
from harness.stats.stopping import Stopping
from harness.stats.tuned_power import trials_needed
from harness.stats.verdict import sequential_verdict

AHEAD = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.03, 0.04]
UNCLEAR = [0.01, -0.02, 0.03, -0.04, 0.05, -0.06, 0.03, 0.04]


def compare(differences: list[float]) -> PairedDifference:
    return paired_difference(differences, [0.0] * len(differences))


def crossed(low: float, high: float) -> CrossedBootstrap:
    return CrossedBootstrap(
        (low + high) / 2, low, high, 0.95, resamples=2000, undefined_resamples=0
    )


def judge(
    difference: PairedDifference,
    adjusted_p: float | None = None,
    over_examples: CrossedBootstrap | None = None,
    **options: object,
) -> Verdict:
    """The verdict on alp against pkd on rte; not adjusted unless a p value is given."""
    p_value = difference.p_value if adjusted_p is None else adjusted_p
    names = {"method": "alp", "baseline": "pkd", "task": "rte", "metric": "accuracy"}
    return verdict(difference, p_value, over_examples, **names, **options)


def test_better_on_these_examples() -> None:
    result = judge(compare(AHEAD))
    assert (result.outcome, result.scope) == ("better", "examples")
    assert result.sentence == (
        "These two settings: +3.50 points of accuracy (95% interval +2.00 to +5.00, n = 8 paired seeds, "
        "adjusted p = 0.00781): the setting of alp is better than the setting of pkd on rte, "
        "on these examples, with this teacher."
    )


def test_better_over_new_examples_too() -> None:
    result = judge(compare(AHEAD), over_examples=crossed(0.004, 0.07))
    assert (result.outcome, result.scope) == ("better", "task")
    assert result.sentence.endswith(
        "the setting of alp is better than the setting of pkd on rte, also over new examples of this "
        "task "
        "(95% interval +0.40 to +7.00), with this teacher."
    )


@pytest.mark.parametrize(("low", "high"), [(-0.01, 0.08), (0.0, 0.08), (-0.08, -0.01)])
def test_only_the_seeds_support_it(low: float, high: float) -> None:
    result = judge(compare(AHEAD), over_examples=crossed(low, high))
    assert (result.outcome, result.scope) == ("better", "examples")
    assert "on these examples, with this teacher (over new" in result.sentence
    assert "also over new examples" not in result.sentence


def test_worse_mirrors_better() -> None:
    result = judge(compare([-d for d in AHEAD]), over_examples=crossed(-0.07, -0.004))
    assert (result.outcome, result.scope) == ("worse", "task")
    assert result.sentence.startswith(
        "These two settings: -3.50 points of accuracy (95% interval -5.00 to -2.00"
    )
    assert (
        "the setting of alp is worse than the setting of pkd on rte, also over" in result.sentence
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_not_decided_is_never_called_equal(sign: int) -> None:
    difference = compare(UNCLEAR)
    over_examples = crossed(*sorted((sign * 0.001, sign * 0.02)))
    result = judge(difference, over_examples=over_examples)
    assert (result.outcome, result.scope) == ("not decided", "examples")
    assert (
        "setting of alp is better or worse than the setting of pkd on rte is not decided"
        in result.sentence
    )
    low, high = difference.interval
    assert f"95% interval {100 * low:+.2f} to {100 * high:+.2f}, n = 8" in result.sentence
    for word in ("equal", "no difference", "same", "cannot reach"):
        assert word not in result.sentence


def test_the_adjusted_p_value_decides() -> None:
    difference = compare(AHEAD)
    adjusted = holm([difference.p_value] * 7)[0]
    assert difference.p_value < 0.05 < adjusted
    assert judge(difference, adjusted).outcome == "not decided"
    assert "adjusted p = 0.0547" in judge(difference, adjusted).sentence
    assert judge(difference, adjusted, alpha=0.06).outcome == "better"


def test_alpha_itself_is_not_enough() -> None:
    assert judge(compare(AHEAD), 0.05).outcome == "not decided"


def test_too_few_seeds_are_said() -> None:
    result = judge(compare(AHEAD[:5]))
    assert "95% interval unbounded, n = 5 paired seeds" in result.sentence
    assert result.sentence.endswith(
        "on these examples, with this teacher; "
        "5 paired seeds cannot reach p < 0.05 in one comparison, at least 6 can."
    )


def test_a_single_seed_is_no_plural() -> None:
    assert "; 1 paired seed cannot reach p < 0.05" in judge(compare(AHEAD[:1])).sentence


def test_just_enough_seeds_are_not_called_too_few() -> None:
    assert "cannot reach" not in judge(compare(UNCLEAR[:6])).sentence


def test_too_few_seeds_for_the_family_are_said() -> None:
    result = judge(compare(AHEAD[:7]), 6 * 2 / 2**7, comparisons=6)
    assert result.sentence.endswith(
        "; 7 paired seeds cannot reach p < 0.05 in 6 comparisons, at least 8 can."
    )


def test_in_a_family_the_interval_is_called_unadjusted() -> None:
    """It is of one comparison: it may leave zero out where the family decides nothing."""
    result = judge(compare(AHEAD), 7 * 2 / 2**8, comparisons=7)
    assert result.outcome == "not decided"
    assert "(unadjusted 95% interval +2.00 to +5.00, n = 8" in result.sentence


@pytest.mark.parametrize("sign", [1, -1])
def test_a_side_that_lost_runs_does_not_win(sign: int) -> None:
    difference = compare([sign * d for d in AHEAD])
    lost, kept = (
        ("failures", "baseline_failures") if sign == 1 else ("baseline_failures", "failures")
    )
    name = "alp" if sign == 1 else "pkd"
    withheld = judge(difference, over_examples=crossed(sign * 0.03, sign * 0.04), **{lost: 2})
    assert (withheld.outcome, withheld.scope) == ("not decided", "examples")
    assert f"; 2 seeds left out as {name}'s run failed, which might have" in withheld.sentence
    decided = judge(difference, **{kept: 1})
    assert decided.outcome == ("better" if sign == 1 else "worse")
    assert decided.sentence.endswith("'s run failed.")
    assert "; 1 seed left out as" in decided.sentence


def test_points_scale_the_numbers_and_zero_has_no_minus() -> None:
    assert judge(compare(AHEAD), points=1.0).sentence.startswith("These two settings: +0.04 points")
    nearly = judge(compare([1e-9, -2e-9, 1e-9, 1e-9, -3e-9, 1e-9]))
    assert nearly.sentence.startswith(
        "These two settings: +0.00 points of accuracy (95% interval +0.00 to +0.00"
    )


CLOSE = [0.001, -0.002, 0.003, -0.001, 0.002, -0.003, 0.001, 0.0]


def test_equivalent_within_the_margin() -> None:
    test = paired_equivalence(CLOSE, 0.01)
    result = judge(compare(CLOSE), equivalence=test, equivalence_p=2 * test.p_value)
    assert (result.outcome, result.scope) == ("equivalent", "examples")
    assert (
        ": the settings of alp and pkd are equivalent on rte, within 1 point of accuracy (p = 0.00781)"
        in (result.sentence)
    )
    wide, narrow = crossed(-0.011, 0.004), crossed(-0.009, 0.004)
    for over_examples, scope in ((wide, "examples"), (narrow, "task")):
        found = judge(compare(CLOSE), None, over_examples, equivalence=test, equivalence_p=0.01)
        assert (found.outcome, found.scope) == ("equivalent", scope)


def test_a_difference_within_the_margin_is_both() -> None:
    differences = [0.004, 0.005, 0.006, 0.004, 0.005, 0.006, 0.005, 0.004]
    test = paired_equivalence(differences, 0.01)
    result = judge(compare(differences), equivalence=test, equivalence_p=test.p_value)
    assert result.outcome == "better"
    assert (
        "alp is better than the setting of pkd on rte, by less than 1 point of accuracy, on"
        in result.sentence
    )
    lost = judge(
        compare(differences), equivalence=test, equivalence_p=test.p_value, baseline_failures=1
    )
    assert lost.outcome == "better"
    assert "by less than" not in lost.sentence


@pytest.mark.parametrize("lost", ["failures", "baseline_failures"])
def test_methods_that_lost_runs_are_not_called_equivalent(lost: str) -> None:
    test = paired_equivalence(CLOSE, 0.01)
    options = {"equivalence": test, "equivalence_p": test.p_value, lost: 1}
    result = judge(compare(CLOSE), **options)
    assert result.outcome == "not decided"
    assert "which might have lowered" in result.sentence


def test_not_decided_says_how_many_seeds_would_find_the_margin() -> None:
    test = paired_equivalence(UNCLEAR, 0.02)
    difference = compare(UNCLEAR)
    needed = seeds_needed(difference.sd, 0.02, 0.05 / 3)
    assert needed > 8
    result = judge(difference, comparisons=3, equivalence=test, equivalence_p=1.0)
    assert result.sentence.endswith(
        f"; with this spread it takes {needed} seeds to find a difference of 2 points of accuracy in "
        "four of five cases."
    )
    large = paired_equivalence(UNCLEAR, 0.2)
    result = judge(difference, equivalence=large, equivalence_p=0.9)
    assert "; 8 seeds are enough to find a difference of 20 points of accuracy" in result.sentence


@pytest.mark.parametrize("wrong", [0.0001, 1.1, math.nan])
def test_an_impossible_p_value_of_equivalence_is_named(wrong: float) -> None:
    test = paired_equivalence(CLOSE, 0.01)
    with pytest.raises(ValueError, match=f"equivalence_p must be between .* got {wrong}"):
        judge(compare(CLOSE), equivalence=test, equivalence_p=wrong)


@pytest.mark.parametrize("adjusted_p", [0.001, 1.5, math.nan])
def test_an_impossible_adjusted_p_value_is_named(adjusted_p: float) -> None:
    with pytest.raises(ValueError, match=f"adjusted_p must be between .* got {adjusted_p}"):
        judge(compare(AHEAD), adjusted_p)


def test_tuned_scores_are_planned_in_trials() -> None:
    difference, test = compare(UNCLEAR), paired_equivalence(UNCLEAR, 0.02)
    needed = trials_needed(difference.sd, 0.02, 3, 0.05 / 3)
    options = {"budget": 3, "comparisons": 3, "equivalence_p": 1.0}
    result = judge(difference, equivalence=test, **options)
    assert result.sentence.endswith(
        f"; with this spread it takes {needed} trials of each method to find a difference of 2 points "
        "of accuracy in four of five cases."
    )
    large = paired_equivalence(UNCLEAR, 0.9)
    sentence = judge(difference, equivalence=large, **{**options, "comparisons": 1}).sentence
    assert "; 8 trials of each method are enough to find a difference of 90 points" in sentence


def test_too_few_trials_are_said_if_no_data_can_decide() -> None:
    """By the pairing of the trials: the least p value, and not the number of trials, says it."""
    difference = replace(compare(UNCLEAR), minimum_p=0.0625, p_value=0.5)
    assert judge(difference, budget=4).sentence.endswith(
        "; 8 paired trials cannot reach p < 0.05 in one comparison, at least 9 can."
    )
    fine = replace(difference, minimum_p=2 / 2**8)
    assert "cannot reach" not in judge(fine, budget=4).sentence


@pytest.mark.parametrize(
    ("most", "budget", "ending"),
    [
        (5, None, "; 5 paired seeds cannot decide, at least 6 can."),
        (6, None, ", on these examples, with this teacher."),
        (8, 4, "; 8 trials of each method cannot decide, at least 9 can."),
        (9, 4, ", on these examples, over new searches with this teacher."),
    ],
)
def test_a_maximum_that_cannot_decide_says_which_one_can(
    most: int, budget: int | None, ending: str
) -> None:
    state = Stopping(None, most, most, 0.05, 0.01, (), None)
    unbounded = Interval(-math.inf, math.inf)
    words = {"method": "alp", "baseline": "kd", "task": "rte", "metric": "accuracy"}
    found = sequential_verdict(0.02, unbounded, state, None, budget=budget, **words)
    assert "interval unbounded" in found.sentence
    assert found.sentence.endswith(ending)
