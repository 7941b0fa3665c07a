"""What a comparison lets us say, in one sentence."""

import math
from dataclasses import dataclass
from typing import Literal

from harness.stats.bootstrap import CrossedBootstrap
from harness.stats.family import least_seeds
from harness.stats.paired import PairedDifference

Outcome = Literal["better", "worse", "not decided"]
Scope = Literal["task", "examples"]
GIVEN = "with this teacher and the settings found"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison and how far it reaches."""

    outcome: Outcome
    """Of the method against the baseline; "not decided" never means equal."""
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
) -> Verdict:
    """Decide by the family-wise `adjusted_p` and the sign of the mean, and say it.

    `crossed` widens the scope where its interval lies on the outcome's side of zero; None if there
    are no predictions to resample. `points` turns scores into printed points; `comparisons` is the
    size of the family that `adjusted_p` was adjusted in.

    `failed` and `baseline_failed` count seeds of which only the one side's run failed. They are not
    among the pairs, and what failed might have scored low: so no side that lost runs so wins.

    Raises ValueError if `adjusted_p` is not between the difference's own p value and 1.
    """
    if not difference.p_value <= adjusted_p <= 1:
        raise ValueError(
            f"adjusted_p must be between the p value {difference.p_value} and 1, got {adjusted_p}"
        )
    outcome = _outcome(difference, adjusted_p, alpha)
    flattered = {"better": failed, "worse": baseline_failed, "not decided": 0}[outcome]
    if flattered:
        outcome = "not decided"
    scope = _scope(outcome, crossed)
    unadjusted = "unadjusted " if comparisons > 1 else ""
    numbers = (
        f"{_points(difference.mean, points)} points of {metric} "
        f"({unadjusted}{_interval(*difference.interval, difference.confidence, points)}, "
        f"n = {difference.n} paired seeds, adjusted p = {adjusted_p:.3g})"
    )
    if outcome == "not decided":
        claim = f"whether {method} is better or worse than {baseline} on {task} is not decided"
    else:
        claim = f"{method} is {outcome} than {baseline} on {task}"
    reach = _reach(scope, crossed, points)
    rest = _losses(method, failed) + _losses(baseline, baseline_failed)
    if flattered:
        rest += ", which might have lowered the scores of the side that lost them"
    elif outcome == "not decided":
        rest += _shortage(difference.n, comparisons, alpha)
    return Verdict(outcome, scope, f"{numbers}: {claim}, {reach}{rest}.")


def _outcome(difference: PairedDifference, adjusted_p: float, alpha: float) -> Outcome:
    if adjusted_p >= alpha:
        return "not decided"
    return "better" if difference.mean > 0 else "worse"


def _scope(outcome: Outcome, crossed: CrossedBootstrap | None) -> Scope:
    if crossed is None or outcome == "not decided":
        return "examples"
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


def _interval(low: float, high: float, confidence: float, points: float) -> str:
    level = f"{100 * confidence:g}% interval"
    if math.isinf(low):
        return f"{level} unbounded"
    return f"{level} {_points(low, points)} to {_points(high, points)}"


def _points(value: float, points: float) -> str:
    """A signed number of points; zero has no minus sign."""
    return f"{round(points * value, 2) + 0.0:+.2f}"
