"""The blocks across methods and tasks: ranks, aggregates, effects, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.aggregation import Aggregates, CrossTaskEffect, Ranking, Synthesis
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, panel
from reports.kit.display import Columns, JointColumn, Table, number
from reports.kit.palette import Styles
from reports.sections.across import figures, numbers

SHARE = "% of the gap"


def _range(high: str, digits: int) -> JointColumn:
    """An interval without signs; a dash if there is no interval."""
    number_text = number(digits)

    def text(low: float, high: float) -> str:
        return f"{number_text(low)} to {number_text(high)}" if low == low else display.DASH

    return JointColumn((high,), ("low", "high"), text)


def across_blocks(evidence: Evidence, styles: Styles) -> Iterable[Block]:
    """Ranks, aggregates and effects across tasks; at the end what is left out, and why.

    Without any of them there is no block.
    """
    across = evidence.aggregation
    parts = (across.ranking, across.aggregates, across.effects)
    if all(part.result is None for part in parts):
        return
    if across.ranking.result is not None:
        yield _ranks_block(evidence, across.ranking.result, styles)
    if across.aggregates.result is not None:
        yield _aggregates_block(across.aggregates.result, styles)
    if across.effects.result is not None:
        yield _effects_block(across.effects.result, styles)
    gaps = tuple(_gaps(across, len(evidence.tasks)))
    if gaps:
        yield Block("Left out", gaps)


def _ranks_block(evidence: Evidence, ranking: Ranking, styles: Styles) -> Block:
    table, groups = numbers.rank_table(ranking), numbers.rank_groups(ranking)
    friedman, critical = ranking.friedman, ranking.nemenyi.critical_difference
    scope = (
        f"Ranked on {len(ranking.blocks)} tasks, by the mean of each: {', '.join(ranking.blocks)}. The "
        "claim is about tasks like these."
        if ranking.unit == "task"
        else f"Ranked on {len(ranking.blocks)} {ranking.unit}s of the one complete task: "
        f"{', '.join(ranking.blocks)}. The claim is about other {ranking.unit}s on this task."
    )
    test = (
        f"Test of the hypothesis that no method ranks better than another: permutation p = "
        f"{friedman.permutation_p_value:.2g} (Friedman's chi-square {friedman.chi2:.2f})."
    )
    alpha = evidence.manifest.alpha
    warnings = []
    if ranking.least_p >= alpha:
        warnings.append(
            f"{len(ranking.blocks)} {ranking.unit}s with {len(ranking.methods)} methods cannot give a p "
            f"value below {ranking.least_p:.2g}, whatever the ranks are."
        )
    if evidence.sequential:
        warnings.append(
            "Seeds were added until comparisons were decided. The statistics below assume a fixed "
            "number of seeds, so they only describe these runs."
        )
    alt = "; ".join(
        f"{row['method']}: average rank {row['average_rank']:.2f}"
        for row in table.to_dict("records")
    )
    caption = f"Critical difference {critical:.2f} at level {alpha:g} (Nemenyi)"
    figure = figures.ranks_figure(table, groups, critical, styles)
    columns: Columns = {
        "method": ("method", None),
        "average_rank": ("average rank", number(2)),
        "difference": ("difference from the baseline's rank", number(2)),
        "holm_p": ("against the baseline, p (Holm)", display.p_text),
        "nemenyi_p": ("against the baseline, p (Nemenyi)", display.p_text),
    }
    return Block(
        "Ranks",
        (scope, test),
        tuple(warnings),
        (panel(caption, alt, figure, groups),),
        (display.table("Average ranks", table, columns, styles),),
    )


def _aggregates_block(aggregates: Aggregates, styles: Styles) -> Block:
    unit = SHARE if aggregates.shares else "points"
    table, profiles = numbers.aggregate_table(aggregates), numbers.profile_frame(aggregates)
    alt = "; ".join(
        f"{row['method']}: interquartile mean {row['mean']:.1f}" for row in table.to_dict("records")
    )
    caption = "Performance profiles"
    key = tuple((aggregate.method, styles[aggregate.method]) for aggregate in aggregates.methods)
    figure = figures.profile_figure(profiles, styles, unit)
    panels = [panel(caption, alt, figure, profiles, key)]
    baseline = aggregates.baseline
    if baseline is not None and len(aggregates.methods) > 1:
        challengers = table.dropna(subset="improvement")
        caption = f"Probability of improvement over {baseline}"
        alt = "; ".join(
            f"{row['method']}: {row['improvement']:.0f} %" for row in challengers.to_dict("records")
        )
        figure = figures.improvement_figure(table, baseline, styles)
        chances = challengers[["method", "improvement", "improvement_low", "improvement_high"]]
        panels.append(panel(caption, alt, figure, chances))
    return Block(
        "Aggregates over runs",
        _aggregate_notes(aggregates),
        panels=tuple(panels),
        tables=(_aggregate_display(aggregates, styles),),
    )


def _aggregate_notes(aggregates: Aggregates) -> tuple[str, ...]:
    tasks = ", ".join(aggregates.tasks)
    counts = f"{len(aggregates.seeds)} {aggregates.unit}s, finished by every method on {tasks}."
    scale = (
        "Scores are shares of the gap: 0 % is a constant prediction, 100 % the task's teacher. Tasks "
        f"on that scale: {', '.join(aggregates.scaled_tasks)}."
    )
    left_out = (
        (f"Left out, without a scale: {'; '.join(aggregates.left_out)}.",)
        if aggregates.left_out
        else ()
    )
    return (counts, *((scale,) if aggregates.shares else ()), *left_out)


def _aggregate_display(aggregates: Aggregates, styles: Styles) -> Table:
    unit = SHARE if aggregates.shares else "points"
    columns: Columns = {
        "method": ("method", None),
        "mean": (f"interquartile mean, {unit}", number(1)),
        "low": ("interval", _range("high", 1)),
        "improvement": ("probability of improvement, %", number(0)),
        "improvement_low": ("interval, %", _range("improvement_high", 0)),
    }
    frame = numbers.aggregate_table(aggregates)
    return display.table("Aggregates over all runs of a method", frame, columns, styles)


def _effects_block(effects: tuple[CrossTaskEffect, ...], styles: Styles) -> Block:
    frame, spread = numbers.effect_frame(effects), numbers.spread_table(effects)
    notes = []
    for effect in effects:
        name = f"{effect.method} against {effect.baseline}"
        if effect.left_out:
            notes.append(f"{name}: left out, without a scale: {'; '.join(effect.left_out)}.")
        if effect.meta.result is None:
            notes.append(f"{name}: no effect across tasks: {effect.meta.reason}.")
        if effect.mixed.result is None and effect.mixed.reason != effect.meta.reason:
            notes.append(f"{name}: no mixed model: {effect.mixed.reason}.")
    panels: tuple[Panel, ...] = ()
    if len(spread):
        random = frame[frame["kind"] == "random"].to_dict("records")
        caption = f"Mean differences over tasks, {SHARE}"
        alt = "; ".join(
            f"{row['method']} minus {row['baseline']}: {row['mean']:+.1f}, "
            f"{display.interval_text(row['low'], row['high'])}"
            for row in random
        )
        figure = figures.effects_figure(frame, styles)
        panels = (panel(caption, alt, figure, frame),)
    return Block(
        "Effects across tasks",
        tuple(notes),
        panels=panels,
        tables=_effect_tables(effects, styles),
    )


def _effect_tables(effects: tuple[CrossTaskEffect, ...], styles: Styles) -> tuple[Table, ...]:
    frame, spread = numbers.effect_frame(effects), numbers.spread_table(effects)
    if frame.empty:
        return ()
    overall_rows = frame[frame["kind"] != "task"]
    columns: Columns = {
        "method": ("method", None),
        "baseline": ("against", None),
        "kind": ("effect", None),
        "mean": (f"mean, {SHARE}", number(2)),
        "low": ("interval", JointColumn(("high",), ("low", "high"), display.interval_text)),
        "pairs": ("pairs of runs", number(0)),
    }
    tables = [display.table("Effects over tasks", overall_rows, columns, styles)]
    if len(spread):
        columns = {
            "method": ("method", None),
            "baseline": ("against", None),
            "tasks": ("tasks", number(0)),
            "between": (f"sd between tasks, {SHARE}", number(2)),
            "i_squared": ("I², %", number(0)),
            "q_p": ("Q, p", display.p_text),
        }
        tables.append(
            display.table("How much effects differ between tasks", spread, columns, styles)
        )
    return tuple(tables)


def _gaps(across: Synthesis, tasks: int) -> Iterable[str]:
    if across.runs.left_out and (across.ranking.result or across.aggregates.result):
        yield f"Not ranked or aggregated: {'; '.join(across.runs.left_out)}."
    for name, attempt in (
        ("ranks", across.ranking),
        ("aggregates", across.aggregates),
        ("effects across tasks", across.effects),
    ):
        is_about_tasks = attempt is across.effects
        if attempt.result is None and not (is_about_tasks and tasks == 1):
            yield f"No {name}: {attempt.reason}."


SECTION = Section(
    anchor="across",
    title="Across methods and tasks",
    reading=(
        "Diagram: average ranks; a grey bar joins methods whose ranks differ by less than the critical "
        "difference. Profiles: the share of runs above each score. Forest plot: a thick bar is the "
        "random effect over tasks, a small mark is the difference on one task."
    ),
    details=(
        "Nothing in this section decides: a rank depends on the other methods that are ranked, and "
        "each table and figure stands for itself, without adjustment for the others. Bands of profiles "
        "hold at each score separately, over seeds. A random effect speaks of tasks like these tasks, "
        "a fixed effect only of these tasks."
    ),
    maker=across_blocks,
    part="evidence",
    settings_only=True,
    joins_tasks=True,
    reads_verdicts=False,
)
