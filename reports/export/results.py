"""`results.csv`: every run that a report counts, one row each, for pandas and spreadsheets."""

from __future__ import annotations

import csv
from typing import Any

import pandas as pd

from harness.analysis.results import MethodResult
from harness.storage.manifest import Manifest
from harness.storage.record import StudyRun
from reports.evidence import Evidence

FIRST = (
    "ablation", "source", "protocol", "repeat", "task", "method", "is_baseline", "study", "role",
    "trial", "is_best_trial", "seed", "status", "reason", "split", "metric", "score",
)  # fmt: skip
LAST = (
    "seconds", "examples_per_second", "peak_memory_bytes", "runs_trained_together", "device",
    "precision", "teacher", "revision", "fingerprint",
)  # fmt: skip
"""docs/files.md says what each of them is; between the two stand `SPLIT.METRIC` and `setting.NAME`."""


def results_table(evidence: Evidence) -> pd.DataFrame:
    """One row per run, in the order of the report: search by trial, then report runs by seed.

    Of an ablation over repeats of the whole, the runs of all repeats. Scores are in score units (0.01
    is a point), as recorded. A cell that does not apply is empty: the metrics of a failed run, the
    settings of another method. Columns have the dtype object, so that whole numbers stay whole.
    """
    repeated = dict[int | None, tuple[MethodResult, ...]](enumerate(evidence.repeats.values()))
    rows = [
        {"repeat": repeat, **_row(evidence.manifest, found, run)}
        for repeat, results in (repeated or {None: evidence.result.results}).items()
        for found in results
        for run in (*found.search, *found.report)
    ]
    between = sorted({name for row in rows for name in row if name not in (*FIRST, *LAST)})
    # Metrics before settings, each by name.
    between.sort(key=lambda name: name.startswith("setting."))
    return pd.DataFrame(rows, columns=pd.Index([*FIRST, *between, *LAST]), dtype=object)


def results_csv(evidence: Evidence) -> str:
    """The table as CSV: numbers to the last digit, empty cells for what does not apply, quoted text.

    Unquoted, a carriage return in a reason would end its row.
    """
    table = results_table(evidence)
    text: str = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def _row(manifest: Manifest, found: MethodResult, run: StudyRun) -> dict[str, Any]:
    record, inputs = run.record, run.record.inputs
    metrics = {
        f"{split}.{name}": value
        for split, own in record.split_metrics.items()
        for name, value in own.items()
    }
    return {
        "ablation": manifest.name,
        "source": manifest.source.kind,
        "protocol": manifest.protocol,
        "task": found.task,
        "method": found.method,
        "is_baseline": found.method == manifest.baseline,
        "study": found.study,
        "role": run.role,
        "trial": run.trial,
        "is_best_trial": run.trial == found.best_trial,
        "seed": run.seed,
        "status": record.status,
        "reason": record.reason,
        "split": inputs.split.name,
        "metric": found.metric,
        "score": record.metrics.get(found.metric),
        **metrics,
        **{f"setting.{name}": value for name, value in inputs.setting.items()},
        "seconds": record.seconds,
        "examples_per_second": record.examples_per_second,
        "peak_memory_bytes": int(record.peak_memory),
        "runs_trained_together": len(record.provenance.population),
        "device": inputs.device,
        "precision": inputs.training.precision,
        "teacher": inputs.teacher,
        "revision": record.provenance.revision,
        "fingerprint": record.fingerprint,
    }
