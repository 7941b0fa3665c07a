"""Angles between teacher layers, as student layers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inspections import Likeness
from harness.storage.inspected import TIMES
from reports.evidence import Evidence
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure, by_method, safe
from reports.kit.choices import State, add_states, choice_of
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.sections.inside.coverage import not_recorded, of_task, pooled_states_text

RIGHT_ANGLE = 90.0
"""Degrees: a smaller angle is acute."""
GREY = "#888888"
BAR: dict[str, Any] = {"type": "data", "symmetric": False, "width": 0}


def angle_frame(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method, student layer and time: the angles between pairs of teacher layers.

    `lowest`, `median`, `highest` are in degrees, `acute` is in percent of the `pairs`; NaN if any pair
    has no angle. Methods without angles are left out.
    """
    rows = []
    for method, layers in likeness.items():
        if layers.angles is None:
            continue
        for time in TIMES:
            for layer, angles in enumerate(layers.angles.values(time), start=1):
                pairs = angles[np.triu_indices(len(angles), k=1)]
                if not len(pairs):
                    continue
                acute_percent = (
                    np.nan if np.isnan(pairs).any() else 100 * (pairs < RIGHT_ANGLE).mean()
                )
                ends = (float(f(pairs)) for f in (np.min, np.median, np.max))
                row = [round(value, 1) for value in (*ends, float(acute_percent))]
                rows.append((method, layer, time, len(pairs), *row))
    names = ["method", "student_layer", "when", "pairs", "lowest", "median", "highest", "acute"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def angles_figure(angles: pd.DataFrame, styles: Styles) -> Drawing:
    """Angles between teacher layers by method, a state per student layer; the last is shown first.

    From `angle_frame`: a mark is the median, its bar goes from the lowest to the highest angle. Hollow
    marks are before training.
    """
    methods = list(dict.fromkeys(angles["method"]))
    figure = blank_figure(height=100 + 30 * len(methods), y_title=None)
    looks = [styles[method] for method in methods]
    traces = [
        {
            "type": "scatter", "mode": "markers",
            "y": [place + offset for place in range(len(methods))],
            "marker": {
                "color": [look.colour for look in looks],
                "symbol": [f"{look.symbol}{suffix}" for look in looks],
                "size": size,
            },
            "hovertemplate": f"{time}: median %{{x:.0f}}°, %{{customdata[0]:.0f}}° to "
            "%{customdata[1]:.0f}°<extra></extra>",
        }
        for time, offset, suffix, size in (("before", 0.25, "-open", 6), ("after", -0.1, "", 10))
    ]  # fmt: skip
    figure.add_vline(x=RIGHT_ANGLE, line_width=1, line_dash="dash", line_color=GREY)
    figure.update_yaxes(
        tickvals=list(range(len(methods))), ticktext=[safe(method) for method in methods],
        range=[len(methods) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    largest = max(RIGHT_ANGLE, float(angles["highest"].max(skipna=True)))
    figure.update_xaxes(title_text="angle, degrees", range=[0, largest + 5], dtick=30)
    layers = sorted(set(angles["student_layer"]))
    states = [_angle_state(angles[angles["student_layer"] == layer], methods) for layer in layers]
    return add_states(figure, traces, states, len(states) - 1)


def _angle_state(rows: pd.DataFrame, methods: Sequence[str]) -> State:
    state = []
    for time in TIMES:
        method_rows = rows[rows["when"] == time].set_index("method").reindex(list(methods))
        low, middle, high = (method_rows[name] for name in ("lowest", "median", "highest"))
        ends = {"array": _plain(high - middle), "arrayminus": _plain(middle - low)}
        width = {"thickness": 1.5 if time == "before" else 4, "color": GREY}
        state.append(
            {
                "x": _plain(middle),
                "error_x": BAR | width | ends,
                "customdata": [
                    [low, high] for low, high in zip(_plain(low), _plain(high), strict=True)
                ],
            }
        )
    return state


def _plain(values: pd.Series[float]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 1) for value in values]


def angles_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """Angles between teacher layers as student layers see them."""
    likeness = of_task(evidence.internals.likeness, task, styles)
    if not likeness:
        return not_recorded(evidence, task)
    angles = angle_frame(likeness)
    if angles.empty:
        return Block(
            evidence.task_label(task),
            ("No angles: they need equal widths of student and teacher, and two teacher layers.",),
        )
    sentence = _acute_text(angles)
    caption = f"Angles between pairs of teacher layers, {pooled_states_text(likeness)}"
    layers = [f"{layer}" for layer in sorted(set(angles["student_layer"]))]
    by_layer = panel(
        caption,
        sentence.removesuffix("."),
        angles_figure(angles, styles),
        angles,
        choice=choice_of("student layer", layers, len(layers) - 1, slider=True),
    )
    return Block(evidence.task_label(task), (sentence,), panels=(by_layer,))


def _acute_text(angles: pd.DataFrame) -> str:
    """A sentence on how many methods have acute angles after training, and the widest angle."""
    rows = angles[angles["when"] == "after"].dropna(subset="acute")
    if rows.empty:
        return "No angle could be measured after training."
    methods = [
        method for method, method_rows in by_method(rows) if (method_rows["acute"] == 100).all()
    ]
    top_row = rows.iloc[int(rows["highest"].argmax())]
    return (
        f"After training, all mean angles are acute in {len(methods)} of {rows['method'].nunique()} "
        f"methods. The widest mean is {top_row['highest']:.0f}° ({top_row['method']}, student layer "
        f"{top_row['student_layer']})."
    )


SECTION = Section(
    anchor="angles",
    title="Looking inside: angles between teacher layers",
    reading=(
        "The angle between two directions: from a student layer's state to the states of two teacher "
        "layers. Below 90° (dashed line), a step towards one teacher layer is also a step towards the "
        "other."
    ),
    details=(
        "Angles are means over examples and report runs. A mark is the median over the pairs of teacher "
        "layers, and its bar goes from the lowest to the highest pair. Hollow marks are before "
        "training. If angles are small, it matters little which teacher layer is matched; arXiv "
        "2502.04499 offers this explanation."
    ),
    maker=by_task(angles_block),
    reads_verdicts=False,
)
