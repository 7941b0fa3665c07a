"""The verdicts as a LaTeX table that fits one column of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.stats import wording
from reports.evidence import POINTS, Evidence
from reports.page.paper.latex import MARKS, comment, escape
from reports.page.scores import verdict_table
from reports.page.status import units

MOST_ROWS = 40
"""The most rows of a table with all tasks; where there are more, each task has its own table."""


def latex_tables(evidence: Evidence) -> str:
    """A float for all tasks or, of many rows, one for each task; empty without comparisons.

    A row has the method, its mean and sd, its difference with the interval that decides, in points, and
    the verdict's mark. Needs the packages booktabs and amssymb.
    """
    tasks = [task for task in evidence.tasks if evidence.comparisons(task)]
    frames = [verdict_table(evidence, task) for task in tasks]
    if not frames:
        return ""
    groups = [frames] if sum(map(len, frames)) <= MOST_ROWS else [[frame] for frame in frames]
    head = comment(f"{evidence.manifest.name}; needs the packages booktabs and amssymb")
    return head + "\n".join(_float(group, evidence) for group in groups)


def _float(frames: list[pd.DataFrame], evidence: Evidence) -> str:
    digits = _digits(pd.concat(frames))
    bodies = ["\\midrule\n".join(_group(frame, evidence, digits) for frame in frames)]
    return "".join(
        [
            "\\begin{table}[t]\n\\centering\\footnotesize\\setlength{\\tabcolsep}{2pt}\n",
            "\\begin{tabular}{@{}lrrc@{}}\n\\toprule\n",
            "Method & Score & $\\Delta$ [interval] & \\\\\n\\midrule\n",
            *bodies,
            "\\bottomrule\n\\end{tabular}\n",
            f"\\caption{{{_caption(frames, evidence)}}}\n\\end{{table}}\n",
        ]
    )


def _group(frame: pd.DataFrame, evidence: Evidence, digits: int) -> str:
    """A task's rows below its name."""
    task, metric = evidence.task_label(frame["task"].iloc[0]), frame["metric"].iloc[0]
    head = f"\\multicolumn{{4}}{{@{{}}l}}{{\\emph{{{escape(f'{task}, {metric}')}}}}} \\\\\n"
    return head + "".join(_row(row, digits) for row in frame.to_dict("records"))


def _row(row: Mapping[Any, Any], digits: int) -> str:
    score = _number(row["mean"], digits, signed=False)
    if np.isfinite(row["sd"]):
        # No space around the sign: the widest row fits into a narrow column.
        score = rf"{score}{{$\pm$}}{_number(row['sd'], digits, signed=False)}"
    difference = mark = ""
    if isinstance(row["outcome"], str):
        mark = MARKS[row["outcome"]]
        ends = r",\,".join(_number(row[end], digits, signed=True) for end in ("low", "high"))
        difference = f"{_number(row['difference'], digits, signed=True)} {{[}}{ends}{{]}}"
    return f"{escape(row['method'])} & {score} & {difference} & {mark} \\\\\n"


def _number(value: float, digits: int, *, signed: bool) -> str:
    if not np.isfinite(value):
        return "--" if np.isnan(value) else rf"${'-' if value < 0 else '+'}\infty$"
    return f"${round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}$"


def _digits(frame: pd.DataFrame) -> int:
    """One decimal, or two where one would put an interval's end on zero or on a margin."""
    ends = np.abs(frame[["low", "high"]].to_numpy(dtype=float))
    ends = ends[np.isfinite(ends)]
    edges = np.array([0.0, *frame["margin"].dropna().unique()])
    near = np.isclose(np.round(ends, 1)[:, None], edges) & ~np.isclose(ends[:, None], edges)
    return 2 if near.any() else 1


def _caption(frames: list[pd.DataFrame], evidence: Evidence) -> str:
    manifest = evidence.manifest
    tasks = {frame["task"].iloc[0] for frame in frames}
    comparisons = [pair for task in tasks for pair in evidence.comparisons(task)]
    score = "Means over report seeds with their sd"
    if manifest.unit == "repeat":
        tuned = "" if manifest.config.protocol.unit == "settings" else " of tuned scores"
        score = f"Means{tuned} over repeats with their sd"
    if manifest.unit == "trial":
        score = f"Tuned scores at a budget of {manifest.budget} with the sd between searches"
    count, level = len(manifest.family), f"{100 * manifest.alpha:g}%"
    family = "one comparison" if count == 1 else f"{count} comparisons"
    rule = "of the test that decides, at its level in Holm's method"
    if evidence.sequential:
        rule = "repeated, valid after every look, at an even share of the level"
    numbers = sorted({pair.difference.n for pair in comparisons})
    counts = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    baselines = " or ".join(dict.fromkeys(pair.baseline for pair in comparisons))
    margins = sorted({pair.margin for pair in comparisons})
    margin = " or ".join(wording.unsigned_points(value, POINTS) for value in margins)
    words = {"equivalent": f"equivalent within {margin}"}
    marks = ", ".join(f"{MARKS[name]} {escape(words.get(name, name))}" for name in MARKS)
    sentences = [
        *evidence.result.banners,
        f"{score}, in points.",
        f"Difference to {baselines} with the interval {rule} (level {level}, {family}).",
        f"Unit of replication: {units(manifest)}, n = {counts}.",
    ]
    if manifest.unit == "seed":
        sentences.append("A verdict is about two settings, not about methods.")
    return f"{escape(' '.join(sentences))} {marks}."
