"""Tuned scores: what each method scores when it is tuned, for every budget of trials."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.pools import TunedPools, tuned_curves
from harness.stats.tuned_curve import TunedCurve
from harness.stats.tuned_examples import TunedInterval
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, by_task, method_key, panel
from reports.kit.canvas import band, blank_figure, by_method, line, marker, safe
from reports.kit.display import number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.kit.trials import setting_text

BAND_SEED = 0
CURVE_COLUMNS = ["method", "budget", "points", "low", "high"]
SEARCH_COLUMNS = ["method", "points", "searches"]
TABLE: display.Columns = {
    "method": ("method", None),
    "points": ("tuned score, points", number(2)),
    "sd": ("sd between searches", number(2)),
    "trials": ("trials", number(0)),
    "failed": ("failed trials", number(0)),
    "best_points": ("best trial's score, points", number(2)),
    "setting": ("best trial's setting", None),
}
VARIANCES: display.Columns = {
    "method": ("method", None),
    "baseline": ("against", None),
    "points": ("difference, points", number(2)),
    "searches": ("half width over new searches, points", number(2)),
    "examples": ("half width over new examples, points", number(2)),
    "search_share": ("share of searches, %", number(0)),
    "example_share": ("share of examples, %", number(0)),
}


def tuned_of(evidence: Evidence, task: str) -> dict[str, TunedPools]:
    """The pools of a task's methods whose trials have all ended, by method."""
    return {
        result.method: result.tuned for result in evidence.results(task) if result.tuned is not None
    }


