"""A figure as the plain values that Plotly draws."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from plotly.utils import PlotlyJSONEncoder

Values = dict[str, Any]
_HYPHEN = re.compile(r"(?<![\w-])-(?=\d)")
"""The hyphen before a negative number, and none of a name, a date or a flag."""


def true_minus(text: str) -> str:
    """A text whose negative numbers have a minus sign in place of the hyphen."""
    return _HYPHEN.sub("\N{MINUS SIGN}", text)


class Drawing:
    """A figure built by methods with the names and keywords of Plotly's own figure.

    Plotly's figure checks and copies every value, which took half the time of a large report. A drawing
    checks no value: the tests check whole figures by `to_figure`. Keywords are Plotly's attributes; an
    underscore for a part of an attribute is allowed only in the keywords named below.
    """

    def __init__(self, layout: Mapping[str, Any]) -> None:
        self._traces: list[Values] = []
        self._layout: Values = dict(layout)
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}
        self.frames: Sequence[Mapping[str, Any]] = ()
        """For each state, the attributes of its traces that differ from the first state's."""

    @property
    def height(self) -> float:
        """The height in pixels."""
        return float(self._layout["height"])

    def to_json(self) -> str:
        """The JSON that Plotly's script draws; numbers that are not finite become null."""
        states = [{**state, "data": [*map(_printed, state["data"])]} for state in self.frames]
        frames = {"frames": states} if states else {}
        values = {"data": [*map(_printed, self._traces)], "layout": self._layout, **frames}
        return json.dumps(values, cls=PlotlyJSONEncoder)

    def to_figure(self) -> go.Figure:
        """The drawing as Plotly's own figure. Raises ValueError for an attribute unknown to Plotly."""
        return go.Figure(json.loads(self.to_json()))

    def add_scatter(self, **trace: Any) -> None:
        """Add lines or points."""
        self.add_traces([{"type": "scatter", **trace}])

    def add_bar(self, **trace: Any) -> None:
        """Add bars."""
        self.add_traces([{"type": "bar", **trace}])

    def add_traces(
        self,
        traces: Iterable[Mapping[str, Any]],
        rows: Sequence[int] | None = None,
        cols: Sequence[int] | None = None,
    ) -> None:
        """Add traces with their types; among subplots each has its row and column, from 1."""
        if rows is None or cols is None:
            self._traces += map(dict, traces)
            return
        for trace, *cell in zip(traces, rows, cols, strict=True):
            axes = (name.replace("axis", "") for name in self._cells[cell[0], cell[1]])
            self._traces.append(dict(trace) | dict(zip(("xaxis", "yaxis"), axes, strict=True)))

    def set_subplots(self, rows: int, cols: int, **options: Any) -> None:
        """Lay out a grid of plots as `plotly.subplots.make_subplots` does, with its options."""
        cells, layout = _grid(rows, cols, json.dumps(options))
        self._cells |= cells
        self.update_layout(**json.loads(layout))

    def update_layout(self, **values: Any) -> None:
        """Set parts of the layout; other parts stay."""
        self._layout = _merge(self._layout, values)

    def update_xaxes(
        self,
        *,
        title_text: str | None = None,
        row: int | None = None,
        col: int | None = None,
        **values: Any,
    ) -> None:
        """Set parts of all horizontal axes, or of those in a row or column of subplots."""
        self._update_axes("xaxis", title_text, row, col, values)

    def update_yaxes(
        self,
        *,
        title_text: str | None = None,
        row: int | None = None,
        col: int | None = None,
        **values: Any,
    ) -> None:
        """Set parts of all vertical axes, or of those in a row or column of subplots."""
        self._update_axes("yaxis", title_text, row, col, values)

    def _update_axes(
        self, kind: str, title: str | None, row: int | None, col: int | None, values: Values
    ) -> None:
        cells = self._cells or {(1, 1): ("xaxis", "yaxis")}
        titles = {} if title is None else {"title": {"text": title}}
        for (cell_row, cell_column), axes in cells.items():
            if row in (None, cell_row) and col in (None, cell_column):
                self.update_layout(**{axes[kind == "yaxis"]: {**values, **titles}})

    def add_shape(self, **shape: Any) -> None:
        """Add a line or an area."""
        self._layout.setdefault("shapes", []).append(shape)

    def update_annotations(self, *, font_size: float) -> None:
        """Set the font size of all annotations so far."""
        for annotation in self._layout.get("annotations", ()):
            annotation.update(_merge(annotation, {"font": {"size": font_size}}))

    def add_vline(self, x: float, *, line_width: float, line_dash: str, line_color: str) -> None:
        """Add a vertical line over the whole height."""
        line = {"width": line_width, "dash": line_dash, "color": line_color}
        self.add_shape(type="line", x0=x, x1=x, xref="x", y0=0, y1=1, yref="y domain", line=line)

    def add_hline(self, y: float, *, line_width: float, line_dash: str, line_color: str) -> None:
        """Add a horizontal line over the whole width."""
        line = {"width": line_width, "dash": line_dash, "color": line_color}
        self.add_shape(type="line", y0=y, y1=y, yref="y", x0=0, x1=1, xref="x domain", line=line)


def _printed(trace: Mapping[str, Any]) -> Mapping[str, Any]:
    """A trace whose hover texts have minus signs."""
    texts = trace.get("hovertext")
    if texts is None:
        return trace
    return {**trace, "hovertext": [*map(true_minus, texts)]}


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Values:
    """`values` with the entries of `changes`; mappings that stand in both are merged the same way."""
    parts = {
        name: _merge(values[name], value)
        for name, value in changes.items()
        if isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
    }
    return {**values, **changes, **parts}


@cache
def _grid(rows: int, cols: int, options: str) -> tuple[dict[tuple[int, int], tuple[str, str]], str]:
    """The axes of each cell and the layout as JSON, for options as JSON.

    Plotly takes a tenth of a second to lay out a grid, and every task has the same grids.
    """
    grid = make_subplots(rows, cols, **json.loads(options))
    cells = {}
    for cell in product(range(1, rows + 1), range(1, cols + 1)):
        axes = grid.get_subplot(*cell)
        cells[cell] = (axes.xaxis.plotly_name, axes.yaxis.plotly_name)
    layout = grid.to_plotly_json()["layout"]
    layout.pop("template")
    return cells, json.dumps(layout, cls=PlotlyJSONEncoder)
