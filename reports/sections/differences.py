"""Paired differences: each comparison's mean, its intervals and further statistics."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from harness.stats import PairedEffects
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import Columns, JointColumn, Table, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

DIFFERENCE_COLUMNS = [
    "method", "baseline", "mean", "low", "high", "crossed_low", "crossed_high", "seeds",
    "adjusted_p", "outcome",
]  # fmt: skip
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


def differences(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per comparison, in points: difference, verdict's interval, interval over new examples.

    `crossed_low` and `crossed_high` are the ends of the interval over new examples. `seeds` counts seeds
    or trials. The adjusted p value is NaN if seeds were added until a decision. An end of an interval is
    infinite if too few seeds leave it unbounded, and NaN if there are no predictions to resample.
    """
    rows = []
    for comparison in evidence.comparisons(task):
        difference, crossed_interval = comparison.difference, comparison.over_examples
        crossed_ends = (
            (crossed_interval.low, crossed_interval.high) if crossed_interval else (np.nan, np.nan)
        )
        rows.append(
            (
                comparison.method,
                comparison.baseline,
                POINTS * difference.mean,
                *(POINTS * end for end in comparison.interval),
                *(POINTS * end for end in crossed_ends),
                difference.n,
                np.nan if comparison.adjusted_p is None else comparison.adjusted_p,
                comparison.verdict.outcome,
            )
        )
    return pd.DataFrame(rows, columns=pd.Index(DIFFERENCE_COLUMNS))


def effects_table(
    comparisons: Iterable[Comparison], discovery_p: Mapping[tuple[str, str, str], float]
) -> pd.DataFrame:
    """One row per comparison: further statistics of its differences; ends of intervals in points.

    `superiority` is in percent. A cell is NaN if its statistic needs a spread, a margin or a fixed
    number of seeds, and the comparison has none. `discovery_p` is `Evidence.discovery_p`.
    """
    rows = []
    for comparison in comparisons:
        names = (comparison.task, comparison.method, comparison.baseline)
        row = _effects(comparison) | {"discovery_p": discovery_p.get(names)}
        if comparison.stopping is not None:
            row |= dict.fromkeys(FIXED_NUMBER_COLUMNS)
        head = {
            "method": comparison.method,
            "baseline": comparison.baseline,
            "pairs": comparison.difference.n,
        }
        rows.append(head | {k: np.nan if value is None else value for k, value in row.items()})
    return pd.DataFrame(rows)


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


def effects_display(frame: pd.DataFrame, styles: Styles, is_tuned: bool = False) -> Table:
    """Print `effects_table`. Tuned scores (`is_tuned`) have no columns on single seeds."""
    columns: Columns = {
        "method": ("method", None),
        "baseline": ("against", None),
        "pairs": ("trials" if is_tuned else "pairs", number(0)),
        "holm_p": ("p (Holm)", number(3)),
        "discovery_p": ("p (Benjamini-Hochberg)", number(3)),
        "t_low": ("t interval, points", _interval("t_high")),
        "t_p": ("t test, p", number(3)),
        "normality_p": ("normality, p", number(3)),
        "bca_low": ("BCa interval, points", _interval("bca_high")),
        "wilcoxon_p": ("signed ranks, p", number(3)),
        "d_z": ("d_z", number(2)),
        "rank_biserial": ("rank-biserial", number(2)),
        "superiority": ("chance to win on another seed, %", _WINS),
        "detectable": ("found in 4 of 5 cases, points", number(2)),
        "margin": ("margin, points", number(1)),
        "equivalence_p": ("equivalence, adjusted p", number(3)),
    }
    if is_tuned:
        columns = {name: of for name, of in columns.items() if name not in EFFECT_COLUMNS}
    title = f"Further statistics of each difference, over {'trials' if is_tuned else 'seeds'}"
    return display.table(title, frame, columns, styles)


def _interval(high: str) -> JointColumn:
    return JointColumn((high,), ("low", "high"), display.interval_text)


_WINS = JointColumn(
    ("superiority_low", "superiority_high"),
    ("estimate", "low", "high"),
    lambda share, low, high: f"{share:.0f} ({low:.0f} to {high:.0f})",
)


