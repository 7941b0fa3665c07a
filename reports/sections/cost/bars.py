"""When and where runs were trained: a bar for runs of one kind that were trained in a row."""

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

LEAST_BREAK = 0.002
"""Breaks below this share of the whole time are not shown: they would be under two pixels wide."""
PAUSE_SHARE, PAUSE_SECONDS = 0.05, 60.0
"""A time without runs is cut out if it has this share of the training time and lasts these seconds."""
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
    """One row per machine, worker, task, method, role and stretch of time, sorted by start.

    `start` and `end` are in seconds since the first run began. A population ends when its records are
    written, and starts earlier by the seconds that it trained. Its runs divide this time equally, one
    method after the other. Populations that overlap on a machine are given to different workers, to as
    few workers as possible: the processes of commands that followed one another are one worker.
    """
    populations = sorted(
        _populations(evidence),
        key=lambda population: (population.end - population.seconds, population.end),
    )
    free: dict[str, list[float]] = defaultdict(list)
    rows = []
    for population in populations:
        start = population.end - population.seconds
        ends = free[population.machine]
        worker = next((place for place, end in enumerate(ends) if end <= start), len(ends))
        ends[worker : worker + 1] = [population.end]
        for (method, role), records in population.kinds.items():
            end = start + sum(record.seconds for record in records)
            failures = sum(record.status == "failed" for record in records)
            kind = (population.machine, worker, population.task, method, role)
            rows.append((*kind, start, end, len(records), failures))
            start = end
    frame = pd.DataFrame(_merge_rows(rows), columns=pd.Index(COLUMNS))
    frame[["start", "end"]] -= frame["start"].min()
    return frame


def _populations(evidence: Evidence) -> Iterable[_Population]:
    """The populations of all runs for which the ledger has the time of writing."""
    populations: dict[tuple[str, ...], _Population] = {}
    fingerprints: set[str] = set()
    results = (*evidence.result.results, *chain.from_iterable(evidence.repeats.values()))
    for result in results:
        for run in result.runs:
            record = run.record
            if record.created is None or record.fingerprint in fingerprints:
                continue
            fingerprints.add(record.fingerprint)
            key = record.provenance.population
            population = populations.setdefault(key, _Population(_machine(record), result.task))
            population.seconds = max(population.seconds, record.seconds * len(key))
            population.end = max(population.end, record.created)
            population.kinds[result.method, run.role].append(record)
    return populations.values()


def _machine(record: Record) -> str:
    """The machine on which a record was made, in words; equal machines have equal words."""
    provenance, device = record.provenance, record.inputs.device
    processor = provenance.processor or provenance.machine or "unknown processor"
    cores = "" if provenance.cores is None else f", {provenance.cores} cores"
    return f"{processor}{cores}" + ("" if device == "cpu" else f", {device}")


def _merge_rows(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Merge rows of one kind that follow one another on a worker without a visible break."""
    if not rows:
        return []
    least_break = LEAST_BREAK * (max(row[6] for row in rows) - min(row[5] for row in rows))
    last_rows: dict[tuple[str, int], tuple[Any, ...]] = {}
    merged_rows = []
    for row in rows:
        last_row = last_rows.get(row[:2])
        if last_row is not None and last_row[:5] == row[:5] and row[5] - last_row[6] <= least_break:
            sums = (last_row[7] + row[7], last_row[8] + row[8])
            last_rows[row[:2]] = (*row[:5], last_row[5], row[6], *sums)
            continue
        if last_row is not None:
            merged_rows.append(last_row)
        last_rows[row[:2]] = row
    return sorted([*merged_rows, *last_rows.values()], key=lambda row: (row[5], row[:5]))


def pauses(frame: pd.DataFrame) -> list[Pause]:
    """Times without runs that are long enough to be cut out. From `bars`."""
    gaps, end, training_time = [], 0.0, 0.0
    for row in frame.sort_values("start").to_dict("records"):
        if row["start"] > end:
            gaps.append(Pause(end, row["start"]))
        training_time += max(0.0, row["end"] - max(end, row["start"]))
        end = max(end, row["end"])
    least_length = max(PAUSE_SECONDS, PAUSE_SHARE * training_time)
    return [gap for gap in gaps if gap.end - gap.start >= least_length]


def shown_time(time: float, cuts: Sequence[Pause], width: float) -> float:
    """The place of a time on the axis: each pause before the time takes only `width` seconds."""
    return time - sum(cut.end - cut.start - width for cut in cuts if cut.end <= time)


def machine_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per machine: workers at once (at least), runs, and hours of training.

    Machines are in the order of their numbers in the figure.
    """
    rows = [
        (
            machine,
            rows["worker"].nunique(),
            int(rows["runs"].sum()),
            float((rows["end"] - rows["start"]).sum()) / HOUR,
        )
        for machine, rows in frame.groupby("machine")
    ]
    return pd.DataFrame(rows, columns=pd.Index(MACHINES))
