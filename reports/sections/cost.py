"""What runs cost, and what quality is had for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports import tables
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import number
from reports.kit.drawing import Drawing
from reports.kit.palette import Style
from reports.sections.timeline.blocks import timeline_block
from reports.tables import MEBIBYTE

COST: display.Columns = {
    "method": ("method", None),
    "role": ("role", None),
    "runs": ("runs", number(0)),
    "seconds": ("seconds per run", number(1)),
    "total": ("seconds in all", number(1)),
    "examples_per_second": ("examples/s", number(0)),
    "memory": ("memory of GPU or process, MiB", number(0)),
}
AXES = {"seconds": "seconds per run", "memory": "peak memory, MiB"}
QUALITY_COLUMNS = [
    "method", "points", "seeds", "seconds", "memory", "shared", "seconds_front", "memory_front",
]  # fmt: skip


def cost_blocks(evidence: Evidence, styles: dict[str, Style]) -> Iterable[Block]:
    """The timeline of everything, then what each task's runs cost."""
    yield timeline_block(evidence, styles)
    for task in evidence.tasks:
        yield _cost_block(evidence, task, styles)


def quality_frame(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method with finished report runs: mean score in points, cost, and fronts.

    `seconds` is a run's mean and `memory` in MiB the greatest of any; `shared` says that runs of other
    methods were trained in the same populations, whose cost is divided equally. A method is on a front
    (`seconds_front`, `memory_front`) if no other one costs no more and scores no less, with one of the
    two better; one that is `shared` is on none.
    """
    found = [result for result in results if result.scores]
    owners = {run.record.fingerprint: r.method for r in found for run in r.report}
    rows = []
    for result in found:
        records = [run.record for run in result.report if run.record.status == "complete"]
        together = {name for r in records for name in r.provenance.get("population", ())}
        others = {owners[name] for name in together if name in owners} - {result.method}
        seconds = float(np.mean([record.seconds for record in records]))
        memory = max(record.peak_memory for record in records) / MEBIBYTE
        names = (result.method, POINTS * result.mean, len(records))
        rows.append((*names, seconds, memory, bool(others), False, False))
    frame = pd.DataFrame(rows, columns=pd.Index(QUALITY_COLUMNS))
    for name in AXES:
        frame[f"{name}_front"] = _front(frame["points"], frame[name], frame["shared"])
    return frame


def _front(points: pd.Series[float], cost: pd.Series[float], shared: pd.Series[bool]) -> list[bool]:
    """Which are not dominated, of those whose cost is their own."""
    places = list(zip(points, cost, shared, strict=True))
    pairs = [(point, own) for point, own, others in places if not others]
    return [
        not others and not any(p >= point and c <= own and (p, c) != (point, own) for p, c in pairs)
        for point, own, others in places
    ]


def quality_figure(
    frame: pd.DataFrame, cost: str, styles: Mapping[str, Style], metric: str
) -> Drawing:
    """Mean score by a cost of `AXES`, and the front's steps. From `quality_frame`."""
    figure = blank_figure(height=340, y_title=f"{metric}, points")
    front = frame[frame[f"{cost}_front"]].sort_values([cost, "points"])
    figure.add_scatter(
        x=front[cost].tolist(), y=front["points"].tolist(), mode="lines", hoverinfo="skip",
        line={"color": "#888888", "width": 1.5, "dash": "dot", "shape": "hv"},
    )  # fmt: skip
    figure.add_scatter(
        x=front[cost].tolist(), y=front["points"].tolist(), mode="markers", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 19, "color": "#888888", "line": {"width": 1.5}},
    )  # fmt: skip
    for row in frame.to_dict("records"):
        own = marker(styles[row["method"]], 10)
        own |= {"symbol": f"{own['symbol']}-open", "line": {"width": 2}} if row["shared"] else {}
        figure.add_scatter(
            x=[row[cost]], y=[row["points"]], mode="markers", marker=own, hoverinfo="text",
            hovertext=[
                f"{safe(row['method'])}: {row['points']:.2f} points<br>"
                f"{row['seconds']:.3g} seconds per run, {row['memory']:.0f} MiB"
            ],
        )  # fmt: skip
    figure.update_xaxes(title_text=AXES[cost])
    return figure


def _cost_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """Quality against cost, and what the runs cost."""
    results = evidence.results(task)
    table = tables.cost_table(results)
    if table.empty:
        return Block("")
    frame = quality_frame(results)
    metric = str(evidence.manifest["tasks"][task]["metrics"][0])
    several = len(frame) > 1
    costs = _costs(results) if several else []
    panels = tuple(_panel(frame, cost, styles, metric) for cost in costs)
    shared = frame.loc[frame["shared"].astype(bool), "method"].tolist()
    who = "all methods" if len(shared) == len(frame) else ", ".join(shared)
    notes = (
        (
            "Trained together with other methods, so that each has an equal share of one cost, which "
            f"is none of its own: {who}.",
        )
        if panels and shared
        else ()
    )
    shown = display.table("Cost", table, COST, styles)
    return Block(evidence.task_label(task), notes, panels=panels, tables=(shown,))


def _costs(results: Iterable[MethodResult]) -> list[str]:
    """The costs that are a method's own: on a processor, memory is what the whole process held."""
    devices = {run.record.inputs.get("device") for result in results for run in result.report}
    return list(AXES) if devices == {"cuda"} else ["seconds"]


def _panel(frame: pd.DataFrame, cost: str, styles: dict[str, Style], metric: str) -> Panel:
    caption = f"Mean {metric} against {AXES[cost].removesuffix(', MiB')}"
    front = frame[frame[f"{cost}_front"]]
    alt = "Not surpassed: " + "; ".join(
        f"{row['method']}, {row['points']:.2f} points at {row[cost]:.3g}"
        for row in front.to_dict("records")
    )
    if front.empty:
        alt = "No method was trained without others, so none has a cost of its own"
    return Panel(
        caption,
        f"{caption}. {alt}.",
        quality_figure(frame, cost, styles, metric),
        display.Numbers(frame),
        tuple((method, styles[method]) for method in frame["method"]),
    )
