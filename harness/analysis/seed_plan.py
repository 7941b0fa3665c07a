"""From the spread of paired differences to the number of seeds or trials. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.compare import AblationResult
from harness.stats import Interval
from harness.stats.paired import ROUNDING
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import (
    detectable_tuned_difference,
    effective_trials,
    trials_needed,
    tuned_power,
)


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a comparison's paired differences, in score units (0.01: a point).

    For tuned scores it is that of the difference of tuned scores, times the square root of the number of
    trials.
    """

    comparison: str | None
    """The comparison in words; None where the user gave the spread."""
    metric: str
    sd: float
    pairs: int | None
    """Number of pairs of runs behind the estimate; None where the number is unknown."""
    margin: float
    """The difference that matters, in score units."""
    budget: int = 1
    """Number of trials of a tuner; 1 for pairs of seeds or repeats."""


@dataclass(frozen=True)
class Outlook:
    """The power of a number of seeds. The intervals belong to the ends of the spread's interval.

    The fields of `Outlook` and `SeedPlan` are keys of the command's `--json`.
    """

    seeds: int
    detectable: float
    """The least difference that the planned power finds; infinite where no difference can be found."""
    detectable_interval: Interval | None
    power: float
    """The power to find a difference of the margin."""
    power_interval: Interval | None


@dataclass(frozen=True)
class SeedPlan:
    """The number of seeds for one comparison. Intervals are None where `Spread.pairs` is None."""

    spread: Spread
    sd_interval: Interval | None
    outlooks: tuple[Outlook, ...]
    needed: int
    """Number of seeds that find a difference of the margin with the planned power."""
    needed_interval: tuple[int, int] | None


def plan_seeds(spread: Spread, seeds: Sequence[int], alpha: float, power: float) -> SeedPlan:
    """Plan one comparison at level `alpha`; in a family of k, the family's level divided by k.

    Raises `ValueError` as the functions of `harness.stats.tuned_power` do.
    """
    ends = None
    if spread.pairs is not None:
        ends = sd_interval(spread.sd, effective_trials(spread.pairs, spread.budget))

    def difference(sd: float, n: int) -> float:
        return detectable_tuned_difference(sd, n, spread.budget, alpha, power)

    def margin_power(sd: float, n: int) -> float:
        return tuned_power(sd, spread.margin, n, spread.budget, alpha)

    def seed_count(sd: float) -> int:
        return trials_needed(sd, spread.margin, spread.budget, alpha, power)

    return SeedPlan(
        spread=spread,
        sd_interval=ends,
        outlooks=tuple(
            Outlook(
                seeds=n,
                detectable=difference(spread.sd, n),
                detectable_interval=ends and Interval(*(difference(sd, n) for sd in ends)),
                power=margin_power(spread.sd, n),
                power_interval=ends and Interval(*(margin_power(sd, n) for sd in reversed(ends))),
            )
            for n in seeds
        ),
        needed=seed_count(spread.sd),
        needed_interval=ends and (seed_count(ends.low), seed_count(ends.high)),
    )


def observed_spreads(
    result: AblationResult, margin: float | None
) -> tuple[list[Spread], list[str]]:
    """The spreads of an ablation's comparisons, and in words the comparisons without a spread.

    Without a `margin`, each comparison has the margin that the ablation fixed before its runs.
    """
    spreads, gaps = [], list(result.gaps)
    for comparison in result.comparisons:
        difference = comparison.difference
        name = f"{comparison.method} against {comparison.baseline} on {comparison.task}"
        if difference.n < 2:
            gaps.append(f"{name}: one pair of runs has no spread")
        elif not difference.sd > ROUNDING:
            gaps.append(f"{name}: all {difference.n} differences are equal")
        else:
            width = comparison.margin if margin is None else margin
            budget = result.manifest.pool_budget
            spread = Spread(name, comparison.metric, difference.sd, difference.n, width, budget)
            spreads.append(spread)
    return spreads, gaps


def largest_need(plans: Sequence[SeedPlan]) -> tuple[int, int | None]:
    """Number of seeds for all comparisons: at the spreads, and at the upper ends of their intervals."""
    upper = [plan.needed_interval[1] for plan in plans if plan.needed_interval is not None]
    return max(plan.needed for plan in plans), max(upper) if len(upper) == len(plans) else None
