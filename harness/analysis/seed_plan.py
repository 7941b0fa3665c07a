"""From the spread of paired differences to the number of seeds. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.compare import AblationResult
from harness.stats import Interval
from harness.stats.paired import ROUNDING
from harness.stats.power import detectable_difference, power_of, seeds_needed
from harness.stats.spread import sd_interval


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a comparison's paired differences, in score units (0.01: a point)."""

    comparison: str | None
    """In words; None where the spread was given."""
    metric: str
    sd: float
    pairs: int | None
    """Pairs of runs that it was estimated from; None where that was not told."""
    margin: float
    """The difference that matters, in score units."""


@dataclass(frozen=True)
class Outlook:
    """What a number of seeds can show. The intervals are of the ends of the spread's own interval."""

    seeds: int
    detectable: float
    """The least difference found with the wanted power; infinite where no difference can be."""
    detectable_interval: Interval | None
    power: float
    """Of finding a difference of the margin."""
    power_interval: Interval | None


@dataclass(frozen=True)
class SeedPlan:
    """How many seeds one comparison takes. Intervals are None where `Spread.pairs` is."""

    spread: Spread
    sd_interval: Interval | None
    outlooks: tuple[Outlook, ...]
    needed: int
    """Seeds that find a difference of the margin with the wanted power."""
    needed_interval: tuple[int, int] | None


def plan_seeds(spread: Spread, seeds: Sequence[int], alpha: float, power: float) -> SeedPlan:
    """Plan one comparison at level `alpha`: in a family of k, the family's divided by k.

    Raises ValueError as the functions of `harness.stats.power` do.
    """
    ends = None if spread.pairs is None else sd_interval(spread.sd, spread.pairs)

    def detectable(sd: float, n: int) -> float:
        return detectable_difference(sd, n, alpha, power)

    def found(sd: float, n: int) -> float:
        return power_of(sd, spread.margin, n, alpha)

    def needed(sd: float) -> int:
        return seeds_needed(sd, spread.margin, alpha, power)

    return SeedPlan(
        spread=spread,
        sd_interval=ends,
        outlooks=tuple(
            Outlook(
                seeds=n,
                detectable=detectable(spread.sd, n),
                detectable_interval=ends and Interval(*(detectable(sd, n) for sd in ends)),
                power=found(spread.sd, n),
                power_interval=ends and Interval(*(found(sd, n) for sd in reversed(ends))),
            )
            for n in seeds
        ),
        needed=needed(spread.sd),
        needed_interval=ends and (needed(ends.low), needed(ends.high)),
    )


def observed_spreads(
    result: AblationResult, margin: float | None
) -> tuple[list[Spread], list[str]]:
    """The spreads of an ablation's comparisons, and in words what has none.

    The margin is the one given, else the one that the ablation fixed for the metric before its runs.
    """
    spreads, without = [], list(result.missing)
    for comparison in result.comparisons:
        difference = comparison.difference
        name = f"{comparison.method} against {comparison.baseline} on {comparison.task}"
        if difference.n < 2:
            without.append(f"{name}: one pair of runs has no spread")
        elif not difference.sd > ROUNDING:
            without.append(f"{name}: all {difference.n} differences are equal")
        else:
            chosen = comparison.margin if margin is None else margin
            spreads.append(Spread(name, comparison.metric, difference.sd, difference.n, chosen))
    return spreads, without


def largest_need(plans: Sequence[SeedPlan]) -> tuple[int, int | None]:
    """Seeds for all comparisons at once: at the spreads seen, and at the upper ends of all of them."""
    upper = [plan.needed_interval[1] for plan in plans if plan.needed_interval is not None]
    return max(plan.needed for plan in plans), max(upper) if len(upper) == len(plans) else None
