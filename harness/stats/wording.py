"""Numbers in words for the sentences of verdicts: points, intervals, failures."""

import math


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
