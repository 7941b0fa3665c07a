"""The page that sets two ablations of a runs folder side by side; no manifest planned it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.analysis.ablation_diff import Both, SideBySide
from harness.analysis.compare import AblationResult
from harness.analysis.results import MethodResult
from reports.evidence import POINTS
from reports.kit import display
from reports.kit.blocks import Block, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import Columns, Joint, Table, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles, method_styles
from reports.page.document import drawn_document
from reports.page.summary import source_text

NOT_PLANNED = (
    "NOT PLANNED: no manifest names this comparison, so it may have been chosen after results were "
    "seen. It has p values and intervals, and no verdict."
)


def render(found: SideBySide) -> str:
    """The page's HTML."""
    styles = method_styles(list(dict.fromkeys(both.method for both in found.pairs)))
    frame = differences(found)
    names = [side.manifest.name for side in (found.first, found.second)]
    banners = dict.fromkeys(
        [*_protocols(found), *_banners(found.first), *_banners(found.second), NOT_PLANNED]
    )
    blocks = [block for task in _tasks(found) if (block := _task_block(frame, task, styles)).panels]
    return drawn_document(
        "ablation_diff.html.j2",
        [panel for block in blocks for panel in block.panels],
        name=f"{names[0]} and {names[1]}",
        names=names,
        source=" and ".join(dict.fromkeys(_source(side) for side in (found.first, found.second))),
        banners=list(banners),
        commands=[side.manifest.command for side in (found.first, found.second)],
        changes=_changes_display(found, names),
        blocks=blocks,
        scores=_scores_display(frame, styles),
        alone=found.alone,
        confidence=f"{100 * (1 - found.alpha):g}",
        compared=sum(both.difference is not None for both in found.pairs),
    )


def _source(side: AblationResult) -> str:
    return source_text(side.manifest.source)


def _banners(side: AblationResult) -> list[str]:
    return list(side.manifest.banners)


def _protocols(found: SideBySide) -> list[str]:
    """A warning where the two chose and trained on other examples."""
    names = [side.manifest.protocol for side in (found.first, found.second)]
    if names[0] == names[1]:
        return []
    return [
        f"PROTOCOLS: {' and '.join(names)} select settings on other examples and train on other "
        "numbers of them. What differs is the protocol's doing, too."
    ]


def differences(found: SideBySide) -> pd.DataFrame:
    """One row per method on a task that both ablations have; scores and ends in points.

    `difference` is the second minus the first over `pairs` seeds, and both means are of these; where
    there is none (NaN) `remark` says why, and each mean is of all seeds of its side. `p` is the
    sign-flip test's, `holm_p` adjusted for all rows. An end may be infinite.
    """
    return pd.DataFrame([_row(both) for both in found.pairs], columns=pd.Index(COLUMNS))


COLUMNS = [
    "task", "method", "remark", "metric", "first", "first_sd", "first_seeds", "second", "second_sd",
    "second_seeds", "difference", "low", "high", "p", "holm_p", "pairs",
]  # fmt: skip


def _row(both: Both) -> dict[str, object]:
    paired = both.difference
    return {
        "task": both.task,
        "method": both.method,
        "remark": _remark(both),
        "metric": both.metric,
        **_scores("first", both.first, both),
        **_scores("second", both.second, both),
        "difference": np.nan if paired is None else POINTS * paired.mean,
        "low": np.nan if paired is None else POINTS * paired.interval.low,
        "high": np.nan if paired is None else POINTS * paired.interval.high,
        "p": np.nan if paired is None else paired.p_value,
        "holm_p": np.nan if both.adjusted_p is None else both.adjusted_p,
        "pairs": 0 if paired is None else paired.n,
    }


