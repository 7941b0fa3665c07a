"""Figures of the search space, from the frames of `trials` and the surfaces of `surfaces`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.kit.canvas import blank_figure, safe
from reports.kit.drawing import Drawing
from reports.sections.space.surfaces import Surface
from reports.sections.space.trials import Scale

BANDS = ("#8a94a0", "#a39177", "#bd8d4d", "#d68a24", "#d55e00")
"""Colours from a method's worst fifth of trials to its best fifth; legible on white and near-black."""
FEW_LINES = 60
"""With more trials, lines are fainter and thinner."""
SCORES = "Cividis"
CHANCE = 0.05
"""A hyper-parameter with a smaller p value has a star."""


def parallel_figure(trials: pd.DataFrame, scales: Mapping[str, Scale], metric: str) -> Drawing:
    """A line per trial across its method, its setting and its score. From `SearchSpace.trials`.

    Optuna's figure of parallel coordinates shows the same, but it needs WebGL, and scripts that the
    browser makes while it draws.
    """
    methods = list(dict.fromkeys(trials["method"]))
    points = trials["points"]
    reach = Scale(float(points.min()), float(points.max()))
    places = _places(trials, scales, reach, methods)
    axes = list(range(places.shape[1]))
    figure = blank_figure(height=max(380, 140 + 18 * len(methods)), y_title=None)
    line_scale = min(1.0, (FEW_LINES / len(trials)) ** 0.5)
    bands = np.minimum((trials["rank"].to_numpy() * len(BANDS)).astype(int), len(BANDS) - 1)
    for band, colour in enumerate(BANDS):
        band_places = places[bands == band]
        if not len(band_places):
            continue
        figure.add_scatter(
            x=[*axes, None] * len(band_places),
            y=[place for row in band_places for place in (*_plain(row), None)],
            mode="lines", hoverinfo="skip", opacity=round(line_scale * (0.35 + 0.15 * band), 3),
            line={"color": colour, "width": round(line_scale * (1 + band / 4), 3)},
        )  # fmt: skip
    figure.add_scatter(
        x=[axes[-1]] * len(places), y=_plain(places[:, -1]), mode="markers", hoverinfo="text",
        marker={"color": [BANDS[band] for band in bands], "size": 7},
        hovertext=[
            f"{safe(method)}, trial {trial}: {value:.2f}"
            for method, trial, value in zip(
                trials["method"], trials["trial"], points, strict=True
            )
        ],
    )  # fmt: skip
    axis_scales = [None, *scales.values(), reach] if len(methods) > 1 else [*scales.values(), reach]
    for axis, scale in zip(axes, axis_scales, strict=True):
        figure.add_shape(
            type="line", x0=axis, x1=axis, y0=0, y1=1, line={"color": "#888888", "width": 1}
        )
        for place, text in _ends(scale):
            figure.add_annotation(
                x=axis, y=place, text=safe(text), showarrow=False, font={"size": 11},
                yshift=-9 if place == 0 else 9 if place == 1 else 0,
                xshift=0 if place in (0, 1) else 4, xanchor="center" if place in (0, 1) else "left",
            )  # fmt: skip
    names = [*(["method"] * (len(methods) > 1)), *scales, f"selection {metric}"]
    figure.update_xaxes(
        tickvals=axes, showgrid=False, range=[-0.15, axes[-1] + 0.35], autotickangles=[0, 90],
        ticktext=[safe(name).replace("_", "<br>").replace(" ", "<br>") for name in names],
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=_spread(len(methods)), ticktext=[safe(method) for method in methods],
        range=[-0.08, 1.08], showgrid=False, visible=len(methods) > 1,
    )  # fmt: skip
    return figure


