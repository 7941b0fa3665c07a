"""A plan of seeds as text, in points, and as plain JSON values, in score units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.analysis.seed_plan import Outlook, SeedPlan, Spread, largest_need
from harness.stats.spread import sd_interval

EXAMPLE_SEEDS = 10
"""Of the example that is given where it is not told how many seeds a spread comes from."""


@dataclass(frozen=True)
class Question:
    """What seeds are planned for: the spreads, and the test that decides."""

    spreads: Sequence[Spread]
    without: Sequence[str]
    """Comparisons that have no spread, in words."""
    alpha: float
    """Of the family."""
    comparisons: int
    """In the family."""
    power: float
    unit: str = "seeds"
    """What a pair of runs is: "repeats" where the whole was repeated."""

    @property
    def level(self) -> float:
        """Of one comparison: what Holm asks of the smallest p value."""
        return self.alpha / self.comparisons


def show_plans(asked: Question, plans: Sequence[SeedPlan]) -> None:
    """Print a table for each comparison, what they take together, and how sure that is."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(_test(asked))
    for plan in plans:
        console.print()
        console.print(_spread(plan), markup=False)
        console.print(_table(asked, plan))
        console.print(_needed(asked, plan), markup=False)
    console.print()
    for line in (*_together(asked, plans), *asked.without, _caution(asked, plans)):
        console.print(line, markup=False)


def plain_plans(asked: Question, plans: Sequence[SeedPlan]) -> dict[str, Any]:
    """The answer for `--json`; null stands for a difference that no seeds of that number can find."""
    return {
        "alpha": asked.alpha,
        "comparisons": asked.comparisons,
        "power": asked.power,
        "unit": asked.unit,
        "plans": [_finite(asdict(plan)) for plan in plans],
        "without": list(asked.without),
    }


def _test(asked: Question) -> str:
    level = f"alpha = {asked.alpha:g}"
    if asked.comparisons > 1:
        level += f" / {asked.comparisons} comparisons (Holm's worst case)"
    return f"Two-sided paired sign-flip test, {level}, a number of {asked.unit} fixed beforehand"


def _spread(plan: SeedPlan) -> str:
    spread, ends = plan.spread, plan.sd_interval
    name = "" if spread.comparison is None else f"{spread.comparison}: "
    shown = f"{name}standard deviation of the paired differences {_points(spread.sd)}"
    if ends is None:
        return shown
    return f"{shown} (95 % interval {_range(*ends)}, from {spread.pairs} pairs)"


def _table(asked: Question, plan: SeedPlan) -> Table:
    table = Table()
    table.add_column(asked.unit, justify="right")
    table.add_column(f"detectable difference, power {asked.power:g}")
    table.add_column(f"power at {_points(plan.spread.margin)}")
    for outlook in plan.outlooks:
        table.add_row(str(outlook.seeds), _detectable(outlook), _found(outlook))
    return table


def _detectable(outlook: Outlook) -> str:
    if math.isinf(outlook.detectable):
        return "none: too few to decide"
    ends = outlook.detectable_interval
    shown = f"{100 * outlook.detectable:.2f} points"
    return shown if ends is None else f"{shown} ({_range(*ends)})"


def _found(outlook: Outlook) -> str:
    ends = outlook.power_interval
    shown = _percent(outlook.power)
    return shown if ends is None else f"{shown} ({_percent(ends.low)} to {_percent(ends.high)})"


def _needed(asked: Question, plan: SeedPlan) -> str:
    spread, ends = plan.spread, plan.needed_interval
    shown = (
        f"{plan.needed} {asked.unit} detect a difference of {_points(spread.margin)} of "
        f"{spread.metric}, the margin, with power {asked.power:g}"
    )
    if ends is None:
        return f"{shown}."
    return f"{shown}; {ends[0]} to {ends[1]} at the ends of the spread's interval."


def _together(asked: Question, plans: Sequence[SeedPlan]) -> list[str]:
    if len(plans) == 1:
        return []
    needed, upper = largest_need(plans)
    ends = "" if upper is None else f", {upper} at the upper ends of the intervals"
    return [f"All {len(plans)} comparisons: {needed} {asked.unit}{ends}."]


def _caution(asked: Question, plans: Sequence[SeedPlan]) -> str:
    known = [plan.spread.pairs for plan in plans if plan.spread.pairs is not None]
    n = min(known, default=EXAMPLE_SEEDS)
    low, high = sd_interval(1.0, n)
    hint = "" if known else ", which --sd-seeds N takes into account"
    return (
        f"A spread from few {asked.unit} is uncertain: seen in {n}, the true one is {low:.2f} to "
        f"{high:.2f} times as large (95 %, normal differences){hint}. "
        f"The {asked.unit} needed go with its square."
    )


def _points(value: float) -> str:
    shown = f"{100 * value:.2f}".rstrip("0").rstrip(".")
    return f"{shown} point{'' if shown == '1' else 's'}"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _percent(share: float) -> str:
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if value == math.inf else value
