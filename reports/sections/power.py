"""Power: the chance that a number of seeds or trials finds a true difference, at the observed spread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from harness.stats.paired import ROUNDING
from harness.stats.power import detectable_difference, power_of
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import (
    detectable_tuned_difference,
    effective_trials,
    minimum_trials,
)
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import JointColumn, number
from reports.kit.drawing import Drawing
from reports.kit.palette import DASHES, Styles

SEEDS = (5, 10, 20, 50)
TRIALS = (10, 20, 40, 80)
TARGET_POWER = 0.8
"""The power with which a difference counts as found."""
FULL_POWER = 0.9995
"""Once a curve's power is higher, its further points are set to 1."""
STEPS = 16
"""Points of a curve, up to `CURVE_REACH` times the difference that its number of pairs detects."""
CURVE_REACH = 1.75
LINE_COLOUR = "#7d8894"
"""The colour of curves, which belong to no method; legible on white and on near-black."""
FIGURE_REACH = 1.5
"""Curves end at so many times the largest detectable difference."""


@dataclass(frozen=True)
class TaskPower:
    """One task's spreads, and the differences that can be found at these spreads.

    `budget` is a tuner's number of trials for tuned scores, whose pairs are pairs of trials; it is 1 for
    pairs of seeds or repeats. `comparisons` has one row per comparison with a spread: `method`,
    `baseline`, `pairs`; in points, `sd` with its 95 % interval, and `detectable_N` for each number N of
    pairs in `seeds`, infinite if N pairs can find no difference. `curves` has one row per difference and
    number of pairs that can find any difference: power from 0 to 1 at the median spread `sd` and at
    `level`. `no_spread` names the comparisons that have no spread.
    """

    level: float
    budget: int
    sd: float
    seeds: tuple[int, ...]
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    no_spread: tuple[str, ...]


def power_blocks(evidence: Evidence, styles: Styles) -> Iterable[Block]:
    """A block for each task; a single block if seeds were added until a decision."""
    if evidence.sequential:
        yield Block(
            "No fixed number",
            (
                "Seeds were added until the comparisons were decided. The power of that rule depends on "
                "when it looks and when it may stop: no curve for a fixed number of seeds describes it.",
            ),
        )
        return
    for task in evidence.tasks:
        yield _power_block(evidence, task, styles)


def read_power(evidence: Evidence, task: str) -> TaskPower | None:
    """The power of a task's comparisons; None if no comparison has a spread."""
    comparisons = evidence.comparisons(task)
    spread = [
        comparison
        for comparison in comparisons
        if comparison.difference.n > 1 and comparison.difference.sd > ROUNDING
    ]
    if not spread:
        return None
    level, budget = evidence.manifest.share, evidence.manifest.pool_budget
    numbers = TRIALS if evidence.manifest.unit == "trial" else SEEDS
    seeds = tuple(sorted({*numbers, len(evidence.manifest.report_seeds)}))
    sd = float(np.median([comparison.difference.sd for comparison in spread]))
    return TaskPower(
        level,
        budget,
        POINTS * sd,
        seeds,
        pd.DataFrame([_row(comparison, seeds, level, budget) for comparison in spread]),
        _curves(POINTS * sd, seeds, level, budget),
        tuple(
            _no_spread_text(comparison) for comparison in comparisons if comparison not in spread
        ),
    )


def _no_spread_text(comparison: Comparison) -> str:
    """The name of a comparison without a spread, and the reason."""
    reason = "one pair" if comparison.difference.n < 2 else "all differences are equal"
    return f"{comparison.method} against {comparison.baseline} ({reason})"


