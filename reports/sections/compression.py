"""Compression: the sizes and speeds of teachers and students, and quality against latency."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from harness.axis_names import values_in_words
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, method_key, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import Columns, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

TEACHER = "teacher"
GREY = "#888888"
MEBIBYTE, MEGA = 2**20, 1e6
SIZES: Columns = {
    "cell": ("cell", None),
    "model": ("model", None),
    "parameters": ("parameters", number(0)),
    "body": ("without embeddings", number(0)),
    "mebibytes": ("weights, MiB", number(1)),
    "mflops": ("MFLOPs for one example", number(1)),
    "tokens": ("tokens", number(0)),
    "latency": ("latency, ms", number(2)),
    "throughput": ("examples/s", number(0)),
    "speed_up": ("speed-up", number(1)),
    "device": ("measured on", None),
}
COSTS = {"latency": "latency of one example, ms", "mflops": "MFLOPs for one example"}


def subjects(evidence: Evidence) -> dict[str, list[tuple[str, str]]]:
    """By task: its names in the manifest, one for each cell, and the cells' names."""
    grid = evidence.manifest.grid
    found: dict[str, list[tuple[str, str]]] = {}
    for subject in evidence.tasks:
        if subject in evidence.manifest.compression:
            task = subject if grid is None else grid.places[subject].task
            cell = "" if grid is None else values_in_words(grid.values_of(subject))
            found.setdefault(task, []).append((subject, cell))
    return found


def sizes_frame(evidence: Evidence, task: str) -> pd.DataFrame:
    """Two rows a cell, teacher and student: sizes, and speeds where they were measured.

    `mebibytes` are those of the weights in fp32, `latency` is in milliseconds, and `speed_up` is the
    teacher's latency over the model's.
    """
    rows = []
    for subject, cell in subjects(evidence)[task]:
        sizes = evidence.manifest.compression[subject]
        timing = sizes.timing
        for model, size, speed in sizes.models:
            rows.append(
                {
                    "cell": cell,
                    "model": model,
                    "parameters": size.parameters,
                    "body": size.body_parameters,
                    "mebibytes": size.weight_bytes / MEBIBYTE,
                    "mflops": size.flops / MEGA,
                    "tokens": size.length,
                    "latency": np.nan if speed is None else 1000 * speed.latency,
                    "throughput": np.nan if speed is None else speed.throughput,
                    "speed_up": np.nan
                    if timing is None or speed is None
                    else timing.teacher.latency / speed.latency,
                    "device": ""
                    if timing is None
                    else f"{timing.device}, {timing.threads} thread(s)",
                }
            )
    return pd.DataFrame(rows, columns=pd.Index(SIZES))


def quality_frame(evidence: Evidence, task: str) -> pd.DataFrame:
    """A row for each method in each cell, and one for the teacher: score in points, cost, and the front.

    The cost is the latency where all cells have one of the same device, else the operations. A model is
    on the `front` unless another one costs no more and scores no less, and is better in one of the two.
    """
    sizes = sizes_frame(evidence, task)
    is_timed = bool(sizes["latency"].notna().all()) and sizes["device"].nunique() == 1
    cost = "latency" if is_timed else "mflops"
    costs = sizes.set_index(["cell", "model"])[cost]
    rows: list[tuple[str, str, float, float]] = []
    for subject, cell in subjects(evidence)[task]:
        if not rows:
            score = evidence.teacher_score(subject)
            rows.append((TEACHER, "", score, float(costs[cell, TEACHER])))
        rows += [
            (result.method, cell, POINTS * result.mean, float(costs[cell, "student"]))
            for result in evidence.results(subject)
            if _has_score(result)
        ]
    frame = pd.DataFrame(rows, columns=pd.Index(["method", "cell", "points", cost]))
    frame["front"] = pareto_front(frame["points"].tolist(), frame[cost].tolist())
    return frame


