"""Cost: what the runs of each task cost, and the scores for that cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task
from reports.kit.display import Columns, number
from reports.kit.palette import Styles
from reports.sections.cost.quality import AXES, MEBIBYTE, quality_frame, quality_panel

COST: Columns = {
    "method": ("method", None),
    "role": ("role", None),
    "runs": ("runs", number(0)),
    "seconds": ("seconds per run", number(1)),
    "total": ("seconds in all", number(1)),
    "examples_per_second": ("examples/s", number(0)),
    "memory": ("memory of GPU or process, MiB", number(0)),
}


def cost_table(results: Iterable[MethodResult]) -> pd.DataFrame:
    """Per method and role: finished runs, seconds per run and in all, examples/s, memory in MiB.

    Seconds and speed are means over runs, memory is the greatest of any run.
    """
    rows = []
    for result in results:
        for role, runs in result.runs_by_role.items():
            records = [run.record for run in runs if run.record.status == "complete"]
            if records:
                seconds = [record.seconds for record in records]
                speed = float(np.mean([record.examples_per_second for record in records]))
                memory = max(record.peak_memory for record in records) / MEBIBYTE
                mean, total = float(np.mean(seconds)), sum(seconds)
                rows.append((result.method, role, len(records), mean, total, speed, memory))
    return pd.DataFrame(rows, columns=pd.Index(COST))


def cost_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """Quality against cost, and a table of costs."""
    results = evidence.results(task)
    table = cost_table(results)
    if table.empty:
        return Block("")
    frame = quality_frame(results)
    costs = _costs(results) if len(frame) > 1 else []
    kind = "Tuned" if any(result.tuned for result in results) else "Mean"
    panels = tuple(
        quality_panel(frame, cost, styles, evidence.metric(task), kind) for cost in costs
    )
    notes = (*_search_cost(evidence, results), *_shared_cost(frame)) if panels else ()
    cost = display.table("Cost", table, COST, styles)
    return Block(evidence.task_label(task), notes, panels=panels, tables=(cost,))


def _costs(results: Iterable[MethodResult]) -> list[str]:
    """The costs that differ by method: on a CPU, memory is the memory of the whole process."""
    devices = {run.record.inputs.device for result in results for run in result.report}
    return list(AXES) if devices == {"cuda"} else ["seconds"]


def _search_cost(evidence: Evidence, results: Iterable[MethodResult]) -> tuple[str, ...]:
    """A note on the cost of a search, where scores are tuned scores."""
    sds = [f"{result.method} {POINTS * result.sd:.2f}" for result in results if result.tuned]
    if not sds:
        return ()
    budget = evidence.manifest.pool_budget
    return (
        f"Scores are tuned scores at a budget of {budget} trial{'' if budget == 1 else 's'}, and the "
        f"seconds are those of one trial: a search takes {budget} times as long. Standard deviation of "
        f"one search's score, in points: {', '.join(sds)}.",
    )


def _shared_cost(frame: pd.DataFrame) -> tuple[str, ...]:
    """A note that names the methods without a cost of their own."""
    sharers = frame.loc[frame["shared"].astype(bool), "method"].tolist()
    if not sharers:
        return ()
    names = "all methods" if len(sharers) == len(frame) else ", ".join(sharers)
    return (
        "Trained together with other methods, so each has an equal share of the common cost and no "
        f"cost of its own: {names}.",
    )


SECTION = Section(
    anchor="cost",
    title="Cost",
    reading=(
        "Means over finished runs. A ring marks a method that no other method surpasses: none is better "
        "in score or cost without being worse in the other."
    ),
    details=(
        "Runs that were trained together divide their time equally. Memory is the most that any run "
        "used; on a CPU it is the memory of the whole process. Runs trained together share the "
        "machine: compare seconds only between runs on the same machine that were grouped in the same "
        "way. A method with an open mark shares its cost with other methods."
    ),
    maker=by_task(cost_block),
    reads_verdicts=False,
)
