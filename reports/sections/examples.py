"""Single runs example by example: the numbers as data frames, their figure, and the block.

Every test is of one seed. Medians and counts over seeds describe the seeds and are no test.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.examples import MethodTests, PairTests
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure, by_pair, marker, safe
from reports.kit.display import Columns, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

WIDTH = 0.7
"""Width of a comparison's seeds on the x axis; neighbouring comparisons are 1 apart."""
SEED_COLUMNS = [
    "method", "baseline", "seed", "points", "low", "high", "method_only", "baseline_only",
    "exact_p", "mid_p",
]  # fmt: skip


def seed_frame(pairs: Iterable[PairTests]) -> pd.DataFrame:
    """One row per comparison and seed: the difference with its interval over examples, in points.

    Also the number of examples that only one of the two models has right, and McNemar's p values; NaN
    for regression.
    """
    rows = []
    for pair in pairs:
        for position, (seed, bootstrap) in enumerate(zip(pair.seeds, pair.bootstraps, strict=True)):
            ends = (POINTS * value for value in (bootstrap.mean, bootstrap.low, bootstrap.high))
            mcnemar: tuple[float, ...] = (np.nan,) * 4
            if pair.mcnemar:
                test = pair.mcnemar[position]
                counts = (test.method_only, test.baseline_only)
                mcnemar = (*counts, test.p_value, test.mid_p_value)
            rows.append((pair.method, pair.baseline, seed, *ends, *mcnemar))
    return pd.DataFrame(rows, columns=pd.Index(SEED_COLUMNS))


def pair_table(seeds: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """One row per comparison, from `seed_frame`: medians over its seeds, and counts of its seeds.

    `better` and `worse` count the seeds with a mid-p below `alpha`, by the side that has more of the
    discordant examples right. `above` and `below` count the seeds whose interval lies above or below
    zero. `half_width` is the median of half the intervals' widths, in points.
    """
    lead = seeds["method_only"] - seeds["baseline_only"]
    small_p = seeds["mid_p"] < alpha
    columns = {
        "method": seeds["method"],
        "baseline": seeds["baseline"],
        "discordant": seeds["method_only"] + seeds["baseline_only"],
        "exact_p": seeds["exact_p"],
        "mid_p": seeds["mid_p"],
        "half_width": (seeds["high"] - seeds["low"]) / 2,
        "better": small_p & (lead > 0),
        "worse": small_p & (lead < 0),
        "above": seeds["low"] > 0,
        "below": seeds["high"] < 0,
        "has_test": seeds["mid_p"].notna(),
    }
    by_comparison = pd.DataFrame(columns).groupby(["method", "baseline"], sort=False)
    medians = by_comparison[["discordant", "exact_p", "mid_p"]].median()
    counts = by_comparison[["better", "worse", "above", "below"]].sum()
    counts[["better", "worse"]] = counts[["better", "worse"]].where(
        by_comparison["has_test"].all(), np.nan
    )
    table = pd.concat(
        [
            by_comparison.size().rename("seeds"),
            medians,
            counts,
            by_comparison[["half_width"]].median(),
        ],
        axis=1,
    )
    return table.reset_index()


def methods_table(methods: Iterable[MethodTests]) -> pd.DataFrame:
    """One row per seed: Cochran's Q over all methods."""
    rows = [
        (
            seed,
            len(methods_on_task.methods),
            test.discordant_examples,
            test.q,
            test.df,
            test.p_value,
        )
        for methods_on_task in methods
        for seed, test in zip(methods_on_task.seeds, methods_on_task.cochran, strict=True)
    ]
    columns = ["seed", "methods", "discordant", "q", "df", "p"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def seeds_figure(seeds: pd.DataFrame, styles: Styles) -> Drawing:
    """A column of seeds per comparison, each with its interval. From `seed_frame`."""
    figure = blank_figure(height=340, y_title="difference, points")
    ticks = []
    for x, ((method, baseline), seed_rows) in enumerate(by_pair(seeds)):
        ticks.append(f"{safe(method)}<br>vs {safe(baseline)}")
        columns = (seed_rows[name].tolist() for name in ("seed", "points", "low", "high"))
        hover = [
            f"{safe(method)} vs {safe(baseline)}, seed {seed}: {points:+.2f} "
            f"({low:+.2f} to {high:+.2f})"
            for seed, points, low, high in zip(*columns, strict=True)
        ]
        figure.add_scatter(
            x=(x + WIDTH * (np.arange(len(seed_rows)) / max(len(seed_rows) - 1, 1) - 0.5)).tolist(),
            y=seed_rows["points"].tolist(), mode="markers", marker=marker(styles[method], 8),
            hoverinfo="text", hovertext=hover,
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 0,
                "array": (seed_rows["high"] - seed_rows["points"]).tolist(),
                "arrayminus": (seed_rows["points"] - seed_rows["low"]).tolist(),
            },
        )  # fmt: skip
    figure.add_hline(y=0, line_width=1, line_dash="dash", line_color="#888888")
    figure.update_xaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[-0.6, len(ticks) - 0.4]
    )
    return figure


