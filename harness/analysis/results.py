"""The results of each method on a task, from the ledger: search, best setting and report runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.analysis.damages import intact_runs
from harness.analysis.interim import (
    PoolInterim,
    PoolPlan,
    ended_trials,
    interim_plan,
    planned_seeds,
    planned_trials,
    pool_interims,
    pool_plan,
)
from harness.analysis.pools import TunedPools, read_pool, selection_view, trial_scores
from harness.analysis.selection import best_trial
from harness.config import Choice
from harness.stats.arrays import Floats
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import Record, StudyRun


@dataclass(frozen=True)
class MethodResult:
    """One method on one task: its best setting and the report runs of that setting.

    `scores` (seeds,) are the primary metric on the first evaluation split, in the order of `seeds`;
    `metrics` are means over seeds of every recorded metric. All are empty while there are no report
    runs. Where whole pipelines were repeated, seeds are repeats, and each score is a mean over the
    report seeds of its repeat.
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
    split: str | None = None
    """The evaluation split of the scores; None without scores."""
    tuned: TunedPools | None = None
    """The pools, where verdicts are on methods and all trials have ended. Then `report` has the trials,
    one for each seed, and `search` has the same trials with the metrics of the selection split."""
    planned_trials: int | None = None
    """The number of trials that the method needs so far, where trials are added until the decision."""
    interims: Mapping[str, PoolInterim] = field(default_factory=dict)
    """The states of the comparisons with each baseline, where trials are added until the decision."""

    @property
    def mean(self) -> float:
        """Mean score over report seeds, or the tuned score; NaN without report runs, or without a pool
        whose trials have ended."""
        if self.is_pool:
            return float("nan") if self.tuned is None else self.tuned.score
        return float(np.mean(self.scores)) if self.scores else float("nan")

    @property
    def sd(self) -> float:
        """Standard deviation over report seeds (n − 1), NaN below two; of tuned scores over searches."""
        if self.is_pool:
            return float("nan") if self.tuned is None else self.tuned.sd
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else float("nan")

    @property
    def score_text(self) -> str:
        """The score in points with its standard deviation, for tables; one seed has no deviation."""
        if not np.isfinite(self.mean):
            return "none finished"
        deviation = f" ± {100 * self.sd:.1f}" if np.isfinite(self.sd) else ""
        return f"{100 * self.mean:.1f}{deviation}"

    @property
    def trial_weights(self) -> dict[int, float]:
        """The weight of each trial in the tuned score, by the trial's seed; empty without pools.

        The sum is 1, with the failed trials, which have no predictions.
        """
        return {} if self.tuned is None else self.weights_in(self.tuned)

    def weights_in(self, pools: TunedPools) -> dict[int, float]:
        """The weight of each trial in the tuned score of `pools`, the first trials, by the trial's seed.

        Later trials have the weight 0.
        """
        seeds = [run.seed for run in sorted(self.report, key=lambda run: run.trial)]
        weights = pools.weights.tolist()
        return dict(zip(seeds, weights + [0.0] * (len(seeds) - len(weights)), strict=True))

    @property
    def runs(self) -> tuple[StudyRun, ...]:
        """All runs once: search runs, then report runs. A pool's trials are report runs alone."""
        return self.report if self.is_pool else (*self.search, *self.report)

    @property
    def is_pool(self) -> bool:
        """Whether the runs are a pool's trials: each run has a selection score and a reported score."""
        return bool(self.report) and self.report[0].record.inputs.selection is not None

    @property
    def runs_by_role(self) -> dict[str, tuple[StudyRun, ...]]:
        """All runs once, by their role: "search" and "report", or "trial" for a pool."""
        if self.is_pool:
            return {"trial": self.report}
        return {"search": self.search, "report": self.report}

    def scores_of(self, seeds: Sequence[int]) -> Floats:
        """The scores (seeds,) in the order of `seeds`. Raises `KeyError` for a seed without a score."""
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


def trials_due(result: MethodResult, manifest: Manifest) -> int:
    """How many trials the method needs: the planned ones where trials are added, otherwise all."""
    return manifest.trials if result.planned_trials is None else result.planned_trials


def search_ended(result: MethodResult, manifest: Manifest) -> bool:
    """Whether the setting was chosen among all trials; a choice among fewer is not comparable.

    True for repeats: `read_repeats` counts only repeats whose search has ended.
    """
    return manifest.is_joint or trials_ended(result, manifest) >= trials_due(result, manifest)


def collapse_warning(result: MethodResult, constant: float) -> str | None:
    """In words, how many report runs have the score of a constant prediction; None if no run has."""
    count = sum(math.isclose(score, constant, abs_tol=1e-9) for score in result.scores)
    if not count:
        return None
    runs = "trials" if result.is_pool else "report runs"
    return (
        f"{result.method} on {result.task}: {count} of {len(result.scores)} {runs} score exactly "
        "what a constant prediction does: they have learned nothing"
    )


