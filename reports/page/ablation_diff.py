"""The page that compares two ablations of a runs folder; no manifest planned the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.analysis.ablation_diff import AblationDiff, MethodDiff
from harness.analysis.compare import AblationResult
from harness.analysis.results import MethodResult
from reports.evidence import POINTS
from reports.kit import display
from reports.kit.blocks import Block, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import Columns, JointColumn, Table, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles, method_styles
from reports.page.document import figures_document
from reports.page.summary import source_text

NOT_PLANNED = (
    "NOT PLANNED: no manifest names this comparison. The choice of the two ablations may depend on "
    "their results. The page has p values and intervals, and no verdict."
)


def render(comparison: AblationDiff) -> str:
    """The page's HTML."""
    styles = method_styles(list(dict.fromkeys(pair.method for pair in comparison.pairs)))
    frame = differences(comparison)
    names = [side.manifest.name for side in (comparison.first, comparison.second)]
    banners = dict.fromkeys(
        [
            *_protocols(comparison),
            *_banners(comparison.first),
            *_banners(comparison.second),
            NOT_PLANNED,
        ]
    )
    blocks = [
        block for task in _tasks(comparison) if (block := _task_block(frame, task, styles)).panels
    ]
    return figures_document(
        "ablation_diff.html.j2",
        [panel for block in blocks for panel in block.panels],
        name=f"{names[0]} and {names[1]}",
        names=names,
        source=" and ".join(
            dict.fromkeys(_source(side) for side in (comparison.first, comparison.second))
        ),
        banners=list(banners),
        commands=[side.manifest.command for side in (comparison.first, comparison.second)],
        changes=_changes_display(comparison, names),
        tuned=all(side.manifest.unit == "trial" for side in (comparison.first, comparison.second)),
        blocks=blocks,
        scores=_scores_display(frame, styles),
        alone=comparison.leftovers,
        confidence=f"{100 * (1 - comparison.alpha):g}",
        comparison_count=sum(pair.difference is not None for pair in comparison.pairs),
    )


def _source(side: AblationResult) -> str:
    return source_text(side.manifest.source)


def _banners(side: AblationResult) -> list[str]:
    return list(side.banners)


def _protocols(comparison: AblationDiff) -> list[str]:
    """A warning where the protocols of the two ablations differ."""
    names = [side.manifest.protocol for side in (comparison.first, comparison.second)]
    if names[0] == names[1]:
        return []
    return [
        f"PROTOCOLS: {' and '.join(names)} select settings on different examples and train on different "
        "numbers of examples. A difference of scores is an effect of the protocols, too."
    ]


def differences(comparison: AblationDiff) -> pd.DataFrame:
    """One row per method on a task that both ablations have; scores and interval ends in points.

    `difference` is the second minus the first over `pairs` seeds, and both means are of these seeds.
    Where `difference` is NaN, `remark` says why, and each mean is of all seeds of its side. `p` is of
    the sign-flip test, `holm_p` is adjusted for all rows. An end of an interval may be infinite.
    """
    return pd.DataFrame([_row(pair) for pair in comparison.pairs], columns=pd.Index(COLUMNS))


COLUMNS = [
    "task", "method", "remark", "metric", "first", "first_sd", "first_seeds", "second", "second_sd",
    "second_seeds", "difference", "low", "high", "p", "holm_p", "pairs",
]  # fmt: skip


def _row(pair: MethodDiff) -> dict[str, object]:
    difference = pair.difference
    return {
        "task": pair.task,
        "method": pair.method,
        "remark": _remark(pair),
        "metric": pair.metric,
        **_scores("first", pair.first, pair),
        **_scores("second", pair.second, pair),
        "difference": np.nan if difference is None else POINTS * difference.mean,
        "low": np.nan if difference is None else POINTS * difference.interval.low,
        "high": np.nan if difference is None else POINTS * difference.interval.high,
        "p": np.nan if difference is None else difference.p_value,
        "holm_p": np.nan if pair.adjusted_p is None else pair.adjusted_p,
        "pairs": 0 if difference is None else difference.n,
    }


def _scores(name: str, side: MethodResult, pair: MethodDiff) -> dict[str, float]:
    """One side's mean, deviation and number of seeds; over the paired seeds, if there are any."""
    if pair.difference is not None and side.tuned is None:
        side = replace(side, seeds=pair.seeds, scores=tuple(side.scores_of(pair.seeds)))
    seeds = len(side.seeds)
    return {name: POINTS * side.mean, f"{name}_sd": POINTS * side.sd, f"{name}_seeds": seeds}


def _remark(pair: MethodDiff) -> str:
    remarks = [pair.refusal] if pair.refusal else []
    if pair.difference is not None and pair.first.tuned is None and pair.unpaired_seeds:
        remarks.append(
            f"seeds of one side only are left out: {', '.join(map(str, pair.unpaired_seeds))}"
        )
    if any(pair.failure_counts):
        first, second = pair.failure_counts
        effect = "the means of the other runs may flatter"
        if pair.first.tuned is not None:
            effect = "they have the score of a constant prediction"
        remarks.append(f"{first} and {second} runs failed; {effect}")
    return "; ".join(remarks)


def _tasks(comparison: AblationDiff) -> Sequence[str]:
    return list(dict.fromkeys(pair.task for pair in comparison.pairs))


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
    """A row of the figure per row of `differences`: the mean difference and, if finite, its interval."""
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
        "first_seeds": ("runs", number(0)),
        "second": ("second, points", number(2)),
        "second_sd": ("sd of second", number(2)),
        "second_seeds": ("runs of second", number(0)),
        "difference": ("second minus first, points", display.signed_text),
        "low": ("interval", JointColumn(("high",), ("low", "high"), display.interval_text)),
        "p": ("p", display.p_text),
        "holm_p": ("p (Holm)", display.p_text),
        "pairs": ("pairs", number(0)),
    }
    return display.table("Scores of both ablations", frame, columns, styles)


def _changes_display(comparison: AblationDiff, names: Sequence[str]) -> Table:
    frame = pd.DataFrame(
        [(change.name, change.first, change.second) for change in comparison.changes],
        columns=pd.Index(["name", "first", "second"]),
    )
    columns: Columns = {
        "name": ("name", None),
        "first": (names[0], None),
        "second": (names[1], None),
    }
    return display.table("What differs", frame, columns)
