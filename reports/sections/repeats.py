"""Repeats of the whole: what each of them found."""

from __future__ import annotations

import pandas as pd

from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block
from reports.kit.display import number
from reports.kit.palette import Style
from reports.numbers import setting_text

COLUMNS: display.Columns = {
    "repeat": ("repeat", number(0)),
    "method": ("method", None),
    "mean": ("mean, points", number(2)),
    "sd": ("sd", number(2)),
    "seeds": ("seeds", number(0)),
    "setting": ("setting found", None),
    "report": ("report", None),
}


def repeats_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per repeat and method: score over its report seeds in points, and the setting found."""
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
        for repeat, name in enumerate(evidence.manifest.get("repeats", ()))
        for result in evidence.repeats.get(name, ())
        if result.task == task
    ]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def repeats_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """The table of the repeats; empty where nothing was repeated."""
    frame = repeats_table(evidence, task)
    if frame.empty:
        return Block(evidence.task_label(task))
    return Block(
        evidence.task_label(task), tables=(display.table("Repeats", frame, COLUMNS, styles),)
    )
