"""The two tables that lead the page: scores with their verdicts, and means by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from reports.evidence import POINTS, Evidence
from reports.kit.display import (
    NOTHING,
    Cell,
    Table,
    interval_text,
    number,
    number_cell,
    p_text,
    signed,
)
from reports.kit.palette import Styles
from reports.page.standings import HIGHEST, TIED, standings
from reports.page.verdicts import SIGNS

COLUMNS = [
    "task", "method", "metric", "mean", "sd", "seeds", "best", "rank", "standing", "baseline",
    "difference", "low", "high", "adjusted_p", "outcome",
]  # fmt: skip
TEACHER_ROW = "teacher"
CONSTANT_ROW = "constant prediction"


def verdict_table(evidence: Evidence) -> pd.DataFrame:
    """Per task: the teacher's score, the constant prediction's, a row per method and comparison.

    Scores, `sd` (n − 1, over report seeds), `difference`, `low` and `high` are in points. A method
    without a comparison has one row with an empty baseline; `best` marks the task's highest mean,
    `rank` and `standing` are those of `standings`.
    """
    rows = [row for task in evidence.tasks for row in _task_rows(evidence, task)]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _task_rows(evidence: Evidence, task: str) -> list[dict[str, Any]]:
    metric = evidence.metric(task)
    references = (
        (TEACHER_ROW, evidence.teacher_score(task)),
        (CONSTANT_ROW, evidence.constant_score(task)),
    )
    rows: list[dict[str, Any]] = [
        {"task": task, "method": name, "metric": metric, "mean": score}
        for name, score in references
    ]
    results = evidence.results(task)
    highest = max((result.mean for result in results if result.scores), default=np.nan)
    stands = standings(evidence, task)
    for result in results:
        scores = {
            "task": task,
            "method": result.method,
            "metric": metric,
            "mean": POINTS * result.mean,
            "sd": POINTS * result.sd,
            "seeds": len(result.scores),
            "best": bool(result.mean == highest),
        }
        if result.method in stands:
            standing = stands[result.method]
            scores |= {"rank": standing.rank, "standing": standing.word}
        differences = [
            scores | _difference_cells(comparison)
            for comparison in evidence.comparisons(task)
            if comparison.method == result.method
        ]
        rows += differences or [scores]
    return rows


def _difference_cells(comparison: Comparison) -> dict[str, Any]:
    paired = comparison.difference
    return {
        "baseline": comparison.baseline,
        "difference": POINTS * paired.mean,
        "low": POINTS * comparison.interval.low,
        "high": POINTS * comparison.interval.high,
        "adjusted_p": np.nan if comparison.adjusted_p is None else comparison.adjusted_p,
        "outcome": comparison.verdict.outcome,
    }


def verdict_display(frame: pd.DataFrame, styles: Styles) -> Table:
    """Print `verdict_table`. The interval's ends are numbers of their own in exports.

    Of one task the label names it and its metric; of several, columns do.
    """
    tasks = frame[["task", "metric"]].drop_duplicates().to_numpy().tolist()
    several = len(tasks) != 1
    headings = (
        Cell("method"),
        *(Cell(text) for text in ("task", "metric") if several),
        *(Cell(text, True) for text in ("mean, points", "sd", "rank")),
        *(Cell(text) for text in ("vs the best", "verdict", "against")),
        Cell("difference, points", True),
        Cell("interval", True, parts=("low", "high")),
        *(Cell(text, True) for text in ("adjusted p", "seeds")),
    )
    rows = tuple(_verdict_row(row, styles, several) for row in frame.to_dict("records"))
    where = "" if several else f" on {tasks[0][0]}, by {tasks[0][1]}"
    return Table(f"Scores and differences{where}", headings, rows)


def _verdict_row(row: Mapping[Any, Any], styles: Styles, several: bool) -> tuple[Cell, ...]:
    reference = row["method"] in (TEACHER_ROW, CONSTANT_ROW) and row["method"] not in styles
    return (
        Cell(row["method"], style=styles.get(row["method"]), strong=not reference),
        *(Cell(row[name]) for name in ("task", "metric") if several),
        replace(number_cell(row["mean"], number(2)), strong=row["standing"] in (HIGHEST, TIED)),
        number_cell(row["sd"], number(2)),
        number_cell(row["rank"], _rank_text),
        Cell(_word(row["standing"])),
        _outcome_cell(row["outcome"]),
        Cell(_word(row["baseline"])),
        number_cell(row["difference"], signed),
        Cell(interval_text(row["low"], row["high"]), True, values=(row["low"], row["high"])),
        number_cell(row["adjusted_p"], p_text),
        number_cell(np.nan if reference else row["seeds"], number(0)),
    )


def _outcome_cell(outcome: Any) -> Cell:
    if not isinstance(outcome, str):
        return Cell(NOTHING, values=("",))
    return Cell(f"{SIGNS[outcome]} {outcome}", strong=True, values=(outcome,))


def overview_display(frame: pd.DataFrame, styles: Styles) -> Table:
    """One row per method, a column per task: mean, verdict and standing of `verdict_table`.

    Methods are in the order of their mean rank, over the tasks where they have one.
    """
    methods = frame[frame["method"].isin(styles)]
    tasks = list(dict.fromkeys(methods["task"]))
    by_method = dict(iter(methods.groupby("method", sort=False)))
    ranks = {name: rows.groupby("task")["rank"].first().mean() for name, rows in by_method.items()}
    parts = ("mean", "verdict", "vs the best")
    headings = (
        Cell("method"),
        Cell("mean rank", True),
        *(Cell(task, True, parts=parts) for task in tasks),
    )
    rows = []
    for name in sorted(by_method, key=lambda name: (np.isnan(ranks[name]), ranks[name])):
        of_task = {row["task"]: row for row in by_method[name].to_dict("records")}
        rows.append(
            (
                Cell(str(name), style=styles[str(name)], strong=True),
                number_cell(ranks[name], number(1)),
                *(_overview_cell(of_task.get(task)) for task in tasks),
            )
        )
    return Table("Means by task", headings, tuple(rows))


def _overview_cell(row: Mapping[Any, Any] | None) -> Cell:
    if row is None or not np.isfinite(row["mean"]):
        return Cell(NOTHING, True, values=("", "", ""))
    outcome = row["outcome"] if isinstance(row["outcome"], str) else ""
    standing = row["standing"] if isinstance(row["standing"], str) else ""
    text = f"{number(2)(row['mean'])} {SIGNS[outcome]}" if outcome else number(2)(row["mean"])
    values = (row["mean"], outcome, standing)
    return Cell(text, True, strong=standing in (HIGHEST, TIED), values=values)


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else NOTHING


def _rank_text(rank: float) -> str:
    return NOTHING if np.isnan(rank) else f"{rank:g}"
