"""The trials of a search as rows, and a setting as text."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from harness.storage.record import StudyRun
from reports.evidence import POINTS

COLUMNS = ["method", "trial", "points", "seeds", "status", "best", "setting"]


def search_history(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method and trial, with the mean selection score in points.

    The score is NaN unless every run of the trial is complete.
    """
    rows = []
    for result in results:
        trials: dict[int, list[StudyRun]] = defaultdict(list)
        for run in result.search:
            trials[run.trial].append(run)
        for trial, runs in sorted(trials.items()):
            statuses = {run.record.status for run in runs}
            status = next((s for s in ("failed", "pruned") if s in statuses), "complete")
            points = _selection_points(runs, result.metric) if status == "complete" else np.nan
            setting = setting_text(runs[0].record.inputs.setting)
            best = trial == result.best_trial
            rows.append((result.method, trial, points, len(runs), status, best, setting))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _selection_points(runs: Sequence[StudyRun], metric: str) -> float:
    return POINTS * float(np.mean([run.record.metrics[metric] for run in runs]))


def setting_text(setting: Mapping[str, Any]) -> str:
    """A setting in one line: `name = value`, numbers to four digits."""
    return ", ".join(f"{name} = {_value_text(value)}" for name, value in setting.items())


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
