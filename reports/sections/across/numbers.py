"""Several methods and tasks in one view: the numbers as data frames.

Shares of the gap and probabilities are printed in percent, raw scores in points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.aggregation import Aggregates, CrossTaskEffect, Ranking
from harness.stats.meta_analysis import Effect, MetaAnalysis
from harness.stats.paired import t_quantile

PERCENT = 100.0
EFFECT_COLUMNS = ["method", "baseline", "kind", "task", "mean", "low", "high", "pairs"]


def rank_table(ranking: Ranking) -> pd.DataFrame:
    """One row per method, the best first: its average rank, and its comparison with the baseline.

    `difference` is the method's average rank minus the baseline's rank. The comparison's columns are
    NaN for the baseline, or if there is no baseline.
    """
    baseline_comparisons = {comparison.first: comparison for comparison in ranking.against_baseline}
    nemenyi = {frozenset((c.first, c.second)): c.adjusted_p for c in ranking.nemenyi.comparisons}
    rows = []
    for position, method in enumerate(ranking.methods):
        row = {"method": method, "average_rank": ranking.friedman.average_ranks[position]}
        comparison = baseline_comparisons.get(position)
        row |= {
            "difference": comparison.difference if comparison else np.nan,
            "holm_p": comparison.adjusted_p if comparison else np.nan,
            "nemenyi_p": nemenyi[frozenset((position, comparison.second))]
            if comparison
            else np.nan,
        }
        rows.append(row)
    return pd.DataFrame(rows).sort_values("average_rank", kind="stable", ignore_index=True)


def rank_groups(ranking: Ranking) -> pd.DataFrame:
    """One row per bar of the diagram: the methods that the bar joins, and the ranks at its ends."""
    ranks = ranking.nemenyi.average_ranks
    rows = [
        (", ".join(ranking.methods[m] for m in group), ranks[group[0]], ranks[group[-1]])
        for group in ranking.nemenyi.groups
    ]
    return pd.DataFrame(rows, columns=pd.Index(["methods", "low", "high"]))


def profile_frame(aggregates: Aggregates) -> pd.DataFrame:
    """One row per method and threshold: percent of the method's runs above, with the interval."""
    rows = [
        (aggregate.method, PERCENT * level, PERCENT * share, *(PERCENT * end for end in interval))
        for aggregate in aggregates.methods
        for level, share, interval in zip(
            aggregate.profile.thresholds,
            aggregate.profile.shares,
            aggregate.profile.intervals,
            strict=True,
        )
    ]
    return pd.DataFrame(rows, columns=pd.Index(["method", "threshold", "percent", "low", "high"]))


def aggregate_table(aggregates: Aggregates) -> pd.DataFrame:
    """One row per method: interquartile mean and probability of improvement, with their intervals.

    The probability is in percent; NaN for the baseline, or if there is no baseline.
    """
    rows = []
    for aggregate in aggregates.methods:
        middle, improvement = aggregate.interquartile_mean, aggregate.improvement
        row = {"method": aggregate.method, "mean": PERCENT * middle.value}
        row |= {"low": PERCENT * middle.interval.low, "high": PERCENT * middle.interval.high}
        row |= {
            "improvement": PERCENT * improvement.value if improvement else np.nan,
            "improvement_low": PERCENT * improvement.interval.low if improvement else np.nan,
            "improvement_high": PERCENT * improvement.interval.high if improvement else np.nan,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def effect_frame(effects: Iterable[CrossTaskEffect]) -> pd.DataFrame:
    """One row per method and task, and one row per method and effect over all tasks.

    `kind` is task, fixed, random or mixed. A task's interval is Student's t interval of the mean
    difference. All numbers but `pairs` are in percent of the gap.
    """
    rows = []
    for effect in effects:
        names, meta, mixed = (
            (effect.method, effect.baseline),
            effect.meta.result,
            effect.mixed.result,
        )
        if meta is not None:
            rows += [(*names, *row) for row in _task_effects(meta)]
            pairs = sum(meta.seeds)
            rows.append((*names, "fixed", "", *_ends(meta.fixed_effect), pairs))
            rows.append((*names, "random", "", *_ends(meta.random_effect), pairs))
        if mixed is not None:
            rows.append((*names, "mixed", "", *_ends(mixed.effect), mixed.pairs))
    return pd.DataFrame(rows, columns=pd.Index(EFFECT_COLUMNS))


def spread_table(effects: Iterable[CrossTaskEffect]) -> pd.DataFrame:
    """One row per method with an effect over tasks: how much the effect differs between tasks.

    `between` is the standard deviation of the effect between tasks, `i_squared` a percentage.
    """
    rows = [
        (
            effect.method,
            effect.baseline,
            len(meta.tasks),
            PERCENT * math.sqrt(meta.tau_squared),
            PERCENT * meta.i_squared,
            meta.q_p_value,
        )
        for effect in effects
        if (meta := effect.meta.result) is not None
    ]
    columns = ["method", "baseline", "tasks", "between", "i_squared", "q_p"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _task_effects(meta: MetaAnalysis) -> Iterable[tuple[str, str, float, float, float, int]]:
    for task, seeds, mean, variance in zip(
        meta.tasks, meta.seeds, meta.effects, meta.variances, strict=True
    ):
        half = t_quantile(meta.confidence, seeds - 1) * math.sqrt(variance)
        low, high = PERCENT * (mean - half), PERCENT * (mean + half)
        yield "task", str(task), PERCENT * mean, low, high, seeds


def _ends(effect: Effect) -> tuple[float, float, float]:
    return PERCENT * effect.mean, PERCENT * effect.interval.low, PERCENT * effect.interval.high
