"""The standing of each method of a task: its rank, and whether a test shows another to be higher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats

from harness.analysis.compare import BOOTSTRAP_SEED
from harness.analysis.results import MethodResult
from harness.stats.arrays import Floats
from harness.stats.best import best_set
from reports.evidence import Evidence

HIGHEST_MEAN, TIED_MEAN, LOWER_MEAN, FEW_SEEDS = "highest", "tied", "lower", "too few seeds"
DECIMALS = 12
"""The decimals to which means are rounded before they are ranked."""


@dataclass(frozen=True)
class Standing:
    """The rank of a method on its task, and a word for the tests against the other methods.

    `rank` is 1 for the highest mean; equal means share the mean of their ranks. `word` is
    `HIGHEST_MEAN` for the highest mean, and `LOWER_MEAN` where a verdict or `best_set` shows another
    method to be higher. Other methods are `TIED_MEAN`, or `FEW_SEEDS` where the seeds are too few for
    any test to show a difference. In a sequential ablation, the word of other methods is empty: a test
    for a fixed number of seeds is invalid for seeds that were added until they decided. The word is
    empty for tuned scores too, where the verdicts alone test.
    """

    rank: float
    word: str


def standings(evidence: Evidence, task: str) -> dict[str, Standing]:
    """The standing of every method with a score; empty for fewer than two such methods."""
    results = [result for result in evidence.results(task) if np.isfinite(result.mean)]
    if len(results) < 2:
        return {}
    means = np.round([result.mean for result in results], DECIMALS)
    ranks = scipy.stats.rankdata(-means, method="average")
    lower = _lower_by_verdict(evidence, task)
    others = {result.method: "" for result in results}
    if not evidence.sequential and evidence.manifest.unit != "trial":
        # With half the level, a single other method is tested at the level of a two-sided verdict.
        half = evidence.manifest.alpha / 2
        best = best_set(_scores(results), half, np.random.default_rng(BOOTSTRAP_SEED))
        lower |= {
            r.method for r, is_member in zip(results, best.members, strict=True) if not is_member
        }
        others = dict.fromkeys(others, FEW_SEEDS if best.minimum_p >= half else TIED_MEAN)
    return {
        result.method: Standing(
            float(rank), _word(result.method, mean == means.max(), lower, others)
        )
        for result, rank, mean in zip(results, ranks, means, strict=True)
    }


def _word(method: str, is_highest: bool, lower: set[str], others: dict[str, str]) -> str:
    if is_highest:
        return HIGHEST_MEAN
    return LOWER_MEAN if method in lower else others[method]


def _lower_by_verdict(evidence: Evidence, task: str) -> set[str]:
    lower = set()
    for comparison in evidence.result.comparisons:
        if comparison.task == task and comparison.verdict.outcome in ("better", "worse"):
            is_worse = comparison.verdict.outcome == "worse"
            lower.add(comparison.method if is_worse else comparison.baseline)
    return lower


def _scores(results: list[MethodResult]) -> Floats:
    """The scores of shape (seeds, methods); NaN where a method has no score for the seed."""
    seeds = sorted({seed for result in results for seed in result.seeds})
    scores: Floats = np.full((len(seeds), len(results)), np.nan)
    for column, result in enumerate(results):
        rows = [seeds.index(seed) for seed in result.seeds]
        scores[rows, column] = result.scores
    return scores
