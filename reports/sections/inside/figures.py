"""The figures of "Looking inside", each drawn from what `reports.sections.inside.numbers` makes.

Hover templates hold no text from the ledger: Plotly reads names in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inside import Change, Likeness, Mixture
from harness.stats.arrays import Floats
from reports.kit.canvas import blank_figure, line, marker, safe, transparent
from reports.kit.choices import State, add_states
from reports.kit.drawing import Drawing
from reports.kit.palette import Style
from reports.sections.inside import numbers
from reports.sections.inside.numbers import RIGHT, rounded

Styles = Mapping[str, Style]

GREY = "#888888"
FELL_ROSE = [[0.0, "#0072B2"], [0.5, "#f2f2f2"], [1.0, "#D55E00"]]
HEAT_MAP: dict[str, Any] = {
    "type": "heatmap", "x0": 1, "y0": 1, "xgap": 1, "ygap": 1,
    "hovertemplate": "student layer %{y}, teacher layer %{x}: %{z:.3f}<extra></extra>",
}  # fmt: skip
ANGLE_BAR: dict[str, Any] = {"type": "data", "symmetric": False, "width": 0}


def mixture_figure(mixture: Mixture) -> Drawing:
    """Heat map of mean weights, a state per epoch; the last one is shown."""
    weights = mixture.weights.mean(axis=0)
    figure = blank_figure(height=150 + 44 * weights.shape[1], y_title="student layer")
    trace = HEAT_MAP | {
        "zmin": 0, "zmax": float(weights.max()), "colorscale": "Cividis",
        "colorbar": colour_bar("weight"),
    }  # fmt: skip
    figure.update_xaxes(title_text="teacher layer", dtick=1, showgrid=False)
    figure.update_yaxes(dtick=1, autorange="reversed", showgrid=False)
    states = [[{"z": _cells(own)}] for own in weights]
    return add_states(figure, [trace], states, len(states) - 1)


def entropy_layers(entropy: pd.DataFrame) -> list[str]:
    """The states of `entropy_figure`: all student layers, then each."""
    return list(dict.fromkeys(entropy["student_layer"]))


def entropy_figure(entropy: pd.DataFrame, styles: Styles) -> Drawing:
    """Entropy by epoch, a line and a band per method. From `entropy_frame`."""
    figure = blank_figure(height=300, y_title="entropy, % of its maximum")
    figure.update_layout(hoverlabel={"namelength": -1})
    traces: list[dict[str, Any]] = []
    for method in dict.fromkeys(entropy["method"]):
        style = styles[method]
        traces += [
            {
                "type": "scatter", "mode": "lines", "fill": "toself", "line": {"width": 0},
                "fillcolor": transparent(style.colour), "hoverinfo": "skip",
            },
            {
                "type": "scatter", "mode": "lines+markers", "line": line(style, 2),
                "marker": marker(style, 7), "name": safe(method), "hoverinfo": "x+y+name",
            },
        ]  # fmt: skip
    figure.update_xaxes(title_text="epoch", dtick=max(1, int(entropy["epoch"].max()) // 8))
    figure.update_yaxes(range=[-3, 103])
    states = [_entropy_state(own) for own in _by_layer(entropy)]
    return add_states(figure, traces, states, 0)


def _by_layer(entropy: pd.DataFrame) -> Iterator[list[pd.DataFrame]]:
    """Each student layer's rows, by method; none for a method that has no such layer."""
    found = dict(iter(entropy.groupby(["student_layer", "method"], sort=False)))
    methods = dict.fromkeys(entropy["method"])
    for layer in entropy_layers(entropy):
        yield [found.get((layer, method), entropy.iloc[:0]) for method in methods]


def _entropy_state(by_method: Sequence[pd.DataFrame]) -> State:
    state: list[dict[str, Any]] = []
    for rows in by_method:
        epochs, ends = rows["epoch"].tolist(), rows["high"].tolist() + rows["low"].tolist()[::-1]
        state += [
            {"x": epochs + epochs[::-1], "y": ends},
            {"x": epochs, "y": rows["mean"].tolist()},
        ]
    return state


