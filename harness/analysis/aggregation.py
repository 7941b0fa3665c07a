"""Several methods and tasks at once: what an ablation's result says across them. Never imports torch.

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
from harness.analysis.compare import BOOTSTRAP_SEED, AblationResult, Comparison
from harness.analysis.normalised import Scale, Scales, scales
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
"""The fewest methods that are ranked: of two, their paired difference says more."""
PERMUTATIONS = 9999
PROFILE_STEPS = 40


@dataclass(frozen=True)
class Ranking:
    """Methods by their average ranks over blocks."""

    methods: tuple[str, ...]
    unit: str
    """What a block is, and so what the claim is about: "task", by each method's mean over the seeds
    in common, where several tasks are complete; else `CompleteRuns.unit`, of the only one."""
    blocks: tuple[str, ...]
    friedman: Friedman
    """With its permutation p value."""
    least_p: float
    """The smallest permutation p value that these blocks can give: all of them in one order."""
    nemenyi: Nemenyi
    against_baseline: tuple[RankComparison, ...]
    """Every other method against the baseline, adjusted by Holm; empty without a baseline."""


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
    """All methods' runs on one scale, with intervals over the seeds; the tasks stay.

    Interquartile means and profiles are on `scaled` tasks: shares of the gap (`Scale`), or the raw
    scores of a single task. The probability of improvement needs no scale and is on all `tasks`.
    """

    methods: tuple[MethodAggregate, ...]
    unit: str
    """`CompleteRuns.unit`."""
    baseline: str | None
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    scaled: tuple[str, ...]
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
class Across:
    """What an ablation says across methods and tasks; an attempt without a result says why."""

    runs: CompleteRuns
    ranking: Attempt[Ranking]
    aggregates: Attempt[Aggregates]
    effects: Attempt[tuple[CrossTaskEffect, ...]]


def across(result: AblationResult) -> Across:
    """Rank, aggregate and combine an ablation's report runs."""
    runs, scale = complete_runs(result), scales(result)
    return Across(
        runs=runs,
        ranking=_ranking(result, runs),
        aggregates=_aggregates(result, runs, scale),
        effects=_effects(result, scale),
    )


def false_discovery(result: AblationResult) -> dict[tuple[str, str, str], float]:
    """Benjamini-Hochberg adjusted p values of the family, by (task, method, baseline).

    As in Holm's, a comparison without data counts as p = 1. Empty where seeds were added until they
    decided: a p value for a fixed number of seeds is not one there.
    """
    if any(comparison.adjusted_p is None for comparison in result.comparisons):
        return {}
    found = [comparison.difference.p_value for comparison in result.comparisons]
    padding = [1.0] * (len(result.manifest.family) - len(found))
    names = [(c.task, c.method, c.baseline) for c in result.comparisons]
    return dict(zip(names, benjamini_hochberg(found + padding), strict=False))


def _ranking(result: AblationResult, runs: CompleteRuns) -> Attempt[Ranking]:
    methods, tasks = runs.methods, tuple(runs.seeds)
    if len(methods) < LEAST_METHODS:
        return Attempt(None, f"ranks take {LEAST_METHODS} methods or more, here are {len(methods)}")
    if not tasks:
        return Attempt(None, "there is no task on which every method finished the same seed")
    of_tasks = [
        scores_by_method(result, task, methods, seeds) for task, seeds in runs.seeds.items()
    ]
    if len(tasks) > 1:
        unit, blocks = "task", tasks
        scores = np.stack([own.mean(axis=0) for own in of_tasks])
    else:
        unit, blocks = runs.unit, tuple(str(seed) for seed in runs.seeds[tasks[0]])
        scores = of_tasks[0]
    if len(blocks) == 1:
        return Attempt(None, f"every method finished one {unit} only, {blocks[0]}")
    control = _control(result, methods)
    # At least that of the permutations drawn, of which the observed order counts as one.
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


