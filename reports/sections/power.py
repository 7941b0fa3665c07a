"""What so many seeds can find: power against the true difference, at the spread that was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from harness.analysis.compare import Comparison
from harness.stats import minimum_seeds
from harness.stats.paired import ROUNDING
from harness.stats.power import detectable_difference, power_of
from harness.stats.spread import sd_interval
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, panel
from reports.kit.canvas import blank_figure, marker, safe
from reports.kit.display import JointColumn, number
from reports.kit.drawing import Drawing
from reports.kit.palette import DASHES, Styles

SEEDS = (5, 10, 20, 50)
WANTED = 0.8
"""The power with which a difference counts as found."""
SURE = 0.9995
STEPS = 16
"""Points of a curve, up to `RISEN` times what its number of pairs detects."""
RISEN = 1.75
LINE = "#7d8894"
"""Of curves, which belong to no method; legible on white and near-black."""
REACH = 1.5
"""A figure reaches so far beyond the largest of the detectable differences."""


@dataclass(frozen=True)
class TaskPower:
    """One task's spreads, and what they let be found.

    `comparisons` has one row per comparison with a spread: `method`, `baseline`, `pairs`, in points
    `sd` with its 95 % interval, and `detectable_N` for each number of pairs in `seeds`, infinite where
    none can be. `curves` has one row per true difference and number of pairs that can find any: power
    from 0 to 1 at the median of the spreads, `sd`, and at `level`. `without` are comparisons that have
    no spread.
    """

    level: float
    sd: float
    seeds: tuple[int, ...]
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    without: tuple[str, ...]


def power_blocks(evidence: Evidence, styles: Styles) -> Iterable[Block]:
    """A block for each task; one for all where seeds were added until they decided."""
    if evidence.sequential:
        yield Block(
            "No fixed number",
            (
                "Seeds were added until the comparisons were decided. The power of that rule depends on "
                "when it looks and where it may stop, so no curve of a fixed number is its own.",
            ),
        )
        return
    for task in evidence.tasks:
        yield _power_block(evidence, task, styles)


def read_power(evidence: Evidence, task: str) -> TaskPower | None:
    """The power of a task's comparisons; None where none has a spread."""
    comparisons = evidence.comparisons(task)
    spread = [one for one in comparisons if one.difference.n > 1 and one.difference.sd > ROUNDING]
    if not spread:
        return None
    level = evidence.manifest.share
    seeds = tuple(sorted({*SEEDS, len(evidence.manifest.report_seeds)}))
    sd = float(np.median([one.difference.sd for one in spread]))
    return TaskPower(
        level,
        POINTS * sd,
        seeds,
        pd.DataFrame([_row(one, seeds, level) for one in spread]),
        _curves(POINTS * sd, seeds, level),
        tuple(_missing(one) for one in comparisons if one not in spread),
    )


def _missing(comparison: Comparison) -> str:
    """Which comparison has no spread, and why."""
    reason = "one pair" if comparison.difference.n < 2 else "all differences are equal"
    return f"{comparison.method} against {comparison.baseline} ({reason})"


def _row(comparison: Comparison, seeds: tuple[int, ...], level: float) -> dict[str, str | float]:
    sd, pairs = comparison.difference.sd, comparison.difference.n
    assert comparison.detectable is not None  # there is a spread, and a fixed number of pairs
    low, high = sd_interval(sd, pairs)
    detectable = {n: POINTS * detectable_difference(sd, n, level, WANTED) for n in seeds}
    return {
        "method": comparison.method,
        "baseline": comparison.baseline,
        "pairs": pairs,
        "sd": POINTS * sd,
        "sd_low": POINTS * low,
        "sd_high": POINTS * high,
        **{f"detectable_{n}": value for n, value in detectable.items()},
        "detectable": POINTS * comparison.detectable,
    }


def _curves(sd: float, seeds: tuple[int, ...], level: float) -> pd.DataFrame:
    able = [n for n in seeds if n >= minimum_seeds(1, level)]
    far = max(detectable_difference(1.0, n, level, WANTED) for n in able)
    rows = [
        (n, sd * effect, power)
        for n in able
        for effect, power in standard_curve(n, level, REACH * far)
    ]
    return pd.DataFrame(rows, columns=pd.Index(["seeds", "difference", "power"]))


@cache
def standard_curve(n: int, level: float, far: float) -> tuple[tuple[float, float], ...]:
    """Power of n pairs by true difference, in standard deviations, up to `far`.

    The same for all tasks of a family, and the slowest part of the section.
    """
    risen = min(far, RISEN * detectable_difference(1.0, n, level, WANTED))
    effects = [risen * step / STEPS for step in range(1, STEPS + 1)]
    points: list[tuple[float, float]] = []
    for effect in dict.fromkeys([*effects, far]):
        sure = bool(points) and points[-1][1] > SURE
        points.append((effect, 1.0 if sure else power_of(1.0, effect, n, level)))
    return tuple(points)


