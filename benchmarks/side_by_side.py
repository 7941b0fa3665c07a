"""Commands that share a machine: `python -m benchmarks.side_by_side [--quick] [--json]`.

The benchmark runs one demo study alone, two at once with a runs folder each, and two at once that share
a runs folder and so the work. Cases are interleaved. Every command has its default flags, without
`threads=`. The aim: two at once take at most 2.2 times as long as one alone. An environment reaches the
commands: `GOMP_SPINCOUNT=300000 python -m benchmarks.side_by_side` measures the default of GNU's OpenMP.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.table import Table

from harness.demo.encoder import write_encoder, write_outline
from harness.runtime.progress import progress
from harness.runtime.threads import usable_cores

AIM = 2.2
TASK = "rte"
STUDY = ("--method", "alp", "--task", TASK, "--allow-weak-teacher")
QUICK = ("--trials", "4", "protocol.budget=1", "training.epochs=1", "teacher.epochs=1")
CASES = {
    "one command": ("a",),
    "two, a runs folder each": ("a", "b"),
    "two, one runs folder": ("a", "a"),
}
"""The runs folder of each command that runs at the same time."""


def main(arguments: list[str] | None = None) -> int:
    """Run the studies, and print the medians and their ratios to one command alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four trials of one epoch, once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder"
        (write_outline if options.quick else _write_encoder)(encoder)
        flags = (*STUDY, *(QUICK if options.quick else ()), f"teacher.pretrained={encoder}")
        seconds = measure(flags, 1 if options.quick else options.repeats)
    result = {
        "command": " ".join(("python -m harness.study", *flags[:-1])),
        "cores": usable_cores(),
        "rows": summarise(seconds),
    }
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(flags: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """Seconds until all commands of a case have ended, by case, for each repeat."""
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    with progress("commands", repeats * len(CASES)) as advance:
        for _ in range(repeats):
            for case, folders in CASES.items():
                seconds[case].append(_run_at_once(flags, folders))
                advance(1)
    return seconds


def summarise(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row for each case: median, lowest and highest seconds, and the ratio of medians to the first."""
    alone = statistics.median(next(iter(seconds.values())))
    return [
        {
            "case": case,
            "seconds": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
            "ratio": statistics.median(values) / alone,
        }
        for case, values in seconds.items()
    ]


def _write_encoder(folder: Path) -> None:
    write_encoder(folder, TASK)


def _run_at_once(flags: Sequence[str], folders: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "harness.study", *flags, "--out", f"{scratch}/{folder}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for folder in folders
        ]
        errors = [process.communicate()[1] for process in processes]
        seconds = time.perf_counter() - start
    for process, error in zip(processes, errors, strict=True):
        if process.returncode:
            raise SystemExit(f"a study ended with exit code {process.returncode}: {error}")
    return seconds


def _show(result: dict[str, Any]) -> None:
    print(f"{result['command']}, {result['cores']} core(s)")
    table = Table("commands at once", "seconds", "lowest to highest", f"ratio (aim: {AIM})")
    for row in result["rows"]:
        spread = f"{row['lowest']:.1f} to {row['highest']:.1f}"
        table.add_row(row["case"], f"{row['seconds']:.1f}", spread, f"{row['ratio']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
