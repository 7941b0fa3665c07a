"""When which runs were trained, and on what: a bar for runs of one kind that were trained in a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pandas as pd

from harness.storage.record import Record
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.display import number

UNSEEN = 0.002
"""Breaks below this share of the whole are not shown: they would be under two pixels wide."""
PAUSE_SHARE, PAUSE_SECONDS = 0.05, 60.0
"""A time without any run is cut out if it is as long as both, the share being of the busy time."""
COLUMNS = ["machine", "worker", "task", "method", "role", "start", "end", "runs", "failed"]
HOUR = 3600
MACHINES: display.Columns = {
    "machine": ("machine", None),
    "workers": ("workers at once", number(0)),
    "runs": ("runs", number(0)),
    "hours": ("hours of training", number(3)),
}


@dataclass
class _Population:
    """Runs that were trained together; `end` in seconds since 1970."""

    machine: str
    task: str
    seconds: float = 0.0
    end: float = 0.0
    kinds: dict[tuple[str, str], list[Record]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Pause:
    """A time in which nothing was trained, in seconds since the first run began."""

    start: float
    end: float


def bars(evidence: Evidence) -> pd.DataFrame:
    """One row per machine, worker, task, method and role, and stretch of time, by its start.

    `start` and `end` are in seconds since the first run began: a population's end is when its records
    were written, and its start is earlier by the seconds that it trained. It is divided among its runs
    by their equal shares, one method after the other. The ledger does not say which process trained
    what: populations that overlap on a machine are given to different workers, as few as there can be.
    """
    populations = sorted(_populations(evidence), key=lambda one: (one.end - one.seconds, one.end))
    free: dict[str, list[float]] = defaultdict(list)
    rows = []
    for population in populations:
        start = population.end - population.seconds
        ends = free[population.machine]
        worker = next((place for place, end in enumerate(ends) if end <= start), len(ends))
        ends[worker : worker + 1] = [population.end]
        for (method, role), records in population.kinds.items():
            end = start + sum(record.seconds for record in records)
            failed = sum(record.status == "failed" for record in records)
            what = (population.machine, worker, population.task, method, role)
            rows.append((*what, start, end, len(records), failed))
            start = end
    frame = pd.DataFrame(_joined(rows), columns=pd.Index(COLUMNS))
    frame[["start", "end"]] -= frame["start"].min()
    return frame


def _populations(evidence: Evidence) -> Iterable[_Population]:
    """The populations of all runs of which the ledger knows when they were written."""
    found: dict[tuple[str, ...], _Population] = {}
    seen: set[str] = set()
    results = (*evidence.result.results, *chain.from_iterable(evidence.repeats.values()))
    for result in results:
        for run in (*result.search, *result.report):
            record = run.record
            if record.created is None or record.fingerprint in seen:
                continue
            seen.add(record.fingerprint)
            key = record.provenance.population
            one = found.setdefault(key, _Population(_machine(record), result.task))
            one.seconds = max(one.seconds, record.seconds * len(key))
            one.end = max(one.end, record.created)
            one.kinds[result.method, run.role].append(record)
    return found.values()


def _machine(record: Record) -> str:
    """What a record says of where it was made; machines that are alike are one."""
    provenance, device = record.provenance, record.inputs.device
    processor = provenance.processor or provenance.machine or "unknown processor"
    cores = "" if provenance.cores is None else f", {provenance.cores} cores"
    return f"{processor}{cores}" + ("" if device == "cpu" else f", {device}")


def _joined(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of one kind that follow one another on a worker, without a break that could be seen."""
    if not rows:
        return []
    unseen = UNSEEN * (max(row[6] for row in rows) - min(row[5] for row in rows))
    last: dict[tuple[str, int], tuple[Any, ...]] = {}
    done = []
    for row in rows:
        before = last.get(row[:2])
        if before is not None and before[:5] == row[:5] and row[5] - before[6] <= unseen:
            sums = (before[7] + row[7], before[8] + row[8])
            last[row[:2]] = (*row[:5], before[5], row[6], *sums)
            continue
        if before is not None:
            done.append(before)
        last[row[:2]] = row
    return sorted([*done, *last.values()], key=lambda row: (row[5], row[:5]))


def pauses(frame: pd.DataFrame) -> list[Pause]:
    """Times in which nothing was trained that are long enough to be cut out. From `bars`."""
    gaps, end, busy = [], 0.0, 0.0
    for row in frame.sort_values("start").to_dict("records"):
        if row["start"] > end:
            gaps.append(Pause(end, row["start"]))
        busy += max(0.0, row["end"] - max(end, row["start"]))
        end = max(end, row["end"])
    least = max(PAUSE_SECONDS, PAUSE_SHARE * busy)
    return [gap for gap in gaps if gap.end - gap.start >= least]


def shown_time(at: float, cuts: Sequence[Pause], width: float) -> float:
    """A time where it is drawn: each pause before it takes only `width` seconds."""
    return at - sum(cut.end - cut.start - width for cut in cuts if cut.end <= at)


def machine_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per machine: workers at once, at least, runs, and the hours that they trained.

    Machines are in the order of their numbers in the figure.
    """
    rows = [
        (
            machine,
            own["worker"].nunique(),
            int(own["runs"].sum()),
            float((own["end"] - own["start"]).sum()) / HOUR,
        )
        for machine, own in frame.groupby("machine")
    ]
    return pd.DataFrame(rows, columns=pd.Index(MACHINES))