def likeness_figure(likeness: Mapping[str, Likeness], first: str) -> Drawing:
    """Heat maps before and after training and of the change, for CKA and cosine; a state per method."""
    cosine = any(found.cosine is not None for found in likeness.values())
    measures = ("linear CKA", "cosine") if cosine else ("linear CKA",)
    students = max(len(found.cka.after) for found in likeness.values())
    figure = blank_figure(height=130 + 3 * (44 + 22 * students), y_title=None)
    titles = [f"{name}, {when}" for when in ("before", "after", "change") for name in measures]
    figure.set_subplots(
        3, len(measures), subplot_titles=titles, shared_xaxes="all", shared_yaxes="all",
        vertical_spacing=0.11, horizontal_spacing=0.06,
    )  # fmt: skip
    rows, columns = zip(*product((1, 2, 3), range(1, len(measures) + 1)), strict=True)
    traces = [HEAT_MAP | {"coloraxis": "coloraxis2" if row == 3 else "coloraxis"} for row in rows]
    states = {method: _likeness_state(found, cosine) for method, found in likeness.items()}
    low, most = _ends(likeness)
    figure.update_layout(
        coloraxis={
            "cmin": low, "cmax": 1, "colorscale": "Cividis",
            "colorbar": colour_bar("") | {"y": 1, "yanchor": "top", "len": 0.62},
        },
        coloraxis2={
            "cmin": -most, "cmax": most, "colorscale": FELL_ROSE,
            "colorbar": colour_bar("") | {"y": 0, "yanchor": "bottom", "len": 0.28},
        },
    )  # fmt: skip
    figure.update_annotations(font_size=12)
    figure.update_xaxes(dtick=2, tick0=2, showgrid=False, automargin=True)
    figure.update_xaxes(title_text="teacher layer", row=3)
    figure.update_yaxes(dtick=1, autorange="reversed", showgrid=False, automargin=True)
    figure.update_yaxes(title_text="student layer", row=2, col=1)
    shown = list(states).index(first)
    return add_states(figure, traces, list(states.values()), shown, rows=rows, cols=columns)


def _likeness_state(found: Likeness, cosine: bool) -> State:
    measures = [found.cka, found.cosine] if cosine else [found.cka]
    return [
        {"z": [] if change is None else _cells(values(change))}
        for values in (lambda c: c.before, lambda c: c.after, numbers.change_of)
        for change in measures
    ]


def _ends(likeness: Mapping[str, Likeness]) -> tuple[float, float]:
    """The lower end of all similarities, zero or below, and the greatest change in size."""
    changes: list[Change] = [found.cka for found in likeness.values()]
    cosines = [found.cosine for found in likeness.values() if found.cosine is not None]
    # CKA is below zero by chance only, so it does not stretch the scale.
    values = _known([own for change in cosines for own in (change.before, change.after)])
    moved = _known([numbers.change_of(change) for change in (*changes, *cosines)])
    low, most = float(values.min(initial=0.0)), float(np.abs(moved).max(initial=0.0))
    return round(low, 1), round(most, 2) or 1.0


def _known(matrices: Sequence[Floats]) -> Floats:
    """All their values that are there."""
    values = np.concatenate([np.ravel(own) for own in matrices]) if matrices else np.empty(0)
    return np.asarray(values[~np.isnan(values)])


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
    for when in numbers.WHEN:
        own = rows[rows["when"] == when].set_index("method").reindex(list(methods))
        low, middle, high = (own[name] for name in ("lowest", "median", "highest"))
        ends = {"array": _plain(high - middle), "arrayminus": _plain(middle - low)}
        width = {"thickness": 1.5 if when == "before" else 4, "color": GREY}
        state.append(
            {
                "x": _plain(middle),
                "error_x": ANGLE_BAR | width | ends,
                "customdata": [
                    [low, high] for low, high in zip(_plain(low), _plain(high), strict=True)
                ],
            }
        )
    return state


def colour_bar(title: str) -> dict[str, Any]:
    """A narrow bar beside a heat map."""
    return {"title": {"text": title}, "thickness": 12, "outlinewidth": 0}


def _cells(values: Floats) -> list[list[float | None]]:
    """A matrix for Plotly, rounded, with None for NaN."""
    return [
        [None if np.isnan(value) else value for value in row] for row in rounded(values).tolist()
    ]


def _plain(values: pd.Series[float]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 1) for value in values]
