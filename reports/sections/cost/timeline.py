"""The timeline of all runs: the figure and the block, from the numbers of `bars`."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, method_key, panel
from reports.kit.canvas import blank_figure, safe
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.sections.cost.bars import (
    HOUR,
    MACHINES,
    Pause,
    bars,
    machine_table,
    pauses,
    shown_time,
)

PALE = 0.45
"""Opacity of search runs; that of report runs is one."""
CUT = 0.015
"""Width of a cut, as a share of the busy time."""
MOST_NAMED = 40
"""Workers whose bars have names beside them."""
NAMES_APART = 0.08
"""Tasks whose first bars are closer, as a share of the width, have no name of their own."""
UNITS = ((48 * HOUR, 24 * HOUR, "days"), (2 * HOUR, HOUR, "hours"), (300, 60, "minutes"))


def timeline_figure(frame: pd.DataFrame, styles: Styles) -> Drawing:
    """A row per worker, a bar per stretch, times without runs cut out. From `bars`."""
    workers = list(dict.fromkeys(zip(frame["machine"], frame["worker"], strict=True)))
    heights = {worker: place for place, worker in enumerate(sorted(workers))}
    cuts = pauses(frame)
    busy = float(frame["end"].max()) - sum(cut.end - cut.start for cut in cuts)
    unit, name = _unit(busy)

    def place(at: float) -> float:
        return shown_time(at, cuts, CUT * busy) / unit

    figure = blank_figure(height=min(1200, 150 + 30 * len(workers)), y_title=None)
    for (method, role), rows in frame.groupby(["method", "role"], sort=False):
        records = rows.to_dict("records")
        starts = [place(row["start"]) for row in records]
        lengths = [place(row["end"]) - start for row, start in zip(records, starts, strict=True)]
        figure.add_bar(
            orientation="h", base=_rounded(starts), x=_rounded(lengths), width=0.8,
            y=[heights[row["machine"], row["worker"]] for row in records],
            marker={
                "color": styles[str(method)].colour,
                "opacity": 1 if role == "report" else PALE,
                "line": {"width": 0},
            },
            hoverinfo="text", hovertext=[_bar_text(row) for row in records],
        )  # fmt: skip
    for cut in cuts:
        at = place(cut.end) - CUT * busy / unit / 2
        figure.add_vline(x=at, line_width=1, line_dash="dot", line_color="#888888")
    named, apart = -math.inf, NAMES_APART * place(float(frame["end"].max()))
    for task, rows in frame.groupby("task", sort=False):
        at = place(float(rows["start"].min()))
        if at - named >= apart:
            named = at
            figure.add_annotation(
                x=at, y=1, yref="paper", yanchor="bottom", xanchor="left", text=safe(task),
                showarrow=False, font={"size": 11},
            )  # fmt: skip
    figure.update_layout(barmode="overlay", margin={"t": 30})
    figure.update_xaxes(title_text=f"{name} of training, from the first run on", rangemode="tozero")
    shown = len(workers) <= MOST_NAMED
    figure.update_yaxes(
        tickvals=list(heights.values()) if shown else [],
        ticktext=[_worker_text(*worker, workers) for worker in heights] if shown else [],
        range=[len(workers) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    return figure


def _worker_text(machine: str, worker: int, workers: Sequence[tuple[str, int]]) -> str:
    """A worker's number, under its machine's where there are several."""
    if len({name for name, _ in workers}) == 1:
        return f"worker {worker + 1}"
    place = sorted({name for name, _ in workers}).index(machine)
    return f"machine {place + 1}, worker {worker + 1}"


def _bar_text(row: Mapping[Hashable, Any]) -> str:
    runs = f"{row['runs']} run{'' if row['runs'] == 1 else 's'}"
    failed = f", {row['failed']} failed" if row["failed"] else ""
    return (
        f"{safe(row['method'])}, {safe(row['task'])}, {row['role']}: {runs}{failed}<br>"
        f"{_span(row['end'] - row['start'])}, from {_span(row['start'])}"
    )


def _unit(seconds: float) -> tuple[int, str]:
    return next(((size, name) for least, size, name in UNITS if seconds >= least), (1, "seconds"))


def _span(seconds: float) -> str:
    size, name = _unit(seconds)
    return f"{seconds / size:.3g} {name}"


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def timeline_block(evidence: Evidence, styles: Styles) -> Block:
    """The timeline of all tasks and what trained them; empty before the first run."""
    frame = bars(evidence)
    if frame.empty:
        return Block("")
    machines = machine_table(frame)
    caption = "Runs over time"
    alt = (
        f"{frame['runs'].sum()} runs in {_span(float(frame['end'].max()))}, of which "
        f"{_span(3600 * machines['hours'].sum())} of training on {machines['workers'].sum()} "
        f"worker{'' if machines['workers'].sum() == 1 else 's'}, {frame['failed'].sum()} failed"
    )
    figure = timeline_figure(frame, styles)
    numbered = frame.assign(worker=frame["worker"] + 1)
    timeline = panel(caption, alt, figure, numbered, method_key(styles, frame["method"]))
    table = display.table("Machines", machines, MACHINES)
    return Block("Timeline", _cut_out(pauses(frame)), panels=(timeline,), tables=(table,))


def _cut_out(cuts: Sequence[Pause]) -> tuple[str, ...]:
    if not cuts:
        return ()
    lengths = [cut.end - cut.start for cut in cuts]
    return (
        f"Times without runs are cut out at the dotted lines: {len(cuts)}, of {_span(sum(lengths))} in "
        f"all, the longest {_span(max(lengths))}.",
    )
