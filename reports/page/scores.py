"""The first two tables of the page: scores with their verdicts, and means by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from reports.evidence import POINTS, Evidence
from reports.kit.display import (
    DASH,
    Cell,
    Table,
    interval_text,
    number,
    number_cell,
    p_text,
    signed_text,
)
from reports.kit.palette import Styles
from reports.page.standings import HIGHEST_MEAN, TIED_MEAN, standings
from reports.page.verdicts import SIGNS

COLUMNS = [
    "task", "method", "metric", "mean", "sd", "seeds", "best", "rank", "standing", "baseline",
    "difference", "low", "high", "adjusted_p", "outcome",
]  # fmt: skip
TEACHER_ROW = "teacher"
CONSTANT_ROW = "constant prediction"


def verdict_table(evidence: Evidence) -> pd.DataFrame:
    """Rows for each task: the teacher's score, the constant prediction's, and each method's.

    Scores, `sd` (n − 1, over report seeds), `difference`, `low` and `high` are in points. A method
    has a row for each of its comparisons, or one row without a baseline. `best` marks
    the task's highest mean; `rank` and `standing` are from `standings`.
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
    best_mean = max((r.mean for r in results if np.isfinite(r.mean)), default=np.nan)
    task_standings = standings(evidence, task)
    for result in results:
        scores = {
            "task": task,
            "method": result.method,
            "metric": metric,
            "mean": POINTS * result.mean,
            "sd": POINTS * result.sd,
            "seeds": len(result.scores),
            "best": bool(result.mean == best_mean),
        }
        if result.method in task_standings:
            standing = task_standings[result.method]
            scores |= {"rank": standing.rank, "standing": standing.word}
        differences = [
            scores | _difference_cells(comparison)
            for comparison in evidence.comparisons(task)
            if comparison.method == result.method
        ]
        rows += differences or [scores]
    return rows


def _difference_cells(comparison: Comparison) -> dict[str, Any]:
    difference = comparison.difference
    return {
        "baseline": comparison.baseline,
        "difference": POINTS * difference.mean,
        "low": POINTS * comparison.interval.low,
        "high": POINTS * comparison.interval.high,
        "adjusted_p": np.nan if comparison.adjusted_p is None else comparison.adjusted_p,
        "outcome": comparison.verdict.outcome,
    }


def verdict_display(frame: pd.DataFrame, styles: Styles, unit: str = "seed") -> Table:
    """Print `verdict_table`. Exports have the two ends of an interval as two numbers.

    The label names a single task and its metric; for several tasks, columns name them. `unit` is the
    manifest's unit of replication.
    """
    tasks = frame[["task", "metric"]].drop_duplicates().to_numpy().tolist()
    has_task_columns = len(tasks) != 1
    headings = (
        Cell("method"),
        *(Cell(text) for text in ("task", "metric") if has_task_columns),
        *(Cell(text, True) for text in ("mean, points", "sd", "rank")),
        *(Cell(text) for text in ("vs the best", "verdict", "against")),
        Cell("difference, points", True),
        Cell("interval", True, parts=("low", "high")),
        *(Cell(text, True) for text in ("adjusted p", f"{unit}s")),
    )
    rows = tuple(_verdict_row(row, styles, has_task_columns) for row in frame.to_dict("records"))
    suffix = "" if has_task_columns else f" on {tasks[0][0]}, by {tasks[0][1]}"
    return Table(f"Scores and differences{suffix}", headings, rows)


def _verdict_row(
    row: Mapping[Any, Any], styles: Styles, has_task_columns: bool
) -> tuple[Cell, ...]:
    reference = row["method"] in (TEACHER_ROW, CONSTANT_ROW) and row["method"] not in styles
    return (
        Cell(row["method"], style=styles.get(row["method"]), emphasis=not reference),
        *(Cell(row[name]) for name in ("task", "metric") if has_task_columns),
        replace(
            number_cell(row["mean"], number(2)),
            emphasis=row["standing"] in (HIGHEST_MEAN, TIED_MEAN),
        ),
        number_cell(row["sd"], number(2)),
        number_cell(row["rank"], _rank_text),
        Cell(_word(row["standing"])),
        _outcome_cell(row["outcome"]),
        Cell(_word(row["baseline"])),
        number_cell(row["difference"], signed_text),
        Cell(interval_text(row["low"], row["high"]), True, values=(row["low"], row["high"])),
        number_cell(row["adjusted_p"], p_text),
        number_cell(np.nan if reference else row["seeds"], number(0)),
    )


def _outcome_cell(outcome: Any) -> Cell:
    if not isinstance(outcome, str):
        return Cell(DASH, values=("",))
    return Cell(f"{SIGNS[outcome]} {outcome}", emphasis=True, values=(outcome,))


def overview_display(frame: pd.DataFrame, styles: Styles) -> Table:
    """A row per method and a column per task, with the mean, verdict and standing of `verdict_table`.

    Methods are in the order of their mean rank over the tasks on which they have a rank.
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
        rows_by_task = {row["task"]: row for row in by_method[name].to_dict("records")}
        rows.append(
            (
                Cell(str(name), style=styles[str(name)], emphasis=True),
                number_cell(ranks[name], number(1)),
                *(_overview_cell(rows_by_task.get(task)) for task in tasks),
            )
        )
    return Table("Means by task", headings, tuple(rows))


def _overview_cell(row: Mapping[Any, Any] | None) -> Cell:
    if row is None or not np.isfinite(row["mean"]):
        return Cell(DASH, True, values=("", "", ""))
    outcome = row["outcome"] if isinstance(row["outcome"], str) else ""
    standing = row["standing"] if isinstance(row["standing"], str) else ""
    text = f"{number(2)(row['mean'])} {SIGNS[outcome]}" if outcome else number(2)(row["mean"])
    values = (row["mean"], outcome, standing)
    return Cell(text, True, emphasis=standing in (HIGHEST_MEAN, TIED_MEAN), values=values)


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else DASH


def _rank_text(rank: float) -> str:
    return DASH if np.isnan(rank) else f"{rank:g}"
