"""States of student and teacher layers as points on a plane: the drawn layers, and the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.inspections import Projection
from harness.stats.arrays import Floats
from reports.kit.canvas import blank_figure
from reports.kit.choices import State, add_states
from reports.kit.drawing import Drawing
from reports.kit.palette import COLOURS, SYMBOLS, Style
from reports.sections.inside.matrices import colour_bar

MOST_LAYERS = 6
"""The most layers of a kind whose states are drawn."""
KINDS = {"teacher": "teacher", "fused": "target of", "student": "student"}
"""The kinds of states, one row of panels each, and the words that begin the panels' titles."""
SCORES = [[0.0, "#0072B2"], [0.5, "#b0b0b0"], [1.0, "#D55E00"]]
"""A colour scale that can be seen on white and on black."""

Labels = npt.NDArray[Any]


def shown_layers(projection: Projection) -> dict[str, dict[int, Floats]]:
    """States to draw, (B, 2) by kind and layer (from 1): `teacher`, `fused` (if mixed), `student`.

    At most `MOST_LAYERS` student layers, evenly spaced up to the last layer, and at most as many
    teacher layers. States are relative to the mean state of their layer: layers lie far apart, and
    around one centre most of them would be dots.
    """
    students, teachers = len(projection.student), len(projection.teacher)
    student_layers = _spaced_layers(students, min(students, MOST_LAYERS))
    teacher_layers = _spaced_layers(teachers, min(teachers, len(student_layers)))
    states = {"teacher": {layer: projection.teacher[layer - 1] for layer in teacher_layers}}
    if projection.targets is not None:
        states["fused"] = {layer: projection.targets[layer - 1] for layer in student_layers}
    states["student"] = {layer: projection.student[layer - 1] for layer in student_layers}
    return {
        kind: {
            layer: _three_digits(points - points.mean(axis=0)) for layer, points in layers.items()
        }
        for kind, layers in states.items()
    }


def states_frame(projections: Mapping[str, Projection]) -> pd.DataFrame:
    """One row per method and example: its label, and the x and y of its state in each drawn layer,
    relative to the layer's mean."""
    parts = []
    for method, projection in projections.items():
        columns: dict[str, object] = {"method": method, "label": projection.labels}
        for kind, layers in shown_layers(projection).items():
            for layer, points in layers.items():
                columns |= {f"{kind} {layer} x": points[:, 0], f"{kind} {layer} y": points[:, 1]}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _spaced_layers(layers: int, count: int) -> Sequence[int]:
    """`count` of the layers 1 to `layers`, evenly spaced up to the last layer."""
    return [round(layers * (place + 1) / count) for place in range(count)]


def _three_digits(points: Floats) -> Floats:
    """Round to three digits of the number that is farthest from zero."""
    largest = float(np.abs(points).max())
    decimals = 2 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    return np.asarray(points.round(decimals) + 0.0)


def states_figure(
    projections: Mapping[str, Projection], looks: Mapping[int, Style], first: str
) -> Drawing:
    """States as points: a row of panels per kind, a column per layer, a state per method.

    `looks` are the looks of the classes; empty for scores, which have a colour scale.
    """
    layers_by_method = [shown_layers(projection) for projection in projections.values()]
    kinds = [
        kind for kind in KINDS if any(kind in method_layers for method_layers in layers_by_method)
    ]
    columns = max(
        len(layers) for method_layers in layers_by_method for layers in method_layers.values()
    )
    layers = {
        kind: next(
            list(method_layers[kind]) for method_layers in layers_by_method if kind in method_layers
        )
        for kind in kinds
    }
    titles = [
        f"{KINDS[kind]} {layers[kind][column]}" if column < len(layers[kind]) else ""
        for kind in kinds
        for column in range(columns)
    ]
    figure = blank_figure(height=40 + 170 * len(kinds), y_title=None)
    figure.set_subplots(
        len(kinds), columns, subplot_titles=titles, horizontal_spacing=0.012, vertical_spacing=0.07,
        shared_xaxes="rows", shared_yaxes="rows",
    )  # fmt: skip
    labels = next(iter(projections.values())).labels
    rows, cols = zip(*product(range(1, len(kinds) + 1), range(1, columns + 1)), strict=True)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "hoverinfo": "skip",
        "marker": _dots(labels, looks),
    }
    figure.update_layout(coloraxis=_colours(looks), margin={"l": 8, "r": 8, "t": 26, "b": 8})
    figure.update_annotations(font_size=12)
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(
            showgrid=False, zeroline=False, showticklabels=False, automargin=False, showline=True,
            mirror=True,
        )  # fmt: skip
    states = [_points_state(method_layers, kinds, columns) for method_layers in layers_by_method]
    first_place = list(projections).index(first)
    return add_states(figure, [dots] * len(rows), states, first_place, rows=rows, cols=cols)


def label_looks(labels: Sequence[int]) -> dict[int, Style]:
    """A look for each class: colours from the palette's end, so that few methods have them too."""
    symbols = list(SYMBOLS)
    return {
        label: Style(COLOURS[-1 - place % len(COLOURS)], symbols[place % len(symbols)], "solid")
        for place, label in enumerate(labels)
    }


def _dots(labels: Labels, looks: Mapping[int, Style]) -> dict[str, Any]:
    """A panel's markers, in the order of the examples, so that no class hides the others."""
    common = {"size": 5, "opacity": 0.75, "coloraxis": "coloraxis"}
    if not looks:
        return common | {"color": labels.tolist()}
    places = np.searchsorted(list(looks), labels)
    symbols = [look.symbol for look in looks.values()]
    return common | {"color": places.tolist(), "symbol": [symbols[place] for place in places]}


def _colours(looks: Mapping[int, Style]) -> dict[str, Any]:
    """The scale of scores, or a step for each class, numbered from 0."""
    if not looks:
        return {"colorscale": SCORES, "colorbar": colour_bar("label")}
    edges = np.linspace(0, 1, len(looks) + 1)
    steps = zip(pairwise(edges.tolist()), looks.values(), strict=True)
    scale = [[edge, look.colour] for ends, look in steps for edge in ends]
    return {"colorscale": scale, "cmin": -0.5, "cmax": len(looks) - 0.5, "showscale": False}


def _points_state(
    layers_by_kind: Mapping[str, Mapping[int, Floats]], kinds: Sequence[str], columns: int
) -> State:
    nothing = np.empty((0, 2))
    state = []
    for kind in kinds:
        layers = list(layers_by_kind.get(kind, {}).values())
        for points in (*layers, *[nothing] * (columns - len(layers))):
            state.append({"x": points[:, 0].tolist(), "y": points[:, 1].tolist()})
    return state
