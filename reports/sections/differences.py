"""Differences: each comparison's mean with the interval that decided, and other intervals on request."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.choices import Choice, add_states
from reports.kit.display import Columns, JointColumn, Table, number
from reports.kit.drawing import Drawing
from reports.kit.palette import SIGNS, Styles

COLUMNS = [
    "method", "baseline", "mean", "low", "high", "confidence", "single_low", "single_high",
    "crossed_low", "crossed_high", "runs", "adjusted_p", "equivalence_p", "detectable", "margin",
    "outcome",
]  # fmt: skip
ENDS = ["low", "high", "single_low", "single_high", "crossed_low", "crossed_high"]
CHOICE = Choice("Intervals", ("what decides", "also unadjusted, and over new examples"))
MUTED = "#7d8894"
OUTLINE = "#ffffff"
"""Lines that belong to no method; legible on white and on near-black."""


def differences(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per comparison, the greatest difference first; in points.

    `low` and `high` are the interval of the test that gave the verdict, at the level `1 - confidence`.
    The `single` interval is that of the same method's test of a difference for this comparison alone,
    the `crossed` one is over new examples too. Ends are infinite if too few runs leave them unbounded,
    and NaN if there are no predictions to resample. `detectable` is the smallest difference that is
    found in four of five cases. P values are adjusted, and NaN where runs were added until a decision.
    """
    rows = []
    for comparison in evidence.comparisons(task):
        decided, crossed = comparison.decided_by, comparison.over_examples
        crossed_ends = (crossed.low, crossed.high) if crossed else (np.nan, np.nan)
        detectable = comparison.detectable_difference
        tested = comparison.stopping is None
        rows.append(
            (
                comparison.method,
                comparison.baseline,
                POINTS * comparison.difference.mean,
                *(POINTS * end for end in decided.interval),
                decided.confidence,
                *(POINTS * end for end in comparison.interval),
                *(POINTS * end for end in crossed_ends),
                comparison.difference.n,
                np.nan if comparison.adjusted_p is None else comparison.adjusted_p,
                comparison.equivalence_p if tested else np.nan,
                np.nan if detectable is None else POINTS * detectable,
                POINTS * comparison.margin,
                comparison.verdict.outcome,
            )
        )
    frame = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    return frame.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def forest_figure(frame: pd.DataFrame, styles: Styles) -> Drawing:
    """A row per comparison: the interval that decided, the margin as a band. From `differences`.

    In the second state of `CHOICE` the other two intervals lie below it.
    """
    figure = blank_figure(height=110 + 34 * len(frame), y_title=None)
    margin = float(frame["margin"].iloc[0])
    figure.add_shape(
        type="rect", x0=-margin, x1=margin, xref="x", y0=0, y1=1, yref="paper", layer="below",
        line={"width": 1, "dash": "dot", "color": MUTED}, fillcolor="rgba(125,136,148,0.18)",
    )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_dash="solid", line_color=MUTED)
    all_ends = frame[["mean", *ENDS]].to_numpy()
    finite_ends = np.append(all_ends[np.isfinite(all_ends)], [-margin, margin])
    space = 0.05 * float(np.ptp(finite_ends))
    edges = [float(finite_ends.min()) - space, float(finite_ends.max()) + space]
    traces: list[dict[str, Any]] = []
    shown: list[list[dict[str, Any]]] = [[], []]
    rows = frame.to_dict("records")
    for y, row in enumerate(rows):
        style = styles[row["method"]]
        for name, offset, width, dash in (
            ("", 0.0, 5, "solid"),
            ("single_", 0.22, 2, "solid"),
            ("crossed_", 0.34, 2, "dot"),
        ):
            low, high = row[f"{name}low"], row[f"{name}high"]
            if np.isnan(low):
                continue
            ends = [max(low, edges[0]), min(high, edges[1])]
            traces.append(
                {
                    "type": "scatter", "y": [y + offset] * 2, "mode": "lines", "hoverinfo": "skip",
                    "line": {"color": style.colour if not name else MUTED, "width": width, "dash": dash},
                }
            )  # fmt: skip
            for state, values in enumerate(shown):
                values.append({"x": ends if not name or state else [None, None]})
        traces.append(
            {
                "type": "scatter", "y": [y], "mode": "markers",
                # The outline sets the mark off from the bar of the same colour.
                "marker": {**marker(style, 13), "line": {"width": 1.5, "color": OUTLINE}},
                "hoverinfo": "text", "hovertext": [_hover_text(row)],
            }
        )  # fmt: skip
        for values in shown:
            values.append({"x": [row["mean"]]})
    add_states(figure, traces, shown, 0)
    labels = [f"{SIGNS[row['outcome']]} {safe(row['method'])}" for row in rows]
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6]
    )
    baselines = " or ".join(dict.fromkeys(map(safe, frame["baseline"])))
    figure.update_xaxes(
        title_text=f"difference to {baselines}, points",
        range=edges,
    )
    return figure


