"""Several workers: measured on this machine, and simulated up to 64 (`python -m benchmarks.workers`).

The first table times one demo study in the command's own process, with one Dask worker and with two, in
turn. The second table gives the scheduler workers with a virtual clock: teachers, then searches of many
methods or pools of trials, on GLUE's nine tasks with their numbers of training rows. It compares the
idle time, and the time until the last run ends, with those of a driver that begins runs when the last
teacher is there, and of one that ends each task before it begins the next. `--json` prints both tables;
`--quick` times a small study once, and simulates fewer methods and workers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import BertConfig

from benchmarks.simulated_workers import SimulatedWorkers
from harness.config import validate
from harness.data.splits import Split, TaskData
from harness.data.tasks import load_task, task_names
from harness.experiment.flows import Flow, PreparationRequest, RunRequest
from harness.experiment.scheduler import Scheduler
from harness.registry.discovery import registry
from harness.registry.instantiate import shapes_of
from harness.runtime.progress import redirected, say
from harness.runtime.provenance import provenance
from harness.storage.claims import Claims
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import TeacherFacts
from harness.storage.record import Record, Result, RunInputs, RunProvenance
from harness.training.run import Run
from harness.workers.jobs import Job, Preparation, Sizing, Training
from harness.workers.populations import PopulationResults
from harness.workers.prepared_task import PreparedTask, TaskOutcome

CASES = {"own process": (), "1 worker": ("--workers", "1"), "2 workers": ("--workers", "2")}
COMMAND = ("--method", "alp", "--task", "rte", "--preset", "demo")
SMALL = ("--trials", "8", "protocol.budget=2", "training.epochs=1")
STEP_SECONDS, MEMBER_SECONDS = 0.85, 1.85
"""Virtual seconds of a population of k members: STEP + k · MEMBER. A model of a GPU gives this ratio for
the steps of BERT-base, 2.7 ms for one member and 15.7 ms for eight."""
SIZE = 16
"""Members that fit on a worker."""
ROUNDS, ROUND, REPORT_SEEDS, TRIALS = 3, 4, 10, 20
TEACHER_STUDENTS = 2
"""A teacher takes as long as so many students, one after the other."""
ROWS = {
    "cola": 8551,
    "sst2": 67349,
    "mrpc": 3668,
    "stsb": 5749,
    "qqp": 363846,
    "mnli": 392702,
    "qnli": 104743,
    "rte": 2490,
    "wnli": 635,
}
"""GLUE's training rows. A run's time is in proportion."""
WAYS = ("no barrier", "a barrier after the teachers", "a barrier between tasks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, simulate, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3, help="times of each measured case")
    parser.add_argument("--simulated", action="store_true", help="leave the measured table out")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        say("--repeats must be at least 1")
        return 2
    measured = [] if options.simulated else measure(options)
    methods, counts = (4, (1, 4)) if options.quick else (22, (1, 2, 4, 8, 16, 32, 64))
    simulated = [simulate(design, methods, n) for design in ("search", "pools") for n in counts]
    if options.json:
        print(json.dumps({"measured": measured, "simulated": simulated}))
        return 0
    for rows in filter(None, (measured, simulated)):
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*map(str, row.values()))
        Console().print(table)
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of the demo study by case: medians of repeats in turn. Encoder and teacher are there."""
    words = [*COMMAND, *(SMALL if options.quick else ())]
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as scratch:
        _study([*words, "--trials", "4", "protocol.budget=1"], Path(scratch), "first")
        for repeat in range(1 if options.quick else options.repeats):
            for case, flags in CASES.items():
                start = time.perf_counter()
                _study([*words, *flags], Path(scratch), f"{case} {repeat}")
                seconds[case].append(time.perf_counter() - start)
    alone = median(seconds["own process"])
    return [
        {
            "case": case,
            "seconds": round(median(values), 1),
            "share of own process": round(median(values) / alone, 2),
        }
        for case, values in seconds.items()
    ]


def _study(words: Sequence[str], scratch: Path, name: str) -> None:
    """Run a study in a folder of its own, which begins with the encoder and teacher of the first one."""
    out, first = scratch / name, scratch / "first"
    if first.exists() and out != first:
        out.mkdir()
        for folder in ("cache", "teachers"):
            (out / folder).symlink_to(first / folder)
    command = [sys.executable, "-m", "harness.study", *words, "--out", str(out), "--json"]
    subprocess.run(command, check=True, capture_output=True)