def curve_frame(curves: Mapping[str, TunedCurve]) -> pd.DataFrame:
    """One row per method and budget: the tuned score and the ends of its band, in points."""
    rows = [
        (method, budget, *(POINTS * value for value in values))
        for method, curve in curves.items()
        for budget, values in zip(
            curve.budgets, zip(curve.scores, curve.low, curve.high, strict=True), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=pd.Index(CURVE_COLUMNS))


def search_frame(tuned: Mapping[str, TunedPools]) -> pd.DataFrame:
    """One row per method and score of one search, in points, with the share of searches up to
    the score, in percent."""
    rows = [
        (method, POINTS * score, 100 * share)
        for method, pools in tuned.items()
        for score, share in zip(*pools.distribution(), strict=True)
    ]
    return pd.DataFrame(rows, columns=pd.Index(SEARCH_COLUMNS))


def crossings(frame: pd.DataFrame) -> list[str]:
    """A sentence on each budget at which another method has the best tuned score. From `curve_frame`.

    Only the budgets of all curves count: a larger pool has a longer curve.
    """
    table = frame.pivot(index="budget", columns="method", values="points").dropna().round(9)
    best = table.idxmax(axis=1)
    changes = best[best != best.shift()]
    first, *later = [(int(str(budget)), str(method)) for budget, method in changes.items()]
    if not later:
        return [f"At every budget that all curves have, {first[1]} has the highest tuned score."]
    return [
        f"With a budget of one trial, {first[1]} has the highest tuned score; "
        + "; ".join(f"from {budget} trials on, {method}" for budget, method in later)
        + ". No test confirms this order."
    ]


def tuned_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per method: its tuned score, its pool, and the trial with the best selection score."""
    rows = []
    for result in evidence.results(task):
        if result.tuned is None:
            continue
        best = [run for run in result.report if run.trial == result.best_trial]
        score = best[0].record.metrics[result.metric] if best else np.nan
        rows.append(
            (
                result.method,
                POINTS * result.mean,
                POINTS * result.sd,
                sum(pool.trials for pool in result.tuned.pools),
                len(result.failed_seeds),
                POINTS * score,
                setting_text(result.setting),
            )
        )
    return pd.DataFrame(rows, columns=pd.Index(list(TABLE)))


def variance_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """One row per comparison with predictions: half the widths of its intervals, and their shares.

    A share is that of the sum of both squared widths, in percent; NaN if a width is unbounded.
    """
    rows = []
    for comparison in comparisons:
        interval = comparison.over_examples
        if not isinstance(interval, TunedInterval):
            continue
        share = 100 * interval.search_share
        rows.append(
            (
                comparison.method,
                comparison.baseline,
                POINTS * interval.mean,
                POINTS * (interval.searches.high - interval.searches.low) / 2,
                POINTS * (interval.examples.high - interval.examples.low) / 2,
                share,
                100 - share,
            )
        )
    return pd.DataFrame(rows, columns=pd.Index(list(VARIANCES)))


def tuned_figure(curves: pd.DataFrame, styles: Styles, metric: str, budget: int) -> Drawing:
    """A line and a band per method over the budgets; a mark at the verdicts' budget."""
    figure = blank_figure(height=420, y_title=f"tuned {metric}, points")
    for method, rows in by_method(curves):
        columns = (rows[name].tolist() for name in ("budget", "low", "high"))
        figure.add_traces([band(method, styles[method], *columns)])
    for method, rows in by_method(curves):  # lines lie over all bands
        figure.add_scatter(
            x=rows["budget"].tolist(), y=rows["points"].tolist(), mode="lines+markers",
            line=line(styles[method], 2), marker=marker(styles[method], 7), hoverinfo="text",
            meta=safe(method),
            hovertext=[f"{safe(method)}, {_score_text(row)}" for row in rows.to_dict("records")],
        )  # fmt: skip
    figure.add_vline(x=budget, line_width=1, line_dash="dash", line_color="#888888")
    figure.update_xaxes(
        title_text="budget, trials", dtick=max(1, int(curves["budget"].max()) // 10)
    )
    return figure


def search_figure(frame: pd.DataFrame, styles: Styles) -> Drawing:
    """A rising step line per method: the share of searches with a score up to a number of points."""
    figure = blank_figure(height=300, y_title="searches, %")
    for method, rows in by_method(frame):
        points, shares = rows["points"].tolist(), rows["searches"].tolist()
        hover_texts = [
            f"{safe(method)}: {share:.0f} % of searches score up to {point:.2f}"
            for point, share in zip(points, shares, strict=True)
        ]
        figure.add_scatter(
            x=points[:1] + points, y=[0.0, *shares], mode="lines", hoverinfo="text", meta=safe(method),
            line={**line(styles[method], 2), "shape": "hv"}, hovertext=["", *hover_texts],
        )  # fmt: skip
    figure.update_xaxes(title_text="score of one search, points")
    return figure


def _score_text(row: Mapping[Hashable, Any]) -> str:
    return f"{row['budget']} trials: {row['points']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def tuned_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The curves, and a table of the pools; empty where verdicts are on settings."""
    tuned = tuned_of(evidence, task)
    if not tuned:
        return Block("")
    confidence = round(1 - evidence.manifest.alpha, 12)
    frame = curve_frame(tuned_curves(tuned, confidence, BAND_SEED))
    tables = [display.table("Pools of trials", tuned_table(evidence, task), TABLE, styles)]
    variances = variance_table(evidence.comparisons(task))
    if len(variances):
        title = "Searches and examples in the uncertainty of each difference"
        tables.append(display.table(title, variances, VARIANCES, styles))
    notes = (
        f"The dashed line is the verdicts' budget. The bands are approximate, at nominally "
        f"{100 * confidence:g} %.",
        *crossings(frame),
    )
    panels = (_panel(frame, styles, evidence), _search_panel(tuned, styles))
    return Block(evidence.task_label(task), notes, panels=panels, tables=tuple(tables))


def _panel(frame: pd.DataFrame, styles: Styles, evidence: Evidence) -> Panel:
    budget = evidence.manifest.config.protocol.budget
    alt = "; ".join(
        f"{method}, {_score_text(row)}"
        for method, rows in by_method(frame)
        for row in rows.to_dict("records")
        if row["budget"] == min(budget, int(frame["budget"].max()))
    )
    figure = tuned_figure(frame, styles, "score", budget)
    caption = "Tuned score by the budget of a tuner"
    return panel(caption, alt, figure, frame, method_key(styles, frame["method"]))


def _search_panel(tuned: Mapping[str, TunedPools], styles: Styles) -> Panel:
    frame = search_frame(tuned)
    medians = frame[frame["searches"] >= 50].groupby("method", sort=False)["points"].min()
    alt = "; ".join(
        f"{method}: half of the searches up to {m:.2f}" for method, m in medians.items()
    )
    budget = next(iter(tuned.values())).budget
    caption = f"Scores of single searches with {budget} trial{'' if budget == 1 else 's'}"
    return panel(
        caption, alt, search_figure(frame, styles), frame, method_key(styles, frame["method"])
    )


SECTION = Section(
    anchor="tuned",
    title="Tuned scores",
    reading=(
        "The score of a method on the reported split when a tuner trains a number of random settings "
        "and keeps the one with the best selection score. Read it at your own budget of trials."
    ),
    details=(
        "A pool holds independent trials of one method, each with a random setting and a seed of its "
        "own. The tuned score at a budget is the mean reported score of the kept trial, over all "
        "subsets of that many trials of the pool. The band of a method holds for all its budgets at "
        "once, approximately. It is about new trials of this method, on these examples and with this "
        "teacher. The curves end at half of the trials. The sd says how much the result of one search "
        "differs from that of another, and the second figure has the share of searches up to each "
        "score. The best trial has the best selection score of the whole pool; its score is one run's, "
        "and no choice looked at the reported split. The second table says where the uncertainty of a "
        "difference comes from: more trials make the part of searches smaller, and only a larger split "
        "makes the part of examples smaller. Its half widths are at the level that is adjusted for all "
        "comparisons. Both parts contain a trial's luck on single examples. The "
        "part of searches is that of settings and seeds together: each trial has a seed of its own, so "
        "a pool cannot separate them."
    ),
    maker=by_task(tuned_block),
    part="evidence",
)
