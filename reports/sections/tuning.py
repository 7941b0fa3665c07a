"""Tuning curves, what the best of so many random settings scores; and what each search has used."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.stats.tuning import TuningCurve, minimum_trials, tuning_curve
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, by_task, method_key, panel
from reports.kit.canvas import blank_figure, by_method, fill_colour, line, marker, safe
from reports.kit.display import number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.kit.trials import search_history

CURVE_COLUMNS = ["method", "trials", "expected", "median", "low", "high"]
BUDGET: display.Columns = {
    "method": ("method", None),
    "trials": ("trials", number(0)),
    "random": ("of them random", number(0)),
    "failed": ("failed", number(0)),
    "pruned": ("pruned", number(0)),
    "search_seeds": ("search seeds", number(0)),
    "epochs": ("epochs", number(0)),
    "report_seeds": ("report seeds", number(0)),
}
EQUAL = ("trials", "search_seeds", "epochs")
"""What a fair search gives to each method alike."""


@dataclass(frozen=True)
class TaskTuning:
    """One task's tuning curves by method, in points, and a sentence on each method without one.

    The first `random` trials of each method were drawn at random, and so all curves are of so many.
    """

    random: int
    confidence: float
    curves: Mapping[str, TuningCurve]
    missing: tuple[str, ...]


def read_tuning(evidence: Evidence, task: str) -> TaskTuning:
    """The curves of all methods on a task."""
    manifest = evidence.manifest
    random, confidence = manifest.random_trials, round(1 - manifest.alpha, 12)
    history = search_history(evidence.results(task))
    curves, missing = {}, []
    for result in evidence.results(task):
        drawn = history[(history["method"] == result.method) & (history["trial"] < random)]
        found = _curve(drawn, random, len(manifest.search_seeds), confidence)
        if isinstance(found, str):
            missing.append(f"{result.method}: {found}.")
        else:
            curves[result.method] = found
    return TaskTuning(random, confidence, curves, tuple(missing))


def _curve(drawn: pd.DataFrame, random: int, seeds: int, confidence: float) -> TuningCurve | str:
    """The curve of a method's random trials, rows of `search_history`, or why there is none."""
    finished = int((drawn["seeds"] >= seeds).sum())
    if finished < random:
        return f"{finished} of {random} random trials are finished, a curve needs all"
    pruned = int((drawn["status"] == "pruned").sum())
    if pruned:
        return (
            f"{pruned} of {random} random trials were stopped early. Which ones depends on the others "
            "of their round, so those that are left are not independent, and there is no curve"
        )
    scores = drawn.loc[drawn["status"] == "complete", "points"].to_numpy()
    if not len(scores):
        return f"all of {random} random trials failed"
    curve = tuning_curve(scores, random - len(scores), confidence)
    if not np.isfinite(curve.band).any():
        failed = f", {curve.failures} of which failed," if curve.failures else ""
        return f"{random} random trials{failed} bound the curve nowhere"
    return curve


def curve_frame(curves: Mapping[str, TuningCurve]) -> pd.DataFrame:
    """One row per method and number of trials: mean and median best score, and the median's band.

    In points. An end of the band is infinite where there is no bound; `median` is minus infinity
    where it is as likely as not that all trials fail, `expected` is NaN where any failed.
    """
    rows = [
        (method, trials, expected, median, *ends)
        for method, curve in curves.items()
        for trials, (expected, median, ends) in enumerate(
            zip(curve.expected_best, curve.median, curve.band, strict=True), start=1
        )
    ]
    return pd.DataFrame(rows, columns=pd.Index(CURVE_COLUMNS))


