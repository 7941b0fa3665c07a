"""The blocks of timeline and cost: all runs over time, then what each task's runs cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section
from reports.kit.display import Columns, number
from reports.kit.palette import Styles
from reports.sections.cost.quality import AXES, MEBIBYTE, quality_frame, quality_panel
from reports.sections.cost.timeline import timeline_block

COST: Columns = {
    "method": ("method", None),
    "role": ("role", None),
    "runs": ("runs", number(0)),
    "seconds": ("seconds per run", number(1)),
    "total": ("seconds in all", number(1)),
    "examples_per_second": ("examples/s", number(0)),
    "memory": ("memory of GPU or process, MiB", number(0)),
}


def cost_blocks(evidence: Evidence, styles: Styles) -> Iterable[Block]:
    """The timeline of everything, then what each task's runs cost."""
    yield timeline_block(evidence, styles)
    for task in evidence.tasks:
        yield _cost_block(evidence, task, styles)


def cost_table(results: Iterable[MethodResult]) -> pd.DataFrame:
    """Per method and role: finished runs, seconds per run and in all, examples/s, memory in MiB.

    Seconds and speed are means over runs, memory is the greatest of any run.
    """
    rows = []
    for result in results:
        for role, runs in (("search", result.search), ("report", result.report)):
            records = [run.record for run in runs if run.record.status == "complete"]
            if records:
                seconds = [record.seconds for record in records]
                speed = float(np.mean([record.examples_per_second for record in records]))
                memory = max(record.peak_memory for record in records) / MEBIBYTE
                mean, total = float(np.mean(seconds)), sum(seconds)
                rows.append((result.method, role, len(records), mean, total, speed, memory))
    return pd.DataFrame(rows, columns=pd.Index(COST))


def _cost_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """Quality against cost, and what the runs cost."""
    results = evidence.results(task)
    table = cost_table(results)
    if table.empty:
        return Block("")
    frame = quality_frame(results)
    costs = _costs(results) if len(frame) > 1 else []
    panels = tuple(quality_panel(frame, cost, styles, evidence.metric(task)) for cost in costs)
    notes = _shared_cost(frame) if panels else ()
    cost = display.table("Cost", table, COST, styles)
    return Block(evidence.task_label(task), notes, panels=panels, tables=(cost,))


def _costs(results: Iterable[MethodResult]) -> list[str]:
    """The costs that are a method's own: on a processor, memory is what the whole process held."""
    devices = {run.record.inputs.device for result in results for run in result.report}
    return list(AXES) if devices == {"cuda"} else ["seconds"]


def _shared_cost(frame: pd.DataFrame) -> tuple[str, ...]:
    """Which methods have no cost of their own."""
    shared = frame.loc[frame["shared"].astype(bool), "method"].tolist()
    if not shared:
        return ()
    who = "all methods" if len(shared) == len(frame) else ", ".join(shared)
    return (
        "Trained together with other methods, so that each has an equal share of one cost, which "
        f"is none of its own: {who}.",
    )


SECTION = Section(
    anchor="cost",
    title="Timeline and cost",
    reading=(
        "Timeline: pale bars are search runs, full ones report runs. Cost: means over finished "
        "runs; ringed methods are surpassed by no other that costs no more, going by means."
    ),
    details=(
        "Runs that were trained together share a bar by their equal shares, and times without "
        "runs are cut out. A worker is a process: the ledger does not name them, bars that "
        "overlap are given to different ones. Memory is the greatest of any run, on a CPU of "
        "the whole process. Runs trained together share the machine, so compare seconds only "
        "within one machine and grouping. Open marks share their cost with other methods."
    ),
    maker=cost_blocks,
)
