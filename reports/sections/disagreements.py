"""Where methods disagree: on how many examples, and on which ones most clearly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import numpy as np
import pandas as pd

from harness.analysis.disagreements import Disagreements
from reports.evidence import Evidence
from reports.export.disagreements import COLUMNS, TEXTS, disagreement_columns
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task
from reports.kit.display import Columns, number
from reports.kit.palette import Styles

MOST = 40
"""Examples that a comparison shows each way, where there are few comparisons."""
ROWS, CHARACTERS = 680, 100_000
"""About how many the page shows in all, and how much of their texts: with the markup some 300 kB."""
LEAST_TEXT, MOST_TEXT = 150, 600
"""Characters shown of an example's texts together."""


def counts_frame(compared: Iterable[Disagreements]) -> pd.DataFrame:
    """One row per comparison: on how many examples which side is closer in most seeds.

    `other` counts those that are left, on which neither side is.
    """
    rows = []
    for found in compared:
        method, baseline = len(found.clear_for_method), len(found.clear_for_baseline)
        rows.append(
            {
                "method": found.method,
                "baseline": found.baseline,
                "examples": found.examples,
                "method_clear": method,
                "baseline_clear": baseline,
                "other": len(found.ids) - method - baseline,
            }
        )
    return pd.DataFrame(rows)


def shown_frame(evidence: Evidence, compared: Iterable[Disagreements], most: int) -> pd.DataFrame:
    """The clearest examples of each comparison, at most so many each way: `COLUMNS`."""
    parts = []
    for found in compared:
        rows = np.concatenate([found.clear_for_method[:most], found.clear_for_baseline[:most]])
        parts.append(disagreement_columns(evidence, found, rows))
    return pd.DataFrame({name: list(chain(*(part[name] for part in parts))) for name in COLUMNS})


def shown_size(comparisons: int) -> tuple[int, int]:
    """How many examples each of so many comparisons shows each way, and how much of their texts."""
    most = int(np.clip(ROWS // (2 * comparisons), 1, MOST))
    characters = CHARACTERS // (2 * comparisons * most)
    return most, int(np.clip(characters, LEAST_TEXT, MOST_TEXT))


def disagreements_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """How often the task's comparisons disagree, and on what most clearly."""
    missing = tuple(f"{text}." for text in evidence.by_example.missing.get(task, ()))
    compared = [found for found in evidence.disagreements if found.task == task]
    if not compared:
        return Block(evidence.task_label(task), missing) if missing else Block("")
    scored = compared[0].scored
    tables = [display.table("How often", counts_frame(compared), _count_columns(scored), styles)]
    most, characters = shown_size(len(evidence.disagreements))
    shown = shown_frame(evidence, compared, most)
    kept = [name for name in TEXTS if shown[name].notna().any()]
    if len(shown):
        shown = _printed(shown, kept, characters, scored)
        listed = display.table("On what", shown, _columns(scored, kept), styles)
        tables.append(replace(listed, searchable=True))
    note = f"At most {most} examples of each comparison each way are shown here."
    return Block(evidence.task_label(task), (note, *missing), tables=tuple(tables))


def _printed(frame: pd.DataFrame, texts: list[str], characters: int, scored: bool) -> pd.DataFrame:
    """With texts that are cut, and beside answers how many seeds give them."""
    cut = [shortened(tuple(row), characters) for row in frame[texts].itertuples(index=False)]
    printed = {name: [row[place] for row in cut] for place, name in enumerate(texts)}
    for side in () if scored else ("method", "baseline"):
        answers = zip(frame[f"{side}_answer"], frame[f"{side}_votes"], strict=True)
        printed[f"{side}_answer"] = [f"{answer} ({votes})" for answer, votes in answers]
    return frame.assign(**printed)


def shortened(texts: tuple[str, ...], characters: int) -> tuple[str, ...]:
    """One or two texts of so many characters together; what a short one leaves, the other one takes."""
    share = characters // max(len(texts), 1)
    room = share + sum(max(share - len(text), 0) for text in texts)
    return tuple(text if len(text) <= room else f"{text[: room - 1]}…" for text in texts)


def _count_columns(scored: bool) -> Columns:
    what = "closer" if scored else "alone right"
    return {
        "method": ("method", None),
        "baseline": ("against", None),
        "examples": ("examples", number(0)),
        "method_clear": (f"{what} in most seeds", number(0)),
        "baseline_clear": (f"the other {what} in most seeds", number(0)),
        "other": ("in fewer seeds", number(0)),
    }


def _columns(scored: bool, texts: list[str]) -> Columns:
    what, shown = ("closer", number(2)) if scored else ("alone right", None)
    errors: Columns = {
        "method_error": ("method's error", number(2)),
        "baseline_error": ("the other's error", number(2)),
    }
    return {
        "method": ("method", None),
        "baseline": ("against", None),
        **{name: (name.replace("_", " "), None) for name in texts},
        "label": ("label", shown),
        "method_answer": ("method's answer", shown),
        "baseline_answer": ("the other's answer", shown),
        **(errors if scored else {}),
        "method_closer": (what, number(0)),
        "baseline_closer": (f"the other {what}", number(0)),
        "seeds": ("seeds", number(0)),
        "example": ("example", number(0)),
    }


SECTION = Section(
    anchor="disagreements",
    title="Where methods disagree",
    reading=(
        "Examples that one method's model has right and the other's, of the same seed, has "
        "wrong; of scores, those to which one is closer."
    ),
    details=(
        "The list has those on which most seeds agree, from the clearest. In brackets: how many"
        " seeds give that answer, which is what most of them give. Long texts are cut; all such"
        " examples with whole texts are in disagreements.csv beside this page "
        "(NAME-disagreements.csv beside NAME.html). Methods that are equally good disagree too,"
        " as two seeds of one method do. None of this is a test."
    ),
    maker=by_task(disagreements_block),
)