def power_figure(power: TaskPower, own: int, styles: Styles, margin: float) -> Drawing:
    """A line per number of pairs, `own` the thickest, and a point per comparison with its own number.

    The points lie where that number finds 80 %. `margin` is in points.
    """
    figure = blank_figure(height=380, y_title="chance to find it, %")
    for place, (n, rows) in enumerate(power.curves.groupby("seeds", sort=False)):
        shown = (100 * rows["power"]).round(1).tolist()
        figure.add_scatter(
            x=rows["difference"].round(4).tolist(), y=shown, mode="lines", hoverinfo="text",
            line={
                "color": LINE, "width": 3 if n == own else 1.5,
                "dash": DASHES[-1 - place % len(DASHES)],
            },
            hovertext=[
                f"{n} pairs, a true difference of {difference:.2f} points: {percent:.0f} %"
                for difference, percent in zip(rows["difference"], shown, strict=True)
            ],
        )  # fmt: skip
        _name_line(figure, f"{n} pairs", rows)
    for row in power.comparisons.to_dict("records"):
        if np.isfinite(row["detectable"]):
            figure.add_scatter(
                x=[row["detectable"]], y=[100 * WANTED], mode="markers", hoverinfo="text",
                marker=marker(styles[row["method"]], 9),
                hovertext=[
                    f"{safe(row['method'])} against {safe(row['baseline'])}: its {row['pairs']} pairs "
                    f"find {row['detectable']:.2f} points"
                ],
            )  # fmt: skip
    figure.add_hline(y=100 * WANTED, line_width=1, line_dash="dash", line_color="#888888")
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
    """A line's name where it crosses one half."""
    figure.add_annotation(
        x=float(np.interp(0.5, rows["power"], rows["difference"])), y=50, text=text,
        showarrow=False, font={"size": 11}, xshift=4, xanchor="left", yanchor="top",
    )  # fmt: skip


def _power_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    power = read_power(evidence, task)
    if power is None:
        return Block("")
    own = len(evidence.manifest.report_seeds)
    margin = POINTS * evidence.manifest.margin(evidence.metric(task))
    caption = f"Power at a spread of {power.sd:.2f} points"
    figure = power_figure(power, own, styles, margin)
    median = {n: power.comparisons[f"detectable_{n}"].median() for n in power.seeds}
    alt = "Found in four of five cases: " + "; ".join(
        f"{points:.2f} points with {n} pairs" if np.isfinite(points) else f"nothing with {n} pairs"
        for n, points in median.items()
    )
    placed = power.comparisons[np.isfinite(power.comparisons["detectable"])]
    shown = display.table("What can be found", power.comparisons, _columns(power.seeds), styles)
    key = tuple((name, styles[name]) for name in dict.fromkeys(placed["method"]))
    curves = panel(caption, alt, figure, power.curves, key)
    return Block(evidence.task_label(task), _notes(power), panels=(curves,), tables=(shown,))


def _notes(power: TaskPower) -> tuple[str, ...]:
    notes = [
        f"The median spread of {len(power.comparisons)} comparison"
        f"{'' if len(power.comparisons) == 1 else 's'}, each at level {power.level:.2g}: its share, "
        "which is Holm's worst case."
    ]
    least = minimum_seeds(1, power.level)
    unable = [str(n) for n in power.seeds if n < least]
    if unable:
        notes.append(
            f"With {' or '.join(unable)} pairs nothing can be found at that level, however large: "
            f"{least} are the least."
        )
    if power.without:
        notes.append(f"Without a spread: {', '.join(power.without)}.")
    return tuple(notes)


def _columns(seeds: tuple[int, ...]) -> display.Columns:
    found: dict[str, tuple[str, display.Format | JointColumn | None]] = {
        "method": ("method", None),
        "baseline": ("against", None),
        "pairs": ("pairs", number(0)),
        "sd": ("spread, points", _SPREAD),
    }
    return found | {f"detectable_{n}": (f"found with {n}, points", number(2)) for n in seeds}


_SPREAD = JointColumn(
    ("sd_low", "sd_high"),
    ("estimate", "low", "high"),
    lambda sd, low, high: f"{sd:.2f} ({low:.2f} to {high:.2f})",
)


SECTION = Section(
    anchor="power",
    title="What could be found",
    reading=(
        "Each line is a number of pairs: the chance that the sign-flip test decides for the "
        "right side, if the true difference is so large, at the spread that was seen (dashed "
        "line: four in five; dotted: the margin of equivalence)."
    ),
    details=(
        "Points are the comparisons, each at its own spread and number of pairs. For planning: "
        "a spread from few pairs is itself uncertain (in brackets: 95 % interval, for normal "
        "differences). Never look up the observed difference here: its power is the p value in "
        "other words."
    ),
    maker=power_blocks,
)
