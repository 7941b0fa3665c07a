"""Who trained what, and when: populations of a runs folder (`python -m benchmarks.timeline RUNS_DIR`).

A population ends when its records are written, and begins earlier by the seconds of its training. The
time of its evaluation is left out. `--json` prints the rows as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.runtime.progress import say
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import Record


@dataclass(frozen=True)
class Stretch:
    """A population: its worker and the GPU that the worker alone sees; empty where it sees none or all.

    `start` and `end` are in seconds since the first start.
    """

    worker: str
    gpu: str
    task: str
    methods: str
    runs: int
    start: float
    end: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the populations of a runs folder in the order of their starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="a folder that harness.study wrote to (--out)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not (options.runs / "ledger.db").is_file():
        say(f"{options.runs}: has no ledger.db")
        return 2
    rows = stretches(recorded(options.runs))
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return 0
    table = Table("worker", "GPU", "task", "methods", "runs", "start, s", "end, s")
    for row in rows:
        times = (f"{row.start:.1f}", f"{row.end:.1f}")
        table.add_row(row.worker, row.gpu, row.task, row.methods, str(row.runs), *times)
    Console().print(table)
    print(
        f"at most {most_at_once(rows)} populations at once, on {len({r.gpu for r in rows})} device(s)"
    )
    return 0


def recorded(folder: Path) -> list[Record]:
    """The records of all runs that the ablations of a runs folder use, each once."""
    ledger = Ledger(storage_url(folder, None))
    names = {
        study
        for ablation in ledger.ablations()
        for studies in ledger.manifest(ablation).studies.values()
        for study in studies.values()
        if study
    }
    runs = [run for name in names for run in ledger.study_runs(name)]
    ledger.close()
    return list({run.record.fingerprint: run.record for run in runs}.values())


def stretches(records: Iterable[Record]) -> list[Stretch]:
    """The populations of written records, by their starts."""
    populations: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.created is not None:
            populations[record.provenance.population].append(record)
    rows = [_stretch(members, len(names)) for names, members in populations.items()]
    first = min((row.start for row in rows), default=0.0)
    shifted = [replace(row, start=row.start - first, end=row.end - first) for row in rows]
    return sorted(shifted, key=lambda row: (row.start, row.end))


def _stretch(members: Sequence[Record], size: int) -> Stretch:
    """A population from its members that the ledger holds, with times since 1970."""
    worker, _, gpu = members[0].provenance.worker.partition(", GPU ")
    end = max(record.created or 0.0 for record in members)
    start = end - members[0].seconds * size
    methods = sorted({record.inputs.method for record in members})
    task = members[0].inputs.task_name
    return Stretch(worker, gpu, task, ", ".join(methods), len(members), start, end)


def most_at_once(rows: Sequence[Stretch]) -> int:
    """The most populations that were trained at the same time."""
    moments = sorted([(row.start, 1) for row in rows] + [(row.end, -1) for row in rows])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most


if __name__ == "__main__":
    raise SystemExit(main())