def simulate(design: str, methods: int, number: int) -> dict[str, Any]:
    """Idle time and length of a command of simulated workers, with and without barriers."""
    idle, length = {}, {}
    for way in WAYS:
        workers = SimulatedWorkers(number, _seconds, _perform)
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.closing(Ledger(storage_url(Path(folder), None))) as ledger,
            redirected(lambda line: None),
        ):
            scheduler = Scheduler(ledger, Claims(ledger), workers)
            started: list[Flow] = []
            # In the first way a task's runs begin when its own teacher is there.
            begin = scheduler.start if way != WAYS[1] else started.append
            for order, task in enumerate(task_names()):
                flows = _flows(design, _prepared(task), methods, number, order)
                scheduler.start(_task_flow(task, flows, begin))
                if way == WAYS[2]:
                    scheduler.finish()
            scheduler.finish()
            for flow in started:
                scheduler.start(flow)
            scheduler.finish()
        idle[f"idle, {way}"] = f"{100 * workers.idle_share():.0f} %"
        length[f"length, {way}"] = workers.clock
    shortest = min(length.values())
    ratios = {name: f"{clock / shortest:.2f}" for name, clock in length.items()}
    return {"design": design, "workers": number, **idle, **ratios}


def _task_flow(task: str, flows: Sequence[Flow], begin: Callable[[Flow], None]) -> Flow:
    """A task's preparation, after which the flows of its runs begin."""
    yield PreparationRequest(_prepared(task).config, task, (0,))
    for flow in flows:
        begin(flow)


def _flows(
    design: str, prepared: PreparedTask, methods: int, workers: int, order: int
) -> list[Flow]:
    """The flows of a task: pools in one, or the searches of one method each."""
    kinds = list(registry().methods.values())[:methods]

    def runs(names: Sequence[int], trials: range) -> list[Run]:
        return [
            prepared.run(kinds[name], f"{prepared.task.name} {name}", {"t": t}, t, t, "report")
            for name in names
            for t in trials
        ]

    def flow(names: Sequence[int], parts: Sequence[range]) -> Flow:
        for part in parts:
            yield RunRequest(prepared, runs(names, part), "", (order,))

    everyone = range(len(kinds))
    if design == "pools":
        return [flow(everyone, [range(TRIALS)])]
    parts = [range(ROUND * n, ROUND * (n + 1)) for n in range(ROUNDS)]
    parts.append(range(ROUND * ROUNDS, ROUND * ROUNDS + REPORT_SEEDS))
    groups = [everyone] if workers == 1 else [[name] for name in everyone]
    return [flow(group, parts) for group in groups]


def _seconds(job: Job[Any]) -> float:
    unit = ROWS[job.task] / min(ROWS.values())
    if isinstance(job, Preparation):
        return unit * TEACHER_STUDENTS * (STEP_SECONDS + MEMBER_SECONDS)
    if isinstance(job, Training):
        return unit * (STEP_SECONDS + MEMBER_SECONDS * len(job.runs))
    return 0.0


def _perform(job: Job[Any]) -> Any:
    if isinstance(job, Preparation):
        return _prepared(job.task).outcome
    if isinstance(job, Sizing):
        return SIZE
    assert isinstance(job, Training)
    return PopulationResults(tuple(_result(job, spec.fingerprint) for spec in job.runs), None)


def _result(job: Job[Any], fingerprint: str) -> Result:
    inputs = _prepared(job.task).run(registry().methods["kd"], "", {}, 0, 0, "report").inputs
    surroundings = RunProvenance(**vars(provenance()), threads=1, population=(fingerprint,))
    return Result(_record(fingerprint, inputs, surroundings), {}, {})


def _record(fingerprint: str, inputs: RunInputs, surroundings: RunProvenance) -> Record:
    return Record(
        fingerprint=fingerprint,
        inputs=inputs,
        status="complete",
        reason=None,
        metrics={"accuracy": 0.5},
        selection={},
        curves=(),
        seconds=1.0,
        examples_per_second=1.0,
        peak_memory=1.0,
        provenance=surroundings,
    )


@cache
def _prepared(name: str) -> PreparedTask:
    """A task with ten examples and a teacher that is not there."""
    task = load_task(name)
    config = validate(
        {"preset": "demo", "methods": ["alp"], "tasks": [name], "keep": "none", "baseline": None}
    )
    rows = np.arange(10)
    split = Split((("a",),) * 10, rows % 2, rows)
    encoder = BertConfig()
    teacher = TeacherFacts(
        name,
        name,
        name,
        "",
        {},
        constant=0.5,
        weak=False,
        layers=12,
        width=768,
        seconds=0.0,
        variance_shares=(),
    )
    outcome = TaskOutcome(
        teacher,
        False,
        "",
        shapes_of(encoder, encoder, task.outputs, config),
        encoder,
        encoder,
        "stacked",
        "bf16",
        "cuda",
        steps=ROWS[name],
    )
    return PreparedTask(
        config, TaskData(task, split, split, dict.fromkeys(task.evaluation, split)), outcome
    )


if __name__ == "__main__":
    raise SystemExit(main())