def _hover_text(row: Mapping[Hashable, Any]) -> str:
    new_examples = display.interval_text(row["crossed_low"], row["crossed_high"])
    if np.isnan(row["crossed_low"]):
        new_examples = "no predictions stored"
    lines = [
        f"{safe(row['method'])} against {safe(row['baseline'])}: {row['mean']:+.2f} points, "
        f"{row['outcome']}",
        f"decides: {100 * row['confidence']:.4g} % {display.interval_text(row['low'], row['high'])}",
        f"alone: {display.interval_text(row['single_low'], row['single_high'])}",
        f"over new examples: {new_examples}",
    ]
    return "<br>".join(lines)


def differences_display(frame: pd.DataFrame, styles: Styles, unit: str) -> Table:
    """Print `differences`; a column that has no number is left out."""
    columns: Columns = {
        "method": ("method", None),
        "baseline": ("against", None),
        "crossed_low": ("over new examples, points", _CROSSED),
        "adjusted_p": ("p, adjusted", display.p_text),
        "equivalence_p": ("p of equivalence, adjusted", display.p_text),
        "detectable": ("found in 4 of 5 cases, points", number(2)),
        "runs": (f"{unit}s", number(0)),
    }
    has_numbers = {name: frame[name].notna().any() for name in columns}
    columns = {name: column for name, column in columns.items() if has_numbers[name]}
    return display.table("Further numbers of each difference", frame, columns, styles)


_CROSSED = JointColumn(("crossed_high",), ("low", "high"), display.interval_text)


def differences_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The task's comparisons as a forest plot, and a table of further numbers."""
    frame = differences(evidence, task)
    if frame.empty:
        return Block("")
    alt = "; ".join(
        f"{row['method']} minus {row['baseline']}: {row['mean']:+.2f} points, "
        f"{display.interval_text(row['low'], row['high'])}, {row['outcome']}"
        for row in frame.to_dict("records")
    )
    caption = f"Differences in {evidence.metric(task)}, with what decides"
    forest = panel(caption, alt, forest_figure(frame, styles), frame, (), CHOICE)
    table = differences_display(frame, styles, evidence.manifest.unit)
    return Block(evidence.task_label(task), panels=(forest,), tables=(table,))


SECTION = Section(
    anchor="differences",
    title="Differences",
    reading=(
        "Each row is a method minus its baseline. The bar is the interval that decided, as in the table "
        "above, and the band is the margin. Better and worse exclude zero; equivalent lies within the "
        "band."
    ),
    details=(
        "The list shows two further intervals: of the same test for this comparison alone (thin), and "
        "over new examples too, adjusted for all comparisons (dotted). A bar that reaches the edge goes "
        "on: too few runs leave it unbounded. Runs that failed on the favoured side take a verdict "
        "away, which no bar shows. If seeds or trials were added until a decision, the bar is the "
        "repeated interval, which holds after every look, and of an equivalence that of its two "
        "one-sided tests at all looks; the dotted bar is not corrected for looks. Student's t, BCa "
        "intervals, signed ranks, effect sizes, the test of normality and Benjamini-Hochberg's p are in "
        "comparisons.csv beside this page."
    ),
    maker=by_task(differences_block),
    part="evidence",
)