def _row(
    comparison: Comparison, seeds: tuple[int, ...], level: float, budget: int
) -> dict[str, str | float]:
    sd, pairs = comparison.difference.sd, comparison.difference.n
    assert (
        comparison.detectable_difference is not None
    )  # the comparison has a spread and a fixed number of pairs
    low, high = sd_interval(sd, effective_trials(pairs, budget))
    detectable = {
        n: POINTS * detectable_tuned_difference(sd, n, budget, level, TARGET_POWER) for n in seeds
    }
    return {
        "method": comparison.method,
        "baseline": comparison.baseline,
        "pairs": pairs,
        "sd": POINTS * sd,
        "sd_low": POINTS * low,
        "sd_high": POINTS * high,
        **{f"detectable_{n}": value for n, value in detectable.items()},
        "detectable": POINTS * comparison.detectable_difference,
    }


def _curves(sd: float, seeds: tuple[int, ...], level: float, budget: int) -> pd.DataFrame:
    numbers = [n for n in seeds if n >= minimum_trials(budget, 1, level)]
    reach = max(detectable_difference(1.0, n, level, TARGET_POWER) for n in numbers)
    rows = [
        (n, sd * effect, power)
        for n in numbers
        for effect, power in standard_curve(n, level, FIGURE_REACH * reach)
    ]
    return pd.DataFrame(rows, columns=pd.Index(["seeds", "difference", "power"]))


@cache
def standard_curve(n: int, level: float, reach: float) -> tuple[tuple[float, float], ...]:
    """Power of n pairs by true difference, in standard deviations, up to `reach`.

    All tasks of a family share the curve, which is the slowest part of the section.
    """
    curve_end = min(reach, CURVE_REACH * detectable_difference(1.0, n, level, TARGET_POWER))
    effects = [curve_end * step / STEPS for step in range(1, STEPS + 1)]
    points: list[tuple[float, float]] = []
    for effect in dict.fromkeys([*effects, reach]):
        is_full = bool(points) and points[-1][1] > FULL_POWER
        points.append((effect, 1.0 if is_full else power_of(1.0, effect, n, level)))
    return tuple(points)


def power_figure(power: TaskPower, pairs: int, styles: Styles, margin: float) -> Drawing:
    """A line per number of pairs, thickest for `pairs`, and a point per comparison.

    A point is at the difference that the comparison's own pairs find with `TARGET_POWER`. `margin` is
    in points.
    """
    figure = blank_figure(height=380, y_title="chance to find the difference, %")
    for place, (n, rows) in enumerate(power.curves.groupby("seeds", sort=False)):
        percents = (100 * rows["power"]).round(1).tolist()
        figure.add_scatter(
            x=rows["difference"].round(4).tolist(), y=percents, mode="lines", hoverinfo="text",
            line={
                "color": LINE_COLOUR, "width": 3 if n == pairs else 1.5,
                "dash": DASHES[-1 - place % len(DASHES)],
            },
            hovertext=[
                f"{n} pairs find a difference of {difference:.2f} points in {percent:.0f} % of cases"
                for difference, percent in zip(rows["difference"], percents, strict=True)
            ],
        )  # fmt: skip
        _name_line(figure, f"{n} pairs", rows)
    for row in power.comparisons.to_dict("records"):
        if np.isfinite(row["detectable"]):
            figure.add_scatter(
                x=[row["detectable"]], y=[100 * TARGET_POWER], mode="markers", hoverinfo="text",
                marker=marker(styles[row["method"]], 9),
                hovertext=[
                    f"{safe(row['method'])} against {safe(row['baseline'])}: its {row['pairs']} pairs "
                    f"find {row['detectable']:.2f} points in {100 * TARGET_POWER:.0f} % of cases"
                ],
            )  # fmt: skip
    figure.add_hline(y=100 * TARGET_POWER, line_width=1, line_dash="dash", line_color="#888888")
    figure.add_vline(x=margin, line_width=1, line_dash="dot", line_color="#D55E00")
    figure.add_annotation(
        x=margin, y=1, yref="paper", yanchor="bottom", text="margin", showarrow=False
    )
    figure.update_layout(margin={"t": 26})
    ends = [*power.curves["difference"], *power.comparisons["detectable"], margin]
    reach = 1.05 * max(end for end in ends if np.isfinite(end))
    figure.update_xaxes(title_text="true difference, points", range=[0, reach])
    figure.update_yaxes(range=[-3, 104], tickvals=[0, 20, 40, 60, 80, 100])
    return figure


