"""The verdict of a comparison, as an outcome and as one sentence."""

from dataclasses import dataclass
from typing import Literal

from harness.config import MAX_SEEDS
from harness.stats import wording
from harness.stats.bootstrap import CrossedBootstrap
from harness.stats.equivalence import PairedEquivalence
from harness.stats.paired import Interval, PairedDifference
from harness.stats.stopping import Stopping, minimum_pairs
from harness.stats.tuned_examples import TunedInterval
from harness.stats.tuned_power import minimum_trials, trials_needed

OverExamples = CrossedBootstrap | TunedInterval
"""An interval over new examples, and over new seeds or new searches."""
Outcome = Literal["better", "worse", "equivalent", "not decided"]
Scope = Literal["task", "examples"]
CONDITION = "with this teacher"
POOL_CONDITION = "over new searches with this teacher"
FAILURE_NOTE = ", which might have lowered the scores of the side that lost them"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison, its scope, and a sentence with both."""

    outcome: Outcome
    """The method against the baseline. "not decided" does not mean equal; "equivalent" means equal
    within the margin."""
    scope: Scope
    """"task": the interval over new examples supports the outcome too. "examples": the
    outcome holds for new seeds on these examples, or nothing is decided. Every outcome holds for
    this teacher. Without a budget an outcome is about two settings: another search might find other
    settings."""
    sentence: str


def verdict(
    difference: PairedDifference,
    adjusted_p: float,
    bootstrap: OverExamples | None,
    alpha: float = 0.05,
    *,
    method: str,
    baseline: str,
    task: str,
    metric: str,
    points: float = 100.0,
    comparisons: int = 1,
    failures: int = 0,
    baseline_failures: int = 0,
    equivalence: PairedEquivalence | None = None,
    equivalence_p: float = 1.0,
    repeat_scope: str | None = None,
    budget: int | None = None,
) -> Verdict:
    """Decide by the family-wise `adjusted_p` and the sign of the mean.

    If `adjusted_p` decides nothing, `equivalence_p` may decide that the methods are equivalent
    within the margin; `equivalence_p` is adjusted in the family of the tests of equivalence. A
    difference may be significant and within the margin; the sentence then says both. In a family
    the chance of any false "better" or "worse" is at most alpha, and so is the chance of any false
    "equivalent".

    Args:
        difference: the paired difference, method minus baseline.
        adjusted_p: the p value of `difference`, adjusted in the family.
        bootstrap: the interval over new examples, which widens the scope to "task" if it supports the
            outcome; None without predictions.
        alpha: the level of the family.
        method: name of the method.
        baseline: name of the baseline.
        task: name of the task.
        metric: name of the metric.
        points: factor that turns scores into printed points.
        comparisons: size of the family.
        failures: seeds without a pair because only the method's run failed. A failed run might have
            had a low score, so a side with failures cannot win.
        baseline_failures: seeds without a pair because only the baseline's run failed.
        equivalence: the test of equivalence; None without a margin.
        equivalence_p: the p value of `equivalence`, adjusted in the family.
        repeat_scope: the parts that were repeated, in words, if the pairs are repeats of the whole
            study and not seeds of one setting; the claim then reaches over these parts too.
        budget: number of trials of a tuner, if the claim is about methods that are tuned anew.
            Without repeats `difference.n` then counts the trials of each method. None for a claim
            about the two settings that one search each found.

    Raises:
        ValueError: an adjusted p value is not between the test's p value and 1.
    """
    if not difference.p_value <= adjusted_p <= 1:
        raise ValueError(
            f"adjusted_p must be between the p value {difference.p_value} and 1, got {adjusted_p}"
        )
    if equivalence is not None and not equivalence.p_value <= equivalence_p <= 1:
        raise ValueError(
            f"equivalence_p must be between the p value {equivalence.p_value} and 1, got "
            f"{equivalence_p}"
        )
    within_margin = equivalence is not None and equivalence_p < alpha
    outcome = _outcome(difference, adjusted_p, alpha, within_margin)
    winner_failures = _winner_failures(outcome, failures, baseline_failures)
    if winner_failures:
        outcome = "not decided"
    scope = _scope(outcome, bootstrap, equivalence)
    unit = "seeds" if repeat_scope is None else "repeats"
    count = f"n = {difference.n} paired {unit}"
    condition = CONDITION if repeat_scope is None else f"over new {repeat_scope}"
    if budget is not None and repeat_scope is None:
        unit, count = "trials", f"{difference.n} trials of each method"
        condition = POOL_CONDITION
    subjects = wording.Subjects(method, baseline, budget)
    adjustment = "unadjusted " if comparisons > 1 else ""
    numbers = (
        f"{wording.signed_points(difference.mean, points)} points of {metric} "
        f"({adjustment}{wording.interval(*difference.interval, difference.confidence, points)}, "
        f"{count}, adjusted p = {adjusted_p:.3g})"
    )
    margin = ""
    if equivalence is not None:
        margin = f"{wording.unsigned_points(equivalence.margin, points)} of {metric}"
    if outcome == "equivalent":
        claim = f"{subjects.equivalent(task)}, within {margin} (p = {equivalence_p:.3g})"
    elif outcome == "not decided":
        claim = subjects.undecided(task)
    else:
        claim = subjects.different(outcome, task)
        if within_margin and not failures + baseline_failures:
            claim += f", by less than {margin}"
    reach = _reach(scope, bootstrap, points, condition)
    notes = wording.losses(method, failures, unit)
    notes += wording.losses(baseline, baseline_failures, unit)
    if winner_failures:
        notes += FAILURE_NOTE
    elif outcome == "not decided":
        tuner_budget = budget if unit == "trials" else None
        shortage = _shortage(difference, comparisons, alpha, tuner_budget, unit)
        notes += shortage or _advice(
            difference, equivalence, comparisons, alpha, margin, tuner_budget, unit
        )
    return Verdict(outcome, scope, f"{subjects.opening}{numbers}: {claim}, {reach}{notes}.")


def _outcome(
    difference: PairedDifference, adjusted_p: float, alpha: float, within_margin: bool
) -> Outcome:
    if adjusted_p >= alpha:
        return "equivalent" if within_margin else "not decided"
    return "better" if difference.mean > 0 else "worse"


def _winner_failures(outcome: Outcome, failures: int, baseline_failures: int) -> int:
    """The number of failures on the sides that the outcome favours."""
    method_failures = failures if outcome in ("better", "equivalent") else 0
    return method_failures + (baseline_failures if outcome in ("worse", "equivalent") else 0)


def _scope(
    outcome: Outcome, bootstrap: OverExamples | None, equivalence: PairedEquivalence | None
) -> Scope:
    if bootstrap is None or outcome == "not decided":
        return "examples"
    if outcome == "equivalent":
        assert equivalence is not None
        within_margin = -equivalence.margin < bootstrap.low and bootstrap.high < equivalence.margin
        return "task" if within_margin else "examples"
    excludes_zero = bootstrap.low > 0 if outcome == "better" else bootstrap.high < 0
    return "task" if excludes_zero else "examples"


def _reach(scope: Scope, bootstrap: OverExamples | None, points: float, condition: str) -> str:
    """The clause on the claim's examples and conditions, with the interval over new examples."""
    if bootstrap is None:
        return f"on these examples, {condition}"
    interval = wording.interval(bootstrap.low, bootstrap.high, bootstrap.confidence, points)
    if scope == "task":
        return f"also over new examples of this task ({interval}), {condition}"
    return f"on these examples, {condition} (over new examples: {interval})"


