"""Repeats of the whole study: the result of each repeat."""

from __future__ import annotations

import pandas as pd

from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task
from reports.kit.display import number
from reports.kit.palette import Styles
from reports.kit.trials import setting_text

COLUMNS: display.Columns = {
    "repeat": ("repeat", number(0)),
    "method": ("method", None),
    "mean": ("mean, points", number(2)),
    "sd": ("sd", number(2)),
    "seeds": ("runs", number(0)),
    "setting": ("best setting", None),
    "report": ("report", None),
}


def repeats_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per repeat (from 1) and method: score over report seeds in points, best setting."""
    rows = [
        (
            repeat,
            result.method,
            POINTS * result.mean,
            POINTS * result.sd,
            len(result.scores),
            setting_text(result.setting),
            name,
        )
        for repeat, name in enumerate(evidence.manifest.repeats, start=1)
        if name is not None
        for result in evidence.repeats[name]
        if result.task == task
    ]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def repeats_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The table of the repeats; empty if nothing was repeated."""
    frame = repeats_table(evidence, task)
    if frame.empty:
        return Block(evidence.task_label(task))
    return Block(
        evidence.task_label(task), tables=(display.table("Repeats", frame, COLUMNS, styles),)
    )


SECTION = Section(
    anchor="repeats",
    title="Repeats",
    reading=(
        "Each repeat is the whole study again, with its own teacher, searches and runs. A "
        "comparison takes one pair of means from each repeat."
    ),
    details=(
        "Each repeat has a report beside this report, under the name in the table. The verdict's "
        "interval covers the change of settings from repeat to repeat."
    ),
    maker=by_task(repeats_block),
    part="evidence",
)