def examples_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The task's comparisons by example, a table over all methods, and the methods left out."""
    example_tests = evidence.example_tests
    pairs = [pair for pair in example_tests.pairs if pair.task == task]
    gaps = tuple(f"{text}." for text in example_tests.problems.get(task, ()))
    if not pairs:
        # Each repeat has a report with its own examples.
        is_told = gaps and not evidence.manifest.is_joint
        return Block(evidence.task_label(task), gaps if is_told else ())
    alpha = evidence.manifest.alpha
    seeds = seed_frame(pairs)
    table = pair_table(seeds, alpha)
    count = f"Compared on {pairs[0].examples} examples."
    caption = f"Difference in {pairs[0].metric} of each seed's two models"
    alt = "; ".join(
        f"{row['method']} against {row['baseline']}: intervals of {row['above']} of {row['seeds']} "
        f"seeds above zero, of {row['below']} below"
        for row in table.to_dict("records")
    )
    figure = seeds_figure(seeds, styles)
    bootstraps = panel(caption, alt, figure, seeds.dropna(axis="columns", how="all"))
    tables = [display.table("Each comparison", table, _pair_columns(pairs, alpha), styles)]
    cochran = methods_table(methods for methods in example_tests.methods if methods.task == task)
    if len(cochran):
        tables.append(display.table("All methods, by seed", cochran, _METHODS_COLUMNS))
    return Block(evidence.task_label(task), (count, *gaps), (), (bootstraps,), tuple(tables))


def _pair_columns(pairs: list[PairTests], alpha: float) -> Columns:
    """The columns of `pair_table`; regression has no McNemar's test."""
    mcnemar_columns: Columns = {
        "discordant": ("discordant examples, median", number(0)),
        "exact_p": ("McNemar's exact p, median", display.p_text),
        "mid_p": ("McNemar's mid-p, median", display.p_text),
        "better": (f"seeds with mid-p < {alpha:g} for the method", number(0)),
        "worse": (f"seeds with mid-p < {alpha:g} against the method", number(0)),
    }
    return {
        "method": ("method", None),
        "baseline": ("against", None),
        "seeds": ("seeds", number(0)),
        **(mcnemar_columns if pairs[0].mcnemar else {}),
        "above": ("seeds with interval above 0", number(0)),
        "below": ("seeds with interval below 0", number(0)),
        "half_width": ("half width of the interval, points", number(2)),
    }


_METHODS_COLUMNS: Columns = {
    "seed": ("seed", number(0)),
    "methods": ("methods", number(0)),
    "discordant": ("discordant examples", number(0)),
    "q": ("Cochran's Q", number(2)),
    "df": ("degrees of freedom", number(0)),
    "p": ("p", display.p_text),
}


SECTION = Section(
    anchor="examples",
    title="Example by example",
    reading=(
        "Each point is one seed: the score of the method's model minus the score of the other "
        "method's model. The bar is a bootstrap interval over examples: how far the difference between "
        "these two models may move on other examples."
    ),
    details=(
        "McNemar's test uses the discordant examples: examples that only one of the two models has "
        "right. All seeds answer the same examples, so the seeds are not pooled: medians and counts "
        "describe the seeds and are no test. Nothing in this section decides."
    ),
    maker=by_task(examples_block),
    settings_only=True,
    reads_verdicts=False,
)
