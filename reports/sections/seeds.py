"""Runs by seed: the scores of the report runs, paired for each comparison."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, by_task, panel
from reports.kit.canvas import blank_figure, by_method, by_pair, line, marker, safe
from reports.kit.display import Table
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

PAIR_COLUMNS = ["method", "baseline", "seed", "method_points", "baseline_points", "difference"]
PAIR_GAP = 2.2
"""Distance on the x axis between neighbouring comparisons; their own two columns are 1 apart."""


def seed_pairs(evidence: Evidence, task: str) -> pd.DataFrame:
    """One row per comparison and paired seed: both runs' scores and their difference, in points."""
    rows = []
    for comparison in evidence.comparisons(task):
        method, baseline = (
            _points_by_seed(evidence.result.result(task, name))
            for name in (comparison.method, comparison.baseline)
        )
        for seed in comparison.seeds:
            score, reference = method[seed], baseline[seed]
            names = (comparison.method, comparison.baseline, seed)
            rows.append((*names, score, reference, score - reference))
    return pd.DataFrame(rows, columns=pd.Index(PAIR_COLUMNS))


def seed_scores(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method and finished report seed: its score in points."""
    rows = [
        (result.method, seed, points)
        for result in results
        for seed, points in _points_by_seed(result).items()
    ]
    return pd.DataFrame(rows, columns=pd.Index(["method", "seed", "points"]))


def _points_by_seed(result: MethodResult | None) -> dict[int, float]:
    assert result is not None
    points = (POINTS * score for score in result.scores)
    return dict(zip(result.seeds, points, strict=True))


def metrics_table(evidence: Evidence, task: str) -> pd.DataFrame:
    """Every metric's mean over report seeds in points, a row per method with report runs.

    Empty for tuned methods: their score is no mean over runs.
    """
    if evidence.manifest.config.protocol.unit == "methods":
        return pd.DataFrame()
    rows = [
        {"method": result.method} | {name: POINTS * value for name, value in result.metrics.items()}
        for result in evidence.results(task)
        if result.metrics
    ]
    return pd.DataFrame(rows)


def pairs_figure(pairs: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """Two columns per comparison, a line for each seed. From `seed_pairs`."""
    figure = blank_figure(height=380, y_title=f"{metric}, points")
    ticks: dict[float, str] = {}
    for index, ((method, baseline), rows) in enumerate(by_pair(pairs)):
        left = PAIR_GAP * index
        ticks |= {left: baseline, left + 1: method}
        lines_x = [x for _ in range(len(rows)) for x in (left, left + 1, None)]
        seeds = rows["seed"].tolist()
        baseline_points, method_points = (
            rows[name].tolist() for name in ("baseline_points", "method_points")
        )
        ends = zip(baseline_points, method_points, strict=True)
        lines_y = [y for pair in ends for y in (*pair, None)]
        figure.add_scatter(
            x=lines_x, y=lines_y, mode="lines", line=line(styles[method], 1), opacity=0.7,
            hoverinfo="skip",
        )  # fmt: skip
        _add_column(figure, left, baseline, seeds, baseline_points, styles)
        _add_column(figure, left + 1, method, seeds, method_points, styles)
    figure.update_xaxes(tickvals=list(ticks), ticktext=[safe(name) for name in ticks.values()])
    return figure


def seeds_figure(scores: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """One column of points per method. From `seed_scores`."""
    figure = blank_figure(height=380, y_title=f"{metric}, points")
    methods = list(dict.fromkeys(scores["method"]))
    for x, (method, rows) in enumerate(by_method(scores)):
        _add_column(figure, x, method, rows["seed"].tolist(), rows["points"].tolist(), styles)
    figure.update_xaxes(
        tickvals=list(range(len(methods))),
        ticktext=[safe(method) for method in methods],
        range=[-0.6, len(methods) - 0.4],
    )
    return figure


def _add_column(
    figure: Drawing,
    x: float,
    name: str,
    seeds: list[int | str],
    points: list[float],
    styles: Styles,
) -> None:
    """Add a column of marks at `x`: a method's points, a mark for each seed."""
    hover = [
        f"{safe(name)}, {seed}: {value:.2f}" for seed, value in zip(seeds, points, strict=True)
    ]
    figure.add_scatter(
        x=[x] * len(points), y=points, mode="markers",
        marker=marker(styles[name], 9), hoverinfo="text", hovertext=hover,
    )  # fmt: skip


def seeds_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """The paired runs (all runs if nothing is compared), and the means of all metrics."""
    pairs, scores = seed_pairs(evidence, task), seed_scores(evidence.results(task))
    unpaired_methods = set(scores["method"]) - set(pairs["method"]) - set(pairs["baseline"])
    notes: tuple[str, ...] = ()
    if len(pairs) and unpaired_methods:
        notes = (
            f"Not drawn, because no comparison has them: {', '.join(sorted(unpaired_methods))}.",
        )
    metrics, unit = metrics_table(evidence, task), evidence.manifest.unit
    tables: tuple[Table, ...] = ()
    if len(metrics.columns) > 2:
        columns = display.metrics_columns(metrics, "method")
        tables = (display.table(f"All metrics, mean over {unit}s", metrics, columns, styles),)
    panels = _panels(pairs, scores, styles, evidence.metric(task), unit)
    return Block(evidence.task_label(task), notes, panels=panels, tables=tables)


def _panels(
    pairs: pd.DataFrame, scores: pd.DataFrame, styles: Styles, metric: str, unit: str
) -> tuple[Panel, ...]:
    if len(pairs):
        alt = "; ".join(
            f"{method} is above {baseline} with {int((rows['difference'] > 0).sum())} of "
            f"{len(rows)} {unit}s"
            for (method, baseline), rows in by_pair(pairs)
        )
        figure = pairs_figure(pairs, styles, metric)
        return (panel(f"Paired scores, one line per {unit}", alt, figure, pairs),)
    if len(scores):
        means = scores.groupby("method", sort=False)["points"].mean()
        alt = "; ".join(f"{method}: mean {mean:.2f} points" for method, mean in means.items())
        figure = seeds_figure(scores, styles, metric)
        return (panel(f"Scores, one point per {unit}", alt, figure, scores),)
    return ()


SECTION = Section(
    anchor="seeds",
    title="Scores in pairs",
    reading=(
        "Each point is the score of one report run with the best setting, or of one repeat of the whole "
        "study. A line joins the two scores of a seed or repeat, the baseline's on the left. Lines that "
        "mostly rise speak for the method."
    ),
    maker=by_task(seeds_block),
    part="evidence",
    settings_only=True,
)