def forest_figure(frame: pd.DataFrame, styles: Styles, is_tuned: bool = False) -> Drawing:
    """A row per comparison: the difference with its two intervals. From `differences`.

    `is_tuned` says that the differences are those of tuned scores.
    """
    figure = blank_figure(height=110 + 70 * len(frame), y_title=None)
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        style = styles[row["method"]]
        labels.append(f"{safe(row['method'])}<br>vs {safe(row['baseline'])}")
        for low, high, offset, width, dash in (
            (row["low"], row["high"], 0.0, 5, "solid"),
            (row["crossed_low"], row["crossed_high"], 0.25, 2, "dot"),
        ):
            if np.isfinite([low, high]).all():
                figure.add_scatter(
                    x=[low, high], y=[y + offset] * 2, mode="lines", hoverinfo="skip",
                    line={"color": style.colour, "width": width, "dash": dash},
                )  # fmt: skip
        figure.add_scatter(
            x=[row["mean"]], y=[y], mode="markers", marker=marker(style, 13), hoverinfo="text",
            hovertext=[_difference_text(row, is_tuned)],
        )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color="#888888")
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6]
    )
    ends = frame[["mean", "low", "high", "crossed_low", "crossed_high"]].to_numpy()
    finite_ends = np.append(ends[np.isfinite(ends)], 0.0)
    margin = 0.05 * float(np.ptp(finite_ends)) or 1.0
    figure.update_xaxes(
        title_text="difference, points",
        range=[float(finite_ends.min()) - margin, float(finite_ends.max()) + margin],
    )
    return figure


def _difference_text(row: Mapping[Hashable, Any], is_tuned: bool) -> str:
    draws, unit = ("searches", "trials") if is_tuned else ("seeds", "seeds")
    lines = [f"{safe(row['method'])} vs {safe(row['baseline'])}: {row['mean']:+.2f} points"]
    for name, ends in (
        ("verdict's test", (row["low"], row["high"])),
        (f"over {draws} and examples", (row["crossed_low"], row["crossed_high"])),
    ):
        lines.append(f"{name}: {_ends_text(ends)}")
    p = "" if np.isnan(row["adjusted_p"]) else f", adjusted p = {row['adjusted_p']:.3g}"
    return "<br>".join([*lines, f"n = {row['seeds']} {unit}{p}"])


def _ends_text(ends: Sequence[float]) -> str:
    if np.isnan(ends).any():
        return "no predictions stored"
    return display.interval_text(*ends)


def differences_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The task's comparisons as a forest plot, and a table of further statistics."""
    frame = differences(evidence, task)
    if frame.empty:
        return Block("")
    alt = "; ".join(
        f"{row['method']} minus {row['baseline']}: {row['mean']:+.2f} points, "
        f"{display.interval_text(row['low'], row['high'])}"
        for row in frame.to_dict("records")
    )
    is_tuned = any(result.tuned is not None for result in evidence.results(task))
    kind = "Differences of tuned" if is_tuned else "Mean paired differences in"
    caption = f"{kind} {evidence.metric(task)}"
    forest = panel(caption, alt, forest_figure(frame, styles, is_tuned), frame)
    effects = effects_table(evidence.comparisons(task), evidence.discovery_p)
    table = effects_display(effects, styles, is_tuned)
    return Block(evidence.task_label(task), panels=(forest,), tables=(table,))


SECTION = Section(
    anchor="differences",
    title="Paired differences",
    reading=(
        "Each row is a method minus its baseline, averaged over paired seeds, or the difference of two "
        "tuned scores. Right of zero the method scores higher. The thick bar is the interval of the "
        "verdict's test, for this comparison alone. The dotted bar is the interval over new examples "
        "too, adjusted for all comparisons: the crossed bootstrap over seeds and examples, or the "
        "interval of a difference of tuned scores over new searches and new examples."
    ),
    details=(
        "A bar is not drawn if too few seeds leave it unbounded, or if there are no stored predictions "
        "to resample. Two columns of the table decide: p (Holm) and the last column, equivalence "
        "within the margin that was fixed beforehand. p (Benjamini-Hochberg) bounds the share of false "
        "findings, not the chance of any false finding. BCa intervals are too narrow for few seeds: "
        "with ten seeds they cover about 90 %. If seeds or trials were added until a decision, the "
        "thick bar is the repeated interval, which holds after every look; the dotted bar is not "
        "corrected for the looks; and the table leaves out the statistics that need a fixed number of "
        "runs."
    ),
    maker=by_task(differences_block),
    part="evidence",
)
