"""Teacher: its scores, and how much its layers' states vary between examples."""

from __future__ import annotations

import pandas as pd

from harness.storage.manifest import TeacherFacts
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, by_task, panel
from reports.kit.canvas import blank_figure
from reports.kit.display import Table, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

LEAST_VARIANCE = 0.01
"""If less than this share of a layer's energy varies between examples, the layer teaches a constant."""


def teacher_table(teacher: TeacherFacts) -> pd.DataFrame:
    """One row per split that the teacher was scored on, every metric in points."""
    rows = [
        {"split": split} | {name: POINTS * value for name, value in scores.items()}
        for split, scores in teacher.metrics.items()
    ]
    return pd.DataFrame(rows)


def variance_shares(teacher: TeacherFacts) -> pd.DataFrame:
    """One row per teacher layer (from 1): percent of its energy that varies between examples."""
    rows = [(layer, 100 * share) for layer, share in enumerate(teacher.variance_shares, start=1)]
    return pd.DataFrame(rows, columns=pd.Index(["layer", "percent"]))


def teacher_warnings(teacher: TeacherFacts) -> list[str]:
    """Sentences on why a teacher is a doubtful source: a second recipe, a weak one, or flat layers."""
    sentences = []
    if teacher.second_recipe:
        sentences.append(teacher.second_recipe)
    if teacher.weak:
        sentences.append("This teacher is no better than a constant prediction.")
    shares = enumerate(teacher.variance_shares, start=1)
    flat_layers = [layer for layer, share in shares if share < LEAST_VARIANCE]
    if flat_layers:
        noun = "layer" if len(flat_layers) == 1 else "layers"
        sentences.append(
            f"Less than 1 % of the energy of {noun} {', '.join(map(str, flat_layers))} varies between "
            "examples: a student that matches such states learns a constant."
        )
    return sentences


def variance_figure(shares: pd.DataFrame) -> Drawing:
    """A bar per teacher layer, and a line at `LEAST_VARIANCE`. From `variance_shares`."""
    figure = blank_figure(height=260, y_title="share, %")
    figure.add_bar(
        x=shares["layer"].tolist(), y=shares["percent"].tolist(), marker={"color": "#0072B2"},
        hoverinfo="text", hovertext=[f"{percent:.2f} %" for percent in shares["percent"]],
    )  # fmt: skip
    figure.add_hline(y=100 * LEAST_VARIANCE, line_width=1, line_dash="dash", line_color="#D55E00")
    figure.update_xaxes(title_text="teacher layer", dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def teacher_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The teacher's scores, and the share of each layer's energy that varies between examples."""
    teacher = evidence.teachers[task]
    scores, shares = teacher_table(teacher), variance_shares(teacher)
    facts = (
        f"{teacher.name}: {teacher.layers} layers of width {teacher.width}, {teacher.origin}. "
        f"A constant prediction scores {number(2)(evidence.constant_score(task))} points."
    )
    panels: tuple[Panel, ...] = ()
    if len(shares):
        alt = "; ".join(
            f"layer {layer}: {percent:.2f} %"
            for layer, percent in zip(shares["layer"], shares["percent"], strict=True)
        )
        caption = "Share of energy that varies between examples"
        panels = (panel(caption, alt, variance_figure(shares), shares),)
    tables: tuple[Table, ...] = ()
    if len(scores):
        tables = (display.table("Scores", scores, display.metrics_columns(scores, "split")),)
    warnings = tuple(teacher_warnings(teacher))
    return Block(evidence.task_label(task), (facts,), warnings, panels, tables)


SECTION = Section(
    anchor="teacher",
    title="Teacher",
    reading=(
        "The students are measured against the teacher's scores. Each bar is a teacher layer: the share "
        "of its states' energy (mean squared length) that varies between examples. Below the dashed "
        "line (1 %) a student learns little from the layer."
    ),
    maker=by_task(teacher_block),
    reads_verdicts=False,
)
