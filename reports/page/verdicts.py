"""The verdicts in words and the two tables that lead the page: scores, and means by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from reports.evidence import Evidence
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
from reports.kit.palette import Style
from reports.page.standings import HIGHEST, TIED
from reports.tables import CONSTANT_ROW, TEACHER_ROW

SIGNS = {
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "not decided": "\N{WHITE CIRCLE}",
}
"""What stands for an outcome where there is no room for the word."""

FEW = 8
"""Up to so many verdicts are all open; more are folded, by task."""


@dataclass(frozen=True)
class TaskVerdicts:
    """A task's comparisons under its label."""

    label: str
    comparisons: tuple[Comparison, ...]

    @property
    def tally(self) -> str:
        """How many comparisons have which outcome."""
        return outcome_tally(comparison.verdict.outcome for comparison in self.comparisons)


def task_verdicts(evidence: Evidence) -> tuple[TaskVerdicts, ...]:
    """The comparisons of every task that has one."""
    compared = evidence.result.comparisons
    groups = (
        TaskVerdicts(evidence.task_label(task), tuple(c for c in compared if c.task == task))
        for task in evidence.tasks
    )
    return tuple(group for group in groups if group.comparisons)


def outcome_tally(outcomes: Iterable[str]) -> str:
    """`2 better, 1 not decided`: the outcomes that occur, in the order of `SIGNS`."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in SIGNS if counts[outcome])


def verdict_display(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Table:
    """Print `tables.verdict_table`. The interval's ends are numbers of their own in exports.

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


def _verdict_row(
    row: Mapping[Any, Any], styles: Mapping[str, Style], several: bool
) -> tuple[Cell, ...]:
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


def overview_display(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Table:
    """One row per method, a column per task: mean, verdict and standing of `tables.verdict_table`.

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
