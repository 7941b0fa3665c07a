"""The report's tables as data frames of numbers and names; `reports.kit.display` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from harness.analysis.results import MethodResult
from reports.evidence import POINTS, Evidence
from reports.numbers import setting_text
from reports.page.standings import standings

VERDICT_COLUMNS = [
    "task", "method", "metric", "mean", "sd", "seeds", "best", "rank", "standing", "baseline",
    "difference", "low", "high", "adjusted_p", "outcome",
]  # fmt: skip
MEBIBYTE = 2**20
TEACHER_ROW = "teacher"
CONSTANT_ROW = "constant prediction"


def verdict_table(evidence: Evidence) -> pd.DataFrame:
    """Per task: the teacher's score, the constant prediction's, a row per method and comparison.

    Scores, `sd` (n − 1, over report seeds), `difference`, `low` and `high` are in points. A method
    without a comparison has one row with an empty baseline; `best` marks the task's highest mean,
    `rank` and `standing` are those of `reports.page.standings`.
    """
    rows = [row for task in evidence.tasks for row in _task_rows(evidence, task)]
    return pd.DataFrame(rows, columns=pd.Index(VERDICT_COLUMNS))


def _task_rows(evidence: Evidence, task: str) -> list[dict[str, Any]]:
    metric = str(evidence.manifest["tasks"][task]["metrics"][0])
    references = ((TEACHER_ROW, teacher_score), (CONSTANT_ROW, constant_score))
    rows: list[dict[str, Any]] = [
        {"task": task, "method": name, "metric": metric, "mean": score(evidence, task)}
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
        compared = [c for c in evidence.result.comparisons if _is_of(c, result)]
        rows += [scores | _difference_cells(comparison) for comparison in compared] or [scores]
    return rows


def _is_of(comparison: Comparison, result: MethodResult) -> bool:
    return (comparison.task, comparison.method) == (result.task, result.method)


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


def effects_table(
    comparisons: Iterable[Comparison], discovery_p: Mapping[tuple[str, str, str], float]
) -> pd.DataFrame:
    """One row per comparison: what else there is to say of its differences; ends in points.

    `superiority` is in percent. NaN where there is nothing: without spread, without a margin, or
    without a p value for a fixed number of seeds. `discovery_p` is `Evidence.discovery_p`.
    """
    rows = []
    for comparison in comparisons:
        effects, paired = comparison.effects, comparison.difference
        bca, within = effects.bca_interval, comparison.equivalence
        row = {
            "holm_p": comparison.adjusted_p,
            "discovery_p": discovery_p.get(
                (comparison.task, comparison.method, comparison.baseline)
            ),
            "t_low": POINTS * paired.t_interval.low,
            "t_high": POINTS * paired.t_interval.high,
            "t_p": effects.t_p_value,
            "normality_p": effects.normality_p_value,
            "bca_low": None if bca is None else POINTS * bca.low,
            "bca_high": None if bca is None else POINTS * bca.high,
            "wilcoxon_p": effects.wilcoxon_p_value,
            "d_z": effects.d_z,
            "rank_biserial": effects.rank_biserial,
            "superiority": 100 * effects.superiority,
            "superiority_low": 100 * effects.superiority_interval.low,
            "superiority_high": 100 * effects.superiority_interval.high,
            "detectable": None if comparison.detectable is None else POINTS * comparison.detectable,
            "margin": None if comparison.margin is None else POINTS * comparison.margin,
            "equivalence_p": None if within is None else comparison.equivalence_p,
        }
        if comparison.looked is not None:  # they would be of a fixed number of seeds
            fixed = ("t_low", "t_high", "t_p", "bca_low", "bca_high", "wilcoxon_p")
            row |= dict.fromkeys((*fixed, "superiority_low", "superiority_high"))
        named = {"method": comparison.method, "baseline": comparison.baseline, "pairs": paired.n}
        rows.append(named | {k: np.nan if value is None else value for k, value in row.items()})
    return pd.DataFrame(rows)


def teacher_score(evidence: Evidence, task: str) -> float:
    """The teacher's primary metric in points, on the split the report runs are scored on.

    Before there is a report run, on the last split it was scored on.
    """
    by_split: Mapping[str, Mapping[str, float]] = evidence.teachers[task]["metrics"]
    split = evidence.evaluation_split(task)
    scores = by_split.get(split or "", list(by_split.values())[-1])
    metric = evidence.manifest["tasks"][task]["metrics"][0]
    return POINTS * float(scores.get(metric, np.nan))


def constant_score(evidence: Evidence, task: str) -> float:
    """What predicting the same for every example scores, in points; NaN when not recorded."""
    recorded = evidence.manifest["tasks"][task].get("constant")
    return POINTS * float(recorded) if recorded is not None else float("nan")


def metrics_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """Every metric's mean over report seeds in points, a row per method with report runs."""
    rows = [
        {"method": result.method} | {name: POINTS * value for name, value in result.metrics.items()}
        for result in evidence.results(task)
        if result.metrics
    ]
    return pd.DataFrame(rows)


def settings_table(results: Iterable[MethodResult]) -> pd.DataFrame:
    """Each method's best setting, its trial (from 0, as in Optuna) and mean selection score."""
    rows = []
    for result in results:
        if result.best_trial is None:
            continue
        runs = [run.record for run in result.search if run.trial == result.best_trial]
        score = POINTS * float(np.mean([record.metrics[result.metric] for record in runs]))
        trials = len({run.trial for run in result.search})
        names = (result.method, result.best_trial, trials, score)
        rows.append((*names, setting_text(result.setting)))
    return pd.DataFrame(
        rows, columns=pd.Index(["method", "best_trial", "trials", "points", "setting"])
    )


def teacher_table(teacher: Mapping[str, Any]) -> pd.DataFrame:
    """One row per split that the teacher was scored on, every metric in points."""
    by_split: Mapping[str, Mapping[str, float]] = teacher.get("metrics", {})
    rows = [
        {"split": split} | {name: POINTS * value for name, value in scores.items()}
        for split, scores in by_split.items()
    ]
    return pd.DataFrame(rows)


def cost_table(results: Iterable[MethodResult]) -> pd.DataFrame:
    """Per method and role: finished runs, seconds per run and in all, examples/s, memory in MiB.

    Seconds and speed are means over runs, memory is the greatest of any run.
    """
    rows = []
    for result in results:
        for role, runs in (("search", result.search), ("report", result.report)):
            records = [run.record for run in runs if run.record.status == "complete"]
            if records:
                seconds = [record.seconds for record in records]
                speed = float(np.mean([record.examples_per_second for record in records]))
                memory = max(record.peak_memory for record in records) / MEBIBYTE
                mean, total = float(np.mean(seconds)), sum(seconds)
                rows.append((result.method, role, len(records), mean, total, speed, memory))
    columns = ["method", "role", "runs", "seconds", "total", "examples_per_second", "memory"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def flat_table(values: Mapping[str, Any]) -> pd.DataFrame:
    """A nested mapping as rows of dotted `name` and `value` text."""
    return pd.DataFrame(list(_flat(values, "")), columns=pd.Index(["name", "value"]))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(str(part) for part in value)
        else:
            yield f"{prefix}{name}", "not set" if value in (None, {}) else str(value)
