"""A figure as the plain values that Plotly draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from plotly.utils import PlotlyJSONEncoder

Values = dict[str, Any]


class Drawing:
    """Made as Plotly's own figure is, by methods of the same names and with the same keywords.

    Plotly's checks and copies every value that is set, which took half the time of a large report. Here
    nothing is checked: the tests hand whole figures to `checked`. Keywords are attributes as Plotly has
    them; only those named below may be written with an underscore for a part.
    """

    def __init__(self, layout: Mapping[str, Any]) -> None:
        self._traces: list[Values] = []
        self._layout: Values = dict(layout)
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}
        self.frames: Sequence[Mapping[str, Any]] = ()
        """One for each state: what its traces have that those of the first one shown have not."""

    @property
    def height(self) -> float:
        """In pixels."""
        return float(self._layout["height"])

    def to_json(self) -> str:
        """What Plotly's script draws; numbers that are not finite become null."""
        frames = {"frames": self.frames} if self.frames else {}
        values = {"data": self._traces, "layout": self._layout, **frames}
        return json.dumps(values, cls=PlotlyJSONEncoder)

    def checked(self) -> go.Figure:
        """As Plotly's own figure. Raises ValueError for what Plotly does not know."""
        return go.Figure(json.loads(self.to_json()))

    def add_scatter(self, **trace: Any) -> None:
        """Lines or points."""
        self.add_traces([{"type": "scatter", **trace}])

    def add_bar(self, **trace: Any) -> None:
        """Bars."""
        self.add_traces([{"type": "bar", **trace}])

    def add_heatmap(self, **trace: Any) -> None:
        """Cells in colours."""
        self.add_traces([{"type": "heatmap", **trace}])

    def add_contour(self, **trace: Any) -> None:
        """A surface by its levels."""
        self.add_traces([{"type": "contour", **trace}])

    def add_traces(
        self,
        traces: Iterable[Mapping[str, Any]],
        rows: Sequence[int] | None = None,
        cols: Sequence[int] | None = None,
    ) -> None:
        """Traces with their types; among subplots each with its row and column, from 1."""
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
        """Set parts of the layout; what is not named stays."""
        self._layout = _merged(self._layout, values)

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
        named = {} if title is None else {"title": {"text": title}}
        for (own_row, own_column), axes in cells.items():
            if row in (None, own_row) and col in (None, own_column):
                self.update_layout(**{axes[kind == "yaxis"]: {**values, **named}})

    def add_shape(self, **shape: Any) -> None:
        """A line or an area."""
        self._layout.setdefault("shapes", []).append(shape)

    def add_annotation(self, **annotation: Any) -> None:
        """A text."""
        self._layout.setdefault("annotations", []).append(annotation)

    def update_annotations(self, *, font_size: float) -> None:
        """Set the size of all texts that there are."""
        for annotation in self._layout.get("annotations", ()):
            annotation.update(_merged(annotation, {"font": {"size": font_size}}))

    def add_vline(self, x: float, *, line_width: float, line_dash: str, line_color: str) -> None:
        """A vertical line over the whole height."""
        line = {"width": line_width, "dash": line_dash, "color": line_color}
        self.add_shape(type="line", x0=x, x1=x, xref="x", y0=0, y1=1, yref="y domain", line=line)

    def add_hline(self, y: float, *, line_width: float, line_dash: str, line_color: str) -> None:
        """A horizontal line over the whole width."""
        line = {"width": line_width, "dash": line_dash, "color": line_color}
        self.add_shape(type="line", y0=y, y1=y, yref="y", x0=0, x1=1, xref="x domain", line=line)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Values:
    """`old` with the entries of `new`, and so in what both have a mapping for."""
    both = {
        name: _merged(old[name], value)
        for name, value in new.items()
        if isinstance(value, Mapping) and isinstance(old.get(name), Mapping)
    }
    return {**old, **new, **both}


@cache
def _grid(rows: int, cols: int, options: str) -> tuple[dict[tuple[int, int], tuple[str, str]], str]:
    """The axes of each cell and the layout, options and layout as JSON: it takes Plotly a tenth of a
    second, and every task has the same grids."""
    grid = make_subplots(rows, cols, **json.loads(options))
    cells = {}
    for cell in product(range(1, rows + 1), range(1, cols + 1)):
        axes = grid.get_subplot(*cell)
        cells[cell] = (axes.xaxis.plotly_name, axes.yaxis.plotly_name)
    layout = grid.to_plotly_json()["layout"]
    layout.pop("template")
    return cells, json.dumps(layout, cls=PlotlyJSONEncoder)
