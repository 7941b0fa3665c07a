"""Ranks, aggregates and effects across an ablation's methods and tasks. Never imports torch.

None of these numbers decides anything: verdicts come from the paired differences on each task, in
the family that the manifest names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.common_runs import (
    CompleteRuns,
    complete_runs,
    scores_by_method,
    scores_by_task,
)
from harness.analysis.compare import AblationResult
from harness.analysis.comparison import BOOTSTRAP_SEED, Comparison
from harness.analysis.scales import Scale, Scales, task_scales
from harness.stats.aggregate import (
    Aggregate,
    PerformanceProfile,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from harness.stats.arrays import Floats
from harness.stats.family import benjamini_hochberg
from harness.stats.meta_analysis import (
    Attempt,
    MetaAnalysis,
    MixedEffect,
    meta_analysis,
    mixed_effect,
)
from harness.stats.ranks import (
    Friedman,
    Nemenyi,
    RankComparison,
    friedman,
    nemenyi,
    rank_comparisons,
)

LEAST_METHODS = 3
"""The fewest methods that are ranked: the paired difference of two methods says more than ranks."""
PERMUTATIONS = 9999
PROFILE_STEPS = 40


@dataclass(frozen=True)
class Ranking:
    """Methods by their average ranks over blocks."""

    methods: tuple[str, ...]
    unit: str
    """The kind of a block, which the claim is about. Where several tasks are complete, "task": a score
    is a method's mean over the common seeds. Else `CompleteRuns.unit`, on the only complete task."""
    blocks: tuple[str, ...]
    friedman: Friedman
    """The test over all methods, with its permutation p value."""
    least_p: float
    """The smallest permutation p value of these blocks: that of the same order in all blocks."""
    nemenyi: Nemenyi
    against_baseline: tuple[RankComparison, ...]
    """The other methods against the baseline, adjusted by Holm; empty without a baseline."""


@dataclass(frozen=True)
class MethodAggregate:
    """All complete report runs of one method."""

    method: str
    interquartile_mean: Aggregate
    profile: PerformanceProfile
    improvement: Aggregate | None
    """Probability of improvement over the baseline; None for the baseline, or without one."""


@dataclass(frozen=True)
class Aggregates:
    """All methods' runs on one scale, with intervals over the seeds, for these fixed tasks.

    Interquartile means and profiles are on `scaled_tasks`, in shares of the gap (`Scale`) if `shares`,
    else in the raw scores of a single task. The probability of improvement needs no scale and is on
    all `tasks`.
    """

    methods: tuple[MethodAggregate, ...]
    unit: str
    """`CompleteRuns.unit`."""
    baseline: str | None
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    scaled_tasks: tuple[str, ...]
    shares: bool
    left_out: tuple[str, ...]
    """Tasks without a scale, and why."""


@dataclass(frozen=True)
class CrossTaskEffect:
    """One method against the baseline over several tasks, in shares of the gap (`Scale`)."""

    method: str
    baseline: str
    meta: Attempt[MetaAnalysis]
    mixed: Attempt[MixedEffect]
    left_out: tuple[str, ...]
    """Tasks without a scale, and why."""


@dataclass(frozen=True)
class Synthesis:
    """An ablation's results across methods and tasks; an attempt without a result has a reason."""

    runs: CompleteRuns
    ranking: Attempt[Ranking]
    aggregates: Attempt[Aggregates]
    effects: Attempt[tuple[CrossTaskEffect, ...]]


def synthesise(result: AblationResult) -> Synthesis:
    """Rank, aggregate and combine an ablation's report runs."""
    runs, scales = complete_runs(result), task_scales(result)
    return Synthesis(
        runs=runs,
        ranking=_ranking(result, runs),
        aggregates=_aggregates(result, runs, scales),
        effects=_effects(result, scales),
    )


