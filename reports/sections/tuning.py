"""Tuning curves (the best score among a number of random settings), and the budget of each method."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.stats.tuning import TuningCurve, minimum_curve_trials, tuning_curve
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, by_task, method_key, panel
from reports.kit.canvas import band, blank_figure, by_method, line, marker, safe
from reports.kit.display import number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.kit.trials import search_history

CURVE_COLUMNS = ["method", "trials", "expected", "median", "low", "high"]
BUDGET: display.Columns = {
    "method": ("method", None),
    "trials": ("trials", number(0)),
    "random": ("random trials", number(0)),
    "failed": ("failed trials", number(0)),
    "pruned": ("pruned trials", number(0)),
    "search_seeds": ("runs a trial", number(0)),
    "epochs": ("epochs", number(0)),
    "report_seeds": ("report runs", number(0)),
}
PLURAL = re.compile(r"(?<=trial|epoch)s|(?<=run)s")
EQUAL_COLUMNS = ("trials", "search_seeds", "epochs")
"""Columns of `budget_table` in which fair searches of all methods are equal."""


@dataclass(frozen=True)
class TaskTuning:
    """One task's tuning curves by method, in points, and a sentence for each method without a curve.

    The first `random_trials` trials of each method were drawn at random. Every curve uses these trials.
    """

    random_trials: int
    confidence: float
    curves: Mapping[str, TuningCurve]
    gaps: tuple[str, ...]


def read_tuning(evidence: Evidence, task: str) -> TaskTuning:
    """The curves of all methods on a task."""
    manifest = evidence.manifest
    random_trials, confidence = manifest.random_trials, round(1 - manifest.alpha, 12)
    history = search_history(evidence.results(task))
    random_history = history[history["trial"] < random_trials]
    trials, none = dict(by_method(random_history)), random_history.iloc[:0]
    curves, gaps = {}, []
    for result in evidence.results(task):
        rows = trials.get(result.method, none)
        curve = _curve(rows, random_trials, len(manifest.search_seeds), confidence)
        if isinstance(curve, str):
            gaps.append(f"{result.method}: {curve}.")
        else:
            curves[result.method] = curve
    return TaskTuning(random_trials, confidence, curves, tuple(gaps))


def _curve(trials: pd.DataFrame, count: int, seeds: int, confidence: float) -> TuningCurve | str:
    """The curve of a method's random trials (rows of `search_history`), or why there is none."""
    finished_count = int((trials["seeds"] >= seeds).sum())
    if finished_count < count:
        return (
            f"{finished_count} of {count} random trials are finished, and a curve needs all of them"
        )
    pruned_count = int((trials["status"] == "pruned").sum())
    if pruned_count:
        return (
            f"{pruned_count} of {count} random trials were stopped early. A trial is stopped because of "
            "the other trials of its round, so the remaining trials are not independent, and there is "
            "no curve"
        )
    scores = trials.loc[trials["status"] == "complete", "points"].to_numpy()
    if not len(scores):
        return f"all {count} random trials failed"
    curve = tuning_curve(scores, count - len(scores), confidence)
    if not np.isfinite(curve.band).any():
        failures = f", {curve.failures} of which failed," if curve.failures else ""
        return f"{count} random trials{failures} are too few to bound the curve anywhere"
    return curve


def curve_frame(curves: Mapping[str, TuningCurve]) -> pd.DataFrame:
    """One row per method and number of trials: the best score's mean and median, the median's band.

    In points. An end of the band is infinite if there is no bound. `median` is minus infinity if it is
    as likely as not that all trials fail. `expected`, the mean, is NaN if any trial failed.
    """
    rows = [
        (method, trials, mean, median, *ends)
        for method, curve in curves.items()
        for trials, (mean, median, ends) in enumerate(
            zip(curve.expected_best, curve.median, curve.band, strict=True), start=1
        )
    ]
    return pd.DataFrame(rows, columns=pd.Index(CURVE_COLUMNS))


def budget_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per method: the budget of its search and report runs, counted from the records.

    `random` counts the trials that were drawn at random.
    """
    random_trials = evidence.manifest.random_trials
    history = search_history(evidence.results(task))
    trials, none, rows = dict(by_method(history)), history.iloc[:0], []
    for result in evidence.results(task):
        method_trials = trials.get(result.method, none)
        statuses = method_trials["status"].tolist()
        runs = (*result.search, *result.report)
        epochs = {run.record.inputs.training.epochs for run in runs}
        rows.append(
            {
                "method": result.method,
                "trials": len(statuses),
                "random": int((method_trials["trial"] < random_trials).sum()),
                "failed": statuses.count("failed"),
                "pruned": statuses.count("pruned"),
                "search_seeds": len({run.seed for run in result.search}),
                "epochs": epochs.pop() if len(epochs) == 1 else np.nan,
                "report_seeds": len(result.seeds),
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(list(BUDGET)))


def budget_warnings(budget: pd.DataFrame) -> list[str]:
    """A sentence for each of `EQUAL_COLUMNS` in which the methods' searches differ."""
    return [
        f"The methods' searches differ in {BUDGET[name][0]}: "
        + ", ".join(
            f"{method} {number(0)(value)}"
            for method, value in zip(budget["method"], budget[name], strict=True)
        )
        + "."
        for name in EQUAL_COLUMNS
        if budget[name].nunique(dropna=False) > 1
    ]