def _scores(name: str, side: MethodResult, both: Both) -> dict[str, float]:
    """One side's mean, deviation and number of seeds: those of the difference, where there is one."""
    if both.difference is not None:
        side = replace(side, seeds=both.seeds, scores=tuple(side.scores_of(both.seeds)))
    seeds = len(side.seeds)
    return {name: POINTS * side.mean, f"{name}_sd": POINTS * side.sd, f"{name}_seeds": seeds}


def _remark(both: Both) -> str:
    remarks = [both.refused] if both.refused else []
    if both.difference is not None and both.unpaired:
        remarks.append(f"seeds of one side only are left out: {', '.join(map(str, both.unpaired))}")
    if any(both.failed):
        remarks.append(
            f"{both.failed[0]} and {both.failed[1]} runs failed; what is left may flatter"
        )
    return "; ".join(remarks)


def _tasks(found: SideBySide) -> Sequence[str]:
    return list(dict.fromkeys(both.task for both in found.pairs))


def _task_block(frame: pd.DataFrame, task: str, styles: Styles) -> Block:
    rows = frame[(frame["task"] == task) & (frame["pairs"] > 0)]
    if rows.empty:
        return Block(task)
    caption = f"{task}: second minus first, {rows['metric'].iloc[0]}"
    alt = "; ".join(
        f"{row['method']}: {row['difference']:+.2f} points, "
        f"{display.interval_text(row['low'], row['high'])}"
        for row in rows.to_dict("records")
    )
    figure = differences_figure(rows, styles)
    return Block(task, panels=(panel(caption, alt, figure, rows),))


def differences_figure(rows: pd.DataFrame, styles: Styles) -> Drawing:
    """A row per method: the mean difference and its interval, where it has ends. From `differences`."""
    figure = blank_figure(height=110 + 40 * len(rows), y_title=None)
    traces = []
    for y, row in enumerate(rows.to_dict("records")):
        style, ends = styles[str(row["method"])], [row["low"], row["high"]]
        if np.isfinite(ends).all():
            traces.append(
                {
                    "type": "scatter", "x": ends, "y": [y, y], "mode": "lines", "hoverinfo": "skip",
                    "line": {"color": style.colour, "width": 5},
                }
            )  # fmt: skip
        hover = (
            f"{safe(row['method'])}: {row['difference']:+.2f} points "
            f"({display.interval_text(*ends)}), {row['pairs']} pairs"
        )
        traces.append(
            {
                "type": "scatter", "x": [row["difference"]], "y": [y], "mode": "markers",
                "marker": marker(style, 13), "hoverinfo": "text", "hovertext": [hover],
            }
        )  # fmt: skip
    figure.add_traces(traces)
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color="#888888")
    figure.update_xaxes(title_text="difference, points")
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[safe(method) for method in rows["method"]],
        range=[len(rows) - 0.4, -0.6],
    )
    return figure


def _scores_display(frame: pd.DataFrame, styles: Styles) -> Table:
    columns: Columns = {
        "method": ("method", None),
        "task": ("task", None),
        "remark": ("remark", None),
        "metric": ("metric", None),
        "first": ("first, points", number(2)),
        "first_sd": ("sd", number(2)),
        "first_seeds": ("seeds", number(0)),
        "second": ("second, points", number(2)),
        "second_sd": ("sd of second", number(2)),
        "second_seeds": ("seeds of second", number(0)),
        "difference": ("second minus first, points", display.signed),
        "low": ("interval", Joint(("high",), ("low", "high"), display.interval_text)),
        "p": ("p", display.p_text),
        "holm_p": ("p (Holm)", display.p_text),
        "pairs": ("pairs", number(0)),
    }
    return display.table("Both side by side", frame, columns, styles)


def _changes_display(found: SideBySide, names: Sequence[str]) -> Table:
    frame = pd.DataFrame(
        [(change.name, change.first, change.second) for change in found.changes],
        columns=pd.Index(["name", "first", "second"]),
    )
    columns: Columns = {
        "name": ("name", None),
        "first": (names[0], None),
        "second": (names[1], None),
    }
    return display.table("What differs", frame, columns)