def _has_score(result: MethodResult) -> bool:
    """Whether a method has the score that verdicts compare: a pool's trials have all ended."""
    return bool(result.scores and (result.tuned or not result.is_pool))


def pareto_front(points: list[float], costs: list[float]) -> list[bool]:
    """Whether no other model costs no more and scores no less, and is better in one of the two."""
    models = list(zip(points, costs, strict=True))
    return [
        not any(p >= point and c <= cost and (p, c) != (point, cost) for p, c in models)
        for point, cost in models
    ]


def quality_figure(frame: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """Score against latency or operations, and the front's steps. From `quality_frame`."""
    cost = _cost_of(frame)
    figure = blank_figure(height=340, y_title=f"{metric}, points")
    front = frame[frame["front"]].sort_values([cost, "points"])
    figure.add_scatter(
        x=front[cost].tolist(), y=front["points"].tolist(), mode="lines", hoverinfo="skip",
        line={"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv"},
    )  # fmt: skip
    for row in frame.to_dict("records"):
        look = {"symbol": "star", "size": 12, "color": GREY}
        if row["method"] != TEACHER:
            look = marker(styles[row["method"]], 10)
        name = " ".join(filter(None, (row["method"], row["cell"])))
        figure.add_scatter(
            x=[row[cost]], y=[row["points"]], mode="markers", marker=look, hoverinfo="text",
            hovertext=[f"{safe(name)}: {row['points']:.2f} points<br>{COSTS[cost]}: {row[cost]:.3g}"],
        )  # fmt: skip
    figure.update_xaxes(title_text=COSTS[cost], rangemode="tozero")
    return figure


def _cost_of(frame: pd.DataFrame) -> str:
    return "latency" if "latency" in frame else "mflops"


def _quality_panel(evidence: Evidence, task: str, styles: Styles) -> Panel:
    frame = quality_frame(evidence, task)
    cost = _cost_of(frame)
    metric = evidence.metric(subjects(evidence)[task][0][0])
    named = [
        f"{' '.join(filter(None, (row['method'], row['cell'])))}, {row['points']:.2f} points at "
        f"{row[cost]:.3g}"
        for row in frame[frame["front"]].to_dict("records")
    ]
    caption = f"{metric} against the {COSTS[cost].split(',')[0]}"
    figure = quality_figure(frame, styles, metric)
    key = method_key(styles, frame["method"])
    return panel(caption, f"Not surpassed: {'; '.join(named)}", figure, frame, key)


def compression_blocks(evidence: Evidence, styles: Styles) -> Iterable[Block]:
    """A block for each task: quality against latency, and the table of sizes and speeds."""
    for task, cells in subjects(evidence).items():
        has_cells = evidence.manifest.grid is not None
        columns = {key: value for key, value in SIZES.items() if has_cells or key != "cell"}
        table = display.table("Teacher and students", sizes_frame(evidence, task), columns, styles)
        has_scores = any(
            _has_score(result) for name, _ in cells for result in evidence.results(name)
        )
        panels = (_quality_panel(evidence, task, styles),) if has_scores else ()
        yield Block(task, panels=panels, tables=(table,))


SECTION = Section(
    anchor="compression",
    title="What the compression bought",
    reading=(
        "The sizes of teacher and students, and scores against what an answer costs. The dotted line "
        "joins the models that no other model surpasses; the star is the teacher."
    ),
    details=(
        "MFLOPs are millions of floating-point operations in the matrix products of one forward pass, "
        "for an example of the mean length of the first evaluation split; a multiplication with its "
        "addition counts as two. The weights are those of a kept student, in fp32. Latency is the time "
        "of one example, and examples/s those in batches of 32, both medians of repeats in which "
        "teacher and student took turns, with Hugging Face's classes in fp32. A command with --latency "
        "measures them; without it the figure shows scores against operations."
    ),
    maker=compression_blocks,
    part="evidence",
    reads_verdicts=False,
)
