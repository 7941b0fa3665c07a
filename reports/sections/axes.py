"""Axes: the scores of every method in every cell, and how they change along each axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.axes import axis_names, score_interval
from harness.analysis.comparison import Comparison
from harness.axis_names import short_names, value_text, values_in_words
from harness.storage.manifest import AxisContrast, Grid
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, method_key, panel
from reports.kit.canvas import blank_figure, by_method, line, marker, safe
from reports.kit.display import JointColumn, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

DODGE = 0.012
"""The distance between the marks of two methods, as a share of the axis."""
TEACHER_COLOUR = "#888888"


def cells_frame(evidence: Evidence) -> pd.DataFrame:
    """One row per task, cell and method: a column for each axis, scores and differences in points.

    `low` and `high` are the ends of the score's interval, for this method alone; `difference` to the
    baseline has the interval that decides, and a p value that is adjusted over the family of all cells.
    """
    grid = _grid(evidence)
    confidence = 1 - evidence.manifest.alpha
    comparisons = {(c.task, c.method): c for c in evidence.result.comparisons}
    rows = []
    for result in evidence.result.results:
        interval = score_interval(result, confidence)
        comparison = comparisons.get((result.task, result.method))
        rows.append(
            {
                "task": grid.places[result.task].task,
                **grid.values_of(result.task),
                "method": result.method,
                "metric": result.metric,
                "points": POINTS * result.mean,
                "low": np.nan if interval is None else POINTS * interval.low,
                "high": np.nan if interval is None else POINTS * interval.high,
                "teacher": evidence.teacher_score(result.task),
                **_difference(comparison),
            }
        )
    return pd.DataFrame(rows)


def _difference(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        missing = ("difference", "difference_low", "difference_high", "adjusted_p")
        return {**dict.fromkeys(missing, np.nan), "outcome": ""}
    p = comparison.adjusted_p
    return {
        "difference": POINTS * comparison.difference.mean,
        "difference_low": POINTS * comparison.decided_by.interval.low,
        "difference_high": POINTS * comparison.decided_by.interval.high,
        "adjusted_p": np.nan if p is None else p,
        "outcome": comparison.verdict.outcome,
    }


def along_frame(evidence: Evidence) -> pd.DataFrame:
    """One row per comparison along an axis: the difference in points, `value` minus `reference`."""
    grid = _grid(evidence)
    by_name = {(c.task, c.method, c.baseline): c for c in evidence.result.along_axes}
    rows = []
    for contrast in grid.family:
        names = axis_names(grid, contrast)
        rows.append(
            {
                "task": names.task,
                "axis": contrast.axis,
                "method": contrast.method,
                "value": _side(grid, contrast, contrast.subject),
                "reference": _side(grid, contrast, contrast.reference),
                **_difference(by_name.get((names.task, names.method, names.baseline))),
            }
        )
    columns = ["task", "axis", "method", "value", "reference", *_difference(None)]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _side(grid: Grid, contrast: AxisContrast, task: str) -> str:
    return value_text(grid.values_of(task)[contrast.axis])


def _ends_text(low: float, high: float) -> str:
    if not np.isfinite([low, high]).all():
        return display.interval_text(low, high)
    return f"{number(2)(low)} to {number(2)(high)}"


def axis_figure(frame: pd.DataFrame, axis: str, styles: Styles, metric: str) -> Drawing:
    """Scores against an axis of numbers: a line with intervals per method, and the teacher's line.

    From rows of `cells_frame` that differ in this axis alone.
    """
    figure = blank_figure(height=380, y_title=f"{metric}, points")
    values = sorted(frame[axis].unique().tolist())
    teachers = frame.drop_duplicates(axis).set_index(axis)["teacher"]
    figure.add_scatter(
        x=values, y=[float(teachers[value]) for value in values], mode="lines",
        line={"color": TEACHER_COLOUR, "width": 2, "dash": "dash"}, hoverinfo="text",
        hovertext=[f"teacher: {teachers[value]:.2f}" for value in values],
    )  # fmt: skip
    methods = list(by_method(frame.sort_values(axis, kind="stable")))
    step = DODGE * (values[-1] - values[0])
    for place, (method, rows) in enumerate(methods):
        shift = step * (place - (len(methods) - 1) / 2)
        scores = rows["points"]
        figure.add_scatter(
            x=[value + shift for value in rows[axis].tolist()], y=scores.tolist(),
            mode="lines+markers", line=line(styles[method], 2), marker=marker(styles[method], 8),
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
                "color": styles[method].colour,
                "array": _lengths(rows["high"] - scores),
                "arrayminus": _lengths(scores - rows["low"]),
            },
            hoverinfo="text", meta=safe(method),
            hovertext=[
                f"{safe(method)}, {row[axis]}: {row['points']:.2f} "
                f"({_ends_text(row['low'], row['high'])})"
                for row in rows.to_dict("records")
            ],
        )  # fmt: skip
    figure.update_xaxes(title_text=safe(axis), tickvals=values)
    return figure


def _lengths(column: pd.Series[float]) -> list[float]:
    """The lengths of bars; none where an interval is unbounded or missing."""
    return [value if np.isfinite(value) else 0.0 for value in column.tolist()]


def axes_blocks(evidence: Evidence, styles: Styles) -> Iterable[Block]:
    """The table of all cells, a block of figures for each task, and the differences along the axes."""
    grid = evidence.manifest.grid
    if grid is None:
        return
    cells, along = cells_frame(evidence), along_frame(evidence)
    yield Block("All cells", tables=(_cells_table(cells, grid, styles),))
    for task, rows in cells.groupby("task", sort=False):
        yield Block(str(task), panels=tuple(_panels(rows, grid, styles)))
    yield Block(
        "Differences along the axes",
        notes=(
            f"{len(grid.family)} comparisons, a family of their own at level "
            f"{evidence.manifest.alpha:g}: each method against itself, the value minus the reference.",
        ),
        tables=(_along_table(along, styles),),
    )


def _panels(rows: pd.DataFrame, grid: Grid, styles: Styles) -> Iterable[Panel]:
    for axis in grid.axes:
        if not _is_numeric(grid, axis):
            continue
        others = [key for key in grid.axes if key != axis]
        groups: Mapping[str, pd.DataFrame] = (
            {
                _others_text(part.iloc[0], others): part
                for _, part in rows.groupby([_texts(rows[key]) for key in others], sort=False)
            }
            if others
            else {"": rows}
        )
        for words, part in groups.items():
            if part[axis].nunique() < 2 or not part["points"].notna().any():
                continue
            caption = f"Score by {axis}" + (f", {words}" if words else "")
            alt = "; ".join(
                f"{method}: "
                + ", ".join(f"{row['points']:.2f} at {row[axis]}" for row in of.to_dict("records"))
                for method, of in by_method(part)
            )
            figure = axis_figure(part, axis, styles, str(part["metric"].iloc[0]))
            yield panel(caption, alt, figure, part, method_key(styles, part["method"]))


def _others_text(row: pd.Series[Any], others: list[str]) -> str:
    return values_in_words({key: row[key] for key in others})


def _texts(column: pd.Series[Any]) -> pd.Series[str]:
    """Values as texts: lists cannot be grouped."""
    return column.map(value_text)


def _cells_table(cells: pd.DataFrame, grid: Grid, styles: Styles) -> display.Table:
    names = dict(zip(grid.axes, short_names(list(grid.axes)), strict=True))
    axes: dict[str, Any] = {
        key: (name, number_text if _is_numeric(grid, key) else None) for key, name in names.items()
    }
    columns: display.Columns = {
        "task": ("task", None),
        **axes,
        "method": ("method", None),
        "metric": ("metric", None),
        "points": ("score, points", number(2)),
        "low": ("interval of the score", JointColumn(("high",), ("low", "high"), _ends_text)),
        "teacher": ("teacher, points", number(2)),
        "difference": ("difference to the baseline, points", display.signed_text),
        "difference_low": ("interval", _DIFFERENCE_INTERVAL),
        "adjusted_p": ("adjusted p", display.p_text),
        "outcome": ("verdict", None),
    }
    texts = {key: cells[key].map(value_text) for key in axes if not _is_numeric(grid, key)}
    return display.table("Scores by task, cell and method", cells.assign(**texts), columns, styles)


def _along_table(along: pd.DataFrame, styles: Styles) -> display.Table:
    columns: display.Columns = {
        "task": ("task", None),
        "axis": ("axis", None),
        "method": ("method", None),
        "value": ("value", None),
        "reference": ("reference", None),
        "difference": ("difference, points", display.signed_text),
        "difference_low": ("interval", _DIFFERENCE_INTERVAL),
        "adjusted_p": ("adjusted p", display.p_text),
        "outcome": ("verdict", None),
    }
    return display.table("Differences along the axes", along, columns, styles)


_DIFFERENCE_INTERVAL = JointColumn(("difference_high",), ("low", "high"), display.interval_text)


def number_text(value: float) -> str:
    """An axis's number as the command has it."""
    return f"{value:g}"


def _is_numeric(grid: Grid, key: str) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in grid.axes[key]
    )


def _grid(evidence: Evidence) -> Grid:
    assert evidence.manifest.grid is not None
    return evidence.manifest.grid


SECTION = Section(
    anchor="axes",
    title="Axes",
    reading=(
        "Each row of the table is one method in one cell, a combination of the axes' values. The "
        "figures show scores along an axis of numbers, with intervals; the dashed line is the teacher."
    ),
    details=(
        "The differences to the baseline, and their p values, are those of the verdicts: all cells are "
        "one family. The interval of a score is Student's, over seeds, or over trials by the jackknife. "
        "It is for this method in this cell alone, and two methods whose intervals overlap may well "
        "differ: their runs are paired. A difference along an axis is of one method with two values of "
        "the axis, paired in the same way. The comparisons along the axes are a second family with a "
        "level of its own. In figures, the methods stand beside each other to be seen."
    ),
    maker=axes_blocks,
    part="evidence",
)
