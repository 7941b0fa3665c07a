"""The page of a study that runs or was stopped: its progress, searches and failures, no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from markupsafe import Markup

from harness.analysis.results import MethodResult
from harness.storage.manifest import Manifest
from reports.kit.display import Cell, Table, number, number_cell
from reports.kit.palette import Styles, method_styles
from reports.kit.trials import search_history
from reports.page import status
from reports.page.document import document, script
from reports.page.summary import source_text, title

RELOAD_SECONDS = 10
"""Seconds after which a browser loads the page again while the study runs."""
HOUR, MINUTE = 3600, 60


def render_running(
    manifest: Manifest,
    results: Sequence[MethodResult],
    *,
    is_running: bool,
    trained: float = 0.0,
    seconds_left: float | None = None,
    now: datetime | None = None,
) -> str:
    """The page's HTML. `results` are those of an ablation, or of all repeats of a joint one.

    `trained` counts the runs that are trained, with the parts of those that train; `seconds_left` is
    None where nothing is trained yet. The page shows scores on the selection split alone. A page with
    `is_running` asks the browser to load it again.
    """
    state = status.progress(manifest, results)
    styles = method_styles(list(dict.fromkeys(result.method for result in results)))
    headline = f"{'Running' if is_running else 'Stopped'}: {state.ended} of {state.planned} runs"
    if is_running and trained > state.ended:
        headline += f", {100 * trained / state.planned:.0f} % trained"
    if is_running and seconds_left is not None:
        headline += f", {duration_text(seconds_left)} left"
    failures = [
        f"{result.method} on {result.task}, {failure}"
        for result in results
        for failure in result.failures
    ]
    return document(
        "running.html.j2",
        [script("page.js"), script("tables.js")],
        name=title(manifest),
        ablation=manifest.name,
        summary=_summary(manifest, state, headline, len(failures)),
        banners=manifest.banners,
        headline=headline,
        reload=RELOAD_SECONDS if is_running else None,
        state=state,
        written=f"{now or datetime.now(UTC):%-d %B %Y, %H:%M:%S} UTC",
        tables=[
            _table(task, [row for row in results if row.task == task], manifest, styles)
            for task in dict.fromkeys(result.task for result in results)
        ],
        failures=failures,
        command=manifest.command,
    )


def duration_text(seconds: float) -> str:
    """A time in hours and minutes, or in seconds below two minutes."""
    if seconds < 2 * MINUTE:
        return f"{max(round(seconds), 1)} s"
    hours, minutes = divmod(round(seconds / MINUTE), HOUR // MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _summary(
    manifest: Manifest, state: status.Progress, headline: str, failed: int
) -> dict[str, object]:
    """The values of the index's entry, as `reports.page.summary.summary` gives them."""
    return {
        "name": manifest.name,
        "title": title(manifest),
        "last": None if state.last is None else state.last.timestamp(),
        "date": state.date,
        "parts": [name for name in manifest.repeats if name is not None],
        "source": source_text(manifest.source),
        "banners": list(manifest.banners),
        "warnings": [f"{headline}."],
        "facts": {"protocol": manifest.protocol},
        "tasks": list(manifest.studies),
        "methods": list(manifest.methods),
        "missing": state.planned - state.ended,
        "failed": failed,
        "verdicts": [],
    }


def _table(task: str, results: Sequence[MethodResult], manifest: Manifest, styles: Styles) -> Table:
    """A row per method: its runs, and the selection scores of its trials so far."""
    history = search_history(results)
    complete = history.dropna(subset="points")
    ends = (complete["points"].min(), complete["points"].max())
    headings = (
        Cell("method"), Cell("runs", True), Cell("failed", True),
        Cell("best", True, hint="best selection score, points"), Cell("selection scores by trial"),
    )  # fmt: skip
    rows = []
    for method in dict.fromkeys(result.method for result in results):
        own = [result for result in results if result.method == method]
        points = complete.loc[complete["method"] == method, "points"].tolist()
        ended = sum(len(result.runs) for result in own)
        planned = sum(status.planned_runs(result, manifest) for result in own)
        rows.append(
            (
                Cell(method, style=styles[method], emphasis=True),
                Cell(f"{ended} of {planned}", True, values=(ended,)),
                number_cell(sum(len(result.failures) for result in own), number(0)),
                number_cell(max(points, default=np.nan), number(2)),
                Cell("", drawing=dots(points, *ends, len(points)), values=(len(points),)),
            )
        )
    # The manifest of a joint ablation lacks a task that its first repeat could not do.
    title = f"{task}, {results[0].metric} on the selection split, in points"
    return Table(title, headings, tuple(rows), compact=True)


def dots(values: Sequence[float], low: float, high: float, count: int) -> Markup:
    """A dot for each of `count` values from left to right, at its height between `low` and `high`."""
    span = high - low or 1.0
    circles = "".join(
        f'<circle class="end" cx="{round(100 * (place + 0.5) / count, 2)}%" '
        f'cy="{round(15 - 12 * (value - low) / span, 2)}" r="2"/>'
        for place, value in enumerate(values)
    )
    return Markup(f'<svg class="bar-cell" aria-hidden="true">{circles}</svg>')  # noqa: S704 - numbers
