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

SEARCH_OPACITY = 0.45
"""Opacity of search runs; report runs have opacity 1."""
CUT_WIDTH = 0.015
"""Width of a cut, as a share of the training time."""
MOST_NAMES = 40
"""With more workers, the bars have no names beside them."""
LEAST_NAME_GAP = 0.08
"""A task has no name if its first bar is closer to the last name than this share of the width."""
UNITS = ((48 * HOUR, 24 * HOUR, "days"), (2 * HOUR, HOUR, "hours"), (300, 60, "minutes"))


def timeline_figure(frame: pd.DataFrame, styles: Styles) -> Drawing:
    """A row per worker, a bar per stretch, times without runs cut out. From `bars`."""
    workers = list(dict.fromkeys(zip(frame["machine"], frame["worker"], strict=True)))
    heights = {worker: place for place, worker in enumerate(sorted(workers))}
    cuts = pauses(frame)
    training_time = float(frame["end"].max()) - sum(cut.end - cut.start for cut in cuts)
    unit, name = _unit(training_time)

    def place(seconds: float) -> float:
        return shown_time(seconds, cuts, CUT_WIDTH * training_time) / unit

    figure = blank_figure(height=min(1200, 150 + 30 * len(workers)), y_title=None)
    for (method, role), rows in frame.groupby(["method", "role"], sort=False):
        records = rows.to_dict("records")
        starts = [place(row["start"]) for row in records]
        lengths = [place(row["end"]) - start for row, start in zip(records, starts, strict=True)]
        figure.add_bar(
            orientation="h", base=_round(starts), x=_round(lengths), width=0.8,
            y=[heights[row["machine"], row["worker"]] for row in records],
            marker={
                "color": styles[str(method)].colour,
                "opacity": 1 if role == "report" else SEARCH_OPACITY,
                "line": {"width": 0},
            },
            hoverinfo="text", hovertext=[_bar_text(row) for row in records],
        )  # fmt: skip
    for cut in cuts:
        x = place(cut.end) - CUT_WIDTH * training_time / unit / 2
        figure.add_vline(x=x, line_width=1, line_dash="dot", line_color="#888888")
    last_name, least_gap = -math.inf, LEAST_NAME_GAP * place(float(frame["end"].max()))
    for task, rows in frame.groupby("task", sort=False):
        x = place(float(rows["start"].min()))
        if x - last_name >= least_gap:
            last_name = x
            figure.add_annotation(
                x=x, y=1, yref="paper", yanchor="bottom", xanchor="left", text=safe(task),
                showarrow=False, font={"size": 11},
            )  # fmt: skip
    figure.update_layout(barmode="overlay", margin={"t": 30})
    figure.update_xaxes(title_text=f"{name} since the first run began", rangemode="tozero")
    has_names = len(workers) <= MOST_NAMES
    figure.update_yaxes(
        tickvals=list(heights.values()) if has_names else [],
        ticktext=[_worker_text(*worker, workers) for worker in heights] if has_names else [],
        range=[len(workers) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    return figure


def _worker_text(machine: str, worker: int, workers: Sequence[tuple[str, int]]) -> str:
    """A worker's number, after the machine's number if there are several machines."""
    if len({name for name, _ in workers}) == 1:
        return f"worker {worker + 1}"
    place = sorted({name for name, _ in workers}).index(machine)
    return f"machine {place + 1}, worker {worker + 1}"


def _bar_text(row: Mapping[Hashable, Any]) -> str:
    runs = f"{row['runs']} run{'' if row['runs'] == 1 else 's'}"
    failures = f", {row['failed']} failed" if row["failed"] else ""
    return (
        f"{safe(row['method'])}, {safe(row['task'])}, {row['role']}: {runs}{failures}<br>"
        f"{_span(row['end'] - row['start'])}, from {_span(row['start'])}"
    )


def _unit(seconds: float) -> tuple[int, str]:
    return next(((size, name) for low, size, name in UNITS if seconds >= low), (1, "seconds"))


def _span(seconds: float) -> str:
    size, name = _unit(seconds)
    return f"{seconds / size:.3g} {name}"


def _round(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def timeline_block(evidence: Evidence, styles: Styles) -> Block:
    """The timeline of all tasks and a table of machines; empty before the first run."""
    frame = bars(evidence)
    if frame.empty:
        return Block("")
    machines = machine_table(frame)
    caption = "Runs over time"
    alt = (
        f"{frame['runs'].sum()} runs in {_span(float(frame['end'].max()))}, with "
        f"{_span(3600 * machines['hours'].sum())} of training on {machines['workers'].sum()} "
        f"worker{'' if machines['workers'].sum() == 1 else 's'}; runs that failed: "
        f"{frame['failed'].sum()}"
    )
    figure = timeline_figure(frame, styles)
    numbers = frame.assign(worker=frame["worker"] + 1)
    timeline = panel(caption, alt, figure, numbers, method_key(styles, frame["method"]))
    table = display.table("Machines", machines, MACHINES)
    return Block("Timeline", _pause_notes(pauses(frame)), panels=(timeline,), tables=(table,))


def _pause_notes(cuts: Sequence[Pause]) -> tuple[str, ...]:
    if not cuts:
        return ()
    lengths = [cut.end - cut.start for cut in cuts]
    return (
        f"Times without runs are cut out at the dotted lines: {len(cuts)} in number, "
        f"{_span(sum(lengths))} in all, the longest {_span(max(lengths))}.",
    )
