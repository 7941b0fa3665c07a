"""What a comparison lets us say, in one sentence."""

from dataclasses import dataclass
from typing import Literal

from harness.stats import wording
from harness.stats.bootstrap import CrossedBootstrap
from harness.stats.equivalence import PairedEquivalence
from harness.stats.family import least_seeds
from harness.stats.paired import Interval, PairedDifference
from harness.stats.power import seeds_needed
from harness.stats.stopping import Stopping

Outcome = Literal["better", "worse", "equivalent", "not decided"]
Scope = Literal["task", "examples"]
GIVEN = "with this teacher and the settings found"
FLATTERED = ", which might have lowered the scores of the side that lost them"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison and how far it reaches."""

    outcome: Outcome
    """Of the method against the baseline; "not decided" never means equal, "equivalent" means equal
    within the margin."""
    scope: Scope
    """"task": the crossed bootstrap supports the outcome over new examples too. "examples": it
    holds for new seeds on these examples only, or there is no outcome. Always with this teacher and
    the settings that the searches found: another search might have found others."""
    sentence: str


def verdict(
    difference: PairedDifference,
    adjusted_p: float,
    crossed: CrossedBootstrap | None,
    alpha: float = 0.05,
    *,
    method: str,
    baseline: str,
    task: str,
    metric: str,
    points: float = 100.0,
    comparisons: int = 1,
    failed: int = 0,
    baseline_failed: int = 0,
    equivalence: PairedEquivalence | None = None,
    equivalence_p: float = 1.0,
    repeated: str | None = None,
) -> Verdict:
    """Decide by the family-wise `adjusted_p` and the sign of the mean, and say it.

    Where that decides nothing, `equivalence_p`, adjusted in the family of the tests of equivalence,
    may: then the methods are equivalent, within the margin that was fixed beforehand. A difference can
    be both there and within the margin, which is said. So the chance of any false "better" or "worse"
    is at most alpha, and so is that of any false claim of equivalence.

    `crossed` widens the scope where its interval lies on the outcome's side of zero; None if there
    are no predictions to resample. `points` turns scores into printed points; `comparisons` is the
    size of the family that `adjusted_p` was adjusted in.

    `failed` and `baseline_failed` count seeds of which only the one side's run failed. They are not
    among the pairs, and what failed might have scored low: so no side that lost runs so wins.

    `repeated` names what was repeated where the pairs are not seeds of one setting but repeats of the
    whole; the claim then reaches over those too.

    Raises ValueError if an adjusted p value is not between its test's own and 1.
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
    within = equivalence is not None and equivalence_p < alpha
    outcome = _outcome(difference, adjusted_p, alpha, within)
    lost = {"better": failed, "worse": baseline_failed, "equivalent": failed + baseline_failed}
    flattered = lost.get(outcome, 0)
    if flattered:
        outcome = "not decided"
    scope = _scope(outcome, crossed, equivalence)
    unit = "seeds" if repeated is None else "repeats"
    given = GIVEN if repeated is None else f"over new {repeated}"
    unadjusted = "unadjusted " if comparisons > 1 else ""
    numbers = (
        f"{wording.signed(difference.mean, points)} points of {metric} "
        f"({unadjusted}{wording.interval(*difference.interval, difference.confidence, points)}, "
        f"n = {difference.n} paired {unit}, adjusted p = {adjusted_p:.3g})"
    )
    margin = (
        "" if equivalence is None else f"{wording.amount(equivalence.margin, points)} of {metric}"
    )
    if outcome == "equivalent":
        claim = f"{method} and {baseline} are equivalent on {task}, within {margin} "
        claim += f"(p = {equivalence_p:.3g})"
    elif outcome == "not decided":
        claim = f"whether {method} is better or worse than {baseline} on {task} is not decided"
    else:
        claim = f"{method} is {outcome} than {baseline} on {task}"
        claim += f", by less than {margin}" if within and not failed + baseline_failed else ""
    reach = _reach(scope, crossed, points, given)
    rest = wording.losses(method, failed, unit) + wording.losses(baseline, baseline_failed, unit)
    if flattered:
        rest += FLATTERED
    elif outcome == "not decided":
        shortage = _shortage(difference.n, comparisons, alpha, unit)
        rest += shortage or _enough(difference, equivalence, comparisons, alpha, margin, unit)
    return Verdict(outcome, scope, f"{numbers}: {claim}, {reach}{rest}.")