def _shortage(
    difference: PairedDifference, comparisons: int, alpha: float, budget: int | None, unit: str
) -> str:
    """The clause on pairs that are too few for any decision."""
    minimum = minimum_trials(budget or 1, comparisons, alpha)
    if difference.n >= minimum or difference.minimum_p < alpha / comparisons:
        return ""
    family = "one comparison" if comparisons == 1 else f"{comparisons} comparisons"
    pairs = f"{difference.n} paired {unit if difference.n > 1 else unit.removesuffix('s')}"
    return f"; {pairs} cannot reach p < {alpha:g} in {family}, at least {minimum} can"


def _advice(
    difference: PairedDifference,
    equivalence: PairedEquivalence | None,
    comparisons: int,
    alpha: float,
    margin: str,
    budget: int | None,
    unit: str,
) -> str:
    """The clause on the number of pairs that find a difference of the margin's size."""
    if equivalence is None or not difference.sd > 0:
        return ""
    level = alpha / comparisons
    count = trials_needed(difference.sd, equivalence.margin, budget or 1, level)
    pairs = unit if budget is None else f"{unit} of each method"
    goal = f"to find a difference of {margin} in four of five cases"
    if count <= difference.n:
        return f"; {difference.n} {pairs} are enough {goal}"
    number = str(count) if count <= MAX_SEEDS else f"more than {MAX_SEEDS}"
    return f"; with this spread it takes {number} {pairs} {goal}"


