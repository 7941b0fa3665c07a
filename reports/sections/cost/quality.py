"""Quality against cost: each method's score, its cost, and the methods that no other surpasses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import POINTS
from reports.kit.blocks import Panel, method_key, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

MEBIBYTE = 2**20
AXES = {"seconds": "seconds per run", "memory": "peak memory, MiB"}
COLUMNS = [
    "method", "points", "seeds", "seconds", "memory", "shared", "seconds_front", "memory_front",
]  # fmt: skip


def quality_frame(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method with finished report runs: its score in points, cost, and fronts.

    The score is the mean of the report runs, or the tuned score of a pool whose trials have ended.

    `seconds` is the mean of a method's runs, `memory` their maximum in MiB. `shared` says that runs of
    other methods were trained in the same populations, whose cost is divided equally. A method is on a
    front (`seconds_front`, `memory_front`) unless another method costs no more and scores no less, and
    is better in one of the two. A `shared` method is on no front.
    """
    scored_results = [
        result for result in results if result.scores and (result.tuned or not result.is_pool)
    ]
    owners = {run.record.fingerprint: r.method for r in scored_results for run in r.report}
    rows = []
    for result in scored_results:
        records = [run.record for run in result.report if run.record.status == "complete"]
        population_names = {name for r in records for name in r.provenance.population}
        others = {owners[name] for name in population_names if name in owners} - {result.method}
        seconds = float(np.mean([record.seconds for record in records]))
        memory = max(record.peak_memory for record in records) / MEBIBYTE
        names = (result.method, POINTS * result.mean, len(records))
        rows.append((*names, seconds, memory, bool(others), False, False))
    frame = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    for name in AXES:
        frame[f"{name}_front"] = _front(frame["points"], frame[name], frame["shared"])
    return frame


def _front(points: pd.Series[float], cost: pd.Series[float], shared: pd.Series[bool]) -> list[bool]:
    """Whether each method is on the front, by score and cost; a `shared` method is not."""
    rows = list(zip(points, cost, shared, strict=True))
    rivals = [(point, price) for point, price, others in rows if not others]
    return [
        not others
        and not any(p >= point and c <= price and (p, c) != (point, price) for p, c in rivals)
        for point, price, others in rows
    ]


def quality_figure(frame: pd.DataFrame, cost: str, styles: Styles, metric: str) -> Drawing:
    """Score by a cost of `AXES`, and the front's steps. From `quality_frame`."""
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
        look = marker(styles[row["method"]], 10)
        if row["shared"]:
            look |= {"symbol": f"{look['symbol']}-open", "line": {"width": 2}}
        figure.add_scatter(
            x=[row[cost]], y=[row["points"]], mode="markers", marker=look, hoverinfo="text",
            meta=safe(row["method"]),
            hovertext=[
                f"{safe(row['method'])}: {row['points']:.2f} points<br>"
                f"{row['seconds']:.3g} seconds per run, {row['memory']:.0f} MiB"
            ],
        )  # fmt: skip
    figure.update_xaxes(title_text=AXES[cost], rangemode="tozero")
    return figure


def quality_panel(
    frame: pd.DataFrame, cost: str, styles: Styles, metric: str, kind: str = "Mean"
) -> Panel:
    """The figure of one cost, and the methods on its front in words. `kind` is "Mean" or "Tuned"."""
    caption = f"{kind} {metric} against {AXES[cost].removesuffix(', MiB')}"
    front = frame[frame[f"{cost}_front"]]
    alt = "Not surpassed: " + "; ".join(
        f"{row['method']}, {row['points']:.2f} points at {row[cost]:.3g}"
        for row in front.to_dict("records")
    )
    if front.empty:
        alt = "No method was trained without others, so none has a cost of its own"
    figure = quality_figure(frame, cost, styles, metric)
    return panel(caption, alt, figure, frame, method_key(styles, frame["method"]))
