"""Search: each trial's selection score, and the best settings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task, method_key, panel
from reports.kit.canvas import blank_figure, by_method, line, marker, safe
from reports.kit.display import Columns, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.kit.trials import search_history, setting_text

SETTINGS: Columns = {
    "method": ("method", None),
    "best_trial": ("best trial", number(0)),
    "trials": ("trials run", number(0)),
    "points": ("selection score, points", number(2)),
    "setting": ("setting", None),
}


def settings_table(results: Iterable[MethodResult]) -> pd.DataFrame:
    """Each method's best setting, its trial (from 0, as in Optuna) and selection score in points."""
    rows = []
    for result in results:
        if result.best_trial is None:
            continue
        runs = [run.record for run in result.search if run.trial == result.best_trial]
        score = POINTS * float(np.mean([record.metrics[result.metric] for record in runs]))
        trials = len({run.trial for run in result.search})
        names = (result.method, result.best_trial, trials, score)
        rows.append((*names, setting_text(result.setting)))
    return pd.DataFrame(rows, columns=pd.Index(SETTINGS))


def search_figure(history: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """Selection score by trial; the best is ringed. From `search_history`."""
    figure = blank_figure(height=360, y_title=f"selection {metric}, points")
    for method, rows in by_method(history):
        style = styles[method]
        complete_rows = rows[rows["status"] == "complete"]
        hover = [
            f"{safe(method)}, trial {trial}: {points:.2f}<br>"
            + "<br>".join(safe(part) for part in setting.split(", "))
            for trial, points, setting in zip(
                complete_rows["trial"],
                complete_rows["points"],
                complete_rows["setting"],
                strict=True,
            )
        ]
        figure.add_scatter(
            x=complete_rows["trial"].tolist(), y=complete_rows["points"].tolist(),
            mode="lines+markers", line=line(style, 1),
            marker=marker(style, 8), hoverinfo="text", hovertext=hover, meta=safe(method),
        )  # fmt: skip
        best = complete_rows[complete_rows["best"]]
        figure.add_scatter(
            x=best["trial"].tolist(), y=best["points"].tolist(), mode="markers",
            marker={
                "color": style.colour,
                "symbol": f"{style.symbol}-open",
                "size": 18,
                "line": {"width": 2},
            },
            hoverinfo="skip", meta=safe(method),
        )  # fmt: skip
    figure.update_xaxes(title_text="trial", dtick=1 + int(history["trial"].max()) // 10)
    return figure


def search_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The trials' scores and the best settings."""
    results = evidence.results(task)
    settings = settings_table(results)
    if settings.empty:
        return Block("")
    alt = "; ".join(
        f"{row['method']}: best {row['points']:.2f} points in trial {row['best_trial']}, "
        f"of {row['trials']} trials"
        for row in settings.to_dict("records")
    )
    history = search_history(results)
    figure = search_figure(history, styles, evidence.metric(task))
    key = method_key(styles, history["method"])
    return Block(
        evidence.task_label(task),
        panels=(panel("Selection score by trial", alt, figure, history, key),),
        tables=(display.table("Best settings", settings, SETTINGS, styles),),
    )


SECTION = Section(
    anchor="search",
    title="Search",
    reading=(
        "Each point is one trial: the selection score of one setting, averaged over the search seeds. "
        "The ring marks the best trial. The report runs use its setting."
    ),
    details="Hover over a point to see its setting. Trials count from 0, as in Optuna.",
    maker=by_task(search_block),
    reads_verdicts=False,
)
