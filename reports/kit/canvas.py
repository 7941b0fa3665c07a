"""The parts that all figures share: an empty canvas, the methods' lines and markers, safe texts.

The page sets the colours of text and grid, for its light and its dark theme. Names from the ledger are
escaped, because Plotly reads markup in texts; hover texts are never templates.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from reports.kit.drawing import Drawing
from reports.kit.palette import Style

_BLANK = {"layout": {"colorway": ["#0072B2"]}}


def by_pair(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Each comparison's method and baseline with its rows, in order of appearance."""
    for (method, baseline), rows in frame.groupby(["method", "baseline"], sort=False):
        yield (str(method), str(baseline)), rows


def by_method(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each method with its rows, in order of appearance."""
    for method, rows in frame.groupby("method", sort=False):
        yield str(method), rows


def blank_figure(height: int, y_title: str | None) -> Drawing:
    """A transparent figure without a legend, `height` pixels high; the page prints the key."""
    axis = {"automargin": True, "zeroline": False}
    title = {} if y_title is None else {"title": {"text": safe(y_title)}}
    return Drawing(
        {
            "template": _BLANK,
            "height": height,
            "margin": {"l": 56, "r": 12, "t": 14, "b": 48},
            "showlegend": False,
            "dragmode": False,
            "hovermode": "closest",
            "hoverlabel": {"align": "left"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#888888"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis | title,
        }
    )


def line(style: Style, width: float) -> dict[str, Any]:
    """A Plotly line in the style, `width` pixels wide."""
    return {"color": style.colour, "width": width, "dash": style.dash}


def band(
    method: str, style: Style, x: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> dict[str, Any]:
    """A filled area between `low` and `high`, without an outline; the picker of methods knows it."""
    return {
        "type": "scatter", "x": [*x, *x[::-1]], "y": [*high, *low[::-1]], "fill": "toself",
        "fillcolor": fill_colour(style.colour), "line": {"width": 0}, "mode": "lines",
        "hoverinfo": "skip", "meta": safe(method),
    }  # fmt: skip


def marker(style: Style, size: float) -> dict[str, Any]:
    """Plotly markers in the style, `size` pixels wide."""
    return {"color": style.colour, "symbol": style.symbol, "size": size}


def safe(text: object) -> str:
    """A text escaped for Plotly, which reads some HTML in texts."""
    return html.escape(str(text), quote=False)


def fill_colour(colour: str) -> str:
    """The colour `#rrggbb`, transparent, for areas that lie over each other."""
    channels = (str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))
    return f"rgba({','.join(channels)},0.18)"