def false_discovery(result: AblationResult) -> dict[tuple[str, str, str], float]:
    """Benjamini-Hochberg adjusted p values of the family, by (task, method, baseline).

    As in Holm's adjustment, a comparison without data counts as p = 1. Empty where seeds were added
    until the decision: a p value for a fixed number of seeds does not hold there.
    """
    if any(comparison.adjusted_p is None for comparison in result.comparisons):
        return {}
    p_values = [comparison.difference.p_value for comparison in result.comparisons]
    padding = [1.0] * (len(result.manifest.family) - len(p_values))
    names = [(c.task, c.method, c.baseline) for c in result.comparisons]
    return dict(zip(names, benjamini_hochberg(p_values + padding), strict=False))


def _ranking(result: AblationResult, runs: CompleteRuns) -> Attempt[Ranking]:
    methods, tasks = runs.methods, tuple(runs.seeds)
    if len(methods) < LEAST_METHODS:
        return Attempt(None, f"ranks take {LEAST_METHODS} methods or more, not {len(methods)}")
    if not tasks:
        return Attempt(None, "there is no task on which every method finished the same seed")
    task_scores = [
        scores_by_method(result, task, methods, seeds) for task, seeds in runs.seeds.items()
    ]
    if len(tasks) > 1:
        unit, blocks = "task", tasks
        scores = np.stack([block_scores.mean(axis=0) for block_scores in task_scores])
    else:
        unit, blocks = runs.unit, tuple(str(seed) for seed in runs.seeds[tasks[0]])
        scores = task_scores[0]
    if len(blocks) == 1:
        return Attempt(None, f"every method finished one {unit} only, {blocks[0]}")
    control = _control(result, methods)
    # The observed order counts as one more permutation, so p is at least 1 / (PERMUTATIONS + 1).
    least_p = max(math.factorial(len(methods)) ** (1.0 - len(blocks)), 1 / (PERMUTATIONS + 1))
    ranking = Ranking(
        methods=methods,
        unit=unit,
        blocks=blocks,
        friedman=friedman(scores, _generator(), PERMUTATIONS),
        least_p=least_p,
        nemenyi=nemenyi(scores, result.manifest.alpha),
        against_baseline=() if control is None else rank_comparisons(scores, control),
    )
    return Attempt(ranking, "")


def _aggregates(result: AblationResult, runs: CompleteRuns, scales: Scales) -> Attempt[Aggregates]:
    tasks, seeds = tuple(runs.seeds), runs.shared_seeds
    shares = len(tasks) > 1
    scaled_tasks = tuple(task for task in tasks if task in scales.by_task) if shares else tasks
    if not tasks:
        return Attempt(None, "there is no task on which every method finished the same seed")
    if len(seeds) < 2:
        return Attempt(None, f"seeds that every method finished on every task: {len(seeds)}, not 2")
    if not scaled_tasks:
        return Attempt(None, f"no task has a scale: {_reasons(scales, tasks)}")
    raw_scores = {m: scores_by_task(result, m, tasks, seeds) for m in runs.methods}
    scores = {m: scores_by_task(result, m, scaled_tasks, seeds) for m in runs.methods}
    if shares:
        used_scales = [scales.by_task[task] for task in scaled_tasks]
        scores = {method: _shares(used_scales, values) for method, values in scores.items()}
    control = _control(result, runs.methods)
    baseline = None if control is None else runs.methods[control]
    thresholds = _thresholds(np.stack(list(scores.values())))
    confidence = 1 - result.manifest.alpha
    methods = tuple(
        _method_aggregate(
            method,
            scores[method],
            thresholds,
            None if baseline in (None, method) else (raw_scores[method], raw_scores[baseline]),
            confidence,
        )
        for method in runs.methods
    )
    left_out = tuple(
        f"{task} ({scales.reasons[task]})" for task in tasks if task not in scaled_tasks
    )
    return Attempt(
        Aggregates(methods, runs.unit, baseline, seeds, tasks, scaled_tasks, shares, left_out), ""
    )


