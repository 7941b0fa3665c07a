"""`results.csv`: a row for every run of a report, for pandas and spreadsheets."""

from __future__ import annotations

import csv
from typing import Any

import pandas as pd

from harness.analysis.repeats import numbered
from harness.analysis.results import MethodResult
from harness.axis_names import value_text
from harness.storage.manifest import Manifest
from harness.storage.record import StudyRun
from reports.evidence import Evidence

LEADING_COLUMNS = (
    "ablation", "source", "protocol", "repeat", "task", "method", "is_baseline", "study", "role",
    "trial", "is_best_trial", "seed", "status", "reason", "split", "metric", "score",
)  # fmt: skip
TRAILING_COLUMNS = (
    "seconds", "examples_per_second", "peak_memory_bytes", "runs_trained_together", "device",
    "precision", "teacher", "revision", "fingerprint",
)  # fmt: skip
"""The last columns; `axis.KEY`, `SPLIT.METRIC` and `setting.NAME` stand before them (docs/files.md)."""


def results_table(evidence: Evidence) -> pd.DataFrame:
    """One row per run, in the order of the report: search runs by trial, then report runs by seed.

    A joint ablation has the runs of all its repeats. Scores are in score units (0.01 is a point), as
    recorded. A cell that does not apply is empty: the metrics of a failed run, the settings of another
    method. Columns have the dtype object, so that whole numbers stay whole.
    """
    parts = numbered(evidence.manifest, evidence.repeats)
    repeats = dict[int | None, tuple[MethodResult, ...]](parts.items())
    rows = [
        {"repeat": repeat, **_row(evidence.manifest, result, run)}
        for repeat, results in (repeats or {None: evidence.result.results}).items()
        for result in results
        for run in result.runs
    ]
    middle_columns = sorted(
        {name for row in rows for name in row if name not in (*LEADING_COLUMNS, *TRAILING_COLUMNS)}
    )
    # Axes, then metrics, then settings, then the sizes of models, each by name.
    middle_columns.sort(
        key=lambda name: (
            [name.startswith(group) for group in ("model.", "setting.")]
            + [not name.startswith("axis.")]
        )
    )
    return pd.DataFrame(
        rows, columns=pd.Index([*LEADING_COLUMNS, *middle_columns, *TRAILING_COLUMNS]), dtype=object
    )


def results_csv(evidence: Evidence) -> str:
    """The table as CSV: numbers in full, empty cells for values that do not apply, texts in quotes.

    Without quotes, a carriage return in a reason would end the row.
    """
    table = results_table(evidence)
    text: str = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def _place(manifest: Manifest, task: str) -> dict[str, Any]:
    """The task, with a column for each axis."""
    if manifest.grid is None:
        return {"task": task}
    values = manifest.grid.values_of(task)
    axes = {f"axis.{key}": _axis_value(value) for key, value in values.items()}
    return {"task": manifest.grid.places[task].task, **axes}


def _compression(manifest: Manifest, task: str) -> dict[str, Any]:
    """The sizes and speeds of teacher and student, with columns `model.STUDENT_OR_TEACHER_NAME`."""
    if task not in manifest.compression:
        return {}
    columns: dict[str, Any] = {}
    for name, value in manifest.compression[task].plain().items():
        parts = value if isinstance(value, dict) else {"": value}
        columns |= {f"model.{name}_{part}".rstrip("_"): number for part, number in parts.items()}
    return columns


def _axis_value(value: Any) -> Any:
    """A number as it is, anything else as the command and the tables write it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else value_text(value)


def _row(manifest: Manifest, result: MethodResult, run: StudyRun) -> dict[str, Any]:
    record, inputs = run.record, run.record.inputs
    metrics = {
        f"{split}.{name}": value
        for split, scores in record.split_metrics.items()
        for name, value in scores.items()
    }
    metrics |= {f"selection.{name}": value for name, value in record.selection.items()}
    return {
        "ablation": manifest.name,
        "source": manifest.source.kind,
        "protocol": manifest.protocol,
        **_place(manifest, result.task),
        "method": result.method,
        "is_baseline": result.method == manifest.baseline,
        "study": result.study,
        "role": run.role,
        "trial": run.trial,
        "is_best_trial": run.trial == result.best_trial,
        "seed": run.seed,
        "status": record.status,
        "reason": record.reason,
        "split": inputs.split.name,
        "metric": result.metric,
        "score": record.metrics.get(result.metric),
        **metrics,
        **_compression(manifest, result.task),
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