def _name_line(figure: Drawing, text: str, rows: pd.DataFrame) -> None:
    """Name a line where its power is one half."""
    figure.add_annotation(
        x=float(np.interp(0.5, rows["power"], rows["difference"])), y=50, text=text,
        showarrow=False, font={"size": 11}, xshift=4, xanchor="left", yanchor="top",
    )  # fmt: skip


def _power_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    power = read_power(evidence, task)
    if power is None:
        return Block("")
    pairs = len(evidence.manifest.report_seeds)
    margin = POINTS * evidence.manifest.margin(evidence.metric(task))
    caption = f"Power at a spread of {power.sd:.2f} points"
    figure = power_figure(power, pairs, styles, margin)
    median = {n: power.comparisons[f"detectable_{n}"].median() for n in power.seeds}
    alt = "Found in four of five cases: " + "; ".join(
        f"{points:.2f} points with {n} pairs" if np.isfinite(points) else f"nothing with {n} pairs"
        for n, points in median.items()
    )
    point_rows = power.comparisons[np.isfinite(power.comparisons["detectable"])]
    table = display.table(
        "Smallest difference that is found in four of five cases",
        power.comparisons,
        _columns(power.seeds),
        styles,
    )
    key = tuple((name, styles[name]) for name in dict.fromkeys(point_rows["method"]))
    curves = panel(caption, alt, figure, power.curves, key)
    return Block(evidence.task_label(task), _notes(power), panels=(curves,), tables=(table,))


def _notes(power: TaskPower) -> tuple[str, ...]:
    notes = [
        f"The curves are at the median spread of {len(power.comparisons)} comparison"
        f"{'' if len(power.comparisons) == 1 else 's'}. Each comparison is tested at level "
        f"{power.level:.2g}: its share of the family's level, the worst case of Holm's method."
    ]
    least_pairs = minimum_trials(power.budget, 1, power.level)
    small_numbers = [str(n) for n in power.seeds if n < least_pairs]
    if small_numbers:
        reach = "can be found" if power.budget == 1 else "is sure to be found"
        notes.append(
            f"With {' or '.join(small_numbers)} pairs no difference {reach} at that level, however "
            f"large it is: {least_pairs} pairs are the least."
        )
    if power.budget > 1:
        notes.append(
            f"The spread is that of tuned scores at a budget of {power.budget} trials: the standard "
            "deviation of their difference, by the jackknife, times the square root of the number of "
            "trials. A few good trials carry a tuned score, so the spread is uncertain."
        )
    if power.no_spread:
        notes.append(f"Left out, without a spread: {', '.join(power.no_spread)}.")
    return tuple(notes)


def _columns(seeds: tuple[int, ...]) -> display.Columns:
    columns: dict[str, tuple[str, display.Format | JointColumn | None]] = {
        "method": ("method", None),
        "baseline": ("against", None),
        "pairs": ("pairs", number(0)),
        "sd": ("spread of the differences (sd), points", _SPREAD),
    }
    return columns | {f"detectable_{n}": (f"with {n} pairs, points", number(2)) for n in seeds}


_SPREAD = JointColumn(
    ("sd_low", "sd_high"),
    ("estimate", "low", "high"),
    lambda sd, low, high: f"{sd:.2f} ({low:.2f} to {high:.2f})",
)


SECTION = Section(
    anchor="power",
    title="Power: which differences could be found",
    reading=(
        "Each line is a number of pairs: of seeds, or of trials where scores are tuned. It shows the "
        "chance that the test of the verdict decides for the right side, by the true difference, at "
        "the observed spread. Dashed line: four cases in five. Dotted line: the margin of equivalence."
    ),
    details=(
        "Points are the comparisons, each at its own spread and number of pairs. The section is for "
        "planning. A spread from few pairs is itself uncertain: the table has its 95 % interval in "
        "brackets, for normal differences. Never look up the observed difference here: its power is "
        "the p value in other words."
    ),
    maker=power_blocks,
)