def _method_aggregate(
    method: str,
    scores: Floats,
    thresholds: Floats,
    raw_pair: tuple[Floats, Floats] | None,
    confidence: float,
) -> MethodAggregate:
    """`scores` (seeds, tasks) are on the scale; `raw_pair` the raw scores of method and baseline."""
    improvement = None
    if raw_pair is not None:
        improvement = probability_of_improvement(*raw_pair, _generator(), confidence=confidence)
    return MethodAggregate(
        method=method,
        interquartile_mean=interquartile_mean(scores, _generator(), confidence=confidence),
        profile=performance_profile(scores, thresholds, _generator(), confidence=confidence),
        improvement=improvement,
    )


def _effects(result: AblationResult, scales: Scales) -> Attempt[tuple[CrossTaskEffect, ...]]:
    tasks = {comparison.task for comparison in result.comparisons}
    if len(tasks) < 2:
        return Attempt(
            None, f"an effect across tasks takes comparisons on two or more, not on {len(tasks)}"
        )
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in result.comparisons:
        pairs.setdefault((comparison.method, comparison.baseline), []).append(comparison)
    return Attempt(
        tuple(_effect(result, comparisons, scales) for comparisons in pairs.values()), ""
    )


def _effect(
    result: AblationResult, comparisons: Sequence[Comparison], scales: Scales
) -> CrossTaskEffect:
    """The effect of one method over its comparisons with the baseline, one on each task."""
    method, baseline = comparisons[0].method, comparisons[0].baseline
    scaled_comparisons = [
        comparison for comparison in comparisons if comparison.task in scales.by_task
    ]
    other_tasks = [c.task for c in comparisons if c.task not in scales.by_task]
    left_out = tuple(f"{task} ({scales.reasons[task]})" for task in other_tasks)
    if not scaled_comparisons:
        reason = f"no task has a scale: {_reasons(scales, other_tasks)}"
        return CrossTaskEffect(
            method, baseline, Attempt(None, reason), Attempt(None, reason), left_out
        )
    scores = np.concatenate(
        [
            scales.by_task[c.task].shares(
                scores_by_method(result, c.task, (method, baseline), c.seeds)
            )
            for c in scaled_comparisons
        ]
    )
    tasks = [comparison.task for comparison in scaled_comparisons for _ in comparison.seeds]
    seeds = [seed for comparison in scaled_comparisons for seed in comparison.seeds]
    confidence = 1 - result.manifest.alpha
    return CrossTaskEffect(
        method,
        baseline,
        meta_analysis(scores[:, 0], scores[:, 1], tasks, confidence),
        mixed_effect(scores[:, 0], scores[:, 1], tasks, seeds, confidence),
        left_out,
    )


def _shares(scales: Sequence[Scale], scores: Floats) -> Floats:
    """Scores (seeds, tasks) on the scale of each task."""
    return np.stack(
        [scale.shares(values) for scale, values in zip(scales, scores.T, strict=True)], axis=1
    )


def _thresholds(scores: Floats) -> Floats:
    """Thresholds from just below all scores, where each share is 1, to the highest, where each is 0."""
    low, high = float(scores.min()), float(scores.max())
    step = (high - low) / PROFILE_STEPS
    return np.unique(np.linspace(low - step, high, PROFILE_STEPS + 2))


def _control(result: AblationResult, methods: Sequence[str]) -> int | None:
    """The baseline's position among the methods."""
    baseline = result.manifest.baseline
    return methods.index(baseline) if baseline in methods else None


def _reasons(scales: Scales, tasks: Sequence[str]) -> str:
    return "; ".join(f"{task}: {scales.reasons[task]}" for task in tasks)


def _generator() -> np.random.Generator:
    """A generator of the same draws for every method."""
    return np.random.default_rng(BOOTSTRAP_SEED)
