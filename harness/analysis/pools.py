"""Pools: the trials of a method on a task, as tuned scores need them. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness.analysis.selection import (
    SelectionScore,
    selection_metrics,
    selection_ranks,
    trial_score,
)
from harness.config import Criterion
from harness.stats.arrays import Floats
from harness.stats.exchange import ExchangeTest, exchange_test
from harness.stats.paired import PairedDifference, t_interval
from harness.stats.tuned_curve import TunedCurve, tuned_curve
from harness.stats.tuned_score import Pool, pseudo_scores, trial_weights, tuned_mean
from harness.storage.manifest import Manifest
from harness.storage.record import Record, StudyRun

PATTERN_SEED = 0
"""The seed of the exchange test's random patterns."""


@dataclass(frozen=True)
class TunedPools:
    """A method's pools, one for each teacher, and the budget of a tuner."""

    pools: tuple[Pool, ...]
    budget: int

    def first(self, trials: int) -> TunedPools:
        """The pools of the first `trials` trials of each teacher."""
        return TunedPools(tuple(pool.first(trials) for pool in self.pools), self.budget)

    @property
    def score(self) -> float:
        """The tuned score."""
        return tuned_mean(self.pools, self.budget)

    @property
    def trials(self) -> int:
        """Number of trials in each pool."""
        return self.pools[0].trials

    @property
    def weights(self) -> Floats:
        """The weights of all trials in the tuned score (trials,), in the order of the pools; sum 1."""
        return np.concatenate(
            [trial_weights(pool.selection, self.budget) for pool in self.pools]
        ) / len(self.pools)

    def distribution(self) -> tuple[Floats, Floats]:
        """The distribution of one search's score, of the reported score of the trial that it keeps.

        Both have the shape (scores,): the possible scores, ascending, and the share of searches with a
        score up to each of them. The last share is 1.
        """
        weights, scores = self.weights, np.concatenate([pool.reported for pool in self.pools])
        has_weight = weights > 0
        possible_scores, positions = np.unique(scores[has_weight], return_inverse=True)
        shares: Floats = np.cumsum(np.bincount(positions, weights=weights[has_weight]))
        return possible_scores, shares

    @property
    def sd(self) -> float:
        """Standard deviation of a search's score: of the reported score of the trial that it keeps."""
        weights = self.weights
        scores = np.concatenate([pool.reported for pool in self.pools])
        return float(np.sqrt(weights @ (scores - weights @ scores) ** 2))


class TrialScores(NamedTuple):
    """The selection score and the reported score of a pool's trial."""

    selection: SelectionScore | None
    """None for a failed trial."""
    reported: float


def trial_scores(
    record: Record, manifest: Manifest, task: str, criterion: Criterion | None = None
) -> TrialScores:
    """The scores of a trial. A failed trial has the reported score of a constant prediction.

    `criterion` is by default the manifest's.
    """
    metric = manifest.primary_metric(task)
    score = trial_score([record], metric, criterion or manifest.config.search.criterion)
    reported = manifest.tasks[task].constant if score is None else record.metrics[metric]
    return TrialScores(score, reported)


def pool_of(trials: Sequence[TrialScores]) -> Pool:
    """The pool of trials with these scores, in their order.

    The pool's selection scores are the trials' ranks, which are all that a tuned score reads.
    """
    ranks = selection_ranks([trial.selection for trial in trials])
    return Pool(
        selection=tuple(-np.inf if rank is None else float(rank) for rank in ranks),
        reported=tuple(trial.reported for trial in trials),
    )


def read_pool(
    runs: Sequence[StudyRun],
    manifest: Manifest,
    task: str,
    criterion: Criterion | None = None,
    trials: int | None = None,
) -> Pool | None:
    """The pool of a method's trials, in their order; None while trials are missing or if all failed.

    `criterion` and the number of `trials` are by default the manifest's.
    """
    trials = manifest.trials if trials is None else trials
    runs = [run for run in sorted(runs, key=lambda run: run.trial) if run.trial < trials]
    if len(runs) < trials or all(run.record.status == "failed" for run in runs):
        return None
    return pool_of([trial_scores(run.record, manifest, task, criterion) for run in runs])


def exchange_of(method: TunedPools, baseline: TunedPools) -> ExchangeTest:
    """The exchange test of two tuned methods, with the same random patterns each time."""
    generator = np.random.default_rng(PATTERN_SEED)
    return exchange_test(method.pools, baseline.pools, method.budget, generator)


def tuned_paired_difference(exchange: ExchangeTest, confidence: float) -> PairedDifference:
    """The difference of two tuned scores, with the exchange test and its interval.

    `differences` are those of the jackknife's pseudo-scores, trial by trial. Their mean is the
    difference of the tuned scores, and their spread is that of the estimate.
    """
    budget, test = exchange.budget, exchange.difference(confidence)
    differences = np.concatenate(
        [
            pseudo_scores(method_pool, budget) - pseudo_scores(baseline_pool, budget)
            for method_pool, baseline_pool in zip(exchange.method, exchange.baseline, strict=True)
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