def budget_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per method: what its search and report runs have used, counted from the records.

    `random` are the trials that were drawn at random.
    """
    random = evidence.manifest.random_trials
    history = search_history(evidence.results(task))
    rows = []
    for result in evidence.results(task):
        own = history[history["method"] == result.method]
        runs = (*result.search, *result.report)
        epochs = {run.record.inputs.training.epochs for run in runs}
        rows.append(
            {
                "method": result.method,
                "trials": len(own),
                "random": int((own["trial"] < random).sum()),
                "failed": int((own["status"] == "failed").sum()),
                "pruned": int((own["status"] == "pruned").sum()),
                "search_seeds": len({run.seed for run in result.search}),
                "epochs": epochs.pop() if len(epochs) == 1 else np.nan,
                "report_seeds": len(result.seeds),
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(list(BUDGET)))


def budget_warnings(budget: pd.DataFrame) -> list[str]:
    """A sentence for each part of the search that the methods did not have alike."""
    return [
        f"The searches are not alike in {BUDGET[name][0]}: "
        + ", ".join(
            f"{method} {number(0)(value)}"
            for method, value in zip(budget["method"], budget[name], strict=True)
        )
        + "."
        for name in EQUAL
        if budget[name].nunique(dropna=False) > 1
    ]


def tuning_figure(curves: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """A line and a band per method, drawn to the edge where unbounded. From `curve_frame`."""
    figure = blank_figure(height=380, y_title=f"best selection {metric}, points")
    ends = curves[["median", "low", "high"]].to_numpy()
    shown = ends[np.isfinite(ends)]
    margin = 0.05 * float(np.ptp(shown)) or 1.0
    edges = [float(shown.min()) - margin, float(shown.max()) + margin]
    for method, rows in by_method(curves):
        style, trials = styles[method], rows["trials"].tolist()
        low, high = (rows[name].clip(*edges).tolist() for name in ("low", "high"))
        figure.add_scatter(
            x=trials + trials[::-1], y=high + low[::-1], fill="toself", mode="lines",
            fillcolor=fill_colour(style.colour), line={"width": 0}, hoverinfo="skip",
        )  # fmt: skip
    for method, rows in by_method(curves):  # over all bands
        style, median = styles[method], rows["median"].tolist()
        figure.add_scatter(
            x=rows["trials"].tolist(),
            y=[value if np.isfinite(value) else None for value in median],
            mode="lines+markers", line=line(style, 2), marker=marker(style, 7), hoverinfo="text",
            hovertext=[f"{safe(method)}, {_best_text(row)}" for row in rows.to_dict("records")],
        )  # fmt: skip
    most = int(curves["trials"].max())
    figure.update_xaxes(title_text="random trials", dtick=max(1, most // 10))
    figure.update_yaxes(range=edges)
    return figure


def _best_text(row: Mapping[Hashable, Any]) -> str:
    low, high = row["low"], row["high"]
    median = f"{row['median']:.2f}" if np.isfinite(row["median"]) else "none"
    below = f"from {low:.2f}" if np.isfinite(low) else "no lower bound"
    above = f"to {high:.2f}" if np.isfinite(high) else "no upper bound"
    return f"best of {row['trials']}: {median} ({below}, {above})"


def tuning_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The curves, or why there are none, and the budget of each method's search."""
    if not any(result.search for result in evidence.results(task)):
        return Block("")
    budget = budget_table(evidence, task)
    shown = display.table("What each search has used", budget, BUDGET, styles)
    warnings = budget_warnings(budget)
    tuning = read_tuning(evidence, task)
    notes = (_trials_text(tuning, evidence.manifest.trials), *tuning.missing)
    warnings += _few(tuning)
    panels = (_panel(tuning, styles, evidence.metric(task)),) if tuning.curves else ()
    return Block(evidence.task_label(task), notes, tuple(warnings), panels, (shown,))


def _trials_text(tuning: TaskTuning, trials: int) -> str:
    level = f"the band holds at {100 * tuning.confidence:g} %"
    if tuning.random == trials:
        return f"All {trials} trials of each method, drawn at random; {level}."
    return (
        f"The first {tuning.random} of {trials} trials of each method, drawn at random; {level}. The "
        "sampler chose the others by earlier scores, so they are left out."
    )


def _few(tuning: TaskTuning) -> list[str]:
    least = minimum_trials(tuning.confidence)
    if tuning.random >= least:
        return []
    return [
        f"{tuning.random} random trials are too few to bound a curve from both sides at "
        f"{100 * tuning.confidence:g} %: {least} are the least, and are had by --sampler random "
        f"--trials {least}."
    ]


def _panel(tuning: TaskTuning, styles: Styles, metric: str) -> Panel:
    frame = curve_frame(tuning.curves)
    caption = f"Best selection {metric} of so many random trials"
    alt = "; ".join(
        f"{method}: {_best_text(rows.to_dict('records')[-1])}" for method, rows in by_method(frame)
    )
    figure = tuning_figure(frame, styles, metric)
    return panel(caption, alt, figure, frame, method_key(styles, tuning.curves))


SECTION = Section(
    anchor="tuning",
    title="Tuning curves",
    reading=(
        "How the best selection score rises with the number of settings tried, all of them "
        "drawn at random. Line: median. Band: holds for all numbers of trials at once."
    ),
    details=(
        "The mean is among the numbers. The band holds for each method on its own and whatever "
        "the distribution of its scores; it runs to the edge where there is no bound. It "
        "assumes independent trials, so only those drawn at random are used, and speaks of "
        "these search seeds, this teacher and these ranges. A failed trial ranks below all "
        "others. The table counts what each method's search has used, the same for all."
    ),
    maker=by_task(tuning_block),
)
