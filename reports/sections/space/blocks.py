"""What the report shows of each task's search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.stats.importance import MINIMUM_TRIALS
from reports.evidence import Evidence
from reports.kit.blocks import Block, Panel, Section, by_task, panel
from reports.kit.palette import Styles
from reports.sections.space import figures, surfaces, trials
from reports.sections.space.surfaces import LEAST_SURFACE, Surface
from reports.sections.space.trials import Scale, Searched

MOST_AXES = 6
"""Hyper-parameters in the figure of parallel coordinates, those that most methods search."""
MOST_SURFACES = 4
"""Methods with contours, those with the highest best selection score."""


def space_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """Parallel coordinates, importances and contours, each where there are trials enough."""
    searched = trials.read_searched(evidence, task)
    if searched.trials.empty or not searched.names:
        return Block(evidence.task_label(task), warnings=searched.unread)
    metric = evidence.metric(task)
    parallel, left_out = _parallel(searched, metric)
    shares, notes = _importances(searched)
    contours, missing = _surfaces(searched, metric)
    return Block(
        evidence.task_label(task),
        notes=(*left_out, *notes, *missing),
        warnings=searched.unread,
        panels=(parallel, *shares, *contours),
    )


def _parallel(searched: Searched, metric: str) -> tuple[Panel, list[str]]:
    joint = trials.joint_scales(searched)
    scales = dict(list(joint.items())[:MOST_AXES])
    best = searched.trials.nlargest(1, "points").iloc[0]
    caption = "Settings and their selection scores, one line per trial"
    alt = (
        f"{len(searched.trials)} trials over {', '.join(scales)}; the highest scores "
        f"{best['points']:.2f} points, trial {best['trial']} of {best['method']}"
    )
    figure = figures.parallel_figure(searched.trials, scales, metric)
    hidden = [name for name in searched.names if name not in scales]
    notes = (
        [f"Without an axis, since few methods search them: {', '.join(hidden)}."] if hidden else []
    )
    return panel(caption, alt, figure, searched.trials), notes


def _importances(searched: Searched) -> tuple[list[Panel], list[str]]:
    try:
        frame = trials.importance_frame(searched)
    except ImportError:
        return [], [
            "Importances are computed by Optuna, which is not installed where this was built."
        ]
    notes = _few(searched)
    if frame.empty:
        return [], notes
    caption = "Share of the importance for a place in the best quarter of trials and its ties, %"
    first = frame.sort_values("percent", ascending=False).drop_duplicates("method")
    alt = "; ".join(
        f"{row['method']}: {row['hyper_parameter']} {row['percent']:.0f} % (p = {row['p']:.2g}), of "
        f"{row['trials']} trials"
        for row in first.to_dict("records")
    )
    return [panel(caption, alt, figures.importance_figure(frame), frame)], notes


def _few(searched: Searched) -> list[str]:
    """The methods with too few trials for importances of their own."""
    counts = {method: len(searched.of(method)) for method in searched.scales}
    few = [method for method, count in counts.items() if count < MINIMUM_TRIALS]
    if not few:
        return []
    return [
        f"Importances of a single method need {MINIMUM_TRIALS} complete trials; with fewer they are "
        f"mostly chance. Not drawn: {_listed(few, searched)}."
    ]


def _listed(methods: Sequence[str], searched: Searched) -> str:
    """The methods, or in words that they are all."""
    return "all methods" if len(methods) == len(searched.scales) > 1 else ", ".join(methods)


def _surfaces(searched: Searched, metric: str) -> tuple[list[Panel], list[str]]:
    best = searched.trials.groupby("method", sort=False)["points"].max()
    ordered = best.sort_values(ascending=False, kind="stable").index
    panels: list[Panel] = []
    missing: dict[str, list[str]] = {}
    more = []
    for method in ordered:
        reason = surfaces.no_surface(searched, method)
        if reason is not None:
            missing.setdefault(reason, []).append(method)
        elif len(panels) == MOST_SURFACES:
            more.append(method)
        else:
            found = surfaces.surface(searched, method)
            panels.append(_surface_panel(found, searched.scales[method], metric))
    notes = []
    if missing:
        reasons = "; ".join(f"{_listed(own, searched)} ({why})" for why, own in missing.items())
        notes.append(
            f"Contours need {LEAST_SURFACE} complete trials over temperature and weight. Not drawn: "
            f"{reasons}."
        )
    if more:
        notes.append(
            f"Contours are drawn of the {MOST_SURFACES} methods with the highest selection scores; not "
            f"of {', '.join(more)}."
        )
    return panels, notes


def _surface_panel(surface: Surface, scales: Mapping[str, Scale], metric: str) -> Panel:
    best = surface.trials.nlargest(1, "points").iloc[0]
    x_value, y_value, points = best.tolist()
    caption = f"{surface.method}: selection {metric} over {surface.x_name} and {surface.y_name}"
    alt = (
        f"the highest of {len(surface.trials)} trials has {points:.2f} points at {surface.x_name} "
        f"{x_value:.3g} and {surface.y_name} {y_value:.3g}"
    )
    log = (scales[surface.x_name].log, scales[surface.y_name].log)
    figure = figures.surface_figure(surface, log)
    return panel(caption, alt, figure, surface.trials)


SECTION = Section(
    anchor="space",
    title="Search space",
    reading=(
        "Each line is one trial, coloured by its rank in its method, from the worst fifth "
        "(grey, thin) to the best (orange, thick). None of this decides: a sampler chose the "
        "trials."
    ),
    details=(
        "A line breaks where a method lacks a hyper-parameter. Importances are Optuna's "
        "PED-ANOVA: how differently a hyper-parameter is spread in the best quarter of trials "
        "and in all of them, each for itself, so that what matters only together with another "
        "one is not seen. Shares sum to 100 % even where nothing matters: only a star says that"
        " chance is no explanation (p < 0.05, not adjusted). Contours run straight from trial "
        "to trial: what else was searched varies too, and noise is not smoothed."
    ),
    maker=by_task(space_block),
)
