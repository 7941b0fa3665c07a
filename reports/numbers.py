"""The numbers behind the figures, as data frames with one row per mark. Scores are in points."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import AblationResult, Comparison
from harness.analysis.results import MethodResult
from harness.storage.ledger import StudyRun
from reports.evidence import POINTS

DIFFERENCE_COLUMNS = [
    "method", "baseline", "mean", "low", "high", "crossed_low", "crossed_high", "seeds",
    "adjusted_p", "outcome",
]  # fmt: skip


def setting_text(setting: Mapping[str, Any]) -> str:
    """A setting in one line: `name = value`, numbers to four digits."""
    return ", ".join(f"{name} = {_value_text(value)}" for name, value in setting.items())


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def seed_pairs(result: AblationResult, task: str) -> pd.DataFrame:
    """One row per comparison and paired seed: both runs' scores and their difference."""
    rows = []
    for comparison in _comparisons(result, task):
        ours = _by_seed(result.result(task, comparison.method))
        theirs = _by_seed(result.result(task, comparison.baseline))
        for seed in comparison.seeds:
            score, reference = ours[seed], theirs[seed]
            names = (comparison.method, comparison.baseline, seed)
            rows.append((*names, score, reference, score - reference))
    return _frame(
        rows, ["method", "baseline", "seed", "method_points", "baseline_points", "difference"]
    )


def seed_scores(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method and finished report seed."""
    rows = [
        (result.method, seed, points)
        for result in results
        for seed, points in _by_seed(result).items()
    ]
    return _frame(rows, ["method", "seed", "points"])


def differences(result: AblationResult, task: str) -> pd.DataFrame:
    """One row per comparison: mean paired difference, the verdict's interval and the crossed one.

    There is no adjusted p value where seeds were added until they decided. An end of an interval is
    infinite where too few seeds leave it unbounded, NaN where there are no predictions to resample.
    """
    rows = []
    for comparison in _comparisons(result, task):
        paired, crossed = comparison.difference, comparison.crossed
        crossed_ends = (crossed.low, crossed.high) if crossed else (np.nan, np.nan)
        rows.append(
            (
                comparison.method,
                comparison.baseline,
                POINTS * paired.mean,
                *(POINTS * end for end in comparison.interval),
                *(POINTS * end for end in crossed_ends),
                paired.n,
                np.nan if comparison.adjusted_p is None else comparison.adjusted_p,
                comparison.verdict.outcome,
            )
        )
    return _frame(
        rows,
        DIFFERENCE_COLUMNS,
    )


def search_history(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method and trial: the mean selection score, NaN unless every run is complete."""
    rows = []
    for result in results:
        trials: dict[int, list[StudyRun]] = defaultdict(list)
        for run in result.search:
            trials[run.trial].append(run)
        for trial, runs in sorted(trials.items()):
            statuses = {run.record.status for run in runs}
            status = next((s for s in ("failed", "pruned") if s in statuses), "complete")
            points = _selection_points(runs, result.metric) if status == "complete" else np.nan
            setting = setting_text(runs[0].record.inputs.get("setting", {}))
            best = trial == result.best_trial
            rows.append((result.method, trial, points, len(runs), status, best, setting))
    return _frame(rows, ["method", "trial", "points", "seeds", "status", "best", "setting"])


def loss_terms(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method, term and epoch (from 1): mean, least and greatest over report seeds."""
    rows = []
    for result in results:
        values: dict[tuple[str, int], list[float]] = defaultdict(list)
        for run in result.report:
            if run.record.status != "complete":
                continue
            for epoch, terms in enumerate(run.record.curves, start=1):
                for term, value in terms.items():
                    values[term, epoch].append(value)
        for (term, epoch), seen in sorted(values.items()):
            mean = float(np.mean(seen))
            rows.append((result.method, term, epoch, mean, min(seen), max(seen), len(seen)))
    return _frame(rows, ["method", "term", "epoch", "mean", "low", "high", "seeds"])


def variance_shares(teacher: Mapping[str, Any]) -> pd.DataFrame:
    """One row per teacher layer (from 1): percent of its energy that varies between examples."""
    shares = teacher.get("variance_shares") or []
    rows = [(layer, 100 * share) for layer, share in enumerate(shares, start=1)]
    return _frame(rows, ["layer", "percent"])


def _comparisons(result: AblationResult, task: str) -> list[Comparison]:
    return [comparison for comparison in result.comparisons if comparison.task == task]


def _by_seed(result: MethodResult | None) -> dict[int, float]:
    assert result is not None
    points = (POINTS * score for score in result.scores)
    return dict(zip(result.seeds, points, strict=True))


def _selection_points(runs: Sequence[StudyRun], metric: str) -> float:
    return POINTS * float(np.mean([run.record.metrics[metric] for run in runs]))


def _frame(rows: Sequence[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=pd.Index(columns))
