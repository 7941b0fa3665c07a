"""Pools: the trials of a method on a task, as tuned scores need them. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.selection import selection_metrics, selection_ranks, trial_score
from harness.config import Criterion
from harness.stats.exchange import tuned_difference
from harness.stats.paired import PairedDifference, t_interval
from harness.stats.tuned_curve import TunedCurve, tuned_curve
from harness.stats.tuned_score import Pool, pseudo_scores, trial_weights, tuned_mean
from harness.storage.manifest import Manifest
from harness.storage.record import StudyRun


@dataclass(frozen=True)
class TunedPools:
    """A method's pools, one for each teacher, and the budget of a tuner."""

    pools: tuple[Pool, ...]
    budget: int

    @property
    def score(self) -> float:
        """The tuned score."""
        return tuned_mean(self.pools, self.budget)

    @property
    def sd(self) -> float:
        """Standard deviation of a search's score: of the reported score of the trial that it keeps."""
        shares = 1 / len(self.pools)
        weights = np.concatenate(
            [shares * trial_weights(pool.selection, self.budget) for pool in self.pools]
        )
        scores = np.concatenate([pool.reported for pool in self.pools])
        return float(np.sqrt(weights @ (scores - weights @ scores) ** 2))


def read_pool(
    runs: Sequence[StudyRun], manifest: Manifest, task: str, criterion: Criterion | None = None
) -> Pool | None:
    """The pool of a method's trials, in their order; None while trials are missing or if all failed.

    The pool's selection scores are the trials' ranks, which are all that a tuned score reads.
    `criterion` is by default the manifest's. A failed trial has the score of a constant prediction.
    """
    if len(runs) < manifest.trials or all(run.record.status == "failed" for run in runs):
        return None
    metric = manifest.primary_metric(task)
    criterion = criterion or manifest.config.search.criterion
    records = [run.record for run in sorted(runs, key=lambda run: run.trial)]
    ranks = selection_ranks([trial_score([record], metric, criterion) for record in records])
    return Pool(
        selection=tuple(-np.inf if rank is None else float(rank) for rank in ranks),
        reported=tuple(
            manifest.tasks[task].constant if rank is None else record.metrics[metric]
            for rank, record in zip(ranks, records, strict=True)
        ),
    )


def tuned_paired_difference(
    method: TunedPools, baseline: TunedPools, confidence: float, seed: int
) -> PairedDifference:
    """The difference of two tuned scores, with the exchange test and its interval.

    `differences` are those of the jackknife's pseudo-scores, trial by trial. Their mean is the
    difference of the tuned scores, and their spread is that of the estimate. `seed` is the seed of the
    random patterns.
    """
    budget = method.budget
    test = tuned_difference(
        method.pools, baseline.pools, budget, confidence, np.random.default_rng(seed)
    )
    differences = np.concatenate(
        [
            pseudo_scores(method_pool, budget) - pseudo_scores(baseline_pool, budget)
            for method_pool, baseline_pool in zip(method.pools, baseline.pools, strict=True)
        ]
    )
    return PairedDifference(
        differences=tuple(differences.tolist()),
        mean=test.mean,
        sd=float(differences.std(ddof=1)),
        confidence=confidence,
        interval=test.interval,
        t_interval=t_interval(differences, confidence),
        p_value=test.p_value,
        is_exact=test.is_exact,
        minimum_p=test.minimum_p,
    )


def tuned_curves(
    tuned: Mapping[str, TunedPools], confidence: float, seed: int
) -> dict[str, TunedCurve]:
    """The tuned scores of methods at all budgets that their trials can bound, by method.

    `seed` is the seed of the bands' random multipliers.
    """
    return {
        method: tuned_curve(pools.pools, confidence, np.random.default_rng(seed))
        for method, pools in tuned.items()
    }


def selection_view(run: StudyRun) -> StudyRun:
    """A pool's trial as a search run: its metrics are those of the selection split."""
    metrics = selection_metrics(run.record.selection)
    return StudyRun("search", run.trial, run.seed, replace(run.record, metrics=metrics))