def _places(
    trials: pd.DataFrame, scales: Mapping[str, Scale], reach: Scale, methods: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Where each trial crosses each axis, (trials, axes), from 0 to 1; NaN if it does not cross."""
    heights = dict(zip(methods, _spread(len(methods)), strict=True))
    columns = [
        [scale.position(v) for v in trials[f"setting.{name}"]] for name, scale in scales.items()
    ]
    if len(methods) > 1:
        columns.insert(0, [heights[method] for method in trials["method"]])
    columns.append([reach.position(value) for value in trials["points"]])
    return np.array(columns).T.round(3)


def _spread(count: int) -> list[float]:
    """Places of `count` names on an axis from 0 to 1, the first name on top."""
    return [0.5] if count == 1 else [round(1 - place / (count - 1), 3) for place in range(count)]


def _ends(scale: Scale | None) -> list[tuple[float, str]]:
    """Texts beside an axis and their places: the ends of the axis, or its choices."""
    if scale is None:
        return []
    if scale.choices:
        return [(scale.position(choice), choice) for choice in scale.choices]
    return [(0.0, f"{scale.low:.4g}"), (1.0, f"{scale.high:.4g}")]


def _plain(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def importance_figure(shares: pd.DataFrame) -> Drawing:
    """A heat map of methods by hyper-parameters; stars: p below `CHANCE`. From `importance_frame`."""
    methods = list(dict.fromkeys(shares["method"]))
    names = list(dict.fromkeys(shares["hyper_parameter"]))
    rows = {(row["method"], row["hyper_parameter"]): row for row in shares.to_dict("records")}
    cells = [[rows.get((method, name)) for name in names] for method in methods]
    hover = [
        [
            f"{safe(method)}, {safe(name)}: "
            + ("not searched" if cell is None else f"{cell['percent']:.0f} %, p = {cell['p']:.2g}")
            for name, cell in zip(names, row, strict=True)
        ]
        for method, row in zip(methods, cells, strict=True)
    ]
    stars = [
        (x, y)
        for y, row in enumerate(cells)
        for x, cell in enumerate(row)
        if cell is not None and cell["p"] < CHANCE
    ]
    figure = blank_figure(height=190 + 30 * len(methods), y_title=None)
    figure.add_heatmap(
        x=list(range(len(names))), y=list(range(len(methods))),
        z=[[None if cell is None else round(cell["percent"], 1) for cell in row] for row in cells],
        zmin=0, zmax=100, colorscale=SCORES, hoverinfo="text", hovertext=hover, xgap=1, ygap=1,
        colorbar={"title": {"text": "%"}, "thickness": 12, "outlinewidth": 0},
    )  # fmt: skip
    figure.add_scatter(
        x=[x for x, _ in stars], y=[y for _, y in stars], mode="markers", hoverinfo="skip",
        marker={"symbol": "star", "size": 11, "color": "#ffffff", "line": {"width": 1, "color": "#000"}},
    )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(names))), showgrid=False, autotickangles=[0, 90],
        ticktext=[safe(name).replace("_", "<br>") for name in names],
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(methods))), ticktext=[safe(method) for method in methods],
        autorange="reversed", showgrid=False,
    )  # fmt: skip
    return figure


def surface_figure(surface: Surface, log: tuple[bool, bool]) -> Drawing:
    """Contours of the score over two hyper-parameters, and the trials. From `surfaces.surface`.

    `log` says which of the axes are logarithmic.
    """
    x, y, points = (surface.trials[name].tolist() for name in surface.trials.columns)
    ends = {"zmin": min(points), "zmax": max(points)}
    figure = blank_figure(height=380, y_title=surface.y_name)
    figure.add_contour(
        x=surface.x.round(6).tolist(), y=[float(f"{value:.5g}") for value in surface.y],
        z=[_plain(row) for row in surface.points.round(2)],
        colorscale=SCORES, hoverinfo="skip", ncontours=10, line={"width": 0.5}, **ends,
        colorbar={"title": {"text": "points"}, "thickness": 12, "outlinewidth": 0},
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=y, mode="markers", hoverinfo="text",
        hovertext=[
            f"{safe(surface.x_name)} {a:.4g}, {safe(surface.y_name)} {b:.4g}: {c:.2f}"
            for a, b, c in zip(x, y, points, strict=True)
        ],
        marker={
            "color": points, "colorscale": SCORES, "cmin": ends["zmin"], "cmax": ends["zmax"],
            "size": 9, "line": {"width": 1.5, "color": "#888888"},
        },
    )  # fmt: skip
    figure.update_xaxes(title_text=safe(surface.x_name), type="log" if log[0] else "linear")
    figure.update_yaxes(type="log" if log[1] else "linear")
    return figure
