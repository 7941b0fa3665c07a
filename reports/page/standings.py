"""Where each method of a task stands: its rank, and whether another one is shown to be higher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats

from harness.analysis.compare import BOOTSTRAP_SEED
from harness.analysis.results import MethodResult
from harness.stats.arrays import Floats
from harness.stats.best import best_set
from reports.evidence import Evidence

HIGHEST, TIED, LOWER, FEW = "highest", "tied", "lower", "too few seeds"
SAME = 12
"""Decimals of a score in which equal means agree."""


@dataclass(frozen=True)
class Standing:
    """A method among those of its task.

    `rank` is 1 for the highest mean; equal means share the mean of their ranks. `word` is `HIGHEST`;
    `LOWER` where a verdict or `best_set` shows another method to be higher; else `TIED`, or `FEW` where
    the seeds could not have shown it. Empty where seeds were added until they decided: a test for a
    fixed number of seeds is none then.
    """

    rank: float
    word: str


def standings(evidence: Evidence, task: str) -> dict[str, Standing]:
    """The standing of every method with a score, where there are two or more."""
    results = [result for result in evidence.results(task) if result.scores]
    if len(results) < 2:
        return {}
    means = np.round([result.mean for result in results], SAME)
    ranks = scipy.stats.rankdata(-means, method="average")
    lower = _lower_by_verdict(evidence, task)
    rest = {result.method: "" for result in results}
    if not evidence.sequential:
        # Half the level: then one other method is compared at the level of a two-sided verdict.
        half = evidence.manifest.alpha / 2
        found = best_set(_scores(results), half, np.random.default_rng(BOOTSTRAP_SEED))
        lower |= {r.method for r, kept in zip(results, found.members, strict=True) if not kept}
        rest = dict.fromkeys(rest, FEW if found.minimum_p >= half else TIED)
    return {
        result.method: Standing(float(rank), _word(result.method, mean == means.max(), lower, rest))
        for result, rank, mean in zip(results, ranks, means, strict=True)
    }


def _word(method: str, highest: bool, lower: set[str], rest: dict[str, str]) -> str:
    if highest:
        return HIGHEST
    return LOWER if method in lower else rest[method]


def _lower_by_verdict(evidence: Evidence, task: str) -> set[str]:
    lower = set()
    for comparison in evidence.result.comparisons:
        if comparison.task == task and comparison.verdict.outcome in ("better", "worse"):
            worse = comparison.verdict.outcome == "worse"
            lower.add(comparison.method if worse else comparison.baseline)
    return lower


def _scores(results: list[MethodResult]) -> Floats:
    """(seeds, methods): the scores by seed, NaN where a method has none."""
    seeds = sorted({seed for result in results for seed in result.seeds})
    scores: Floats = np.full((len(seeds), len(results)), np.nan)
    for column, result in enumerate(results):
        rows = [seeds.index(seed) for seed in result.seeds]
        scores[rows, column] = result.scores
    return scores