def sequential_verdict(
    mean: float,
    interval: Interval,
    stopping: Stopping,
    bootstrap: OverExamples | None,
    *,
    method: str,
    baseline: str,
    task: str,
    metric: str,
    points: float = 100.0,
    failures: int = 0,
    baseline_failures: int = 0,
    budget: int | None = None,
) -> Verdict:
    """The verdict of a comparison to which seeds or trials were added until it was decided.

    `mean` and `interval`, the repeated interval, are those of the pairs in `stopping`. The scope is
    always "examples": the crossed bootstrap does not allow for the looks, and the sentence says so
    beside its interval. The other arguments are those of `verdict`. With a `budget` the pairs are
    trials.
    """
    outcome: Outcome = stopping.decision or "not decided"
    winner_failures = _winner_failures(outcome, failures, baseline_failures)
    if winner_failures:
        outcome = "not decided"
    unit, condition = "paired seeds", CONDITION
    if budget is not None:
        unit, condition = "trials of each method", POOL_CONDITION
    subjects = wording.Subjects(method, baseline, budget)
    numbers = (
        f"{wording.signed_points(mean, points)} points of {metric} (repeated "
        f"{wording.interval(*interval, 1 - stopping.alpha, points)}, "
        f"after {stopping.pairs} of at most {stopping.max_pairs} {unit})"
    )
    if outcome == "equivalent":
        margin = wording.unsigned_points(stopping.margin, points)
        claim = f"{subjects.equivalent(task)}, within {margin} of {metric}"
    elif outcome == "not decided":
        claim = subjects.undecided(task) + ("" if stopping.next_look is None else " yet")
    else:
        claim = subjects.different(outcome, task)
    reach = f", on these examples, {condition}"
    if bootstrap is not None:
        new_examples = wording.interval(bootstrap.low, bootstrap.high, bootstrap.confidence, points)
        reach += f" (over new examples, not corrected for the looks: {new_examples})"
    notes = wording.losses(method, failures) + wording.losses(baseline, baseline_failures)
    if winner_failures:
        notes += FAILURE_NOTE
    elif outcome == "not decided":
        notes += _short_maximum(stopping, budget, unit)
    return Verdict(outcome, "examples", f"{subjects.opening}{numbers}: {claim}{reach}{notes}.")


def _short_maximum(stopping: Stopping, budget: int | None, unit: str) -> str:
    """The clause on a maximum at which no look can reject."""
    needed = minimum_pairs(1, stopping.alpha)
    if budget is not None:
        needed = minimum_trials(budget, 1, stopping.alpha)
    if stopping.max_pairs >= needed:
        return ""
    return f"; {stopping.max_pairs} {unit} cannot decide, at least {needed} can"
