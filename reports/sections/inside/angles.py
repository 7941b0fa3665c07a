"""Angles between teacher layers, as student layers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inside import WHEN, Likeness
from reports.evidence import Evidence
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure, by_method, safe
from reports.kit.choices import State, add_states, choice_of
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.sections.inside.coverage import not_recorded, of_task, pooled_states_text

RIGHT = 90.0
"""Degrees: a smaller angle is acute."""
GREY = "#888888"
BAR: dict[str, Any] = {"type": "data", "symmetric": False, "width": 0}


def angle_frame(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method, student layer and time: the angles between pairs of teacher layers.

    `lowest`, `median`, `highest` in degrees and `acute` in percent of the `pairs`; NaN where any pair
    has no angle. Methods without angles are left out.
    """
    rows = []
    for method, layers in likeness.items():
        if layers.angles is None:
            continue
        for when in WHEN:
            for layer, angles in enumerate(getattr(layers.angles, when), start=1):
                pairs = angles[np.triu_indices(len(angles), k=1)]
                if not len(pairs):
                    continue
                acute = np.nan if np.isnan(pairs).any() else 100 * (pairs < RIGHT).mean()
                ends = (float(f(pairs)) for f in (np.min, np.median, np.max))
                row = [round(value, 1) for value in (*ends, float(acute))]
                rows.append((method, layer, when, len(pairs), *row))
    names = ["method", "student_layer", "when", "pairs", "lowest", "median", "highest", "acute"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def angles_figure(angles: pd.DataFrame, styles: Styles) -> Drawing:
    """Angles between teacher layers by method, a state per student layer; the last one is shown.

    From `angle_frame`: dot and bar are the median and the ends, hollow ones before.
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
                "symbol": [f"{look.symbol}{hollow}" for look in looks],
                "size": size,
            },
            "hovertemplate": f"{when}: median %{{x:.0f}}°, %{{customdata[0]:.0f}}° to "
            "%{customdata[1]:.0f}°<extra></extra>",
        }
        for when, offset, hollow, size in (("before", 0.25, "-open", 6), ("after", -0.1, "", 10))
    ]  # fmt: skip
    figure.add_vline(x=RIGHT, line_width=1, line_dash="dash", line_color=GREY)
    figure.update_yaxes(
        tickvals=list(range(len(methods))), ticktext=[safe(method) for method in methods],
        range=[len(methods) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    most = max(RIGHT, float(angles["highest"].max(skipna=True)))
    figure.update_xaxes(title_text="angle, degrees", range=[0, most + 5], dtick=30)
    layers = sorted(set(angles["student_layer"]))
    states = [_angle_state(angles[angles["student_layer"] == layer], methods) for layer in layers]
    return add_states(figure, traces, states, len(states) - 1)


def _angle_state(rows: pd.DataFrame, methods: Sequence[str]) -> State:
    state = []
    for when in WHEN:
        by_method = rows[rows["when"] == when].set_index("method").reindex(list(methods))
        low, middle, high = (by_method[name] for name in ("lowest", "median", "highest"))
        ends = {"array": _plain(high - middle), "arrayminus": _plain(middle - low)}
        width = {"thickness": 1.5 if when == "before" else 4, "color": GREY}
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
            evidence.task_label(task), ("No angles: they need equal widths and two layers.",)
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
    """One line: whether the angles after training are acute, and the widest."""
    after = angles[angles["when"] == "after"].dropna(subset="acute")
    if after.empty:
        return "No angle could be measured after training."
    methods = [
        method for method, angles_after in by_method(after) if (angles_after["acute"] == 100).all()
    ]
    widest = after.iloc[int(after["highest"].argmax())]
    return (
        f"After training all mean angles are acute with {len(methods)} of {after['method'].nunique()} "
        f"methods; the widest mean is {widest['highest']:.0f}° ({widest['method']}, student layer "
        f"{widest['student_layer']})."
    )


SECTION = Section(
    anchor="angles",
    title="Looking inside: angles between teacher layers",
    reading=(
        "At a student layer's state, the angle between the ways to two teacher layers' states. "
        "Below 90° (dashed) a step towards one is a step towards the other."
    ),
    details=(
        "Means over examples and seeds. Mark and bar: median, least and greatest over the pairs"
        " of teacher layers; hollow: before training. Where angles are small it matters little "
        "which layer is matched: the explanation that arXiv 2502.04499 offers."
    ),
    maker=by_task(angles_block),
)
