"""The blocks of the search space, one for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.stats.importance import MINIMUM_TRIALS
from reports.evidence import Evidence
from reports.kit.blocks import Block, Panel, Section, by_task, panel
from reports.kit.palette import Styles
from reports.sections.space import figures, surfaces, trials
from reports.sections.space.surfaces import LEAST_SURFACE, Surface
from reports.sections.space.trials import Scale, SearchSpace

MOST_AXES = 6
"""The most axes in the figure of parallel coordinates: the hyper-parameters that most methods search."""
MOST_SURFACES = 4
"""The most methods with contours: the methods with the highest best selection scores."""


def space_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """Parallel coordinates, importances and contours, each if there are enough trials."""
    space = trials.read_space(evidence, task)
    if space.trials.empty or not space.names:
        return Block(evidence.task_label(task), warnings=space.warnings)
    metric = evidence.metric(task)
    parallel_panel, left_out = _parallel_panel(space, metric)
    shares, notes = _importance_panels(space)
    contours, gaps = _surface_panels(space, metric)
    return Block(
        evidence.task_label(task),
        notes=(*left_out, *notes, *gaps),
        warnings=space.warnings,
        panels=(parallel_panel, *shares, *contours),
    )


def _parallel_panel(space: SearchSpace, metric: str) -> tuple[Panel, list[str]]:
    joint = trials.joint_scales(space)
    scales = dict(list(joint.items())[:MOST_AXES])
    best = space.trials.nlargest(1, "points").iloc[0]
    caption = "Settings and their selection scores, one line per trial"
    alt = (
        f"{len(space.trials)} trials over {', '.join(scales)}; the highest score is "
        f"{best['points']:.2f} points, in trial {best['trial']} of {best['method']}"
    )
    figure = figures.parallel_figure(space.trials, scales, metric)
    hidden_names = [name for name in space.names if name not in scales]
    notes = (
        [f"Without an axis, because few methods search them: {', '.join(hidden_names)}."]
        if hidden_names
        else []
    )
    return panel(caption, alt, figure, space.trials), notes


def _importance_panels(space: SearchSpace) -> tuple[list[Panel], list[str]]:
    try:
        frame = trials.importance_frame(space)
    except ImportError:
        return [], [
            "No importances: Optuna computes them, and it was not installed where this report was built."
        ]
    notes = _few_trials_notes(space)
    if frame.empty:
        return [], notes
    caption = (
        "Share of the importance of each hyper-parameter for a place in the best quarter of trials "
        "(ties included), %"
    )
    first = frame.sort_values("percent", ascending=False).drop_duplicates("method")
    alt = "; ".join(
        f"{row['method']}: {row['hyper_parameter']} {row['percent']:.0f} % (p = {row['p']:.2g}), of "
        f"{row['trials']} trials"
        for row in first.to_dict("records")
    )
    return [panel(caption, alt, figures.importance_figure(frame), frame)], notes


def _few_trials_notes(space: SearchSpace) -> list[str]:
    """A note that names the methods with too few trials for importances."""
    counts = {method: len(space.method_trials(method)) for method in space.scales}
    methods = [method for method, count in counts.items() if count < MINIMUM_TRIALS]
    if not methods:
        return []
    return [
        f"Importances of a single method need {MINIMUM_TRIALS} complete trials; with fewer they are "
        f"mostly chance. Not drawn: {_names_text(methods, space)}."
    ]


def _names_text(methods: Sequence[str], space: SearchSpace) -> str:
    """The names of the methods, or "all methods"."""
    return "all methods" if len(methods) == len(space.scales) > 1 else ", ".join(methods)


def _surface_panels(space: SearchSpace, metric: str) -> tuple[list[Panel], list[str]]:
    best = space.trials.groupby("method", sort=False)["points"].max()
    methods = best.sort_values(ascending=False, kind="stable").index
    panels: list[Panel] = []
    methods_by_reason: dict[str, list[str]] = {}
    other_methods = []
    for method in methods:
        reason = surfaces.no_surface(space, method)
        if reason is not None:
            methods_by_reason.setdefault(reason, []).append(method)
        elif len(panels) == MOST_SURFACES:
            other_methods.append(method)
        else:
            surface = surfaces.surface(space, method)
            panels.append(_surface_panel(surface, space.scales[method], metric))
    notes = []
    if methods_by_reason:
        reasons = "; ".join(
            f"{_names_text(names, space)} ({reason})" for reason, names in methods_by_reason.items()
        )
        notes.append(
            f"Contours need {LEAST_SURFACE} complete trials over temperature and weight. Not drawn: "
            f"{reasons}."
        )
    if other_methods:
        notes.append(
            f"Contours are drawn for the {MOST_SURFACES} methods with the highest selection scores, not "
            f"for {', '.join(other_methods)}."
        )
    return panels, notes


def _surface_panel(surface: Surface, scales: Mapping[str, Scale], metric: str) -> Panel:
    best = surface.trials.nlargest(1, "points").iloc[0]
    x_value, y_value, points = best.tolist()
    caption = f"{surface.method}: selection {metric} over {surface.x_name} and {surface.y_name}"
    alt = (
        f"the highest score of {len(surface.trials)} trials is {points:.2f} points, at "
        f"{surface.x_name} {x_value:.3g} and {surface.y_name} {y_value:.3g}"
    )
    log = (scales[surface.x_name].log, scales[surface.y_name].log)
    figure = figures.surface_figure(surface, log)
    return panel(caption, alt, figure, surface.trials)


SECTION = Section(
    anchor="space",
    title="Search space",
    reading=(
        "Each line is one trial, coloured by its rank among the trials of its method: from the worst "
        "fifth (grey, thin) to the best fifth (orange, thick). Nothing in this section decides, "
        "because a sampler chose the trials."
    ),
    details=(
        "A line breaks where a method has no such hyper-parameter. Importances are Optuna's PED-ANOVA: "
        "how much a hyper-parameter's values in the best quarter of trials differ from its values in "
        "all trials. Each hyper-parameter is judged alone: if it matters only together with another "
        "hyper-parameter, its importance does not show it. Shares sum to 100 % even if nothing "
        "matters: only a star says that chance does not explain a share (p < 0.05, not adjusted). "
        "Contours are interpolated linearly between trials; the other hyper-parameters vary too, and "
        "noise is not smoothed."
    ),
    maker=by_task(space_block),
)
