"""The time of a whole study by phase: `python -m benchmarks.study [--json] [-- flags of harness.study]`.

The benchmark runs `python -m harness.study` as a user does, in a fresh folder. It reads the phases
from the command's output and records: teacher, teacher outputs, students, and the rest. With
`--plain SHAPE` it also prints the time of the same students in the plain loop of
`benchmarks.peers`, padded to 128, extrapolated from a few steps with models of that shape.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.memory import PeakMemory
from benchmarks.workload import SHAPES
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger

DEFAULTS = (
    *("--preset", "demo", "--task", "rte", "--method", "alp", "--baseline", "none"),
    *("--trials", "30"),
)
LINE = re.compile(r"^(?P<task>\S+): (?P<what>.+): (?P<steps>\d+) steps in (?P<seconds>[\d.]+) s$")


def main(arguments: list[str] | None = None) -> int:
    """Run one study, and print the table of its phases."""
    own_flags = sys.argv[1:] if arguments is None else arguments
    flags: Sequence[str] = DEFAULTS
    if "--" in own_flags:
        end = own_flags.index("--")
        own_flags, flags = own_flags[:end], own_flags[end + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", metavar="SHAPE", choices=sorted(SHAPES))
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="threads of the plain loop; 0: OMP_NUM_THREADS, or the cores",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(own_flags)
    rate = None if options.plain is None else peers.plain_rate(options.plain, options.threads)
    result = measure(flags, rate)
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(flags: Sequence[str], plain_rate: float | None) -> dict[str, Any]:
    """Seconds by phase, the command's peak memory, and the rate of its students' training."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "harness.study", *flags, "--out", folder, "--json"]
        start, lines = time.perf_counter(), []
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            peak = PeakMemory(process.pid)
            assert process.stderr is not None
            assert process.stdout is not None
            for line in process.stderr:
                lines.append(line.rstrip())
            summary = json.loads(process.stdout.read())
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"the study ended with exit code {process.returncode}")
        phases, examples = _phases(lines, Path(folder), summary["ablation"])
    phase_seconds = sum(phases.values())
    phases["the rest: start-up, data, report"] = seconds - phase_seconds
    students = phases["students: training"]
    result = {
        "command": f"python -m harness.study {' '.join(flags)}",
        "seconds": seconds,
        "phases": phases,
        "ratio_to_training": seconds / students,
        "examples": examples,
        "examples_per_second": examples / students,
        "peak_mebibytes": peak.mebibytes(),
    }
    if plain_rate is not None:
        result["plain_loop_seconds"] = examples / plain_rate
    return result


def _phases(lines: Sequence[str], runs_folder: Path, ablation: str) -> tuple[dict[str, float], int]:
    """Seconds by phase, and the number of the students' training examples over all epochs."""
    phases = {
        "pre-training the demo's encoder": 0.0,
        "teacher": 0.0,
        "teacher outputs": 0.0,
        "students: training": 0.0,
        "students: their weights, evaluation, records": 0.0,
    }
    blocks = 0.0
    for line in lines:
        if (match := LINE.match(line)) is None:
            continue
        if match["what"] in phases:
            phases[match["what"]] += float(match["seconds"])
        else:
            blocks += float(match["seconds"])
    ledger = Ledger(storage_url(runs_folder, None))
    records = {
        run.record.fingerprint: run.record
        for study in ledger.manifest(ablation).study_names
        for run in ledger.study_runs(study)
    }
    ledger.close()
    phases["students: training"] = sum(record.seconds for record in records.values())
    phases["students: their weights, evaluation, records"] = blocks - phases["students: training"]
    examples = sum(record.seconds * record.examples_per_second for record in records.values())
    return phases, round(examples)


def _show(result: dict[str, Any]) -> None:
    print(result["command"])
    table = Table("phase", "seconds", "share")
    for phase, seconds in result["phases"].items():
        table.add_row(phase, f"{seconds:.1f}", f"{100 * seconds / result['seconds']:.0f} %")
    table.add_row(
        "all", f"{result['seconds']:.1f}", f"{result['ratio_to_training']:.2f} × training"
    )
    Console().print(table)
    print(
        f"{result['examples']} examples at {result['examples_per_second']:.0f} examples/s; peak "
        f"memory {result['peak_mebibytes']:.0f} MiB"
    )
    if "plain_loop_seconds" in result:
        seconds = result["plain_loop_seconds"]
        print(
            f"the same students in the plain loop: {seconds:.0f} s by extrapolation, "
            f"{seconds / result['seconds']:.1f} × this study"
        )


if __name__ == "__main__":
    sys.exit(main())