def _outcome(
    difference: PairedDifference, adjusted_p: float, alpha: float, within: bool
) -> Outcome:
    if adjusted_p >= alpha:
        return "equivalent" if within else "not decided"
    return "better" if difference.mean > 0 else "worse"


def _scope(
    outcome: Outcome, crossed: CrossedBootstrap | None, equivalence: PairedEquivalence | None
) -> Scope:
    if crossed is None or outcome == "not decided":
        return "examples"
    if outcome == "equivalent":
        assert equivalence is not None
        inside = -equivalence.margin < crossed.low and crossed.high < equivalence.margin
        return "task" if inside else "examples"
    excludes_zero = crossed.low > 0 if outcome == "better" else crossed.high < 0
    return "task" if excludes_zero else "examples"


def _reach(scope: Scope, crossed: CrossedBootstrap | None, points: float, given: str) -> str:
    """On what the claim holds, with the crossed interval where there is one."""
    if crossed is None:
        return f"on these examples, {given}"
    interval = wording.interval(crossed.low, crossed.high, crossed.confidence, points)
    if scope == "task":
        return f"also over new examples of this task ({interval}), {given}"
    return f"on these examples, {given} (over new examples: {interval})"


def _shortage(n: int, comparisons: int, alpha: float, unit: str) -> str:
    least = least_seeds(comparisons, alpha)
    if n >= least:
        return ""
    family = "one comparison" if comparisons == 1 else f"{comparisons} comparisons"
    return f"; {n} paired {unit} cannot reach p < {alpha:g} in {family}, at least {least} can"


def _enough(
    difference: PairedDifference,
    equivalence: PairedEquivalence | None,
    comparisons: int,
    alpha: float,
    margin: str,
    unit: str,
) -> str:
    """How many seeds would have shown a difference that matters; never of the observed one's size."""
    if equivalence is None or not difference.sd > 0:
        return ""
    needed = seeds_needed(difference.sd, equivalence.margin, alpha / comparisons)
    found = f"to find a difference of {margin} in four of five cases"
    if needed <= difference.n:
        return f"; {difference.n} {unit} are enough {found}"
    return f"; with this spread it takes {needed} {unit} {found}"


def sequential_verdict(
    mean: float,
    interval: Interval,
    looked: Stopping,
    crossed: CrossedBootstrap | None,
    *,
    method: str,
    baseline: str,
    task: str,
    metric: str,
    points: float = 100.0,
    failed: int = 0,
    baseline_failed: int = 0,
) -> Verdict:
    """Decide by looks while seeds were added, and say it; `mean` and `interval` are of their pairs.

    `interval` is the repeated one. The scope is always "examples": seeds were added until they
    decided, which the crossed bootstrap does not know of; its interval is shown as what it is. Failed
    runs count as in `verdict`.
    """
    outcome: Outcome = looked.decision or "not decided"
    lost = {"better": failed, "worse": baseline_failed, "equivalent": failed + baseline_failed}
    flattered = lost.get(outcome, 0)
    if flattered:
        outcome = "not decided"
    numbers = (
        f"{wording.signed(mean, points)} points of {metric} (repeated "
        f"{wording.interval(*interval, 1 - looked.alpha, points)}, "
        f"after {looked.pairs} of at most {looked.most} paired seeds)"
    )
    if outcome == "equivalent":
        margin = wording.amount(looked.margin, points)
        claim = f"{method} and {baseline} are equivalent on {task}, within {margin} of {metric}"
    elif outcome == "not decided":
        yet = "" if looked.next_look is None else " yet"
        claim = f"whether {method} is better or worse than {baseline} on {task} is not decided{yet}"
    else:
        claim = f"{method} is {outcome} than {baseline} on {task}"
    reach = f", on these examples, {GIVEN}"
    if crossed is not None:
        over = wording.interval(crossed.low, crossed.high, crossed.confidence, points)
        reach += f" (over new examples, not corrected for the looks: {over})"
    rest = wording.losses(method, failed) + wording.losses(baseline, baseline_failed)
    if flattered:
        rest += FLATTERED
    return Verdict(outcome, "examples", f"{numbers}: {claim}{reach}{rest}.")
