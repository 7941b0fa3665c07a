"""A plan of seeds or trials as text, in points, and as plain JSON values, in score units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from harness.analysis.seed_plan import Outlook, SeedPlan, Spread, largest_need
from harness.runtime.output import AnswerConsole
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import effective_trials, minimum_trials

EXAMPLE_SEEDS = 10
"""The number of seeds in the caution, if the number behind a spread is unknown."""


@dataclass(frozen=True)
class Question:
    """A question of the power analysis: the spreads, and the test that decides."""

    spreads: Sequence[Spread]
    exclusions: Sequence[str]
    """Comparisons that have no spread, in words."""
    alpha: float
    """The family's level."""
    comparisons: int
    """The number of comparisons in the family."""
    power: float
    unit: str = "seeds"
    """The unit of replication: "seeds", "trials" of pools, or "repeats" of a whole ablation."""
    budget: int = 1
    """Number of trials of a tuner, for the unit "trials"."""

    @property
    def level(self) -> float:
        """The level of one comparison: Holm's bound for the smallest p value."""
        return self.alpha / self.comparisons


def show_plans(question: Question, plans: Sequence[SeedPlan]) -> None:
    """Print a table for each comparison, the joint need of seeds, and the caution."""
    console = AnswerConsole(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(_test(question))
    for plan in plans:
        console.print()
        console.print(_spread(question, plan), markup=False)
        console.print(_table(question, plan))
        console.print(_need(question, plan), markup=False)
    console.print()
    for line in (*_joint_need(question, plans), *question.exclusions, _caution(question, plans)):
        console.print(line, markup=False)


def plain_plans(question: Question, plans: Sequence[SeedPlan]) -> dict[str, Any]:
    """The answer for `--json`. Null stands for a difference that this number of seeds cannot find."""
    return {
        "alpha": question.alpha,
        "comparisons": question.comparisons,
        "power": question.power,
        "unit": question.unit,
        "budget": question.budget,
        "plans": [_json_value(asdict(plan)) for plan in plans],
        "without": list(question.exclusions),
    }


def _test(question: Question) -> str:
    level = f"alpha = {question.alpha:g}"
    if question.comparisons > 1:
        level += f" / {question.comparisons} comparisons (Holm's worst case)"
    test = "paired sign-flip test"
    if question.unit == "trials":
        test = f"exchange test of tuned scores with a budget of {_count(question.budget, 'trial')}"
    return f"Two-sided {test}, {level}, a number of {question.unit} fixed beforehand"


def _spread(question: Question, plan: SeedPlan) -> str:
    spread, ends, source = plan.spread, plan.sd_interval, f"{plan.spread.pairs} pairs"
    name = "" if spread.comparison is None else f"{spread.comparison}: "
    text = f"{name}standard deviation of the paired differences {_points(spread.sd)}"
    if question.unit == "trials":
        text = (
            f"{name}standard deviation of the difference of tuned scores, times √trials, "
            f"{_points(spread.sd)}"
        )
        source = f"{spread.pairs} trials"
        if spread.pairs is not None and spread.budget > 1:
            weight = effective_trials(spread.pairs, spread.budget)
            source += f", as uncertain as from {weight:.1f} with a budget of one"
    if ends is None:
        return text
    return f"{text} (95 % interval {_range(*ends)}, from {source})"


def _table(question: Question, plan: SeedPlan) -> Table:
    table = Table()
    table.add_column(question.unit, justify="right")
    table.add_column(f"detectable difference, power {question.power:g}")
    table.add_column(f"power at {_points(plan.spread.margin)}")
    for outlook in plan.outlooks:
        table.add_row(str(outlook.seeds), _detectable_difference(outlook), _power_range(outlook))
    return table


def _detectable_difference(outlook: Outlook) -> str:
    if math.isinf(outlook.detectable):
        return "none: may be too few to decide"
    ends = outlook.detectable_interval
    text = f"{100 * outlook.detectable:.2f} points"
    return text if ends is None else f"{text} ({_range(*ends)})"


def _power_range(outlook: Outlook) -> str:
    ends = outlook.power_interval
    text = _percent(outlook.power)
    return text if ends is None else f"{text} ({_percent(ends.low)} to {_percent(ends.high)})"


def _need(question: Question, plan: SeedPlan) -> str:
    spread, ends = plan.spread, plan.needed_interval
    unit = "trials of each method" if question.unit == "trials" else question.unit
    text = (
        f"{plan.needed} {unit} detect a difference of {_points(spread.margin)} of "
        f"{spread.metric}, the margin, with power {question.power:g}"
    )
    if ends is None:
        return f"{text}."
    return f"{text}; {ends[0]} to {ends[1]} at the ends of the spread's interval."


def _joint_need(question: Question, plans: Sequence[SeedPlan]) -> list[str]:
    if len(plans) == 1:
        return []
    seeds, upper = largest_need(plans)
    ends = "" if upper is None else f", {upper} at the upper ends of the intervals"
    return [f"All {len(plans)} comparisons: {seeds} {question.unit}{ends}."]


def _caution(question: Question, plans: Sequence[SeedPlan]) -> str:
    pair_counts = [plan.spread.pairs for plan in plans if plan.spread.pairs is not None]
    least = max(EXAMPLE_SEEDS, minimum_trials(question.budget))
    n = min(pair_counts, default=least)
    low, high = sd_interval(1.0, effective_trials(n, question.budget))
    hint = "" if pair_counts else ", which --sd-seeds N takes into account"
    return (
        f"A spread from few {question.unit} is uncertain: estimated from {n}, the true spread is "
        f"{low:.2f} to {high:.2f} times as large (95 %, normal differences){hint}. "
        f"The need of {question.unit} grows with the square of the spread."
    )


def _points(value: float) -> str:
    return _count(f"{100 * value:.2f}".rstrip("0").rstrip("."), "point")


def _count(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _percent(share: float) -> str:
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _json_value(value: Any) -> Any:
    """Nested plain values with None for infinity."""
    if isinstance(value, dict):
        return {name: _json_value(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(entry) for entry in value]
    return None if value == math.inf else value