def report_scores(result: MethodResult) -> dict[int, float | None]:
    """The scores by seed of all report runs that have ended; None for a failed run."""
    return {run.seed: score_of(run.record, result.metric) for run in result.report}


def read_results(
    ledger: Ledger, manifest: Manifest, task: str, studies: Mapping[str, str]
) -> list[MethodResult]:
    """The results on a task, from `studies`, the study of each method.

    Where seeds or trials are added until the decision, only planned runs are in the results.
    """
    trial_plan = pool_plan(manifest, task)
    if trial_plan is not None:
        return _planned_pools(ledger, manifest, task, studies, trial_plan)
    results = [_result(ledger, manifest, task, method, study) for method, study in studies.items()]
    plan = interim_plan(manifest, manifest.primary_metric(task))
    if plan is None:
        return results
    scores = {result.method: report_scores(result) for result in results}
    family = [(method, baseline) for _, method, baseline in manifest.family_on(task)]
    counts = planned_seeds(scores, family, plan)
    seeds = {method: set(plan.seeds[:count]) for method, count in counts.items()}
    return [
        _add_report(result, [run for run in result.report if run.seed in seeds[result.method]])
        for result in results
    ]


def _result(ledger: Ledger, manifest: Manifest, task: str, method: str, study: str) -> MethodResult:
    metric = manifest.primary_metric(task)
    runs = intact_runs(ledger, study)
    if manifest.config.protocol.unit == "methods":
        return _pool_result(runs, manifest, task, method, study, manifest.trials)
    search = tuple(run for run in runs if run.role == "search" and run.trial < manifest.trials)
    best = best_trial(search, metric, manifest.config.search.criterion)
    seeds = set(manifest.report_seeds)
    report = [
        run for run in runs if run.role == "report" and run.trial == best and run.seed in seeds
    ]
    setting: Mapping[str, Choice] = next(
        (run.record.inputs.setting for run in search if run.trial == best), {}
    )
    search_result = MethodResult(
        task, method, study, metric, search, (), best, setting, (), (), {}, (), frozenset()
    )
    return _add_report(search_result, report)


def _planned_pools(
    ledger: Ledger, manifest: Manifest, task: str, studies: Mapping[str, str], plan: PoolPlan
) -> list[MethodResult]:
    """The results of pools to which trials are added, with the states of their comparisons."""
    runs = {method: intact_runs(ledger, study) for method, study in studies.items()}
    trials = {
        method: {
            run.trial: trial_scores(run.record, manifest, task)
            for run in method_runs
            if run.role == "report"
        }
        for method, method_runs in runs.items()
    }
    family = [(method, baseline) for _, method, baseline in manifest.family_on(task)]
    interims = pool_interims(trials, family, plan)
    counts = planned_trials(studies, interims, plan)
    results = []
    for method, study in studies.items():
        size = max(plan.minimum, min(counts[method], ended_trials(trials[method])))
        result = _pool_result(runs[method], manifest, task, method, study, counts[method], size)
        states = {pair[1]: state for pair, state in interims.items() if pair[0] == method}
        results.append(replace(result, planned_trials=counts[method], interims=states))
    return results


def _pool_result(
    runs: Sequence[StudyRun],
    manifest: Manifest,
    task: str,
    method: str,
    study: str,
    count: int,
    size: int | None = None,
) -> MethodResult:
    """The result of the first `count` trials; the best setting is that of the best selection score.

    The pool has the first `size` trials, by default all of them.
    """
    metric = manifest.primary_metric(task)
    trials = [run for run in runs if run.role == "report" and run.trial < count]
    best = best_trial(trials, metric, manifest.config.search.criterion)
    setting: Mapping[str, Choice] = next(
        (run.record.inputs.setting for run in trials if run.trial == best), {}
    )
    pool = read_pool(trials, manifest, task, trials=count if size is None else size)
    result = MethodResult(
        task, method, study, metric, (), (), best, setting, (), (), {}, (), frozenset()
    )
    return replace(
        _add_report(result, trials),
        search=tuple(selection_view(run) for run in trials),
        tuned=None if pool is None else TunedPools((pool,), manifest.config.protocol.budget),
    )


def _add_report(result: MethodResult, report: Sequence[StudyRun]) -> MethodResult:
    """The result with these report runs, and their scores and failures."""
    complete_runs = [run for run in report if run.record.status == "complete"]
    names = complete_runs[0].record.metrics if complete_runs else {}
    return replace(
        result,
        report=tuple(report),
        split=complete_runs[0].record.inputs.split.name if complete_runs else None,
        seeds=tuple(run.seed for run in complete_runs),
        scores=tuple(run.record.metrics[result.metric] for run in complete_runs),
        metrics={
            name: float(np.mean([run.record.metrics[name] for run in complete_runs]))
            for name in names
        },
        failures=tuple(
            f"{run.role} run, trial {run.trial}, seed {run.seed}: {run.record.reason}"
            for run in (*result.search, *report)
            if run.record.status == "failed"
        ),
        failed_seeds=frozenset(run.seed for run in report if run.record.status == "failed"),
    )