def tuning_figure(curves: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """A line and a band per method; an unbounded band runs to the edge. From `curve_frame`."""
    figure = blank_figure(height=380, y_title=f"best selection {metric}, points")
    ends = curves[["median", "low", "high"]].to_numpy()
    finite_ends = ends[np.isfinite(ends)]
    margin = 0.05 * float(np.ptp(finite_ends)) or 1.0
    edges = [float(finite_ends.min()) - margin, float(finite_ends.max()) + margin]
    for method, rows in by_method(curves):
        style, trials = styles[method], rows["trials"].tolist()
        low, high = (rows[name].clip(*edges).tolist() for name in ("low", "high"))
        figure.add_traces([band(method, style, trials, low, high)])
    for method, rows in by_method(curves):  # lines lie over all bands
        style, median = styles[method], rows["median"].tolist()
        figure.add_scatter(
            x=rows["trials"].tolist(),
            y=[value if np.isfinite(value) else None for value in median],
            mode="lines+markers", line=line(style, 2), marker=marker(style, 7), hoverinfo="text",
            meta=safe(method),
            hovertext=[f"{safe(method)}, {_best_text(row)}" for row in rows.to_dict("records")],
        )  # fmt: skip
    trial_count = int(curves["trials"].max())
    figure.update_xaxes(title_text="random trials", dtick=max(1, trial_count // 10))
    figure.update_yaxes(range=edges)
    return figure


def _best_text(row: Mapping[Hashable, Any]) -> str:
    low, high = row["low"], row["high"]
    median = f"{row['median']:.2f}" if np.isfinite(row["median"]) else "none"
    low_text = f"from {low:.2f}" if np.isfinite(low) else "no lower bound"
    high_text = f"to {high:.2f}" if np.isfinite(high) else "no upper bound"
    return f"best of {row['trials']}: {median} ({low_text}, {high_text})"


def tuning_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The curves, or why there are none, and the budget of each method."""
    if not any(result.search for result in evidence.results(task)):
        return Block("")
    budget = budget_table(evidence, task)
    tables: tuple[display.Table, ...] = ()
    notes: list[str] = []
    if len(budget.drop(columns="method").drop_duplicates()) == 1:
        notes.append(_budget_text(budget))
    else:
        tables = (display.table("Budget of each method", budget, BUDGET, styles),)
    warnings = budget_warnings(budget)
    tuning = read_tuning(evidence, task)
    notes += [*_trials_text(tuning, evidence.manifest.trials), *tuning.gaps]
    panels: tuple[Panel, ...] = ()
    if tuning.curves and not _few_trials(tuning):
        panels = (_panel(tuning, styles, evidence.metric(task)),)
    return Block(evidence.task_label(task), tuple(notes), tuple(warnings), panels, tables)


def _budget_text(budget: pd.DataFrame) -> str:
    """The budget that all methods have, in one sentence. From `budget_table`."""
    row = budget.iloc[0]
    counts = ", ".join(
        f"{number(0)(row[name])} {heading if row[name] != 1 else PLURAL.sub('', heading)}"
        for name, (heading, _) in BUDGET.items()
        if name != "method" and row[name]
    )
    return f"Every method has {counts}."


def _trials_text(tuning: TaskTuning, trials: int) -> list[str]:
    """The trials of the curves, or why there is no figure."""
    if _few_trials(tuning):
        least_trials = minimum_curve_trials(tuning.confidence)
        return [
            f"No curve: {tuning.random_trials} random trials are too few to bound one from both "
            f"sides at {100 * tuning.confidence:g} %. It takes at least {least_trials} (--sampler "
            f"random --trials {least_trials})."
        ]
    level = f"The band holds at {100 * tuning.confidence:g} %."
    if tuning.random_trials == trials:
        return [
            f"The curves use all {trials} trials of each method, which were drawn at random. {level}"
        ]
    return [
        f"The curves use the first {tuning.random_trials} of {trials} trials of each method, which were "
        f"drawn at random. {level} The sampler chose the other trials by earlier scores, so they are "
        "left out."
    ]


def _few_trials(tuning: TaskTuning) -> bool:
    return tuning.random_trials < minimum_curve_trials(tuning.confidence)


def _panel(tuning: TaskTuning, styles: Styles, metric: str) -> Panel:
    frame = curve_frame(tuning.curves)
    caption = f"Best selection {metric} among a number of random trials"
    alt = "; ".join(
        f"{method}: {_best_text(rows.to_dict('records')[-1])}" for method, rows in by_method(frame)
    )
    figure = tuning_figure(frame, styles, metric)
    return panel(caption, alt, figure, frame, method_key(styles, tuning.curves))


SECTION = Section(
    anchor="tuning",
    title="Tuning curves",
    reading=(
        "How the best selection score rises with the number of settings that are tried, all drawn at "
        "random. Line: the median of the best score. Band: an interval for the median that holds for "
        "all numbers of trials at once."
    ),
    details=(
        "The mean of the best score is among the figure's numbers. The band holds for each method "
        "separately, whatever the distribution of its scores. Without a bound, the band runs to the "
        "edge of the figure. It assumes independent trials, so it uses only trials that were drawn at "
        "random. It holds for these search seeds, this teacher and these ranges. A failed trial ranks "
        "below all others. The table counts the trials, seeds and epochs of each method; a fair "
        "comparison gives the same search to all methods."
    ),
    maker=by_task(tuning_block),
    settings_only=True,
    reads_verdicts=False,
)
