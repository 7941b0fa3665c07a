"""The answer of a finished study: the verdict table and sentences, and the JSON summary."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.analysis.axes import axis_names
from harness.analysis.compare import AblationResult, collapses
from harness.analysis.comparison import Comparison
from harness.axis_names import short_names, value_text
from harness.cli.compression_table import compression_table
from harness.runtime.output import AnswerConsole


def show(result: AblationResult, as_json: bool) -> None:
    """Print the verdict table and sentences; on stderr when stdout carries JSON."""
    console = AnswerConsole(stderr=as_json, soft_wrap=True)
    if not console.is_terminal:
        console.width = 140
    for banner in result.banners:
        console.print(banner, style="bold", markup=False)
    units = f"{result.manifest.unit}s"
    scores = f"mean ± sd over {units}"
    if result.manifest.unit == "trial":
        scores = "tuned score ± sd between searches"
    grid = result.manifest.grid
    table = Table(title=f"{result.manifest.name} (points, {scores})")
    for column in (
        "task",
        *(short_names(list(grid.axes)) if grid is not None else ()),
        "method",
        "metric",
        "score",
        units,
        "difference",
        "looked at" if result.sequential else "p (Holm)",
        "verdict",
    ):
        table.add_column(column)
    comparisons = {(c.task, c.method): c for c in result.comparisons}
    for row in result.results:
        comparison = comparisons.get((row.task, row.method))
        cells = ("", "", "baseline" if row.method == result.manifest.baseline else "")
        if comparison is not None:
            cells = (
                comparison.difference_text,
                _evidence(comparison, result.manifest.unit),
                comparison.verdict.outcome,
            )
        table.add_row(
            *_place(result, row.task),
            row.method,
            row.metric,
            row.score_text,
            str(len(row.seeds)),
            *cells,
        )
    console.print(table)
    if result.along_axes:
        console.print(_along_table(result))
    if result.manifest.compression:
        console.print(compression_table(result.manifest))
    for comparison in result.comparisons:
        console.print(comparison.verdict.sentence, markup=False, highlight=False)
    for text in (*result.gaps, *collapses(result)):
        console.print(text, markup=False, highlight=False)


def _place(result: AblationResult, task: str) -> list[str]:
    """The task and the values of its cell."""
    grid = result.manifest.grid
    if grid is None:
        return [task]
    values = (escape(value_text(value)) for value in grid.values_of(task).values())
    return [grid.places[task].task, *values]


def _along_table(result: AblationResult) -> Table:
    """The differences of each method along the axes."""
    table = Table(title="along the axes (points; p adjusted over these differences)")
    evidence = "looked at" if result.sequential else "p (Holm)"
    for column in ("task", "method", "against", "difference", evidence, "verdict"):
        table.add_column(column)
    for comparison in result.along_axes:
        table.add_row(
            escape(comparison.task),
            escape(comparison.method),
            escape(comparison.baseline),
            comparison.difference_text,
            _evidence(comparison, result.manifest.unit),
            comparison.verdict.outcome,
        )
    return table


def _evidence(comparison: Comparison, unit: str) -> str:
    """The adjusted p value; with a sequential rule the number of pairs or trials at the decision."""
    if comparison.stopping is None:
        return f"{comparison.adjusted_p:.3g}"
    pairs = "trials" if unit == "trial" else "pairs"
    return f"{comparison.stopping.pairs} of {comparison.stopping.max_pairs} {pairs}"


def summary(result: AblationResult, path: Path, seconds: float) -> dict[str, Any]:
    """The result as plain JSON values; `seconds` is the command's time."""
    return {
        "ablation": result.manifest.name,
        "source": asdict(result.manifest.source),
        "report": str(path.absolute()),
        "seconds": seconds,
        "results": [
            {
                **_names(result, row.task),
                "method": row.method,
                "metric": row.metric,
                "mean": _json_number(row.mean),
                "sd": _json_number(row.sd),
                "scores": list(row.scores),
                "seeds": list(row.seeds),
                "runs": [
                    run.record.fingerprint for run in row.report if run.record.status == "complete"
                ],
                "setting": row.setting,
            }
            for row in result.results
        ],
        "comparisons": [_names(result, c.task) | _comparison(c) for c in result.comparisons],
        **_along(result),
        "compression": [
            _names(result, task) | sizes.plain()
            for task, sizes in result.manifest.compression.items()
        ],
        "missing": list(result.gaps),
        "collapsed": collapses(result),
        "refused": dict(result.manifest.refused),
        "failures": [f"{r.task} {r.method}: {text}" for r in result.results for text in r.failures],
    }


def _names(result: AblationResult, task: str) -> dict[str, Any]:
    """The task; with axes also the values of its cell, by key."""
    grid = result.manifest.grid
    if grid is None:
        return {"task": task}
    return {"task": grid.places[task].task, "cell": dict(grid.values_of(task))}


def _along(result: AblationResult) -> dict[str, Any]:
    """The comparisons along the axes; nothing without axes."""
    grid = result.manifest.grid
    if grid is None:
        return {}
    by_names = {(c.task, c.method, c.baseline): c for c in result.along_axes}
    contrasts = [(contrast, by_names.get(axis_names(grid, contrast))) for contrast in grid.family]
    return {
        "along_axes": [
            {
                "task": grid.places[contrast.subject].task,
                "axis": contrast.axis,
                "cell": dict(grid.values_of(contrast.subject)),
                "reference": dict(grid.values_of(contrast.reference)),
                **_comparison(comparison),
                "method": contrast.method,
                "baseline": contrast.method,
            }
            for contrast, comparison in contrasts
            if comparison is not None
        ]
    }


def _comparison(c: Comparison) -> dict[str, Any]:
    return {
        "method": c.method,
        "baseline": c.baseline,
        "difference": c.difference.mean,
        "interval": [_json_number(bound) for bound in c.interval],
        "deciding_interval": [_json_number(bound) for bound in c.decided_by.interval],
        "deciding_confidence": c.decided_by.confidence,
        "adjusted_p": c.adjusted_p,
        "equivalence_p": None if c.equivalence is None else c.equivalence_p,
        "margin": c.margin,
        "detectable": None
        if c.detectable_difference is None
        else _json_number(c.detectable_difference),
        "pairs": c.difference.n,
        "most_pairs": None if c.stopping is None else c.stopping.max_pairs,
        "verdict": c.verdict.outcome,
        "sentence": c.verdict.sentence,
    }


def _json_number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
