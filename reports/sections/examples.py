"""What single runs say over the examples: the numbers as data frames, their figure, and the block.

Everything is per seed; what is said of several seeds counts or describes them and is no test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.examples import MethodsByExample, PairByExample
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task, panel
from reports.kit.canvas import blank_figure, by_pair, marker, safe
from reports.kit.display import Columns, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

WIDTH = 0.7
"""Of a comparison's seeds on the x axis, where neighbouring comparisons are 1 apart."""
SEED_COLUMNS = [
    "method", "baseline", "seed", "points", "low", "high", "method_only", "baseline_only",
    "exact_p", "mid_p",
]  # fmt: skip


def seed_frame(pairs: Iterable[PairByExample]) -> pd.DataFrame:
    """One row per comparison and seed: its difference with the interval over examples, in points.

    Also the examples that one of the two models alone has right, and McNemar's p values; NaN for
    regression.
    """
    rows = []
    for pair in pairs:
        for position, (seed, drawn) in enumerate(zip(pair.seeds, pair.bootstraps, strict=True)):
            ends = (POINTS * value for value in (drawn.mean, drawn.low, drawn.high))
            tested: tuple[float, ...] = (np.nan,) * 4
            if pair.mcnemar:
                found = pair.mcnemar[position]
                counts = (found.method_only, found.baseline_only)
                tested = (*counts, found.p_value, found.mid_p_value)
            rows.append((pair.method, pair.baseline, seed, *ends, *tested))
    return pd.DataFrame(rows, columns=pd.Index(SEED_COLUMNS))


def pair_table(seeds: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """One row per comparison, from `seed_frame`: medians over its seeds, and how many of them tell.

    `better` and `worse` count the seeds with a mid-p below `alpha`, by the side that has more of the
    discordant examples; `above` and `below` those whose interval leaves out zero; `half_width` is
    the median of half the intervals' widths, in points.
    """
    rows: list[dict[str, Any]] = []
    for (method, baseline), own in by_pair(seeds):
        small = own["mid_p"] < alpha
        lead = own["method_only"] - own["baseline_only"]
        tested = bool(own["mid_p"].notna().all())
        rows.append(
            {
                "method": method,
                "baseline": baseline,
                "seeds": len(own),
                "discordant": (own["method_only"] + own["baseline_only"]).median(),
                "exact_p": own["exact_p"].median(),
                "mid_p": own["mid_p"].median(),
                "better": int((small & (lead > 0)).sum()) if tested else np.nan,
                "worse": int((small & (lead < 0)).sum()) if tested else np.nan,
                "above": int((own["low"] > 0).sum()),
                "below": int((own["high"] < 0).sum()),
                "half_width": ((own["high"] - own["low"]) / 2).median(),
            }
        )
    return pd.DataFrame(rows)


def methods_table(methods: Iterable[MethodsByExample]) -> pd.DataFrame:
    """One row per seed: Cochran's Q over all methods."""
    rows = [
        (seed, len(found.methods), test.discordant_examples, test.q, test.df, test.p_value)
        for found in methods
        for seed, test in zip(found.seeds, found.cochran, strict=True)
    ]
    columns = ["seed", "methods", "discordant", "q", "df", "p"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def seeds_figure(seeds: pd.DataFrame, styles: Styles) -> Drawing:
    """A column of seeds per comparison, each with its interval. From `seed_frame`."""
    figure = blank_figure(height=340, y_title="difference, points")
    ticks = []
    for x, ((method, baseline), own) in enumerate(by_pair(seeds)):
        ticks.append(f"{safe(method)}<br>vs {safe(baseline)}")
        hover = [
            f"{safe(method)} vs {safe(baseline)}, seed {row['seed']}: {row['points']:+.2f} "
            f"({row['low']:+.2f} to {row['high']:+.2f})"
            for row in own.to_dict("records")
        ]
        figure.add_scatter(
            x=(x + WIDTH * (np.arange(len(own)) / max(len(own) - 1, 1) - 0.5)).tolist(),
            y=own["points"].tolist(), mode="markers", marker=marker(styles[method], 8),
            hoverinfo="text", hovertext=hover,
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 0,
                "array": (own["high"] - own["points"]).tolist(),
                "arrayminus": (own["points"] - own["low"]).tolist(),
            },
        )  # fmt: skip
    figure.add_hline(y=0, line_width=1, line_dash="dash", line_color="#888888")
    figure.update_xaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[-0.6, len(ticks) - 0.4]
    )
    return figure


def examples_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The task's comparisons by example, a table over all methods, and what is missing."""
    found = evidence.by_example
    pairs = [pair for pair in found.pairs if pair.task == task]
    missing = tuple(f"{text}." for text in found.missing.get(task, ()))
    if not pairs:
        return Block(evidence.task_label(task), missing) if missing else Block("")
    alpha = evidence.manifest.alpha
    seeds = seed_frame(pairs)
    table = pair_table(seeds, alpha)
    counted = f"{pairs[0].examples} examples."
    caption = f"Difference in {pairs[0].metric} of each seed's two models"
    alt = "; ".join(
        f"{row['method']} against {row['baseline']}: intervals of {row['above']} of {row['seeds']} "
        f"seeds above zero, of {row['below']} below"
        for row in table.to_dict("records")
    )
    figure = seeds_figure(seeds, styles)
    bootstraps = panel(caption, alt, figure, seeds.dropna(axis="columns", how="all"))
    shown = [display.table("Each comparison", table, _pair_columns(pairs, alpha), styles)]
    tested = methods_table(own for own in found.methods if own.task == task)
    if len(tested):
        shown.append(display.table("All methods, by seed", tested, _METHODS_COLUMNS))
    return Block(evidence.task_label(task), (counted, *missing), (), (bootstraps,), tuple(shown))


def _pair_columns(pairs: list[PairByExample], alpha: float) -> Columns:
    """Without McNemar's test for regression."""
    tested: Columns = {
        "discordant": ("discordant, median", number(0)),
        "exact_p": ("exact p, median", number(3)),
        "mid_p": ("mid-p, median", number(3)),
        "better": (f"mid-p < {alpha:g}, for", number(0)),
        "worse": ("against", number(0)),
    }
    return {
        "method": ("method", None),
        "baseline": ("against", None),
        "seeds": ("seeds", number(0)),
        **(tested if pairs[0].mcnemar else {}),
        "above": ("intervals above 0", number(0)),
        "below": ("below 0", number(0)),
        "half_width": ("half width, points", number(2)),
    }


_METHODS_COLUMNS: Columns = {
    "seed": ("seed", number(0)),
    "methods": ("methods", number(0)),
    "discordant": ("discordant examples", number(0)),
    "q": ("Cochran's Q", number(2)),
    "df": ("df", number(0)),
    "p": ("p", number(3)),
}


SECTION = Section(
    anchor="examples",
    title="Example by example",
    reading=(
        "Each point is one seed's two models on all examples, its bar the bootstrap over "
        "examples: how far the difference of these very models may move on other ones."
    ),
    details=(
        "McNemar's test compares the examples that only one of the two has right. Seeds answer "
        "the same examples, so they are not pooled: medians and counts of seeds describe them "
        "and are no test. None of this decides."
    ),
    maker=by_task(examples_block),
)
