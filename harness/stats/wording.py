"""Numbers as verdicts write them: signed points, intervals, amounts."""

import math


def signed(value: float, points: float) -> str:
    """A signed number of points; zero has no minus sign."""
    return f"{round(points * value, 2) + 0.0:+.2f}"


def amount(value: float, points: float) -> str:
    """An unsigned number of points in words."""
    shown = f"{round(points * value, 2):g}"
    return f"{shown} point{'' if shown == '1' else 's'}"


def interval(low: float, high: float, confidence: float, points: float) -> str:
    """An interval with its confidence; in words where it is unbounded."""
    level = f"{100 * confidence:.4g}% interval"
    if math.isinf(low) and math.isinf(high):
        return f"{level} unbounded"
    ends = ["unbounded" if math.isinf(end) else signed(end, points) for end in (low, high)]
    return f"{level} {ends[0]} to {ends[1]}"


def losses(name: str, failed: int, unit: str = "seeds") -> str:
    """The pairs that are left out because a method's run failed; empty without one."""
    if not failed:
        return ""
    return f"; {failed} {unit if failed > 1 else unit[:-1]} left out as {name}'s run failed"
