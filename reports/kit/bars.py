"""Intervals as small drawings in table cells: inline SVG that needs no script."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

REACH, SHARE = 10.0, 0.9
"""A scale ends at so many margins on either side of zero, or reaches this share of the values if that is
further. A bar that goes on has an arrow."""
SPACE = 1.05
"""A scale reaches so many times as far as its values."""
LEAST = 1.5
"""The least margins on either side of zero."""


@dataclass(frozen=True)
class Scale:
    """The horizontal scale of the bars of one table, in points; zero and both margins lie within."""

    low: float
    high: float
    margin: float

    def place(self, value: float) -> float:
        """The place of a value from 0 to 100; values outside of the scale lie at its ends."""
        clipped = min(max(value, self.low), self.high)
        return round(100 * (clipped - self.low) / (self.high - self.low), 2)


def scale_of(values: Iterable[float], margin: float) -> Scale:
    """The scale for values in points, of which some may be infinite or NaN."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    usual = float(np.quantile(np.abs(finite), SHARE)) if finite else 0.0
    least, most = LEAST * margin, max(REACH * margin, SPACE * usual)
    return Scale(-min(max(-SPACE * low, least), most), min(max(SPACE * high, least), most), margin)


def interval_bar(scale: Scale, mean: float, low: float, high: float) -> Markup:
    """The bar of an interval over the band of the margin and the line of zero, with a dot at the mean.

    All numbers are in points. The cell's text has them too, so programs that read pages skip the bar.
    """
    left, right, dot = scale.place(low), scale.place(high), scale.place(mean)
    shapes = [*_ground(scale), f'<line class="range" x1="{left}%" x2="{right}%" y1="9" y2="9"/>']
    if low < scale.low:
        shapes.append('<path class="end" d="M0 9l7-5v10z"/>')
    if high > scale.high:
        shapes.append('<svg class="at" x="100%"><path class="end" d="M0 9l-7-5v10z"/></svg>')
    shapes.append(f'<circle class="mean" cx="{dot}%" cy="9" r="4"/>')
    return _drawing(shapes)


def empty_bar(scale: Scale) -> Markup:
    """The band of the margin and the line of zero alone, for the baseline."""
    return _drawing([*_ground(scale)])


def axis(scale: Scale) -> Markup:
    """The numbers of the scale: its ends and zero."""
    zero = scale.place(0.0)
    texts = [f'<text x="{zero}%" y="11" text-anchor="middle">0</text>']
    if zero > 30:
        texts.append(f'<text x="0" y="11">{scale.low:.1f}</text>'.replace("-", "\N{MINUS SIGN}"))
    if zero < 70:
        texts.append(f'<text x="100%" y="11" text-anchor="end">+{scale.high:.1f}</text>')
    return _drawing(texts)


def _ground(scale: Scale) -> Iterable[str]:
    left, right = scale.place(-scale.margin), scale.place(scale.margin)
    yield f'<rect class="band" x="{left}%" width="{round(right - left, 2)}%" height="18"/>'
    for place in (left, right):
        yield f'<line class="edge" x1="{place}%" x2="{place}%" y2="18"/>'
    zero = scale.place(0.0)
    yield f'<line class="zero" x1="{zero}%" x2="{zero}%" y2="18"/>'


def _drawing(shapes: Iterable[str]) -> Markup:
    body = "".join(shapes)
    return Markup(f'<svg class="bar-cell" aria-hidden="true">{body}</svg>')  # noqa: S704 - numbers
