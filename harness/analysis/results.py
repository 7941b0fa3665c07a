"""What the ledger holds of each method on a task: its search, its best setting, its report runs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.looks import looks_of, seeds_wanted
from harness.config import Choice
from harness.stats.arrays import Floats
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import Record, StudyRun


@dataclass(frozen=True)
class MethodResult:
    """One method on one task: its best setting and the report runs of that setting.

    `scores` (seeds,) are the primary metric on the first evaluation split, by `seeds`; `metrics` are
    means over seeds of every metric recorded. Empty while the report runs are missing. Where the whole
    pipeline was repeated, seeds are repeats, and each score is a mean over that repeat's report seeds.
    """

    task: str
    method: str
    study: str
    metric: str
    search: tuple[StudyRun, ...]
    report: tuple[StudyRun, ...]
    best_trial: int | None
    setting: Mapping[str, Choice]
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    metrics: dict[str, float]
    failures: tuple[str, ...]
    failed_seeds: frozenset[int]
    """Report seeds whose run failed."""

    @property
    def mean(self) -> float:
        """Mean score over report seeds; NaN without any."""
        return float(np.mean(self.scores)) if self.scores else float("nan")

    @property
    def sd(self) -> float:
        """Standard deviation over report seeds (n − 1); NaN below two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else float("nan")

    def scores_of(self, seeds: Sequence[int]) -> Floats:
        """The scores (seeds,) in the order of `seeds`. Raises `KeyError` for one that has none."""
        by_seed = dict(zip(self.seeds, self.scores, strict=True))
        return np.array([by_seed[seed] for seed in seeds], dtype=np.float64)


def score_of(record: Record, metric: str) -> float | None:
    """A run's score by a metric; None unless it is complete."""
    return record.metrics[metric] if record.status == "complete" else None


def trials_ended(result: MethodResult, manifest: Manifest) -> int:
    """How many trials of the search have ended, with every search seed."""
    seeds = len(manifest.search_seeds)
    runs = Counter(run.trial for run in result.search)
    return sum(count >= seeds for count in runs.values())


def search_ended(result: MethodResult, manifest: Manifest) -> bool:
    """Whether the setting was chosen among all trials; one chosen among fewer is not comparable.

    Of repeats only those are counted of which it was.
    """
    return manifest.joint or trials_ended(result, manifest) >= manifest.trials


def collapsed(result: MethodResult, constant: float) -> str | None:
    """In words, how many report runs score what predicting one class for all does; None if none."""
    count = sum(math.isclose(score, constant, abs_tol=1e-9) for score in result.scores)
    if not count:
        return None
    return (
        f"{result.method} on {result.task}: {count} of {len(result.scores)} report runs score exactly "
        "what a constant prediction does: they have learned nothing"
    )


def best_trial(runs: Sequence[StudyRun], metric: str) -> int | None:
    """The trial with the highest mean selection score; the lowest number wins a tie."""
    scores: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        score = score_of(run.record, metric)
        scores[run.trial].append(float("-inf") if score is None else score)
    means = {trial: float(np.mean(values)) for trial, values in scores.items()}
    finite = {trial: mean for trial, mean in means.items() if np.isfinite(mean)}
    return min(finite, key=lambda trial: (-finite[trial], trial)) if finite else None


def report_scores(result: MethodResult) -> dict[int, float | None]:
    """The score of every report run that has ended by its seed; None where one failed."""
    return {run.seed: score_of(run.record, result.metric) for run in result.report}


def read_results(
    ledger: Ledger, manifest: Manifest, task: str, studies: Mapping[str, str]
) -> list[MethodResult]:
    """The results on a task; where seeds are added until they decide, without what was not asked for."""
    results = [_result(ledger, manifest, task, *named) for named in studies.items()]
    looks = looks_of(manifest, manifest.primary_metric(task))
    if looks is None:
        return results
    scores = {result.method: report_scores(result) for result in results}
    family = [(method, baseline) for _, method, baseline in manifest.family_on(task)]
    wanted = seeds_wanted(scores, family, looks)
    asked = {method: set(looks.seeds[:count]) for method, count in wanted.items()}
    return [
        _reporting(result, [run for run in result.report if run.seed in asked[result.method]])
        for result in results
    ]


def _result(ledger: Ledger, manifest: Manifest, task: str, method: str, study: str) -> MethodResult:
    metric = manifest.primary_metric(task)
    runs = ledger.study_runs(study)
    search = tuple(run for run in runs if run.role == "search" and run.trial < manifest.trials)
    best = best_trial(search, metric)
    wanted = set(manifest.report_seeds)
    report = [
        run for run in runs if run.role == "report" and run.trial == best and run.seed in wanted
    ]
    setting: Mapping[str, Choice] = next(
        (run.record.inputs.setting for run in search if run.trial == best), {}
    )
    empty = MethodResult(
        task, method, study, metric, search, (), best, setting, (), (), {}, (), frozenset()
    )
    return _reporting(empty, report)


def _reporting(result: MethodResult, report: Sequence[StudyRun]) -> MethodResult:
    """The result with these report runs, and what follows from them."""
    complete = [run for run in report if run.record.status == "complete"]
    names = complete[0].record.metrics if complete else {}
    return replace(
        result,
        report=tuple(report),
        seeds=tuple(run.seed for run in complete),
        scores=tuple(run.record.metrics[result.metric] for run in complete),
        metrics={n: float(np.mean([run.record.metrics[n] for run in complete])) for n in names},
        failures=tuple(
            f"{run.role} run, trial {run.trial}, seed {run.seed}: {run.record.reason}"
            for run in (*result.search, *report)
            if run.record.status == "failed"
        ),
        failed_seeds=frozenset(run.seed for run in report if run.record.status == "failed"),
    )
