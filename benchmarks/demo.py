"""The demo's gap between teacher and student: `python -m benchmarks.demo [--task rte,sst2] [--json]`.

For every task the benchmark prints the teacher's score, the gap to the fine-tuned student, and the
tuned scores of methods with their spread over searches. The aim is a teacher that is better than a
constant, a gap of 5 points, and two methods that differ by more than the larger of their standard
deviations. The benchmark runs the ordinary command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.data.tasks import task_names
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main as study

METHODS = "kd,alp"
MINIMUM_GAP = 5.0
"""The smallest gap in points between the teacher and the fine-tuned student."""


def measure(task: str, runs_folder: Path, trials: int) -> dict[str, Any]:
    """The numbers of one task in points: teacher, gap, and each method's tuned score and spread."""
    output = io.StringIO()
    flags = f"--preset demo --method {METHODS} --baseline finetune --json --allow-weak-teacher"
    with contextlib.redirect_stdout(output):
        code = study(
            [*flags.split(), "--task", task, "--out", str(runs_folder), "--trials", str(trials)]
        )
    if code:
        raise SystemExit(f"the study of {task} ended with exit code {code}")
    summary = json.loads(output.getvalue())
    ledger = Ledger(storage_url(runs_folder, None))
    manifest = ledger.manifest(summary["ablation"])
    teacher = manifest.teachers[task]
    ledger.close()
    scores = {r["method"]: (100 * r["mean"], 100 * r["sd"]) for r in summary["results"]}
    metric = manifest.primary_metric(task)
    split = next(name for name in teacher.metrics if name.startswith("validation"))
    teacher_score = 100 * teacher.metrics[split][metric]
    gap = teacher_score - scores["finetune"][0]
    methods_differ = any(
        abs(mean - other_mean) > max(sd, other_sd)
        for (mean, sd), (other_mean, other_sd) in combinations(scores.values(), 2)
    )
    return {
        "task": task,
        "metric": metric,
        "teacher": teacher_score,
        "teacher_is_weak": teacher.weak,
        "gap": gap,
        "scores": scores,
        "methods_differ": methods_differ,
        "aim_reached": not teacher.weak and gap >= MINIMUM_GAP and methods_differ,
        "seconds": summary["seconds"],
    }


def line(row: dict[str, Any]) -> str:
    """One task as a table row."""
    cells = [f"{mean:.1f} ± {sd:.1f}" for mean, sd in row["scores"].values()]
    left_cells = f"{row['task']:<6} {row['metric']:<9} {row['teacher']:7.1f} {row['gap']:6.1f}"
    answers = ("yes" if row[name] else "no" for name in ("methods_differ", "aim_reached"))
    right_cells = "".join(f"{answer:>8}" for answer in answers) + f"{row['seconds']:9.0f}"
    return left_cells + "".join(f"{cell:>15}" for cell in cells) + right_cells


def main() -> None:
    """Measure the tasks and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default=",".join(task_names()))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--out", type=Path, help="keep the ledger there (default: a fresh folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs_folder = options.out or Path(scratch)
        rows = []
        for task in options.task.split(","):
            rows.append(measure(task, runs_folder, options.trials))
            if not options.json:
                if len(rows) == 1:
                    methods = "".join(f"{name:>15}" for name in rows[0]["scores"])
                    print(f"task   metric    teacher    gap{methods}  differ     aim  seconds")
                print(line(rows[-1]), flush=True)
    if options.json:
        json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