def _aggregates(result: AblationResult, runs: CompleteRuns, scale: Scales) -> Attempt[Aggregates]:
    tasks, seeds = tuple(runs.seeds), runs.shared_seeds
    shares = len(tasks) > 1
    scaled = tuple(task for task in tasks if task in scale.known) if shares else tasks
    if not tasks:
        return Attempt(None, "there is no task on which every method finished the same seed")
    if len(seeds) < 2:
        return Attempt(None, f"seeds that every method finished on every task: {len(seeds)}, not 2")
    if not scaled:
        return Attempt(None, f"no task has a scale: {_reasons(scale, tasks)}")
    raw = {m: scores_by_task(result, m, tasks, seeds) for m in runs.methods}
    shown = {m: scores_by_task(result, m, scaled, seeds) for m in runs.methods}
    if shares:
        ends = [scale.known[task] for task in scaled]
        shown = {method: _shares(ends, scores) for method, scores in shown.items()}
    control = _control(result, runs.methods)
    baseline = None if control is None else runs.methods[control]
    thresholds = _thresholds(np.stack(list(shown.values())))
    confidence = 1 - result.manifest.alpha
    methods = tuple(
        _aggregate(
            method,
            shown[method],
            thresholds,
            None if baseline in (None, method) else (raw[method], raw[baseline]),
            confidence,
        )
        for method in runs.methods
    )
    left_out = tuple(f"{task} ({scale.missing[task]})" for task in tasks if task not in scaled)
    return Attempt(
        Aggregates(methods, runs.unit, baseline, seeds, tasks, scaled, shares, left_out), ""
    )


def _aggregate(
    method: str,
    shown: Floats,
    thresholds: Floats,
    compared: tuple[Floats, Floats] | None,
    confidence: float,
) -> MethodAggregate:
    """`shown` (seeds, tasks) is on the scale; `compared` are raw scores, its own and the baseline's."""
    improvement = None
    if compared is not None:
        improvement = probability_of_improvement(*compared, _generator(), confidence=confidence)
    return MethodAggregate(
        method=method,
        interquartile_mean=interquartile_mean(shown, _generator(), confidence=confidence),
        profile=performance_profile(shown, thresholds, _generator(), confidence=confidence),
        improvement=improvement,
    )


def _effects(result: AblationResult, scale: Scales) -> Attempt[tuple[CrossTaskEffect, ...]]:
    tasks = {comparison.task for comparison in result.comparisons}
    if len(tasks) < 2:
        return Attempt(
            None, f"an effect across tasks takes comparisons on two, here are {len(tasks)}"
        )
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in result.comparisons:
        pairs.setdefault((comparison.method, comparison.baseline), []).append(comparison)
    return Attempt(tuple(_effect(result, compared, scale) for compared in pairs.values()), "")


def _effect(
    result: AblationResult, compared: Sequence[Comparison], scale: Scales
) -> CrossTaskEffect:
    method, baseline = compared[0].method, compared[0].baseline
    used = [comparison for comparison in compared if comparison.task in scale.known]
    without = [comparison.task for comparison in compared if comparison.task not in scale.known]
    left_out = tuple(f"{task} ({scale.missing[task]})" for task in without)
    if not used:
        reason = f"no task has a scale: {_reasons(scale, without)}"
        return CrossTaskEffect(
            method, baseline, Attempt(None, reason), Attempt(None, reason), left_out
        )
    scores = np.concatenate(
        [
            scale.known[c.task].shares(
                scores_by_method(result, c.task, (method, baseline), c.seeds)
            )
            for c in used
        ]
    )
    tasks = [comparison.task for comparison in used for _ in comparison.seeds]
    seeds = [seed for comparison in used for seed in comparison.seeds]
    confidence = 1 - result.manifest.alpha
    return CrossTaskEffect(
        method,
        baseline,
        meta_analysis(scores[:, 0], scores[:, 1], tasks, confidence),
        mixed_effect(scores[:, 0], scores[:, 1], tasks, seeds, confidence),
        left_out,
    )


def _shares(ends: Sequence[Scale], scores: Floats) -> Floats:
    """Scores (seeds, tasks) on the scale of each task."""
    return np.stack([end.shares(own) for end, own in zip(ends, scores.T, strict=True)], axis=1)


def _thresholds(scores: Floats) -> Floats:
    """From just below all scores, where every share is 1, to the highest, where it is 0."""
    low, high = float(scores.min()), float(scores.max())
    step = (high - low) / PROFILE_STEPS
    return np.unique(np.linspace(low - step, high, PROFILE_STEPS + 2))


def _control(result: AblationResult, methods: Sequence[str]) -> int | None:
    """The baseline's position among the methods."""
    baseline = result.manifest.baseline
    return methods.index(baseline) if baseline in methods else None


def _reasons(scale: Scales, tasks: Sequence[str]) -> str:
    return "; ".join(f"{task}: {scale.missing[task]}" for task in tasks)


def _generator() -> np.random.Generator:
    """The same draws for every method."""
    return np.random.default_rng(BOOTSTRAP_SEED)
