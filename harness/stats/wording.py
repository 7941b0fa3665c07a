"""Words for the sentences of verdicts: points, intervals, failures, subjects."""

import math
from typing import NamedTuple


def signed_points(value: float, points: float) -> str:
    """A signed number of points; zero has no minus sign."""
    return f"{round(points * value, 2) + 0.0:+.2f}"


def unsigned_points(value: float, points: float) -> str:
    """A number of points without a plus sign, with the unit."""
    number = f"{round(points * value, 2):g}"
    return f"{number} point{'' if number == '1' else 's'}"


def interval(low: float, high: float, confidence: float, points: float) -> str:
    """An interval with its confidence; an infinite end is "unbounded"."""
    level = f"{100 * confidence:.4g}% interval"
    if math.isinf(low) and math.isinf(high):
        return f"{level} unbounded"
    ends = ["unbounded" if math.isinf(end) else signed_points(end, points) for end in (low, high)]
    return f"{level} {ends[0]} to {ends[1]}"


def losses(name: str, failures: int, unit: str = "seeds") -> str:
    """The clause on pairs without a score because the method's run failed; empty without failures."""
    if not failures:
        return ""
    return f"; {failures} {unit if failures > 1 else unit[:-1]} left out as {name}'s run failed"


class Subjects(NamedTuple):
    """The subjects of a claim: methods that are tuned with a budget, or two settings."""

    method: str
    baseline: str
    budget: int | None

    @property
    def opening(self) -> str:
        """The first words of a sentence on two settings; empty for methods."""
        return "These two settings: " if self.budget is None else ""

    def different(self, outcome: str, task: str) -> str:
        """The claim that one side is better or worse."""
        return f"{self._tuning}{self._sides[0]} is {outcome} than {self._sides[1]} on {task}"

    def equivalent(self, task: str) -> str:
        """The claim that both sides are equivalent."""
        sides = f"{self.method} and {self.baseline}"
        if self.budget is None:
            sides = f"the settings of {sides}"
        return f"{self._tuning}{sides} are equivalent on {task}"

    def undecided(self, task: str) -> str:
        """The clause that nothing is decided."""
        method, baseline = self._sides
        side = method if self.budget is None else f"{method}, {self._tuning}".rstrip()
        return f"whether {side} is better or worse than {baseline} on {task} is not decided"

    @property
    def _sides(self) -> tuple[str, str]:
        if self.budget is None:
            return f"the setting of {self.method}", f"the setting of {self.baseline}"
        return self.method, self.baseline

    @property
    def _tuning(self) -> str:
        if self.budget is None:
            return ""
        return f"tuned with {self.budget} trial{'' if self.budget == 1 else 's'}, "
