"""What a comparison lets us say, in one sentence."""

import math
from dataclasses import dataclass
from typing import Literal

from harness.stats.bootstrap import CrossedBootstrap
from harness.stats.equivalence import PairedEquivalence
from harness.stats.family import least_seeds
from harness.stats.paired import PairedDifference
from harness.stats.power import seeds_needed

Outcome = Literal["better", "worse", "equivalent", "not decided"]
Scope = Literal["task", "examples"]
GIVEN = "with this teacher and the settings found"


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
    unadjusted = "unadjusted " if comparisons > 1 else ""
    numbers = (
        f"{_points(difference.mean, points)} points of {metric} "
        f"({unadjusted}{_interval(*difference.interval, difference.confidence, points)}, "
        f"n = {difference.n} paired seeds, adjusted p = {adjusted_p:.3g})"
    )
    margin = "" if equivalence is None else f"{_amount(equivalence.margin, points)} of {metric}"
    if outcome == "equivalent":
        claim = f"{method} and {baseline} are equivalent on {task}, within {margin} "
        claim += f"(p = {equivalence_p:.3g})"
    elif outcome == "not decided":
        claim = f"whether {method} is better or worse than {baseline} on {task} is not decided"
    else:
        claim = f"{method} is {outcome} than {baseline} on {task}"
        claim += f", by less than {margin}" if within and not failed + baseline_failed else ""
    reach = _reach(scope, crossed, points)
    rest = _losses(method, failed) + _losses(baseline, baseline_failed)
    if flattered:
        rest += ", which might have lowered the scores of the side that lost them"
    elif outcome == "not decided":
        shortage = _shortage(difference.n, comparisons, alpha)
        rest += shortage or _enough(difference, equivalence, comparisons, alpha, margin)
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


def _reach(scope: Scope, crossed: CrossedBootstrap | None, points: float) -> str:
    """On what the claim holds, with the crossed interval where there is one."""
    if crossed is None:
        return f"on these examples, {GIVEN}"
    interval = _interval(crossed.low, crossed.high, crossed.confidence, points)
    if scope == "task":
        return f"also over new examples of this task ({interval}), {GIVEN}"
    return f"on these examples, {GIVEN} (over new examples: {interval})"


def _losses(name: str, failed: int) -> str:
    if not failed:
        return ""
    return f"; {failed} seed{'s' if failed > 1 else ''} left out as {name}'s run failed"


def _shortage(n: int, comparisons: int, alpha: float) -> str:
    least = least_seeds(comparisons, alpha)
    if n >= least:
        return ""
    family = "one comparison" if comparisons == 1 else f"{comparisons} comparisons"
    return f"; {n} paired seeds cannot reach p < {alpha:g} in {family}, at least {least} can"


def _enough(
    difference: PairedDifference,
    equivalence: PairedEquivalence | None,
    comparisons: int,
    alpha: float,
    margin: str,
) -> str:
    """How many seeds would have shown a difference that matters; never of the observed one's size."""
    if equivalence is None or not difference.sd > 0:
        return ""
    needed = seeds_needed(difference.sd, equivalence.margin, alpha / comparisons)
    found = f"to find a difference of {margin} in four of five cases"
    if needed <= difference.n:
        return f"; {difference.n} seeds are enough {found}"
    return f"; with this spread it takes {needed} seeds {found}"


def _amount(value: float, points: float) -> str:
    """An unsigned number of points in words."""
    shown = f"{round(points * value, 2):g}"
    return f"{shown} point{'' if shown == '1' else 's'}"


def _interval(low: float, high: float, confidence: float, points: float) -> str:
    level = f"{100 * confidence:g}% interval"
    if math.isinf(low):
        return f"{level} unbounded"
    return f"{level} {_points(low, points)} to {_points(high, points)}"


def _points(value: float, points: float) -> str:
    """A signed number of points; zero has no minus sign."""
    return f"{round(points * value, 2) + 0.0:+.2f}"
