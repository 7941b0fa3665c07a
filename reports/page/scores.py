"""The tables of the first screen: each task's scores with what decides, and means by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.comparison import Comparison
from reports.evidence import POINTS, Evidence
from reports.kit import bars
from reports.kit.display import (
    DASH,
    Cell,
    Table,
    interval_text,
    number,
    number_cell,
    signed_text,
)
from reports.kit.palette import SIGNS, Styles

COLUMNS = [
    "task", "method", "metric", "mean", "sd", "runs", "baseline", "difference", "low", "high",
    "confidence", "margin", "outcome",
]  # fmt: skip
TEACHER_ROW = "teacher"
CONSTANT_ROW = "constant prediction"


def verdict_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """A row for the teacher, the constant prediction and each method of a task, the best score first.

    Scores, `sd` (n − 1, over seeds; over searches for tuned scores), `difference`, `margin`, `low` and
    `high` are in points. The interval is the one of the test that gave the verdict, and `confidence`
    is its confidence. A method has a row for each of its comparisons, or one row without a baseline.
    """
    metric = evidence.metric(task)
    rows: list[dict[str, Any]] = [
        {"method": TEACHER_ROW, "mean": evidence.teacher_score(task)},
        {"method": CONSTANT_ROW, "mean": evidence.constant_score(task)},
    ]
    for result in evidence.results(task):
        scores = {
            "method": result.method,
            "mean": POINTS * result.mean,
            "sd": POINTS * result.sd,
            "runs": len(result.scores),
        }
        differences = [
            scores | _difference_cells(comparison)
            for comparison in evidence.comparisons(task)
            if comparison.method == result.method
        ]
        rows += differences or [scores]
    rows.sort(key=lambda row: -row["mean"] if np.isfinite(row["mean"]) else np.inf)
    frame = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    return frame.assign(task=task, metric=metric)


def _difference_cells(comparison: Comparison) -> dict[str, Any]:
    interval = comparison.decided_by.interval
    return {
        "baseline": comparison.baseline,
        "difference": POINTS * comparison.difference.mean,
        "low": POINTS * interval.low,
        "high": POINTS * interval.high,
        "confidence": comparison.decided_by.confidence,
        "margin": POINTS * comparison.margin,
        "outcome": comparison.verdict.outcome,
    }


def verdict_display(frame: pd.DataFrame, styles: Styles, baseline: str | None) -> Table:
    """Print `verdict_table`, a bar for each interval. Exports have an interval's ends as two numbers.

    Without comparisons the table has scores alone.
    """
    label = f"Scores on {frame['task'].iloc[0]}, {frame['metric'].iloc[0]} in points"
    compared = frame[frame["outcome"].notna()]
    headings = [Cell("method"), Cell("score ± sd", True, parts=("mean", "sd"))]
    if compared.empty:
        rows = (_score_cells(row, styles) for row in frame.to_dict("records"))
        return Table(label, tuple(headings), tuple(rows))
    ends = compared[["difference", "low", "high"]].to_numpy().ravel()
    scale = bars.scale_of(ends.tolist(), float(compared["margin"].iloc[0]))
    headings += [
        Cell("verdict"),
        Cell("Δ", True, hint="difference to the baseline, points"),
        Cell("interval", True, parts=("low", "high"), drawing=bars.axis(scale)),
    ]
    table_rows = []
    for row in frame.to_dict("records"):
        cells = _score_cells(row, styles)
        table_rows.append((*cells, *_comparison_cells(row, scale, baseline)))
    title = f"{label}, against {_names(compared)}"
    return Table(title, tuple(headings), tuple(table_rows), compact=True)


def _names(compared: pd.DataFrame) -> str:
    return " and ".join(dict.fromkeys(compared["baseline"]))


def _score_cells(row: Mapping[Any, Any], styles: Styles) -> tuple[Cell, Cell]:
    style = styles.get(row["method"])
    score = number(2)(row["mean"])
    if np.isfinite(row["sd"]):
        score += f" ± {number(2)(row['sd'])}"
    return (
        Cell(row["method"], style=style, emphasis=style is not None, reference=style is None),
        Cell(score, True, values=(row["mean"], row["sd"])),
    )


def _comparison_cells(
    row: Mapping[Any, Any], scale: bars.Scale, baseline: str | None
) -> tuple[Cell, Cell, Cell]:
    if not isinstance(row["outcome"], str):
        word = "baseline" if row["method"] == baseline else ""
        return (
            Cell(word),
            Cell("", True),
            Cell("", True, values=("", ""), drawing=bars.empty_bar(scale) if word else None),
        )
    low, high = row["low"], row["high"]
    return (
        outcome_cell(row["outcome"]),
        number_cell(row["difference"], signed_text),
        Cell(
            interval_text(low, high),
            True,
            values=(low, high),
            drawing=bars.interval_bar(scale, row["difference"], low, high),
        ),
    )


def reading(evidence: Evidence) -> list[str]:
    """The sentences below the tables: what scores, bars and marks are."""
    manifest, comparisons = evidence.manifest, evidence.result.comparisons
    unit = "report seeds"
    if manifest.unit == "repeat":
        unit = "repeats"
    sentences = [f"Scores are means over {unit}, in points (score × 100); ± is their sd."]
    if manifest.unit == "trial":
        sentences = [
            f"Scores are tuned scores at a budget of {manifest.budget}, in points (score × 100); ± is "
            "the sd between searches."
        ]
    if not comparisons:
        return sentences
    if evidence.sequential:
        sentences.append(
            "Runs were added until the comparisons were decided, so there is no p value. The bar is the "
            "repeated interval, which holds after every look; for an equivalence it is that of both "
            "one-sided tests at all looks, which lies within the margin (the band)."
        )
        sentences.append(
            "A score counts the runs up to its own last look, a difference those of both."
        )
    else:
        sentences.append(
            "The bar is the interval of the test that gave the verdict, at the level at which Holm’s "
            "method tests the comparison: better or worse if it excludes zero. For an equivalence it is "
            "the interval of that test, which lies within the margin (the band)."
        )
    if any(comparison.verdict.outcome == "not decided" for comparison in comparisons):
        sentences.append("“Not decided” does not mean equal.")
    return sentences


def outcome_cell(outcome: str) -> Cell:
    """A verdict's mark and word."""
    return Cell(f"{SIGNS[outcome]} {outcome}", emphasis=True, values=(outcome,))


def overview_display(evidence: Evidence, styles: Styles) -> Table:
    """A row per method and a column per task, with the mean and the verdict's mark."""
    by_cell = {}
    for task in evidence.tasks:
        for row in verdict_table(evidence, task).to_dict("records"):
            by_cell[row["method"], task] = row
    headings = (
        Cell("method"),
        *(Cell(task, True, parts=("mean", "verdict")) for task in evidence.tasks),
    )
    rows = (
        (
            Cell(method, style=styles[method], emphasis=True),
            *(_overview_cell(by_cell.get((method, task))) for task in evidence.tasks),
        )
        for method in evidence.methods
    )
    return Table("Means and verdicts by task", headings, tuple(rows))


def _overview_cell(row: Mapping[Any, Any] | None) -> Cell:
    if row is None or not np.isfinite(row["mean"]):
        return Cell(DASH, True, values=("", ""))
    outcome = row["outcome"] if isinstance(row["outcome"], str) else ""
    text = f"{number(2)(row['mean'])} {SIGNS[outcome]}" if outcome else number(2)(row["mean"])
    return Cell(text, True, values=(row["mean"], outcome))
