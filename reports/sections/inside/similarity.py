"""Similarity of student and teacher layers before and after training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from harness.analysis.inspections import Change, Likeness
from harness.stats.arrays import Floats
from harness.storage.inspected import TIMES
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure
from reports.kit.choices import State, add_states, choice_of
from reports.kit.display import Columns, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.sections.inside.coverage import first_method, not_recorded, of_task, pooled_states_text
from reports.sections.inside.matrices import HEAT_MAP, cells, colour_bar, matrix_frame, matrix_rows

CHANGE_COLOURS = [[0.0, "#0072B2"], [0.5, "#f2f2f2"], [1.0, "#D55E00"]]


def likeness_frame(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method, measure, time and student layer, a column per teacher layer."""
    rows = [
        row
        for method, layers in likeness.items()
        for measure, change in _measures(layers).items()
        for time in TIMES
        for row in matrix_rows(change.values(time), method, measure, time)
    ]
    return matrix_frame(rows, ("method", "measure", "when"))


def _measures(likeness: Likeness) -> dict[str, Change]:
    changes = {"CKA": likeness.cka, "cosine": likeness.cosine}
    return {name: change for name, change in changes.items() if change is not None}


def likeness_summary(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method: the similarity of its student layers to their most similar teacher layers.

    `cka_before`, `cka_after`, `cosine_before` and `cosine_after` are means over student layers of the
    highest value over teacher layers; NaN if there is no value. `nearest` names, for each student
    layer, the teacher layer (from 1) with the highest CKA after training.
    """
    rows = []
    for method, layers in likeness.items():
        row: dict[str, object] = {"method": method}
        for measure, change in (("cka", layers.cka), ("cosine", layers.cosine)):
            for time in TIMES:
                values = np.nan if change is None else change.values(time).max(axis=1).mean()
                row[f"{measure}_{time}"] = values
        row["nearest"] = ", ".join(map(_nearest_layer, layers.cka.end))
        rows.append(row)
    return pd.DataFrame(rows)


def _nearest_layer(row: Floats) -> str:
    return "?" if np.isnan(row).any() else str(int(row.argmax()) + 1)


def change_of(change: Change) -> Floats:
    """Values after training minus values before training."""
    return change.end - change.start


def likeness_figure(
    likeness: Mapping[str, Likeness], first: str, ends: tuple[float, float]
) -> Drawing:
    """Heat maps before and after training and of the change, for CKA and cosine; a state per method.

    `ends` are those of the scales, from `scale_ends`.
    """
    cosine = any(layers.cosine is not None for layers in likeness.values())
    measures = ("linear CKA", "cosine") if cosine else ("linear CKA",)
    students = max(len(layers.cka.end) for layers in likeness.values())
    figure = blank_figure(height=130 + 3 * (44 + 22 * students), y_title=None)
    titles = [f"{name}, {time}" for time in ("before", "after", "change") for name in measures]
    figure.set_subplots(
        3, len(measures), subplot_titles=titles, shared_xaxes="all", shared_yaxes="all",
        vertical_spacing=0.11, horizontal_spacing=0.06,
    )  # fmt: skip
    rows, columns = zip(*product((1, 2, 3), range(1, len(measures) + 1)), strict=True)
    traces = [HEAT_MAP | {"coloraxis": "coloraxis2" if row == 3 else "coloraxis"} for row in rows]
    states = {method: _likeness_state(layers, cosine) for method, layers in likeness.items()}
    low, largest_change = ends
    figure.update_layout(
        coloraxis={
            "cmin": low, "cmax": 1, "colorscale": "Cividis",
            "colorbar": colour_bar("") | {"y": 1, "yanchor": "top", "len": 0.62},
        },
        coloraxis2={
            "cmin": -largest_change, "cmax": largest_change, "colorscale": CHANGE_COLOURS,
            "colorbar": colour_bar("") | {"y": 0, "yanchor": "bottom", "len": 0.28},
        },
    )  # fmt: skip
    figure.update_annotations(font_size=12)
    figure.update_xaxes(dtick=2, tick0=2, showgrid=False, automargin=True)
    figure.update_xaxes(title_text="teacher layer", row=3)
    figure.update_yaxes(dtick=1, autorange="reversed", showgrid=False, automargin=True)
    figure.update_yaxes(title_text="student layer", row=2, col=1)
    place = list(states).index(first)
    return add_states(figure, traces, list(states.values()), place, rows=rows, cols=columns)


def _likeness_state(layers: Likeness, cosine: bool) -> State:
    measures = [layers.cka, layers.cosine] if cosine else [layers.cka]
    return [
        {"z": [] if change is None else cells(values(change))}
        for values in (lambda c: c.start, lambda c: c.end, change_of)
        for change in measures
    ]


def scale_ends(likeness: Collection[Likeness]) -> tuple[float, float]:
    """The ends of scales that all figures share.

    These are the lower end of the scale of similarities (zero or below) and the largest absolute change.
    """
    changes: list[Change] = [layers.cka for layers in likeness]
    cosines = [layers.cosine for layers in likeness if layers.cosine is not None]
    # CKA is below zero by chance only, so it does not stretch the scale.
    values = _numbers([values for change in cosines for values in (change.start, change.end)])
    differences = _numbers([change_of(change) for change in (*changes, *cosines)])
    low, largest_change = (
        float(values.min(initial=0.0)),
        float(np.abs(differences).max(initial=0.0)),
    )
    return round(low, 1), round(largest_change, 2) or 1.0


def _numbers(matrices: Sequence[Floats]) -> Floats:
    """All values of the matrices that are not NaN."""
    values = np.concatenate([np.ravel(matrix) for matrix in matrices]) if matrices else np.empty(0)
    return np.asarray(values[~np.isnan(values)])


def likeness_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """Similarity of student and teacher layers before and after training."""
    likeness = of_task(evidence.internals.likeness, task, styles)
    if not likeness:
        return not_recorded(evidence, task)
    caption = f"Similarity of layers, {pooled_states_text(likeness)}"
    summary = likeness_summary(likeness)
    first = first_method(evidence, likeness)
    heat_maps = panel(
        caption,
        f"CKA with the most similar teacher layer, mean over student layers: {_cka_text(summary)}",
        likeness_figure(likeness, first, scale_ends(evidence.internals.likeness.values())),
        likeness_frame(likeness),
        choice=choice_of("method", list(likeness), list(likeness).index(first)),
    )
    columns: Columns = {
        "method": ("method", None),
        "cka_before": ("CKA before", number(3)),
        "cka_after": ("CKA after", number(3)),
        "nearest": ("most similar teacher layer of each student layer, after", None),
        "cosine_before": ("cosine before", number(3)),
        "cosine_after": ("cosine after", number(3)),
    }
    title = "Similarity with the most similar teacher layer, mean over student layers"
    table = display.table(title, summary, columns, styles)
    return Block(evidence.task_label(task), panels=(heat_maps,), tables=(table,))


def _cka_text(summary: pd.DataFrame) -> str:
    return "; ".join(
        f"{row['method']} {number(2)(row['cka_before'])} before training, "
        f"{number(2)(row['cka_after'])} after"
        for row in summary.to_dict("records")
    )


SECTION = Section(
    anchor="similarity",
    title="Looking inside: similarity of layers",
    reading=(
        "How similar each student layer (row) is to each teacher layer (column): before training, "
        "after training, and the change. In the change, orange is a rise and blue a fall."
    ),
    details=(
        "Linear CKA, debiased: 1 means equal up to rotation and scale, 0 means nothing in common. "
        "Cosine, the mean over examples: 1 means the same direction. All values are means over report "
        "runs. Similarity is no merit by itself: compare it with the scores."
    ),
    maker=by_task(likeness_block),
    reads_verdicts=False,
)
