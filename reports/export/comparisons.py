"""`comparisons.csv`: a row for every comparison, with all statistics of its difference."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from harness.analysis.comparison import Comparison
from harness.stats import PairedEffects
from reports.evidence import POINTS, Evidence

FIXED_NUMBER_COLUMNS = (
    "t_low", "t_high", "t_p", "bca_low", "bca_high", "wilcoxon_p", "superiority_low",
    "superiority_high",
)  # fmt: skip
"""Columns of `effects_table` that hold only for a number of seeds that was fixed beforehand."""
EFFECT_COLUMNS = (
    "t_p", "normality_p", "bca_low", "bca_high", "wilcoxon_p", "d_z", "rank_biserial", "superiority",
    "superiority_low", "superiority_high",
)  # fmt: skip
"""Columns of `effects_table` on single seeds, which tuned scores do not have."""
COLUMNS = (
    "task", "method", "baseline", "metric", "outcome", "difference", "low", "high", "confidence",
    "sd", "pairs", "holm_p", "t_low", "t_high", *EFFECT_COLUMNS, "detectable", "margin",
    "equivalence_p", "discovery_p",
)  # fmt: skip


def comparisons_csv(evidence: Evidence) -> str:
    """`effects_table` as CSV: numbers in full, empty cells for values that do not apply."""
    table = effects_table(evidence.result.comparisons, evidence.discovery_p)
    text: str = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def effects_table(
    comparisons: Iterable[Comparison], discovery_p: Mapping[tuple[str, str, str], float]
) -> pd.DataFrame:
    """One row per comparison: its verdict and all statistics of its differences, in points.

    `low` and `high` are the interval of the test that gave the verdict, at this `confidence`.

    `superiority` is in percent. A cell is NaN if its statistic needs a spread, a margin or a fixed
    number of seeds, and the comparison has none. `discovery_p` is `Evidence.discovery_p`.
    """
    rows = []
    for comparison in comparisons:
        names = (comparison.task, comparison.method, comparison.baseline)
        row = _effects(comparison) | {"discovery_p": discovery_p.get(names)}
        if comparison.stopping is not None:
            row |= dict.fromkeys(FIXED_NUMBER_COLUMNS)
        decided = comparison.decided_by
        head = {
            "task": comparison.task,
            "method": comparison.method,
            "baseline": comparison.baseline,
            "metric": comparison.metric,
            "outcome": comparison.verdict.outcome,
            "difference": POINTS * comparison.difference.mean,
            "low": POINTS * decided.interval.low,
            "high": POINTS * decided.interval.high,
            "confidence": decided.confidence,
            "sd": POINTS * comparison.difference.sd,
            "pairs": comparison.difference.n,
        }
        rows.append(head | {k: np.nan if value is None else value for k, value in row.items()})
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _effects(comparison: Comparison) -> dict[str, float | None]:
    difference, equivalence = comparison.difference, comparison.equivalence
    effects = dict.fromkeys(EFFECT_COLUMNS)
    return {
        "holm_p": comparison.adjusted_p,
        "t_low": POINTS * difference.t_interval.low,
        "t_high": POINTS * difference.t_interval.high,
        **(effects if comparison.effects is None else _seed_effects(comparison.effects)),
        "detectable": None
        if comparison.detectable_difference is None
        else POINTS * comparison.detectable_difference,
        "margin": POINTS * comparison.margin,
        "equivalence_p": None if equivalence is None else comparison.equivalence_p,
    }


def _seed_effects(effects: PairedEffects) -> dict[str, float | None]:
    bca = effects.bca_interval
    return {
        "t_p": effects.t_p_value,
        "normality_p": effects.normality_p_value,
        "bca_low": None if bca is None else POINTS * bca.low,
        "bca_high": None if bca is None else POINTS * bca.high,
        "wilcoxon_p": effects.wilcoxon_p_value,
        "d_z": effects.d_z,
        "rank_biserial": effects.rank_biserial,
        "superiority": 100 * effects.superiority,
        "superiority_low": 100 * effects.superiority_interval.low,
        "superiority_high": 100 * effects.superiority_interval.high,
    }
