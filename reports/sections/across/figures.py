"""Figures of several methods and tasks in one view, from the frames of `numbers`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.kit.canvas import band, blank_figure, by_method, line, marker, safe
from reports.kit.drawing import Drawing
from reports.kit.palette import Style, Styles

GREY = "#888888"


def ranks_figure(
    ranks: pd.DataFrame, groups: pd.DataFrame, critical: float, styles: Styles
) -> Drawing:
    """Critical-difference diagram. From `rank_table`, `rank_groups` and the critical difference.

    From the top: a bar as long as the critical difference, a bar per group, and a row per method.
    """
    figure = blank_figure(height=110 + 30 * (len(ranks) + len(groups) + 1), y_title=None)
    labels = ["critical difference", *["not told apart"] * len(groups)]
    bars = [(1.0, 1.0 + critical, f"critical difference: {critical:.2f}")]
    bars += [
        (row["low"], row["high"], f"not told apart: {safe(row['methods'])}")
        for row in groups.to_dict("records")
    ]
    for y, (low, high, hover) in enumerate(bars):
        figure.add_scatter(
            x=[low, high], y=[y, y], mode="lines+markers", hoverinfo="text", hovertext=[hover] * 2,
            marker={"symbol": "line-ns-open", "size": 9, "color": GREY},
            line={"color": GREY, "width": 2 if y == 0 else 6},
        )  # fmt: skip
    for y, row in enumerate(ranks.to_dict("records"), start=len(bars)):
        labels.append(safe(row["method"]))
        figure.add_scatter(
            x=[row["average_rank"]], y=[y], mode="markers", hoverinfo="text",
            marker=marker(styles[row["method"]], 13),
            hovertext=[f"{safe(row['method'])}: average rank {row['average_rank']:.2f}"],
        )  # fmt: skip
    figure.update_xaxes(
        title_text="average rank, 1 is best",
        range=[0.8, max(float(len(ranks)), 1.0 + critical) + 0.2],
    )
    return _label_rows(figure, labels)


def profile_figure(frame: pd.DataFrame, styles: Styles, unit: str) -> Drawing:
    """Performance profiles: a line and a band per method. From `profile_frame`."""
    figure = blank_figure(height=340, y_title="runs above, %")
    for method, rows in by_method(frame):
        style, levels = styles[method], rows["threshold"].tolist()
        ends = (rows[name].tolist() for name in ("low", "high"))
        figure.add_traces([band(method, style, levels, *ends)])
        hover = [
            f"{safe(method)}: {row['percent']:.0f} % of runs above {row['threshold']:.1f} "
            f"({row['low']:.0f} to {row['high']:.0f})"
            for row in rows.to_dict("records")
        ]
        figure.add_scatter(
            x=levels, y=rows["percent"].tolist(), mode="lines", line=line(style, 2),
            hoverinfo="text", hovertext=hover, meta=safe(method),
        )  # fmt: skip
    figure.update_xaxes(title_text=f"score, {unit}")
    figure.update_yaxes(range=[-3, 103])
    return figure


def improvement_figure(frame: pd.DataFrame, baseline: str, styles: Styles) -> Drawing:
    """Probability of improvement over the baseline, with its interval. From `aggregate_table`."""
    challengers = frame.dropna(subset="improvement")
    figure = blank_figure(height=110 + 40 * len(challengers), y_title=None)
    for y, row in enumerate(challengers.to_dict("records")):
        ends = [row["improvement_low"], row["improvement_high"]]
        hover = (
            f"{safe(row['method'])}: {row['improvement']:.0f} % ({ends[0]:.0f} to {ends[1]:.0f})"
        )
        _interval(figure, row["improvement"], ends, y, styles[row["method"]], hover)
    figure.add_vline(x=50, line_width=1, line_dash="dash", line_color=GREY)
    figure.update_xaxes(
        title_text=safe(f"chance of a run above {baseline}, %"),
        range=[-3, 103],
    )
    return _label_rows(figure, [safe(method) for method in challengers["method"]])


def effects_figure(frame: pd.DataFrame, styles: Styles) -> Drawing:
    """Forest plot: each method's random effect, and small marks for tasks. From `effect_frame`."""
    rows = frame[frame["kind"].isin(["task", "random"])]
    pairs = list(dict.fromkeys(zip(rows["method"], rows["baseline"], strict=True)))
    figure = blank_figure(height=110 + 64 * len(pairs), y_title=None)
    for row in rows.to_dict("records"):
        y, style = pairs.index((row["method"], row["baseline"])), styles[row["method"]]
        name = safe(row["task"]) if row["kind"] == "task" else "random effect"
        hover = (
            f"{safe(row['method'])}, {name}: {row['mean']:+.1f} "
            f"({row['low']:+.1f} to {row['high']:+.1f}), {row['pairs']} pairs"
        )
        if row["kind"] == "random":
            _interval(figure, row["mean"], [row["low"], row["high"]], y, style, hover)
        else:
            figure.add_scatter(
                x=[row["mean"]], y=[y + 0.3], mode="markers", opacity=0.6,
                marker=marker(style, 7), hoverinfo="text", hovertext=[hover],
            )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color=GREY)
    ends = np.append(rows.loc[rows["kind"] == "random", ["low", "high"]], rows["mean"])
    low, high = min(0.0, float(ends.min())), max(0.0, float(ends.max()))
    margin = 0.05 * (high - low) or 1.0
    figure.update_xaxes(title_text="difference, % of the gap", range=[low - margin, high + margin])
    return _label_rows(figure, [f"{safe(m)}<br>vs {safe(b)}" for m, b in pairs])


def _interval(
    figure: Drawing, value: float, ends: Sequence[float], y: float, style: Style, hover: str
) -> None:
    """A thick bar with the value's mark on it."""
    figure.add_scatter(
        x=list(ends), y=[y, y], mode="lines", hoverinfo="skip",
        line={"color": style.colour, "width": 5},
    )  # fmt: skip
    figure.add_scatter(
        x=[value], y=[y], mode="markers", marker=marker(style, 13), hoverinfo="text",
        hovertext=[hover],
    )  # fmt: skip


def _label_rows(figure: Drawing, labels: Sequence[str]) -> Drawing:
    """Labels down the y axis, the first at the top."""
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=list(labels), range=[len(labels) - 0.4, -0.6]
    )
    return figure
