"""What each section shows of one task: words, panels of figures, and tables."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from reports import figures, numbers, tables
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.canvas import by_pair
from reports.kit.choices import Choice
from reports.kit.display import Numbers, Table, number
from reports.kit.drawing import Drawing
from reports.kit.palette import Style
from reports.page import notes


@dataclass(frozen=True)
class Panel:
    """A figure with its caption, what it shows in words, its numbers and the methods' looks."""

    caption: str
    alt: str
    figure: Drawing
    numbers: Numbers
    key: tuple[tuple[str, Style], ...] = ()
    choice: Choice | None = None
    """Which of the figure's states to show, where it has several."""


@dataclass(frozen=True)
class Block:
    """What a section shows of one task, under its title; empty blocks are left out."""

    title: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to show."""
        return not (self.notes or self.warnings or self.panels or self.tables)


def seeds_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """The report runs' scores, paired where there is a comparison."""
    metric = _metric(evidence, task)
    pairs = numbers.seed_pairs(evidence.result, task)
    scores = numbers.seed_scores(evidence.results(task))
    panels = []
    if len(pairs):
        alt = "; ".join(
            f"{method} is above {baseline} with {int((rows['difference'] > 0).sum())} of "
            f"{len(rows)} seeds"
            for (method, baseline), rows in by_pair(pairs)
        )
        figure = figures.pairs_figure(pairs, styles, metric)
        panels.append(_panel("Paired runs, one line per seed", alt, figure, pairs))
    elif len(scores):
        means = scores.groupby("method", sort=False)["points"].mean()
        alt = "; ".join(f"{method}: mean {mean:.2f} points" for method, mean in means.items())
        figure = figures.seeds_figure(scores, styles, metric)
        panels.append(_panel("Runs, one point per seed", alt, figure, scores))
    alone = set(scores["method"]) - set(pairs["method"]) - set(pairs["baseline"])
    words = (
        (f"Without a pair, not drawn: {', '.join(sorted(alone))}.",) if len(pairs) and alone else ()
    )
    metrics = tables.metrics_table(evidence, task)
    shown: tuple[Table, ...] = ()
    if len(metrics.columns) > 2:
        columns = display.metrics_columns(metrics, "method")
        shown = (display.table("All metrics, mean over seeds", metrics, columns, styles),)
    return Block(evidence.task_label(task), words, panels=tuple(panels), tables=shown)


def differences_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """The task's comparisons as a forest plot, and what else there is to say of them."""
    frame = numbers.differences(evidence.result, task)
    if frame.empty:
        return Block("")
    alt = "; ".join(
        f"{row['method']} minus {row['baseline']}: {row['mean']:+.2f} points, "
        f"{display.interval_text(row['low'], row['high'])}"
        for row in frame.to_dict("records")
    )
    metric = _metric(evidence, task)
    figure = figures.forest_figure(frame, styles)
    panel = _panel(f"Mean paired differences in {metric}", alt, figure, frame)
    compared = [c for c in evidence.result.comparisons if c.task == task]
    shown = display.effects_display(tables.effects_table(compared, evidence.discovery_p), styles)
    return Block(evidence.task_label(task), panels=(panel,), tables=(shown,))


def search_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """Trials and best settings."""
    history = numbers.search_history(evidence.results(task))
    settings = tables.settings_table(evidence.results(task))
    if settings.empty:
        return Block("")
    alt = "; ".join(
        f"{row['method']}: best {row['points']:.2f} points in trial {row['best_trial']}, "
        f"of {row['trials']} trials"
        for row in settings.to_dict("records")
    )
    figure = figures.search_figure(history, styles, _metric(evidence, task))
    shown = display.table(
        "Best settings",
        settings,
        {
            "method": ("method", None),
            "best_trial": ("best trial", number(0)),
            "trials": ("trials run", number(0)),
            "points": ("selection score, points", number(2)),
            "setting": ("setting", None),
        },
        styles,
    )
    panel = _panel("Selection score by trial", alt, figure, history, styles)
    return Block(evidence.task_label(task), panels=(panel,), tables=(shown,))


def losses_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """A panel per loss term."""
    frame = numbers.loss_terms(evidence.results(task))
    panels = []
    for term, rows in frame.groupby("term", sort=True):
        last = rows.groupby("method", sort=False).tail(1)
        alt = "; ".join(
            f"{method} ends at {mean:.4g}"
            for method, mean in zip(last["method"], last["mean"], strict=True)
        )
        figure = figures.loss_figure(rows, styles)
        panels.append(_panel(f"Term: {term}", alt, figure, rows, styles))
    return Block(evidence.task_label(task), panels=tuple(panels))


def teacher_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """The teacher's scores and how much its layers vary."""
    teacher = evidence.teachers[task]
    scores, shares = tables.teacher_table(teacher), numbers.variance_shares(teacher)
    constant = tables.constant_score(evidence, task)
    facts = (
        f"{teacher.get('name', 'teacher')}: {teacher.get('layers', '?')} layers of width "
        f"{teacher.get('width', '?')}, {teacher.get('origin', 'of unknown origin')}. "
        f"A constant prediction scores {number(2)(constant)} points."
    )
    panels: tuple[Panel, ...] = ()
    if len(shares):
        alt = "; ".join(
            f"layer {layer}: {percent:.2f} %"
            for layer, percent in zip(shares["layer"], shares["percent"], strict=True)
        )
        figure = figures.variance_figure(shares, 100 * notes.LEAST_VARIANCE)
        panels = (_panel("Share of energy that varies between examples", alt, figure, shares),)
    shown: tuple[Table, ...] = ()
    if len(scores):
        shown = (display.table("Scores", scores, display.metrics_columns(scores, "split")),)
    warnings = tuple(notes.teacher_warnings(teacher))
    return Block(evidence.task_label(task), (facts,), warnings, panels, shown)


def _metric(evidence: Evidence, task: str) -> str:
    return str(evidence.manifest["tasks"][task]["metrics"][0])


def _panel(
    caption: str,
    alt: str,
    figure: Drawing,
    frame: pd.DataFrame,
    styles: dict[str, Style] | None = None,
) -> Panel:
    """Given `styles`, the methods in the frame get a key beside the caption."""
    shown = [name for name in styles or {} if name in set(frame["method"])]
    key = tuple((name, (styles or {})[name]) for name in shown)
    return Panel(caption, f"{caption}. {alt}.", figure, display.Numbers(frame), key)
